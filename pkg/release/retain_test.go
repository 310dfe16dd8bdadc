package release

import (
	"cmp"
	"strings"
	"testing"
	"time"
)

// Each step is "ENVIRONMENT PHASE RELEASE[:IMAGE,IMAGE]"; a release without
// images has one of its own name.
func TestRetention(t *testing.T) {
	digest := func(name string) Digest { return DigestOf([]byte(name)) }
	for steps, want := range map[string]string{
		"":                      "",
		"production deployed 1": "",
		"production deployed 1, production deployed 2, production deployed 3":                                                             "",
		"production deployed 1, production deployed 2, production deployed 3, production deployed 4":                                      "1",
		"production deployed 1, production deployed 2, production deployed 3, production deployed 4, production deployed 1":               "2", // back to 1
		"production deployed 1, production deployed 1, production deployed 2, production deployed 2, production deployed 3":               "",  // the same again is one
		"production deployed 1:a,b, production deployed 2:a,c, production deployed 3:d, production deployed 4:a,e":                        "b", // shared with 2
		"production deployed 1, production deployed 2, production deployed 3, production deployed 4, staging deployed 1":                  "",  // staging runs it
		"staging deployed 1, production deployed 2, production deployed 3, production deployed 4, production deployed 5":                  "2",
		"production deployed 1, production deployed 2, production deployed 3, production deployed 4, staging intended 1":                  "", // about to be deployed
		"production deployed 1, production deployed 2, production deployed 3, production deployed 4, staging intended 9":                  "1 pending 9",
		"production deployed 1, production deployed 2, production deployed 3, production deployed 4, staging intended 9:from 1":           "pending 9",
		"production deployed 1, production intended 7, production rolledBack 7, production deployed 2":                                    "attempted 7",
		"production deployed 1, production intended 7, production rolledBack 7, production deployed 2, production deployed 3":             "", // thought of before
		"production intended 2, production rolledBack 2, production intended 2, production deployed 2":                                    "", // it ran in the end
		"production deployed 1, staging intended 7, staging rolledBack 7, production deployed 2":                                          "",
		"production deployed 1, production intended 7, production rolledBack 7, staging deployed 7, production deployed 2":                "", // staging runs it
		"staging deployed 1, staging deployed 2, staging deployed 3, staging deployed 4, production deployed 4, production intended 4":    "",
		"production released 1, production denied 2, production deployed 3, production deployed 4, production deployed 5, staging denied": "",
	} {
		var h History
		for step := range strings.SplitSeq(steps, ", ") {
			words := strings.Fields(step)
			if len(words) < 3 {
				continue
			}
			name, images, _ := strings.Cut(words[2], ":")
			r := Record{Environment: words[0], Phase: Phase(words[1]), Release: digest("release " + name), Time: time.Unix(0, 0), Sequence: int64(len(h))}
			if r.Phase == Deployed || r.Phase == RolledBack {
				r.Intent = new(int64)
			}
			switch {
			case images == "from":
				r.From = digest("release " + words[3])
			case r.Phase == Deployed:
				for image := range strings.SplitSeq(cmp.Or(images, name), ",") {
					r.Targets = append(r.Targets, TargetStatus{Running: []Running{{Digest: digest(image)}, {}}})
				}
			}
			h = append(h, Entry{Record: r})
		}
		r := h.Retention("production", 0)
		names := func(list []Digest, prefix string) (out []string) {
			for _, name := range []string{"1", "2", "3", "4", "5", "7", "9", "a", "b", "c", "d", "e"} {
				for _, d := range list {
					if d == digest(prefix+name) {
						out = append(out, name)
					}
				}
			}
			if len(out) != len(list) {
				t.Errorf("%s: unknown digests in %v", steps, list)
			}
			return out
		}
		got := names(r.Unneeded(nil, nil), "")
		for kind, list := range map[string][]Digest{"pending": r.Pending, "attempted": r.Attempted} {
			if found := names(list, "release "); len(found) > 0 {
				got = append(got, kind, strings.Join(found, " "))
			}
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: %q, want %q", steps, text, want)
		}
	}
}

// How many stay is what was asked for; what is attempted and shared, or pending,
// stays.
func TestUnneeded(t *testing.T) {
	d := func(name string) Digest { return DigestOf([]byte(name)) }
	var h History
	for i, name := range []string{"1", "2", "3", "4", "5"} {
		h = append(h, Entry{Record: Record{Environment: "production", Phase: Deployed, Sequence: int64(i), Release: d("release " + name),
			Targets: []TargetStatus{{Running: []Running{{Digest: d(name)}}}}}})
	}
	for keep, want := range map[int]int{-1: 2, 0: 2, 1: 3, 2: 2, 3: 1, 4: 0, 9: 0} {
		if got := h.Retention("production", keep).Unneeded(nil, nil); len(got) != want {
			t.Errorf("keep %d: %d are not needed, want %d", keep, len(got), want)
		}
	}
	got := h.Retention("production", 2).Unneeded([]Digest{d("5"), d("7"), d("1"), d("8")}, []Digest{d("2"), d("8")})
	if len(got) != 2 || got[0] == got[1] || got[0] != d("1") && got[0] != d("7") || got[1] != d("1") && got[1] != d("7") {
		t.Errorf("unneeded are %v", got)
	}
}
