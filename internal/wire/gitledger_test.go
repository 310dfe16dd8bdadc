//go:build engine

package wire

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/internal/cli"
)

// TestTwoClonesShareALedger runs the real program in two clones of a
// repository, as a laptop and a CI runner that share nothing else: each sees at
// once what the other one wrote, and neither clone changes.
func TestTwoClonesShareALedger(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("COSIGN_PASSWORD", "secret")
	if _, err := keys(t.Context(), cli.KeyOptions{Generate: true, Key: filepath.Join(dir, "ops.key")}); err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(filepath.Join(dir, "ops.pub"))
	if err != nil {
		t.Fatal(err)
	}
	git := func(at string, args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", at, "-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "init.defaultBranch=main"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v: %s", args, err, out)
		}
		return string(out)
	}
	origin, seed := filepath.Join(dir, "origin.git"), filepath.Join(dir, "seed")
	git(dir, "init", "--quiet", "--bare", origin)
	git(dir, "init", "--quiet", seed)
	for name, text := range map[string]string{
		"promote.yaml": "name: agent\nregistry: registry.example.com/agent\ncompose: {files: [compose.yaml]}\nsign: {key: ops.key}\n" +
			"environments: {staging: {}}\ntrust: {promoter: [{name: ops, key: ops.pub}], approver: [{name: ops, key: ops.pub}], owner: [{name: ops, key: ops.pub}]}\nledger: {git: {}}\n",
		"compose.yaml": "name: agent\n", "ops.pub": string(public), ".gitignore": "*.key\n",
	} {
		if err := os.WriteFile(filepath.Join(seed, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	git(seed, "add", "--all")
	git(seed, "commit", "--quiet", "-m", "agent")
	git(seed, "push", "--quiet", origin, "HEAD:refs/heads/main")
	clone := func(name string) string {
		at := filepath.Join(dir, name)
		git(dir, "clone", "--quiet", "--branch", "main", origin, at)
		secret, err := os.ReadFile(filepath.Join(dir, "ops.key"))
		if err == nil {
			err = os.WriteFile(filepath.Join(at, "ops.key"), secret, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	laptop, ci := clone("laptop"), clone("ci")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	promote := func(at, line string) (code int, text string) {
		cmd := exec.Command(self, strings.Fields(line)...)
		cmd.Dir = at
		cmd.Env = []string{asCommand + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + at + ".home", "COSIGN_PASSWORD=secret", "CI=" + map[bool]string{true: "true"}[at == ci]}
		out, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(out)
	}
	for _, step := range []struct {
		at, line string
		code     int
		says     string
	}{
		{ci, "log", 0, ""},
		{laptop, "freeze staging --until 2h --reason migration", 0, "staging"},
		{ci, "log staging", 0, "migration"},
		{ci, "status staging", 0, ""},
		{ci, "unfreeze staging --reason done", 0, "staging"},
		{laptop, "log staging", 0, "done"},
		{laptop, "audit verify", 0, ""},
		{ci, "ledger compact --dry-run --older-than 1ms", 0, "nothing to compact: all 2 records stay"},
		{laptop, "ledger compact --archive a.export --older-than 1ms --offline", 0, "nothing to compact"},
	} {
		if code, text := promote(step.at, step.line); code != step.code || !strings.Contains(text, step.says) {
			t.Fatalf("in %s, promote %s: exit %d, want %d and %q\n%s", filepath.Base(step.at), step.line, code, step.code, step.says, text)
		}
	}
	for _, at := range []string{laptop, ci} {
		if got := git(at, "status", "--porcelain") + git(at, "branch", "--all", "--format=%(refname)"); strings.Contains(got, "promote-ledger") || strings.Contains(got, "??") || strings.Contains(got, " M") {
			t.Errorf("%s is now\n%s", filepath.Base(at), got)
		}
	}
	git(dir, "--git-dir="+origin, "update-ref", "-d", "refs/heads/promote-ledger")
	if code, text := promote(ci, "log"); code != 1 || !strings.Contains(text, "was rewritten") {
		t.Errorf("after the branch was deleted: exit %d\n%s", code, text)
	}
	if err := os.Rename(origin, origin+".away"); err != nil {
		t.Fatal(err)
	}
	if code, text := promote(laptop, "status"); code != 1 || !strings.Contains(text, "does not appear to be a git repository") {
		t.Errorf("without the repository: exit %d\n%s", code, text)
	}
}
