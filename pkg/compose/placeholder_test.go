package compose

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/template"
)

func TestPlaceholders(t *testing.T) {
	for s, want := range map[string]string{
		"":                          "",
		"plain":                     "",
		"$$A $${A}":                 "",
		"$A":                        "A!",
		"${A}-$B_1.x":               "A! B_1!",
		"${A:-x}":                   "A",
		"${A:-${B}}":                "A B",
		"${A:-${B:-c}}${D}":         "A B D!",
		"${A?}${B:?${NOT}}":         "A! B!",
		"${A:+${B}}":                "A B",
		"${A-}${A}":                 "A!",
		"http://${H:-h}:${P:-80}/$": "error",
		"${":                        "error",
		"${A":                       "error",
		"${1}":                      "error",
		"${A:x}":                    "error",
		"$1":                        "error",
		"${A:-$}":                   "error",
	} {
		found, ok := placeholders(s)
		needed := map[string]bool{}
		for _, p := range found {
			p.needs(needed)
		}
		var got []string
		for _, name := range slices.Sorted(maps.Keys(needed)) {
			if needed[name] {
				name += "!"
			}
			got = append(got, name)
		}
		text := strings.Join(got, " ")
		if !ok {
			text = "error"
		}
		if text != want {
			t.Errorf("%q: got %q, want %q", s, text, want)
		}
	}
}

// FuzzPlaceholdersAgreeWithTheLibrary: what we say needs a value is what the
// library asks for, in every text that it takes.
func FuzzPlaceholdersAgreeWithTheLibrary(f *testing.F) {
	for _, s := range []string{"a${A:-${B}}c", "${A:?m}$B$$", "${A+${B-x}} ${C}", "${A:-}}${B}", "{${A}}", "${A:-{x}}", "${A:-a:b}", "${A:-?}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		found, ok := placeholders(s)
		if !ok || strings.ContainsAny(s, "\n") {
			return // refused; and the library takes no default over several lines
		}
		values := map[string]string{}
		needed := map[string]bool{}
		for _, p := range found {
			p.missing(values, needed)
		}
		// With a value for all that is missing, until nothing is, the library
		// must not find anything missing either.
		for range 20 {
			for name := range needed {
				values[name] = "value"
			}
			needed = map[string]bool{}
			for _, p := range found {
				p.missing(values, needed)
			}
			if len(needed) == 0 {
				break
			}
		}
		asked := map[string]bool{}
		_, err := template.Substitute(s, func(name string) (string, bool) {
			v, ok := values[name]
			if !ok {
				asked[name] = true
			}
			return v, ok
		})
		if err != nil {
			t.Errorf("%q: taken here, refused by the library: %v", s, err)
		}
		mentioned := map[string]bool{}
		for _, p := range found {
			p.needs(mentioned)
		}
		for name := range asked {
			if _, ok := mentioned[name]; !ok {
				t.Errorf("%q: the library asks for %q, which we do not see", s, name)
			}
		}
	})
}
