package policy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/promote-dev/promote/pkg/release"
)

func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const sound = `# Ports below 1024 are not ours.
package promote.ports

deny contains {"rule": "ports/x", "message": message, "fix": "change it"} if {
	some service in input.services
	low(service)
	message := service.name
}

low(service) if service.name == "low"
`

func TestBadPolicies(t *testing.T) {
	rule := func(body string) string {
		return "package promote.ports\n\ndeny contains {\"rule\": \"ports/x\", \"message\": \"m\"} if {\n\t" + body + "\n}\n"
	}
	for name, c := range map[string]struct {
		text string
		want string // part of the error or its hint
		line int
	}{
		"empty":                     {"", "empty", -1},
		"comments only":             {"# nothing\n", "empty", -1},
		"syntax":                    {"package promote.ports\n\ndeny contains {", "", 3},
		"rego v0":                   {"package promote.ports\n\ndeny[x] { x := 1 }\n", "", 3},
		"outside promote":           {"package acme.ports\n\ndeny contains {} if true\n", "not below promote", 1},
		"promote itself":            {"package promote\n\ndeny contains {} if true\n", "not below promote", 1},
		"a default gate":            {"package promote.gates.user\n\nwarn contains {} if true\n", "belongs to promote", 1},
		"a new default gate":        {"package promote.gates.ports\n\nwarn contains {} if true\n", "belongs to promote", 1},
		"a default gate's name":     {"package promote.user\n\ndeny contains {\"rule\": \"user/x\", \"message\": \"m\"} if false\n", "ships with promote", 1},
		"the library":               {"package promote.lib\n\nverified(x) if x\n", "belongs to promote", 1},
		"below a library's rule":    {"package promote.lib.built\n\nx := 1\n", "", -1},
		"upper case":                {"package promote.Ports\n\ndeny contains {} if true\n", "is no name", 1},
		"neither deny nor warn":     {"package promote.ports\n\nunknown contains {} if true\n", "neither deny nor warn", 1},
		"a typo only":               {"package promote.ports\n\ndenny contains {} if true\n", "neither deny nor warn", 1},
		"a typo beside":             {rule("true") + "\nwran contains {} if true\n", "did you mean warn", 7},
		"a rule without effect":     {rule("true") + "\nallow := true\n", "no effect", 7},
		"a default without effect":  {rule("true") + "\ndefault allow := false\n", "no effect", 7},
		"deny is an object":         {"package promote.ports\n\ndeny := {\"rule\": \"ports/x\"}\n", "must be a set", 3},
		"deny is a truth":           {"package promote.ports\n\ndeny if true\n", "must be a set", 3},
		"deny is a function":        {"package promote.ports\n\ndeny(x) := x\n", "must be a set", 3},
		"deny by default":           {"package promote.ports\n\ndefault deny := false\n", "must be a set", 3},
		"deny is a map":             {"package promote.ports\n\ndeny.x contains 1 if true\n", "must be a set", 3},
		"deny in a library":         {"package promote.lib.ports\n\ndeny contains {} if true\n", "asked by nobody", 3},
		"http.send":                 {rule(`http.send({"method": "get", "url": "http://127.0.0.1"}).status_code == 200`), "http.send", 4},
		"opa.runtime":               {rule(`opa.runtime().env.HOME == "/root"`), "opa.runtime", 4},
		"the clock":                 {rule(`time.now_ns() > 0`), "time.now_ns", 4},
		"chance":                    {rule(`rand.intn("x", 2) == 1`), "rand.intn", 4},
		"uuid":                      {rule(`uuid.rfc4122("x") == "x"`), "uuid.rfc4122", 4},
		"names on the network":      {rule(`net.lookup_ip_addr("localhost") == set()`), "net.lookup_ip_addr", 4},
		"addresses":                 {rule(`net.cidr_contains("10.0.0.0/8", "10.0.0.1")`), "net.cidr_contains", 4},
		"tokens":                    {rule(`io.jwt.decode("x")[0].alg == "none"`), "io.jwt.decode", 4},
		"policies in policies":      {rule(`rego.parse_module("a", "package a") == {}`), "rego.parse_module", 4},
		"schemas":                   {rule(`json.match_schema({}, {"$ref": "http://127.0.0.1"})[0]`), "json.match_schema", 4},
		"print":                     {rule(`print("x")`), "print", 4},
		"trace":                     {rule(`trace("x")`), "trace", 4},
		"much out of little":        {rule(`count(numbers.range(1, 1000000000)) > 1`), "numbers.range", 4},
		"a fact that is none":       {rule(`input.relaese.dirty`), "relaese", 4},
		"a fact that is none, deep": {rule("some service in input.services\n\tnot service.scan.verfied"), "verfied", 5},
		"a fact of another type":    {rule(`input.release.dirty == "yes"`), "", 4},
		"a rule that is none":       {rule(`data.promote.lib.biult`), "data.promote.lib.biult is defined nowhere", 4},
		"data that is none":         {rule(`data.acme.allowed`), "data.acme.allowed is defined nowhere", 4},
		"an unused import":          {"package promote.ports\n\nimport data.promote.lib\n\n" + strings.TrimPrefix(rule("true"), "package promote.ports\n"), "unused", 3},
		"an unused variable":        {rule("x := 1"), "unused", 4},
		"recursion":                 {rule("a(1)") + "\na(x) if a(x)\n", "recursive", -1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string]string{"ports.rego": c.text})
			p, err := Load(t.Context(), Options{Dirs: []string{dir}})
			var fault *release.Fault
			if p != nil || !errors.As(err, &fault) || release.KindOf(err) != release.KindConfig {
				t.Fatalf("policy %v, error %v; want a config fault", p, err)
			}
			if fault.Hint == "" {
				t.Error("no hint")
			}
			if !strings.Contains(err.Error()+" "+fault.Hint, c.want) {
				t.Errorf("got %q, hint %q; want %q", err, fault.Hint, c.want)
			}
			if c.line >= 0 && (fault.File != filepath.Join(dir, "ports.rego") || fault.Line != c.line || fault.Column == 0) {
				t.Errorf("at %s:%d:%d, want line %d", fault.File, fault.Line, fault.Column, c.line)
			}
		})
	}
}

