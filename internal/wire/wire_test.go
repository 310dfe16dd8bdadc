//go:build engine

package wire

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/release"
)

func project1(t *testing.T, more string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	text := "name: agent\nregistry: registry.example.com/agent\ncompose: {files: [compose.yaml]}\n" + more
	for name, content := range map[string]string{"promote.yaml": text, "compose.yaml": "name: agent\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("CI", "") // a CI run takes no ledger of one machine
	c, err := config.Load(filepath.Join(dir, "promote.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A step of CI that only builds or scans holds no key.
func TestAPipelineWithoutAKeyBuildsAndBelievesNothing(t *testing.T) {
	t.Setenv("PROMOTE_KEY", "")
	p, closePipeline, err := openPipeline(t.Context(), project1(t, ""), cli.PipelineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer closePipeline()
	if _, _, err := p.Ledger.Read(t.Context()); release.KindOf(err) != release.KindConfig || !strings.Contains(err.Error(), "PROMOTE_KEY") {
		t.Errorf("reading the ledger: %v", err)
	}
	subject := release.Subject{Repository: "r", Digest: release.DigestOf([]byte("x"))}
	if found := p.Verifier.Verify(t.Context(), subject, []release.Attachment{{Bundle: []byte("{}")}}); len(found) != 0 {
		t.Errorf("found %+v", found)
	}
	if _, err := p.Keys.Open(t.Context()); err == nil {
		t.Error("a key was opened")
	}
}

func TestGatesThatNobodyKeepsAreRefused(t *testing.T) {
	c := project1(t, "build: {tags: [latest]}\n")
	_, _, err := openPipeline(t.Context(), c, cli.PipelineOptions{})
	if release.KindOf(err) != release.KindConfig || !strings.Contains(err.Error(), "build.tags") {
		t.Errorf("got %v", err)
	}
}

func TestKeysAreNeverOverwritten(t *testing.T) {
	t.Setenv("COSIGN_PASSWORD", "secret")
	file := filepath.Join(t.TempDir(), "keys", "promote.key")
	made, err := keys(t.Context(), cli.KeyOptions{Generate: true, Key: file})
	if err != nil || made.Fingerprint == "" {
		t.Fatalf("got %+v, %v", made, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	before, _ := os.ReadFile(file)
	if _, err := keys(t.Context(), cli.KeyOptions{Generate: true, Key: file}); release.KindOf(err) != release.KindUsage {
		t.Errorf("got %v", err)
	}
	if after, _ := os.ReadFile(file); string(after) != string(before) {
		t.Error("the key was overwritten")
	}
	shown, err := keys(t.Context(), cli.KeyOptions{Key: file})
	if err != nil || shown.Fingerprint != made.Fingerprint || shown.PublicKey != made.PublicKey {
		t.Errorf("got %+v, %v", shown, err)
	}
}

func TestValues(t *testing.T) {
	t.Setenv("FROM_PROMOTE", "a")
	t.Setenv("BOTH", "environment")
	c := project1(t, "environments: {staging: {envFile: staging.env}}\n")
	file := filepath.Join(c.Dir(), "staging.env")
	if _, err := values(c, "staging"); release.KindOf(err) != release.KindConfig {
		t.Errorf("a missing envFile: %v", err)
	}
	if err := os.WriteFile(file, []byte("# values\nexport BOTH=\"file\"\n\nQUOTED='a b'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := values(c, "staging")
	if err != nil || got["FROM_PROMOTE"] != "a" || got["BOTH"] != "file" || got["QUOTED"] != "a b" {
		t.Errorf("got %q %q %q, %v", got["FROM_PROMOTE"], got["BOTH"], got["QUOTED"], err)
	}
	if err := os.WriteFile(file, []byte("OK=1\nnonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := values(c, "staging"); err == nil || !strings.Contains(err.Error(), "staging.env:2") {
		t.Errorf("got %v", err)
	}
}
