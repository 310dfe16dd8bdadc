package depcheck

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/promote-dev/promote/"

// linked is why the clients of key services have their home where they have.
const linked = "key services are linked into the program, not into the tests of who asks them"

// rule says which packages of ours a package may import. A pattern that ends
// in "/..." covers what is below it, too.
type rule struct {
	packages []string
	may      []string // patterns; a package may always import what is below itself
	because  string
}

var (
	nouns = []string{"pkg/release", "pkg/event"}

	rules = []rule{
		{[]string{"pkg/release"}, nil, "the nouns are at the bottom: everything imports them, they import the standard library only"},
		{[]string{"pkg/event"}, nil, "events are at the bottom: everything emits them"},
		{[]string{"internal/yamlpos"}, []string{"pkg/release"}, "it reports positions as faults and knows nothing else"},
		{[]string{"pkg/pipeline", "pkg/smoke", "pkg/deploy"}, nouns, "what happens in which order is decided over interfaces, so that it can be tested without an engine, a registry or a key"},
		{[]string{"pkg/registry", "pkg/sign", "pkg/engine", "pkg/ledger", "pkg/notify"}, nouns, "adapters never import each other: each heavy library stays in its own room"},
		{[]string{"pkg/policy"}, append([]string{"policies"}, nouns...), "it judges with the policies that ship with it"},
		{[]string{"pkg/build", "pkg/scan", "pkg/compose", "pkg/config"}, append([]string{"internal/yamlpos"}, nouns...), "adapters read YAML with positions and know no other adapter"},
		{[]string{"policies", "examples"}, nil, "embedded files, no code"},
		{[]string{"internal/depcheck", "internal/e2e"}, nil, "they look at the others from outside"},
		{[]string{"internal/advisories"}, append([]string{"data/osv"}, nouns...), "it makes a database and is handed the way to push it"},
		{[]string{"data/osv"}, nil, "embedded files, no code"},
		{[]string{"internal/worktree", "internal/worker", "internal/ui", "internal/report", "internal/localregistry", "internal/bases", "internal/hook", "internal/seal"}, nouns, "small rooms behind the front door know the nouns only"},
		{[]string{"internal/cli"}, []string{"internal/ui", "internal/report", "internal/worker", "pkg/config", "pkg/pipeline", "pkg/release", "pkg/event"}, "the command line gets its adapters handed in, so that its tests link none of them"},
		{[]string{"internal/demo"}, append([]string{"examples"}, nouns...), "the demo runs the real commands, it does not call what is behind them"},
		{[]string{"internal/reliability"}, nil, "it kills the real program and looks at what is left from outside"},
		{[]string{"internal/bench"}, append([]string{"pkg/engine/stub"}, nouns...), "it measures whatever it is handed, and stubs"},
		{[]string{"internal/bench/cmd"}, append([]string{"internal/bench", "internal/localregistry", "pkg/policy", "pkg/registry", "pkg/sign"}, nouns...), "it hands our libraries and a registry to the benchmarks"},
		{[]string{"internal/bench/ledger"}, append([]string{"internal/bench", "pkg/ledger"}, nouns...), "it hands our ledger to its benchmark"},
		{[]string{"internal/bench/deploy"}, []string{"internal/bench", "internal/reliability"}, "it times the real program in the workspace that the trials use"},
		{[]string{"internal/bench/hosts"}, append([]string{"internal/bench", "internal/hosts", "pkg/engine", "pkg/engine/stub", "pkg/ledger", "pkg/pipeline"}, nouns...), "it hands stub engines to our deployments"},
		{[]string{"internal/hosts"}, append([]string{"internal/seal", "pkg/deploy", "pkg/engine", "pkg/pipeline"}, nouns...), "it joins two halves, so that a deployment can be had without the rest of the program"},
		{[]string{"internal/wire"}, []string{"pkg/...", "internal/...", "policies", "data/osv", "examples/..."}, "the one place that knows every adapter"},
		{[]string{"internal/startup"}, nil, "it has to be initialised before the libraries that have much to do"},
		{[]string{"cmd/promote"}, []string{"internal/cli", "internal/startup", "internal/wire"}, "main is a dozen lines"},
	}

	// homes maps the import prefixes of heavy libraries to the only packages
	// that may know them.
	homes = []struct {
		library string
		home    []string
		because string
	}{
		{"filippo.io/age", []string{"internal/seal"}, "snapshots are encrypted in one place"},
		{"github.com/urfave/cli", []string{"internal/cli"}, "flags are a matter of the front door"},
		{"go.yaml.in/yaml", []string{"internal/yamlpos"}, "one reader of YAML, one form of positions"},
		{"gopkg.in/yaml", nil, "use internal/yamlpos"},
		{"sigs.k8s.io/yaml", nil, "use internal/yamlpos"},
		{"github.com/google/go-containerregistry/pkg/v1/remote", []string{"pkg/registry"}, "what it believes of headers must be checked in one place"},
		{"github.com/google/go-containerregistry", []string{"pkg/registry", "pkg/scan"}, "Trivy takes images as its types; nobody else needs them"},
		{"github.com/moby/buildkit/util/progress", []string{"internal/ui", "pkg/build"}, "one display for all steps"},
		{"github.com/moby/buildkit/client", []string{"pkg/build", "internal/ui"}, "the display takes its types; nobody else builds"},
		{"github.com/moby/buildkit", []string{"pkg/build", "internal/ui"}, "BuildKit's types stay where it is spoken to"},
		{"github.com/aquasecurity/trivy-db/pkg/vulndb", nil, "it links a package that runs the go command whenever the program starts"},
		{"github.com/aquasecurity/trivy-db", []string{"pkg/scan", "internal/advisories"}, "the database's schema concerns who reads and who makes it"},
		{"github.com/aquasecurity", []string{"pkg/scan"}, "Trivy is not made to be a library: keep it in one room"},
		{"github.com/sigstore/sigstore/pkg/signature/kms/aws", []string{"internal/wire"}, linked},
		{"github.com/sigstore/sigstore/pkg/signature/kms/azure", []string{"internal/wire"}, linked},
		{"github.com/sigstore/sigstore/pkg/signature/kms/gcp", []string{"internal/wire"}, linked},
		{"github.com/sigstore/sigstore/pkg/signature/kms/hashivault", []string{"internal/wire"}, linked},
		{"github.com/sigstore", []string{"pkg/sign"}, "signatures are judged in one place"},
		{"github.com/open-policy-agent/opa", []string{"pkg/policy"}, "policies are judged in one place"},
		{"github.com/compose-spec", []string{"pkg/compose"}, "models are merged in one place"},
		{"github.com/moby/moby", []string{"pkg/engine"}, "hosts are changed in one place"},
		{"golang.org/x/mod/sumdb", []string{"pkg/ledger"}, "the log's hashes are computed in one place"},
		{"github.com/distribution/distribution", []string{"internal/localregistry"}, "the embedded registry is not the registry client"},
		{"github.com/invopop/jsonschema", nil, "schemas are made by tests, not at run time"},
		{"github.com/spf13", nil, "one command-line library"},
	}
)