func TestAllErrorsOfAllFilesAtOnce(t *testing.T) {
	dir := write(t, map[string]string{"a.rego": "package promote.a\n\ndeny := 1\n\nwarn := 2\n", "b.rego": "package acme\n\nx := 1\n"})
	_, err := Load(t.Context(), Options{Dirs: []string{dir}})
	var list release.Errors
	if !errors.As(err, &list) || len(list) != 3 {
		t.Errorf("got %v", err)
	}
}

func TestBadDirectories(t *testing.T) {
	fifo := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(fifo, "x.rego"), 0o600); err != nil {
		t.Fatal(err)
	}
	linked := write(t, map[string]string{"ports.rego": sound})
	if err := os.Symlink(t.TempDir(), filepath.Join(linked, "more")); err != nil {
		t.Fatal(err)
	}
	text := write(t, map[string]string{"ports.txt": sound})
	for name, dir := range map[string]string{
		"empty":            t.TempDir(),
		"absent":           filepath.Join(t.TempDir(), "absent"),
		"no policies":      text,
		"a file":           filepath.Join(text, "ports.txt"),
		"tests only":       write(t, map[string]string{"x_test.rego": sound}),
		"a test":           filepath.Join(write(t, map[string]string{"x_test.rego": sound}), "x_test.rego"),
		"too big":          write(t, map[string]string{"x.rego": sound + strings.Repeat("#\n", maxFile)}),
		"a pipe":           fifo,
		"linked directory": linked,
	} {
		_, err := Load(t.Context(), Options{Dirs: []string{dir}})
		if release.KindOf(err) != release.KindConfig || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDefaultsMustBeThere(t *testing.T) {
	_, err := Load(t.Context(), Options{Defaults: fstest.MapFS{}})
	if release.KindOf(err) != release.KindInternal {
		t.Errorf("without default gates: %v", err)
	}
}

func TestLoadingStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Load(ctx, Options{Dirs: []string{write(t, map[string]string{"ports.rego": sound})}}); release.KindOf(err) != release.KindInterrupted {
		t.Errorf("got %v", err)
	}
}

