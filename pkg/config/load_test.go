package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

func readExample(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("testdata/openclaw/promote.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// project gives a directory that holds what the example names.
func project(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/openclaw")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// load loads a text as promote.yaml of such a project.
func load(t *testing.T, text string) (*Config, error) {
	t.Helper()
	path := filepath.Join(project(t), FileName)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path)
}

func sound(t *testing.T, text string) *Config {
	t.Helper()
	c, err := load(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const minimal = "name: openclaw\nregistry: ghcr.io/acme/openclaw\n"

func TestTheExampleLoads(t *testing.T) {
	c, err := Load("testdata/openclaw/promote.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "openclaw" || c.Build.Tags[1] != "sha-{{.ShortCommit}}" || c.Scan.Database.Repository != "registry.acme.dev/mirror/trivy-db" ||
		c.Scan.MaxAge != 24*time.Hour || c.Ledger.Git.Branch != "promote-ledger" || c.Hooks.PreDeploy != "hooks/drain" || c.Notify[0].On[2] != "denied" {
		t.Errorf("got %+v", c.File)
	}
	wantChecks := []Check{
		{Name: "answers", Service: "planner", HTTP: &CheckHTTP{HTTP: HTTP{Path: "/health", Status: 200}}, Timeout: 10 * time.Second},
		{Name: "remembers", Service: "planner", Exec: []string{"python3", "-m", "agent.recall"}, Survives: "recreate", Timeout: 10 * time.Second},
	}
	if !reflect.DeepEqual(c.Smoke.Checks, wantChecks) {
		t.Errorf("checks are %+v", c.Smoke.Checks)
	}
	wantMemory := Memory{
		Duration: time.Minute, Warmup: 10 * time.Second, MaxPercentOfLimit: 90, Horizon: 24 * time.Hour,
		Load: MemoryLoad{HTTP: &LoadHTTP{Service: "planner", HTTP: HTTP{Path: "/task", Method: "POST"}, Rate: 20, Concurrency: 8}},
	}
	if !reflect.DeepEqual(c.Smoke.Memory, wantMemory) {
		t.Errorf("memory is %+v", c.Smoke.Memory)
	}
	window, err := release.NewWindow(false, "Mon-Thu 09:00-16:00", "Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	wantChain := []release.Environment{
		{Name: "staging", Registry: "ghcr.io/acme/openclaw", OnFailure: "rollback", KeepReleases: 2, Strategy: release.Strategy{Parallel: 1}, Targets: []release.Target{{Name: "stage-1", Host: "ssh://deploy@stage-1"}}},
		{Name: "production", After: "staging", Registry: "registry.prod.acme.dev/openclaw", Soak: 2 * time.Hour, OnFailure: "rollback", KeepReleases: 2,
			Strategy:  release.Strategy{Canary: 1, Pause: 10 * time.Minute, Parallel: 4},
			Approvals: release.Approvals{Required: 2, NotBy: []release.Role{release.Builder, release.Promoter}}, Windows: []release.Window{window},
			Snapshots: release.Snapshots{Volumes: []string{"agent_memory"}, Recipient: "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\n", Keep: 5},
			Targets:   []release.Target{{Name: "prod-1", Host: "ssh://deploy@prod-1"}, {Name: "prod-2", Host: "ssh://deploy@prod-2"}}},
	}
	if got := c.Environments(); !reflect.DeepEqual(got, wantChain) {
		t.Errorf("environments are %+v", got)
	}
	production := c.File.Environments["production"]
	if production.Approvals.Required != 2 || production.Windows[0].Zone != "Europe/Berlin" || production.Strategy.Parallel != 4 ||
		production.Strategy.Pause != 10*time.Minute || production.Snapshots.Keep != 5 {
		t.Errorf("production is %+v", production)
	}
	wantModels := map[string][]string{
		"smoke":      {"compose.yaml", "compose.prod-like.yml"},
		"staging":    {"compose.yaml", "compose.staging.yml"},
		"production": {"compose.yaml", "compose.prod.yml"},
	}
	if got := c.Models(); !reflect.DeepEqual(got, wantModels) {
		t.Errorf("models are %v", got)
	}
}

// TestTheDemosFileLoads where it lies, with the files that it names.
func TestTheDemosFileLoads(t *testing.T) {
	c, err := Load("../../examples/agent/promote.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Inactive(); err != nil {
		t.Error(err)
	}
	if err := c.CheckLedger(false); err != nil {
		t.Error(err)
	}
}

// TestDefaults: every key but name and registry has one.
func TestDefaults(t *testing.T) {
	c := sound(t, minimal+"environments: {staging: {}}\n")
	want := defaults()
	want.Name, want.Registry = "openclaw", "ghcr.io/acme/openclaw"
	want.Environments = map[string]Environment{"staging": {
		Registry: "ghcr.io/acme/openclaw", Targets: []Target{{Name: "local"}}, Strategy: Strategy{Parallel: 1, OnFailure: "rollback"}, KeepReleases: 2,
	}}
	if !reflect.DeepEqual(c.File, want) {
		t.Errorf("got  %+v\nwant %+v", c.File, want)
	}
	if c.Key() != "env://PROMOTE_KEY" || c.PublicKeyFile() != "" || c.Abs("x") != filepath.Join(c.Dir(), "x") || c.Abs("/x/../y") != "/y" {
		t.Errorf("key %q, public half %q", c.Key(), c.PublicKeyFile())
	}
	c = sound(t, minimal+"sign: {key: keys/ops.key}\n") // only its public half is there
	if c.Key() != c.Abs("keys/ops.key") || c.PublicKeyFile() != c.Abs("keys/ops.pub") {
		t.Errorf("key %q, public half %q", c.Key(), c.PublicKeyFile())
	}
	c = sound(t, minimal+"sign: {key: env://A, keyless: {issuer: https://accounts.example.com}}\ntrust: {builder: [{name: ci, identity: ci@example.com, issuer: https://accounts.example.com}]}\nledger: {git: {}}\nsmoke: {memory: {load: {exec: {service: a, command: [b]}}}}\n")
	if c.Key() != "env://A" || c.Sign.Keyless.Rekor != publicRekor || c.Sign.Keyless.RekorVersion != 1 || c.Ledger.Git.Remote != "origin" || c.Smoke.Memory.Load.Exec.Rate != 10 {
		t.Errorf("got %+v", c.File)
	}
	c = sound(t, minimal+"ledger: {file: {path: /srv/ledger, shared: true}}\nsmoke: {memory: {duration: 0s}}\n")
	if c.Ledger.File != (FileLedger{"/srv/ledger", true}) || c.Smoke.Memory.Duration != 0 {
		t.Errorf("got %+v", c.File)
	}
}

func TestFind(t *testing.T) {
	dir := project(t)
	deep := filepath.Join(dir, "a", "b")
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{dir, deep, filepath.Join(deep, "absent")} {
		if got, err := Find(from); err != nil || got != filepath.Join(dir, FileName) {
			t.Errorf("from %s: %q, %v", from, got, err)
		}
	}
	if err := os.Mkdir(filepath.Join(deep, FileName), 0o700); err != nil { // a directory is none
		t.Fatal(err)
	}
	if got, err := Find(deep); err != nil || got != filepath.Join(dir, FileName) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := Find(t.TempDir()); release.KindOf(err) != release.KindUsage {
		t.Errorf("where there is none: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "absent.yaml")); release.KindOf(err) != release.KindConfig {
		t.Errorf("a file that does not exist: %v", err)
	}
}

func TestUnknownEnvironment(t *testing.T) {
	c := sound(t, readExample(t))
	if e, err := c.Environment("production"); err != nil || e.After != "staging" {
		t.Errorf("%+v, %v", e, err)
	}
	_, err := c.Environment("prodution")
	var fault *release.Fault
	if !errors.As(err, &fault) || fault.Kind != release.KindUsage || !strings.Contains(fault.Hint, "did you mean production?") {
		t.Errorf("%v, %+v", err, fault)
	}
	if _, err := sound(t, minimal).Environment("x"); release.KindOf(err) != release.KindUsage {
		t.Errorf("without environments: %v", err)
	}
}

func TestTrust(t *testing.T) {
	c := sound(t, readExample(t))
	trust, err := c.Trust(nil)
	if err != nil || trust.SingleKey || trust.OwnerThreshold != 2 || trust.Roles[release.BreakGlass] != nil {
		t.Fatalf("%+v, %v", trust, err)
	}
	alice, _ := os.ReadFile("testdata/openclaw/keys/alice.pub")
	want := []release.Party{{Name: "alice", PublicKey: string(alice)}, {Name: "bob", Identity: "bob@acme.dev", Issuer: "https://accounts.google.com"}}
	if !reflect.DeepEqual(trust.Roles[release.Approver], want) || trust.Roles[release.Builder][0].Issuer != "https://token.actions.githubusercontent.com" {
		t.Errorf("got %+v", trust.Roles)
	}

	c = sound(t, minimal)
	if trust, err = c.Trust(alice); err != nil || !trust.SingleKey {
		t.Fatalf("%+v, %v", trust, err)
	}
	for _, role := range roleNames {
		holds := len(trust.Roles[release.Role(role)]) == 1 && trust.Roles[release.Role(role)][0].PublicKey == string(alice)
		if want := role != "approver" && role != "breakGlass"; holds != want {
			t.Errorf("with a single key, %s is held: %v", role, holds)
		}
	}
	for _, key := range [][]byte{nil, []byte("x"), append(alice[:len(alice):len(alice)], alice...)} {
		if _, err := c.Trust(key); release.KindOf(err) != release.KindConfig {
			t.Errorf("public key %.20q: %v", key, err)
		}
	}
	c = sound(t, minimal+"trust: {}\n") // nobody holds anything
	if trust, err = c.Trust(alice); err != nil || trust.SingleKey || len(trust.Roles) != 0 {
		t.Errorf("an empty trust section gives %+v, %v", trust, err)
	}
}

func TestDigest(t *testing.T) {
	example := readExample(t)
	base := sound(t, example).Digest()
	same := map[string]string{
		"the same":        example,
		"comments":        "# hello\n" + example,
		"another section": strings.Replace(example, "failOn: critical", "failOn: high", 1),
		"order of keys":   strings.Replace(example, "{required: 2, notBy: [builder, promoter]}", "{notBy: [builder, promoter], required: 2}", 1),
	}
	for name, text := range same {
		if got := sound(t, text).Digest(); got != base {
			t.Errorf("%s: the digest changed", name)
		}
	}
	other := map[string]string{
		"approvals": strings.Replace(example, "required: 2", "required: 1", 1),
		"soak":      strings.Replace(example, "soak: 2h", "soak: 1h", 1),
		"identity":  strings.Replace(example, "bob@acme.dev", "eve@acme.dev", 1),
		"policies":  strings.Replace(example, "policies: [policies/]", "policies: []", 1),
		"no trust":  example[:strings.Index(example, "trust:")] + example[strings.Index(example, "smoke:"):],
	}
	other["no trust"] = strings.Replace(other["no trust"], "required: 2", "required: 0", 1)
	seen := map[release.Digest]string{base: "the example"}
	for name, text := range other {
		got := sound(t, text).Digest()
		if before, twice := seen[got]; twice {
			t.Errorf("%s gives the digest of %s", name, before)
		}
		seen[got] = name
	}

	// The key's contents count, not its file's layout.
	dir := project(t)
	at := func(name string) string { return filepath.Join(dir, "keys", name) }
	raw, _ := os.ReadFile(at("alice.pub"))
	if err := os.WriteFile(at("alice.pub"), append([]byte("\n\n"), raw...), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(filepath.Join(dir, FileName))
	if err != nil || c.Digest() != base {
		t.Errorf("an empty line in a key's file: %v", err)
	}
	if err := os.Rename(at("carol.pub"), at("alice.pub")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("carol.pub"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = Load(filepath.Join(dir, FileName)); err != nil || c.Digest() == base {
		t.Errorf("another key behind the same name gives the same digest, %v", err)
	}
	before := c.Digest()
	if err := os.WriteFile(at("backup.pub"), []byte("age1another\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = Load(filepath.Join(dir, FileName)); err != nil || c.Digest() == before {
		t.Errorf("snapshots for another reader give the same digest, %v", err)
	}
}

func TestCheckLedger(t *testing.T) {
	remote := minimal + "environments: {staging: {targets: [{name: a, host: ssh://a}]}}\n"
	local := minimal + "environments: {staging: {targets: [{name: a}]}}\n"
	for _, c := range []struct {
		text   string
		ci, ok bool
	}{
		{local, false, true}, {local, true, false}, {remote, false, false}, {remote, true, false},
		{remote + "ledger: {file: {shared: true}}\n", true, true}, {remote + "ledger: {git: {}}\n", true, true},
		{remote + "ledger: {file: here}\n", false, false}, {minimal, false, true},
	} {
		err := sound(t, c.text).CheckLedger(c.ci)
		if c.ok != (err == nil) || !c.ok && release.KindOf(err) != release.KindConfig {
			t.Errorf("ci %v: %v\n%s", c.ci, err, c.text)
		}
	}
}

func TestInactive(t *testing.T) {
	if err := sound(t, minimal+"environments: {staging: {soak: 1h, strategy: {parallel: 2, onFailure: stop}}}\n").Inactive(); err != nil {
		t.Error(err)
	}
	var list release.Errors
	if err := sound(t, readExample(t)).Inactive(); !errors.As(err, &list) {
		t.Fatal(err)
	}
	for _, f := range list {
		if f.Line == 0 || f.Kind != release.KindConfig {
			t.Errorf("%+v", f)
		}
	}
	if text := list.Error(); strings.Contains(text, "snapshots") || strings.Contains(text, "hooks") || len(list) != 2 {
		t.Errorf("%d: %s", len(list), text)
	}
}