func TestArrows(t *testing.T) {
	for pkg, imports := range packages(t) {
		r, ok := ruleFor(pkg)
		if !ok {
			t.Errorf("%s has no rule: say in internal/depcheck and docs/architecture.md what it may import, and why", pkg)
			continue
		}
		for _, imported := range imports {
			ours, ok := strings.CutPrefix(imported, module)
			if !ok || ours == pkg || under(ours, root(r, pkg)) || slices.ContainsFunc(r.may, func(p string) bool { return matches(p, ours) }) {
				continue
			}
			t.Errorf("%s must not import %s: %s", pkg, ours, r.because)
		}
	}
}

func TestOneHome(t *testing.T) {
	for pkg, imports := range packages(t) {
		for _, imported := range imports {
			for _, h := range homes {
				if imported != h.library && !strings.HasPrefix(imported, h.library+"/") {
					continue
				}
				if !slices.ContainsFunc(h.home, func(home string) bool { return pkg == home || under(pkg, home) }) {
					t.Errorf("%s imports %s, whose only home is %q: %s", pkg, imported, h.home, h.because)
				}
				break // the longest prefix stands first
			}
		}
	}
}

func TestNounsImportTheStandardLibraryOnly(t *testing.T) {
	all := packages(t)
	for _, pkg := range nouns {
		for _, imported := range all[pkg] {
			if strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") {
				t.Errorf("%s imports %s: the nouns stand on the standard library", pkg, imported)
			}
		}
	}
}

// Only the sign package may say that evidence is verified.
func TestOnlySignSetsVerified(t *testing.T) {
	walk(t, func(dir, file string, source []byte) {
		if dir == "pkg/sign" || under(dir, "pkg/sign") {
			return
		}
		for i, line := range strings.Split(string(source), "\n") {
			if strings.Contains(line, "release.Evidence{") && strings.Contains(line, "Verified: true") {
				t.Errorf("%s:%d makes verified evidence; only pkg/sign does", file, i+1)
			}
		}
	})
}

// packages gives the imports of every package's non-test files, by directory.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	sets := map[string]map[string]bool{}
	files := token.NewFileSet()
	walk(t, func(dir, file string, source []byte) {
		parsed, err := parser.ParseFile(files, file, source, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		if sets[dir] == nil {
			sets[dir] = map[string]bool{}
		}
		for _, spec := range parsed.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			sets[dir][name] = true
		}
	})
	if len(sets) < 10 {
		t.Fatalf("found only %d packages; is the test looking at the wrong place?", len(sets))
	}
	all := map[string][]string{}
	for dir, set := range sets {
		all[dir] = slices.Sorted(maps.Keys(set))
	}
	return all
}

func walk(t *testing.T, visit func(dir, file string, source []byte)) {
	t.Helper()
	top := filepath.Join("..", "..")
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if _, err := os.Stat(filepath.Join(p, "go.mod")); d.IsDir() && err == nil && p != top {
			return filepath.SkipDir // another module, which we don't link
		}
		if d.IsDir() && (name == "testdata" || p != top && strings.HasPrefix(name, ".") && name != "..") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, p)
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(filepath.Dir(rel)), rel, source)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ruleFor finds the rule of a package or of the nearest one above it.
func ruleFor(pkg string) (rule, bool) {
	for at := pkg; at != "."; at = path.Dir(at) {
		for _, r := range rules {
			if slices.Contains(r.packages, at) {
				return r, true
			}
		}
	}
	return rule{}, false
}

// root is the package that a rule was written for.
func root(r rule, pkg string) string {
	for at := pkg; at != "."; at = path.Dir(at) {
		if slices.Contains(r.packages, at) {
			return at
		}
	}
	return pkg
}

func matches(pattern, pkg string) bool {
	if above, ok := strings.CutSuffix(pattern, "/..."); ok {
		return under(pkg, above)
	}
	return pattern == pkg
}

func under(pkg, above string) bool { return pkg == above || strings.HasPrefix(pkg, above+"/") }
