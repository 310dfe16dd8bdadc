package yamlpos_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/internal/yamlpos"
	"github.com/promote-dev/promote/pkg/release"
)

type target struct {
	Name string `yaml:"name"`
	Host string `yaml:"host"`
}

// reference is a scalar or a mapping.
type reference struct{ Env, File string }

func (r *reference) UnmarshalNode(n *yamlpos.Node) error {
	if n.Kind == yamlpos.Mapping {
		return yamlpos.Decode(n, &struct {
			File *string `yaml:"file"`
		}{&r.File})
	}
	if n.Value == "bad" {
		return errors.New("no such variable")
	}
	r.Env = n.Value
	return nil
}

type limits struct {
	Depth int `yaml:"depth"`
}

type document struct {
	Name     string                 `yaml:"name"`
	Enabled  bool                   `yaml:"enabled"`
	Timeout  time.Duration          `yaml:"timeout"`
	Rate     float64                `yaml:"rate"`
	Count    uint8                  `yaml:"count"`
	Pointer  *int                   `yaml:"pointer"`
	Files    []string               `yaml:"files"`
	Targets  map[string]target      `yaml:"targets"`
	Key      reference              `yaml:"key"`
	Digest   release.Digest         `yaml:"digest"`
	Extra    any                    `yaml:"extra"`
	Tree     *yamlpos.Node          `yaml:"tree"`
	Nested   map[string][]reference `yaml:"nested"`
	Hidden   string                 `yaml:"-"`
	limits   `yaml:",inline"`
	Limits   limits `yaml:",inline"`
	Untagged string
}

func TestDecode(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	n := parse(t, `
name: openclaw
enabled: true
timeout: 90s
rate: 20
count: 7
pointer: 0x10
files: [a.yaml, "b.yaml"]
targets: {one: {name: stage, host: "ssh://x"}}
key: PROMOTE_KEY
digest: `+digest+`
extra: {a: [1, 2.5, true, null, x]}
tree: {deep: {er: 1}}
nested: {list: [{file: f}, e]}
depth: 3
untagged: yes
`)
	got := document{Hidden: "kept"}
	if err := yamlpos.Decode(n, &got); err != nil {
		t.Fatal(err)
	}
	tree := got.Tree
	got.Tree = nil
	sixteen := 16
	want := document{
		Name: "openclaw", Enabled: true, Timeout: 90 * time.Second, Rate: 20, Count: 7, Pointer: &sixteen,
		Files: []string{"a.yaml", "b.yaml"}, Targets: map[string]target{"one": {"stage", "ssh://x"}},
		Key: reference{Env: "PROMOTE_KEY"}, Digest: release.MustDigest(digest),
		Extra:  map[string]any{"a": []any{int64(1), 2.5, true, nil, "x"}},
		Nested: map[string][]reference{"list": {{File: "f"}, {Env: "e"}}},
		Hidden: "kept", Limits: limits{Depth: 3}, Untagged: "yes",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if tree.Lookup("deep.er").Line != 13 {
		t.Errorf("the tree lost its positions: %v", tree.Position)
	}
}

func TestDecodeKeepsDefaults(t *testing.T) {
	got := document{Name: "default", Files: []string{"compose.yaml"}, Timeout: time.Minute}
	if err := yamlpos.Decode(parse(t, "enabled: true\nfiles:\ntargets:\n"), &got); err != nil {
		t.Fatal(err)
	}
	if got.Name != "default" || len(got.Files) != 1 || got.Timeout != time.Minute || !got.Enabled {
		t.Errorf("got %+v", got)
	}
}

func TestDecodeReportsEverything(t *testing.T) {
	n := parse(t, `name: 1.10
nmae: x
enabled: "true"
timeout: 90
rate: fast
count: 256
files: compose.yaml
targets:
  one: {name: a, hots: b}
  two: stage
  one: {name: c}
key: bad
digest: sha256:zz
extra: {a: 1, a: 2}
pointer: 1.5
qqqqqqqqqqqq: 1
nested: {a: {b: c}}
`)
	want := []string{
		`f.yaml:1:7: name: expected text in quotes ("1.10"), got the number 1.10`,
		`f.yaml:2:1: unknown key "nmae", did you mean "name"?`,
		`f.yaml:3:10: enabled: expected true or false, got "true"`,
		`f.yaml:4:10: timeout: expected a duration such as 90s, 10m or 24h, got the number 90`,
		`f.yaml:5:7: rate: expected a number, got "fast"`,
		`f.yaml:6:8: count: expected a whole number of 8 bits, not negative, got the number 256`,
		`f.yaml:7:8: files: expected a list, got "compose.yaml"`,
		`f.yaml:9:18: unknown key "hots" in targets.one, did you mean "host"?`,
		`f.yaml:10:8: targets.two: expected a mapping, got "stage"`,
		`f.yaml:11:3: targets.one: key is repeated, first on line 9`,
		`f.yaml:12:6: key: no such variable`,
		`f.yaml:13:9: digest: digest "sha256:zz": want 64 hex digits, got 2`,
		`f.yaml:14:15: extra.a: key is repeated, first on line 14`,
		`f.yaml:15:10: pointer: expected a whole number of 64 bits, got the number 1.5`,
		`f.yaml:16:1: unknown key "qqqqqqqqqqqq"`,
		`f.yaml:17:13: nested.a: expected a list, got a mapping`,
	}
	err := yamlpos.Decode(n, &document{})
	var list release.Errors
	if !errors.As(err, &list) {
		t.Fatalf("want release.Errors, got %T", err)
	}
	if got := strings.Split(list.Error(), "\n"); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !strings.Contains(list[1].Hint, "known keys: name, enabled") || list[1].Kind != release.KindConfig {
		t.Errorf("unknown key: %+v", list[1])
	}
}

func TestDecodeRoot(t *testing.T) {
	err := yamlpos.Decode(parse(t, "- a\n"), &document{})
	if err == nil || err.Error() != "f.yaml:1:1: the document: expected a mapping, got a list" {
		t.Errorf("got %v", err)
	}
	if err := yamlpos.Decode(parse(t, ""), &document{}); err != nil {
		t.Errorf("empty document: %v", err)
	}
	if err := yamlpos.Decode(parse(t, "a: 1"), document{}); err == nil {
		t.Error("decoding into a value went through")
	}
}
