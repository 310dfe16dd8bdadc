package smoke

import (
	"strings"
	"testing"
)

func TestWants(t *testing.T) {
	t.Parallel()
	const body = `{"loop":"ok","n":3,"big":12345678901234567890,"f":1.50,"yes":true,"no":null,"a":{"b":[{"c":"d"},[7]]},"list":[1,"x"],"":{"e":1}}`
	for _, c := range []struct {
		path, want, err string
	}{
		{"loop", "ok", ""},
		{"loop", "", ""},
		{"loop", "late", "loop is ok, want late"},
		{"n", "3", ""},
		{"n", "3.0", "n is 3, want 3.0"},
		{"big", "12345678901234567890", ""},
		{"f", "1.50", ""},
		{"yes", "true", ""},
		{"no", "null", ""},
		{"no", "", ""},
		{"a.b[0].c", "d", ""},
		{"a.b[1][0]", "7", ""},
		{"list", `[1,"x"]`, ""},
		{"list[1]", "x", ""},
		{"list[2]", "", "the answer has no list[2]: there is no list[2]"},
		{"a.x.y", "", "the answer has no a.x.y: there is no a.x"},
		{"loop.x", "", "the answer has no loop.x"},
		{"loop[0]", "", "the answer has no loop[0]"},
		{"a[0]", "", "the answer has no a[0]"},
		{"list.x", "", "the answer has no list.x"},
		{"a..b", "", "want a path"},
		{"", "", "want a path"},
		{"a.", "", "want a path"},
		{"list[-1]", "", "want a path"},
		{"list[0", "", "want a path"},
		{"list[0]x", "", "want a path"},
		{strings.Repeat("a.", 40) + "a", "", "more than 32 steps"},
	} {
		err := wants([]byte(body), map[string]string{c.path: c.want})
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s = %s: %v, want %q", c.path, c.want, err, c.err)
		}
	}
	if err := wants([]byte(`[{"a":1}]`), map[string]string{"[0].a": "1"}); err != nil {
		t.Error(err)
	}
	if err := wants([]byte("<html>"), map[string]string{"a": ""}); err == nil || !strings.Contains(err.Error(), "no JSON: <html>") {
		t.Error(err)
	}
	if err := wants([]byte("<html>"), nil); err != nil {
		t.Error("nothing was wanted: ", err)
	}
}
