package smoke

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// maxSteps is how many steps a path may have.
const maxSteps = 32

// wants compares an answer with the values that are wanted in it, by their
// paths. Values are compared as they are written: 3, true, ok. An empty one
// must only be there.
func wants(body []byte, want map[string]string) error {
	if len(want) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var doc any
	if err := d.Decode(&doc); err != nil {
		return fmt.Errorf("the answer is no JSON: %s", oneLine(string(body)))
	}
	for _, path := range sortedKeys(want) {
		v, err := lookup(doc, path)
		if err != nil {
			return err
		}
		if got := written(v); want[path] != "" && got != want[path] {
			return fmt.Errorf("%s is %s, want %s", path, oneLine(got), want[path])
		}
	}
	return nil
}

// lookup finds the value at a path such as a.b[0].c.
func lookup(doc any, path string) (any, error) {
	steps, err := stepsOf(path)
	if err != nil {
		return nil, err
	}
	at := doc
	for i, step := range steps {
		found := false
		switch v := at.(type) {
		case map[string]any:
			at, found = v[step.name]
			found = found && !step.item
		case []any:
			if found = step.item && step.index < len(v); found {
				at = v[step.index]
			}
		}
		if !found {
			return nil, fmt.Errorf("the answer has no %s: there is no %s", path, steps[:i+1])
		}
	}
	return at, nil
}

// step is one of a path: a key of an object, or an item of a list.
type step struct {
	name  string
	index int
	item  bool
}

type steps []step

// String writes a path as it is read.
func (s steps) String() string {
	var b strings.Builder
	for i, one := range s {
		switch {
		case one.item:
			fmt.Fprintf(&b, "[%d]", one.index)
		case i > 0:
			b.WriteString("." + one.name)
		default:
			b.WriteString(one.name)
		}
	}
	return b.String()
}

// stepsOf reads a path.
func stepsOf(path string) (steps, error) {
	var out steps
	rest := path
	for first := true; first || rest != ""; first = false {
		switch {
		case len(out) >= maxSteps:
			return nil, fmt.Errorf("path %.80q has more than %d steps", path, maxSteps)
		case strings.HasPrefix(rest, "["):
			number, after, closed := strings.Cut(rest[1:], "]")
			n, err := strconv.ParseUint(number, 10, 31)
			if !closed || err != nil || after != "" && after[0] != '.' && after[0] != '[' {
				return nil, badPath(path)
			}
			out, rest = append(out, step{index: int(n), item: true}), after
		default:
			if !first {
				if rest[0] != '.' {
					return nil, badPath(path)
				}
				rest = rest[1:]
			}
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			if end == 0 {
				return nil, badPath(path)
			}
			out, rest = append(out, step{name: rest[:end]}), rest[end:]
		}
	}
	return out, nil
}

var errPath = errors.New("want a path such as a.b[0].c")

func badPath(path string) error { return fmt.Errorf("%w, got %.80q", errPath, path) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// written gives a value as JSON writes it, texts without their quotes.
func written(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}