func TestGatesOfATeam(t *testing.T) {
	dir := write(t, map[string]string{
		"ports.rego":        sound,
		"acme/names.rego":   "package promote.acme.names\n\nimport data.promote.lib.acme\n\nwarn contains {\"rule\": \"acme.names/x\", \"message\": acme.text} if true\n",
		"acme/lib.rego":     "package promote.lib.acme\n\ntext := \"from the library\"\n\nother := 1\n",
		"acme/names_2.rego": "package promote.acme.names\n\ndeny contains {\"rule\": \"acme.names/y\", \"message\": \"m\"} if input.trust == \"x\"\n",
		"README.md":         "not a policy",
	})
	p := load(t, dir)
	gates := p.Gates()
	if n := len(gateNames); len(gates) != n+2 || gates[n].Name != "acme.names" || gates[n+1].Name != "ports" || gates[n+1].Default {
		t.Fatalf("gates %+v", gates)
	}
	if doc := gates[len(gates)-1].Doc; doc != "Ports below 1024 are not ours." {
		t.Errorf("doc %q", doc)
	}
	f := good(t)
	got := judge(t, p, f)
	if v := got["acme.names"]; v.Result != release.Warned || v.Reasons[0].Message != "from the library" {
		t.Errorf("a team's gate: %+v", v)
	}
	if got["ports"].Result != release.Passed {
		t.Errorf("a team's gate: %+v", got["ports"])
	}
	f.Services[0].Name, f.Trust = "low", "x"
	got = judge(t, p, f)
	if got["ports"].Result != release.Failed || got["acme.names"].Result != release.Failed || len(got["acme.names"].Reasons) != 1 {
		t.Errorf("a team's gates: %+v", got)
	}
	if single := load(t, filepath.Join(dir, "ports.rego")); len(single.Gates()) != len(gateNames)+1 {
		t.Error("a single file is not loaded")
	}
}

func TestDigest(t *testing.T) {
	files := map[string]string{"ports.rego": sound, "ports_test.rego": "package promote.ports_test\n"}
	dir := write(t, files)
	base := load(t, dir).Digest()
	if base.IsZero() || base == load(t).Digest() {
		t.Fatal("a team's gate does not change the digest")
	}
	if base != load(t, write(t, files)).Digest() {
		t.Error("the digest depends on where the directory is")
	}
	for i := range len(sound) {
		text := []byte(sound)
		text[i] ^= 1
		if got := digestOf([]source{{name: "ports.rego", text: string(text)}}); got == digestOf([]source{{name: "ports.rego", text: sound}}) {
			t.Fatalf("another byte at %d gives the same digest", i)
		}
	}
	if base == load(t, write(t, map[string]string{"ports.rego": sound + "#\n"})).Digest() {
		t.Error("a comment more gives the same digest")
	}
	if base == load(t, write(t, map[string]string{"doors.rego": sound})).Digest() {
		t.Error("another file name gives the same digest")
	}
	files["ports_test.rego"] = "package promote.ports_test\n\ntest_x if true\n"
	if base != load(t, write(t, files)).Digest() {
		t.Error("a test changes the digest")
	}
}

// The allow-list names real builtins, none of which may depend on more than
// its arguments.
func TestAllowedBuiltins(t *testing.T) {
	known := map[string]*ast.Builtin{}
	for _, b := range ast.CapabilitiesForThisVersion().Builtins {
		known[b.Name] = b
	}
	for _, name := range allowed {
		if known[name] == nil || known[name].Nondeterministic {
			t.Errorf("%s is unknown or depends on more than its arguments", name)
		}
	}
	if got := len(capabilities().Builtins); got != len(allowed) {
		t.Errorf("%d builtins, %d allowed", got, len(allowed))
	}
}

// What the manual shows is a policy that works.
func TestTheManualsExample(t *testing.T) {
	manual, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(manual), "```rego\n")
	example, _, found := strings.Cut(rest, "```\n")
	if !found {
		t.Fatal("docs/policies.md shows no policy")
	}
	p := load(t, write(t, map[string]string{"registry.rego": example}))
	f := good(t)
	if v := judge(t, p, f)["registry"]; v.Result != release.Failed || len(v.Reasons) != 2 {
		t.Errorf("another registry: %+v", v)
	}
	for i := range f.Services {
		f.Services[i].Repository = "registry.acme.dev/app/" + f.Services[i].Name
	}
	if v := judge(t, p, f)["registry"]; v.Result != release.Passed {
		t.Errorf("our registry: %+v", v)
	}
}
