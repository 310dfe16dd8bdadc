package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/internal/yamlpos"
	"github.com/promote-dev/promote/pkg/release"
)

// TestWrongTypesAreSaidOnce puts a list, a mapping and a text in place of each
// value of the example. Checks that come later must not repeat in other words
// what decoding found.
func TestWrongTypesAreSaidOnce(t *testing.T) {
	example := readExample(t)
	root, err := yamlpos.Parse(FileName, []byte(example))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(project(t), FileName)
	lines := strings.SplitAfter(example, "\n")
	var walk func(n *yamlpos.Node)
	walk = func(n *yamlpos.Node) {
		for _, p := range n.Pairs {
			walk(p.Value)
		}
		for _, item := range n.Items {
			walk(item)
		}
		if n.Kind != yamlpos.Scalar {
			return
		}
		line := lines[n.Line-1]
		start, width := n.Column-1, len(n.Value)
		if line[start] == '"' {
			width += 2
		}
		for _, wrong := range []string{"[1, 2]", "{q: 1}", "7.5"} {
			lines[n.Line-1] = line[:start] + wrong + line[start+width:]
			if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load(path)
			var list release.Errors
			if errors.As(err, &list) && len(list) > 1 && list[0].Line == list[1].Line && !strings.Contains(line, "staging:") {
				t.Errorf("%q for %q on line %d:\n%v", wrong, n.Value, n.Line, err)
			}
			if err == nil && wrong != "7.5" {
				t.Errorf("%q for %q on line %d was accepted", wrong, n.Value, n.Line)
			}
		}
		lines[n.Line-1] = line
	}
	walk(root)
}

// FuzzLoad: whatever the file holds, the answer is a configuration or a list of
// faults with their places.
func FuzzLoad(f *testing.F) {
	example, err := os.ReadFile("testdata/openclaw/promote.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(example), minimal, "", "[]", "x", "environments: {a: , b: [], c: {after: c}}", "trust: &a {owner: {of: [*a]}}", "build: {tags: ['{{range 1}}{{end}}{{.}}']}"} {
		f.Add(seed)
	}
	dir := f.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/openclaw")); err != nil {
		f.Fatal(err)
	}
	path := filepath.Join(dir, FileName)
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path)
		if err != nil {
			var fault *release.Fault
			if !errors.As(err, &fault) || fault.Kind != release.KindConfig || fault.File == "" {
				t.Fatalf("%v", err)
			}
			return
		}
		if c.Digest().IsZero() || c.Name == "" || len(c.Environments()) != len(c.File.Environments) {
			t.Fatalf("accepted %+v", c.File)
		}
		_ = c.Inactive()
		_ = c.CheckLedger(true)
	})
}
