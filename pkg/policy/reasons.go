package policy

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/promote-dev/promote/pkg/release"
)

// Bounds of what one gate says.
const (
	maxReasons = 100
	maxText    = 2000 // bytes of a message or a fix
)

// reasonsOf reads a set of reasons, sorted. Beyond maxReasons the rest is
// counted.
func reasonsOf(gate string, value any) ([]release.Reason, error) {
	list, ok := value.([]any)
	if !ok {
		return nil, errors.New("it is no set")
	}
	var reasons []release.Reason
	for _, item := range list {
		r, err := reasonOf(gate, item)
		if err != nil {
			return nil, err
		}
		reasons = append(reasons, r)
	}
	slices.SortFunc(reasons, func(a, b release.Reason) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Message, b.Message), cmp.Compare(a.Fix, b.Fix))
	})
	if more := len(reasons) - maxReasons; more > 0 {
		reasons = append(reasons[:maxReasons], release.Reason{Rule: gate + "/more", Message: fmt.Sprintf("and %d reasons more", more),
			Fix: "deal with the ones that are listed, then run it again"})
	}
	return reasons, nil
}

// reasonOf reads one element of a set: an object with the fields of
// release.Reason, of which rule and message must be there.
func reasonOf(gate string, item any) (release.Reason, error) {
	var r release.Reason
	object, ok := item.(map[string]any)
	if !ok {
		return r, fmt.Errorf("a reason is an object with rule, message and fix, not %.60v", item)
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if err := readField(&r, key, object[key]); err != nil {
			return r, err
		}
	}
	thing, named := strings.CutPrefix(r.Rule, gate+"/")
	switch {
	case !named || thing == "":
		return r, fmt.Errorf("the rule of a reason is %q, want %s/<thing>", clean(r.Rule), gate)
	case r.Message == "":
		return r, fmt.Errorf("a reason of rule %s has no message", r.Rule)
	}
	return r, nil
}

func readField(r *release.Reason, key string, value any) error {
	if key == "line" {
		n, ok := value.(json.Number)
		line, err := n.Int64()
		if !ok || err != nil || line < 0 || line > 1<<31 {
			return fmt.Errorf("the line of a reason is %.60v, want a whole number", value)
		}
		r.Line = int(line)
		return nil
	}
	fields := map[string]*string{"rule": &r.Rule, "message": &r.Message, "file": &r.File, "fix": &r.Fix}
	field, known := fields[key]
	text, ok := value.(string)
	switch {
	case !known:
		return fmt.Errorf("a reason has no field %q, but rule, message, file, line and fix", clean(key))
	case !ok:
		return fmt.Errorf("the %s of a reason is %.60v, want text", key, value)
	}
	*field = clean(text)
	return nil
}

// clean bounds what may have come from an image: names and paths in it are
// anybody's, and end up on terminals.
func clean(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
