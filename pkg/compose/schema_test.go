package compose

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/schema"
)

// TestEveryKeyHasAVerdict walks the Compose Specification's schema as the
// library carries it: an upgrade that brings a key fails here until somebody
// decides what it means for a release.
func TestEveryKeyHasAVerdict(t *testing.T) {
	var doc struct {
		Properties map[string]any            `json:"properties"`
		Defs       map[string]map[string]any `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(schema.Schema), &doc); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	count := 0
	var visit func(s map[string]any, path string, depth int)
	property := func(path string, s any, depth int) {
		if !seen[path] {
			seen[path] = true
			count++
			if _, ok := keys.at[path]; !ok && len(keys.below[path]) == 0 {
				t.Errorf("%s has no verdict", path)
			}
		}
		if k := keys.at[path]; k.verdict == refused || k.verdict == ignored || k.verdict == judged && len(keys.below[path]) == 0 {
			return // what is below goes with it
		}
		visit(s.(map[string]any), path, depth+1)
	}
	visit = func(s map[string]any, path string, depth int) {
		if depth > 40 {
			t.Fatalf("schema recurses at %s", path)
		}
		if ref, ok := s["$ref"].(string); ok {
			visit(doc.Defs[strings.TrimPrefix(ref, "#/$defs/")], path, depth+1)
		}
		below := func(name string) string { return strings.TrimPrefix(path+"."+name, ".") }
		properties, _ := s["properties"].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(properties)) {
			property(below(name), properties[name], depth)
		}
		patterns, _ := s["patternProperties"].(map[string]any)
		for pattern, p := range patterns {
			if p, ok := p.(map[string]any); ok && pattern != "^x-" {
				visit(p, below("*"), depth+1)
			}
		}
		if p, ok := s["additionalProperties"].(map[string]any); ok {
			visit(p, below("*"), depth+1)
		}
		if p, ok := s["items"].(map[string]any); ok {
			visit(p, path+"[]", depth+1)
		}
		for _, form := range []string{"oneOf", "anyOf", "allOf"} {
			forms, _ := s[form].([]any)
			for _, p := range forms {
				visit(p.(map[string]any), path, depth+1)
			}
		}
	}
	visit(map[string]any{"properties": doc.Properties}, "", 0)
	if count < 200 {
		t.Errorf("only %d keys found: the schema has another shape than this test knows", count)
	}
	for path := range keys.at {
		if !seen[path] && !strings.HasPrefix(path, "services.*.env_file[]") && !strings.HasPrefix(path, "services.*.volumes[].image.") {
			t.Errorf("%s has a verdict and is not in the schema", path)
		}
	}
}

// TestVerdictsSaySomething: who is told no is told why and what to do.
func TestVerdictsSaySomething(t *testing.T) {
	for path, k := range keys.at {
		switch {
		case k.verdict == refused && (k.why == "" || k.fix == ""):
			t.Errorf("%s is refused without a reason or a way out", path)
		case k.verdict == ignored && k.why == "":
			t.Errorf("%s is ignored without a reason", path)
		case k.verdict == unknown:
			t.Errorf("%s has no verdict", path)
		}
	}
}
