package reliability

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// says reports whether an error is there just if it is to be, with these words.
func says(err error, want string) bool {
	return err == nil && want == "" || err != nil && want != "" && strings.Contains(err.Error(), want)
}

// Of snapshots and restores nothing may be left but what the records tell of.
func TestStray(t *testing.T) {
	list := []record{
		{Sequence: 3, Phase: "intended", digest: "sha256:333333333333333333"},
		{Sequence: 4, Phase: "intended", Resumes: number(3), digest: "sha256:4444444444444444444"},
		{Sequence: 5, Phase: "deployed", Intent: number(4), digest: "sha256:555"},
		{Sequence: 6, Phase: "intended", digest: "sha256:6666666666666666666"},
		{Sequence: 7, Phase: "rolledBack", Intent: number(6), digest: "sha256:777"},
	}
	took := func(at int, attempt string) snapshot {
		s := snapshot{Name: "p_promote-snapshot-" + attempt + "-state", Attempt: attempt, Digest: "sha256:1", Sealed: "sha256:2", Content: "sha256:3", Size: 10}
		list[at].Targets = append(list[at].Targets, struct{ Snapshots []snapshot }{[]snapshot{s}})
		return s
	}
	good, undone := took(2, "3-333333333333"), took(4, "6-666666666666")
	note := func(s snapshot) volume {
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return volume{s.Name + ".note", map[string]string{labelWhole: string(raw)}}
	}
	parts := func(s snapshot) volume { return volume{s.Name, map[string]string{labelParts: s.Attempt}} }
	mark := func(attempt, state string) volume {
		return volume{"p_promote-restore-" + attempt + "-" + state + "-p_state", map[string]string{labelRestoring: attempt}}
	}
	others := []volume{{Name: "p_state"}, parts(good), note(good), parts(undone), note(undone), mark("3-333333333333", "done")}
	changed, unknown := good, good
	changed.Sealed, unknown.Name = "sha256:9", "p_promote-snapshot-8-888888888888-state"
	var many []volume
	for i := range keep + 2 {
		s := took(2, fmt.Sprintf("%d-000000000000", i))
		many = append(many, parts(s), note(s))
	}
	for name, c := range map[string]struct {
		add    []volume
		remove string
		want   string
	}{
		"what a record tells of":           {},
		"no snapshots at all":              {remove: "promote"},
		"a snapshot without its note":      {remove: note(good).Name, want: good.Name + " is half a snapshot"},
		"a note without its snapshot":      {remove: good.Name, want: good.Name + ".note has no snapshot"},
		"one that no record names":         {add: []volume{parts(unknown), note(unknown)}, want: "not one that a record names"},
		"another than the record's":        {add: []volume{note(changed)}, want: "not one that a record names"},
		"a note under another's name":      {add: []volume{{"p_promote-x.note", note(good).Labels}}, want: "is no note of a snapshot"},
		"a note that cannot be read":       {add: []volume{{"p_promote-x.note", map[string]string{labelWhole: "{"}}}, want: "is no note of a snapshot"},
		"too many":                         {add: many, want: "6 snapshots"},
		"a restore in the middle":          {add: []volume{mark("3-333333333333", "begun")}, want: "marks a restore"},
		"the mark of one that was undone":  {add: []volume{mark("6-666666666666", "done")}, want: "marks a restore"},
		"the mark of an earlier one":       {add: []volume{mark("1-111111111111", "done")}, want: "marks a restore"},
		"a volume that nothing tells of":   {add: []volume{{Name: "p_promote-adopted-3"}}, want: "volume p_promote-adopted-3"},
		"another volume of the same model": {add: []volume{{Name: "p_state2"}}, want: "volume p_state2"},
	} {
		there := slices.DeleteFunc(slices.Clone(others), func(v volume) bool {
			return c.remove != "" && (v.Name == c.remove || c.remove == "promote" && v.Name != "p_state")
		})
		for _, v := range c.add {
			there = append(there, volume{v.Name, maps.Clone(v.Labels)})
		}
		if err := stray("p", there, list); !says(err, c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
