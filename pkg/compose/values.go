package compose

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The merged model is plain JSON values: map[string]any, []any, string, int,
// float64, bool and nil. These read them without fear of another shape, which
// the specification's schema has ruled out before.

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func items(v any) []any {
	l, _ := v.([]any)
	return l
}

func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	return fmt.Sprint(v)
}

// truthy reads a boolean; text that is not clearly false counts as true,
// because what it switches on is dangerous.
func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	}
	switch strings.ToLower(text(v)) {
	case "false", "no", "n", "off", "":
		return false
	}
	return true
}

// number reads a whole number; ok is false where there is none, a placeholder
// for example.
func number(v any) (int, bool) {
	switch v := v.(type) {
	case int:
		return v, true
	case string:
		n, err := strconv.Atoi(v)
		return n, err == nil
	}
	return 0, false
}

// names gives the keys of a mapping in order.
func names(v any) []string { return slices.Sorted(maps.Keys(object(v))) }

// pairs gives a mapping that may be written as a list of KEY=value.
func pairs(v any) map[string]any {
	if m := object(v); m != nil {
		return m
	}
	out := map[string]any{}
	for _, item := range items(v) {
		name, value, ok := strings.Cut(text(item), "=")
		if !ok {
			out[name] = nil
			continue
		}
		out[name] = value
	}
	return out
}

// texts gives a list that may be written as one text.
func texts(v any) []string {
	if s, ok := v.(string); ok {
		return []string{s}
	}
	var out []string
	for _, item := range items(v) {
		out = append(out, text(item))
	}
	return out
}

// service is one service of the merged model.
type service struct {
	name string
	spec map[string]any
	at   place
}

func services(model map[string]any) []service {
	var out []service
	all := object(model["services"])
	for _, name := range names(model["services"]) {
		out = append(out, service{name, object(all[name]), place{at: []string{"services", name}}})
	}
	return out
}

// mount is one entry of a service's volumes.
type mount struct {
	place
	kind, source, target string
	readable             bool // false: the short form could not be read
	item                 any
}

func mounts(s service) []mount {
	var out []mount
	for i, item := range items(s.spec["volumes"]) {
		m := mount{place: s.at.in("volumes").item(i, mark(item)), item: item}
		if v := object(item); v != nil {
			m.readable = true
			m.kind, m.source, m.target = text(v["type"]), text(v["source"]), text(v["target"])
		}
		out = append(out, m)
	}
	return out
}
