package yamlpos_test

import (
	"testing"

	"github.com/promote-dev/promote/internal/yamlpos"
)

func TestSpliceReplacesOnlyTheScalar(t *testing.T) {
	cases := map[string]struct{ src, want string }{
		"plain":         {"a:\n  image: redis:7 # keep\n", "a:\n  image: NEW # keep\n"},
		"double quoted": {"a:\n  image: \"redis:7\"\r\n", "a:\n  image: \"NEW\"\r\n"},
		"single quoted": {"a: {image: 'redis:7'}", "a: {image: 'NEW'}"},
		"anchor, tag":   {"a:\n  image: &i !!str redis:7\n", "a:\n  image: &i !!str NEW\n"},
		"after umlauts": {"a: {\"ä€𝄞\": ü, image: redis:7}\n", "a: {\"ä€𝄞\": ü, image: NEW}\n"},
		"byte mark":     {"\ufeffa: {image: redis:7}\n", "\ufeffa: {image: NEW}\n"},
		"line breaks":   {"# a\u2028# b\ra:\r\n  image: redis:7\r\n", "# a\u2028# b\ra:\r\n  image: NEW\r\n"},
		"no new line":   {"a:\n  image: redis:7", "a:\n  image: NEW"},
		"escape":        {"a: {image: \"redis\\u003a7\"}", ""},
		"block":         {"a:\n  image: |-\n    redis:7\n", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			n := parse(t, c.src).Lookup("a.image")
			if n == nil || n.Value != "redis:7" {
				t.Fatalf("got %+v", n)
			}
			span, ok := n.Span()
			if ok != (c.want != "") {
				t.Fatalf("ok is %v", ok)
			}
			if !ok {
				return
			}
			got, err := yamlpos.Splice([]byte(c.src), []yamlpos.Edit{{Span: span, Text: "NEW"}})
			if err != nil || string(got) != c.want {
				t.Errorf("got %q, %v\nwant %q", got, err, c.want)
			}
		})
	}
}

func TestSplice(t *testing.T) {
	edit := func(start, end int, text string) yamlpos.Edit {
		return yamlpos.Edit{Span: yamlpos.Span{Start: start, End: end}, Text: text}
	}
	got, err := yamlpos.Splice([]byte("0123456789"), []yamlpos.Edit{edit(8, 10, "z"), edit(1, 3, "abc"), edit(3, 3, "-")})
	if err != nil || string(got) != "0abc-34567z" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range [][]yamlpos.Edit{{edit(1, 3, ""), edit(2, 4, "")}, {edit(5, 4, "")}, {edit(9, 11, "")}} {
		if _, err := yamlpos.Splice([]byte("0123456789"), bad); err == nil {
			t.Errorf("%v went through", bad)
		}
	}
}
