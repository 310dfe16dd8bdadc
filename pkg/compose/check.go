package compose

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/compose-spec/compose-go/v2/schema"

	"github.com/promote-dev/promote/internal/yamlpos"
	"github.com/promote-dev/promote/pkg/release"
)

// spelled reports every key of one file that the specification does not have.
func spelled(n *yamlpos.Node, path string) release.Errors {
	var errs release.Errors
	for _, item := range n.Items {
		errs = append(errs, spelled(item, keys.items(path))...)
	}
	for _, pair := range n.Pairs {
		next := keys.step(path, pair.Key.Value)
		if next == nowhere {
			errs = append(errs, misspelled(pair.Key, path))
			continue
		}
		errs = append(errs, spelled(pair.Value, next)...)
	}
	return errs
}

// shaped judges one file by the specification's schema, so that a value of
// another type is reported where it stands; the library trusts what it merges.
func shaped(n *yamlpos.Node) release.Errors {
	model, _ := values(n).(map[string]any)
	err := schema.Validate(model)
	if err == nil {
		return nil
	}
	at, ok := find(n, place{at: pathOf(err.Error())})
	if !ok {
		at = n.Nearest(pathOf(err.Error())...).Position
	}
	return release.Errors{at.Faultf("the Compose Specification says what may stand here", "%s", err)}
}

// values gives a file's values without those that only take away what another
// file says.
func values(n *yamlpos.Node) any {
	switch n.Kind {
	case yamlpos.Mapping:
		m := map[string]any{}
		for _, p := range n.Pairs {
			if p.Value.Tag != "!reset" {
				m[p.Key.Value] = values(p.Value)
			}
		}
		return m
	case yamlpos.Sequence:
		list := []any{}
		for _, item := range n.Items {
			list = append(list, values(item))
		}
		return list
	}
	return n.Any()
}

func misspelled(n *yamlpos.Node, path string) *release.Fault {
	where := path
	if where == "" {
		where = "the file"
	}
	if near := release.Nearest(n.Value, keys.known(path)); near != "" {
		return n.Faultf(fmt.Sprintf("write %q, or start a key of your own with x-", near),
			"unknown key %q in %s, did you mean %q?", clip(n.Value), where, near)
	}
	return n.Faultf("remove it, or start a key of your own with x-", "unknown key %q in %s", clip(n.Value), where)
}

// walk calls do for every value of the merged model, in order of the keys:
// with its path in the table of keys, and its place. It goes on below a value
// where do says so.
func walk(value any, path string, at place, do func(path string, at place, value any) bool) {
	switch v := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			next, child := keys.step(path, name), at.in(name)
			if do(next, child, v[name]) {
				walk(v[name], next, child, do)
			}
		}
	case []any:
		for i, item := range v {
			next, child := keys.items(path), at.item(i, mark(item))
			if do(next, child, item) {
				walk(item, next, child, do)
			}
		}
	}
}

// mark is a text by which a list's entry is found again in the file.
func mark(item any) string {
	switch v := item.(type) {
	case string:
		return v
	case map[string]any:
		for _, name := range []string{"target", "source"} {
			switch v := v[name].(type) {
			case string:
				return v
			case int:
				return strconv.Itoa(v)
			}
		}
	}
	return ""
}

// check reports every key of the merged model that has no verdict, or that is
// refused with a value that says something, and switches that are neither on
// nor off.
func check(model map[string]any) []problem {
	var list []problem
	walk(model, "", place{}, func(path string, at place, value any) bool {
		k, stands := keys.at[path]
		_, boolean := value.(bool)
		switch {
		case path == nowhere:
			list = append(list, problem{at, fmt.Sprintf("unknown key %s", at), "remove it"})
		case stands && k.verdict == refused && !empty(value):
			list = append(list, problem{at, fmt.Sprintf("%s is not supported: %s", at, k.why), k.fix})
		case switches[path] && !boolean && value != nil && !variable(text(value)):
			list = append(list, problem{at, fmt.Sprintf("%s: want true or false, got %s", at, clip(text(value))), "write true or false"})
		default:
			return true
		}
		return false
	})
	return append(list, limits(model)...)
}

// empty reports whether a value is the same as leaving its key out.
func empty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == "" || v == "false"
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
