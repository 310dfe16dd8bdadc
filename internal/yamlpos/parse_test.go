package yamlpos_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/internal/yamlpos"
	"github.com/promote-dev/promote/pkg/release"
)

func parse(t *testing.T, src string) *yamlpos.Node {
	t.Helper()
	n, err := yamlpos.Parse("f.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPositions(t *testing.T) {
	n := parse(t, "# head\nservices:\n  planner:\n    image: redis:7 # why\n    ports: [\"80:80\", ä, last]\n")
	for path, want := range map[string]string{
		"services":                 "f.yaml:3:3",
		"services.planner.image":   "f.yaml:4:12",
		"services.planner.ports.2": "f.yaml:5:25",
	} {
		if got := n.Lookup(path); got == nil || got.Position.String() != want {
			t.Errorf("%s: got %v, want %s", path, got, want)
		}
	}
	if got := n.Lookup("services.executor.image"); got != nil {
		t.Errorf("absent path: got %v", got)
	}
	if got := n.Nearest("services", "executor"); got.Line != 3 {
		t.Errorf("nearest: got %v", got.Position)
	}
	if n.Lookup("services.planner.ports.3") != nil || n.Lookup("services.planner.ports.x") != nil {
		t.Error("index outside of the list")
	}
}

func TestMergeKeys(t *testing.T) {
	n := parse(t, "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  <<: [*a, *b]\n  x: 9\n")
	for path, want := range map[string]string{"c.x": "9", "c.y": "2", "c.z": "4"} {
		if got := n.Lookup(path); got == nil || got.Value != want {
			t.Errorf("%s: got %v, want %s", path, got, want)
		}
	}
	if n.Lookup("c.<<") != nil {
		t.Error("the merge key is still an entry")
	}
	if got := n.Lookup("c.z").Line; got != 2 {
		t.Errorf("a merged value stands where it is written, got line %d", got)
	}
}

func TestEmptyDocument(t *testing.T) {
	for _, src := range []string{"", "# only a comment\n", "---\n"} {
		if n := parse(t, src); !n.IsNull() || n.Line < 1 {
			t.Errorf("%q: got %+v", src, n)
		}
	}
}

func TestHostileInput(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'i'; c++ {
		p := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+p+",", 10), ",") + "]\n"
	}
	cases := map[string]struct{ src, want string }{
		"alias bomb":       {bomb, "more than 100000 values"},
		"cycle":            {"a: &a [*a]\n", "f.yaml:1:8: alias *a contains itself"},
		"cycle by merge":   {"a: &a\n  b: 1\n  <<: *a\n", "contains itself"},
		"depth":            {strings.Repeat("[", 70) + strings.Repeat("]", 70), "nested deeper than 64"},
		"size":             {strings.Repeat("# \n", 1<<19), "larger than"},
		"two documents":    {"a: 1\n---\nb: 2\n", "second YAML document"},
		"list as key":      {"? [a]\n: 1\n", "expected a name as key, got a list"},
		"undefined alias":  {"a: *nope\n", "f.yaml: invalid YAML: unknown anchor 'nope'"},
		"syntax":           {"a: 1\nb: [\n", "f.yaml:2: invalid YAML"},
		"merge of scalars": {"a:\n  <<: 3\n", "expected a mapping to merge"},
		"control bytes":    {"a: \x01\n", "invalid YAML"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := yamlpos.Parse("f.yaml", []byte(c.src))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if release.KindOf(err) != release.KindConfig {
				t.Errorf("kind %s", release.KindOf(err))
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	if _, err := yamlpos.ReadFile(path); !errors.Is(err, os.ErrNotExist) || release.KindOf(err) != release.KindConfig {
		t.Errorf("absent file: %v", err)
	}
	if err := os.WriteFile(path, []byte("a: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := yamlpos.ReadFile(path)
	if err != nil || n.Lookup("a").File != path {
		t.Errorf("got %v, %v", n, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a: &a {b: [1, *a]}\n<<: *a\n")
	f.Add("a: |\n  x\n? b\n: 'c'\n")
	f.Fuzz(func(t *testing.T, src string) {
		n, err := yamlpos.Parse("f", []byte(src))
		if err != nil {
			return
		}
		n.Any()
		checkSpans(t, n, src)
	})
}

func checkSpans(t *testing.T, n *yamlpos.Node, src string) {
	if s, ok := n.Span(); ok && src[s.Start:s.End] != n.Value {
		t.Errorf("span %v is %q, want %q", s, src[s.Start:s.End], n.Value)
	}
	for _, p := range n.Pairs {
		checkSpans(t, p.Value, src)
	}
	for _, item := range n.Items {
		checkSpans(t, item, src)
	}
}
