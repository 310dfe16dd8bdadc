package worktree

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

func repository(t *testing.T, files map[string]string) Tree {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, files)
	run(t, dir, "init", "-q", "-b", "main")
	run(t, dir, "add", "-A")
	run(t, dir, "commit", "-q", "-m", "first")
	return Tree{Dir: dir}
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func run(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=test", "-c", "user.email=test@example.com"}, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
}

func TestHead(t *testing.T) {
	tree := repository(t, map[string]string{"a.txt": "a"})
	head, err := tree.Head(t.Context())
	if err != nil || len(head.Revision) != 40 || head.Dirty || head.Version != head.Revision[:12] || head.Time.IsZero() {
		t.Fatalf("got %+v, %v", head, err)
	}
	write(t, tree.Dir, map[string]string{".promote/ledger/log": "kept out of it"})
	if head, _ = tree.Head(t.Context()); head.Dirty {
		t.Errorf("promote's own state makes the tree dirty: %q", head.Changed)
	}
	write(t, tree.Dir, map[string]string{"new.txt": "untracked"})
	if head, _ = tree.Head(t.Context()); !head.Dirty || len(head.Changed) != 1 {
		t.Errorf("an untracked file is not noticed: %+v", head)
	}
	run(t, tree.Dir, "tag", "v1.2.3")
	if head, _ = tree.Head(t.Context()); head.Version != "v1.2.3" {
		t.Errorf("version %q, want the tag", head.Version)
	}
}

func TestHeadOutsideGitIsUsage(t *testing.T) {
	if _, err := (Tree{Dir: t.TempDir()}).Head(t.Context()); release.KindOf(err) != release.KindUsage {
		t.Errorf("got %v", err)
	}
}

func TestDimensionsChangeOnTheirOwn(t *testing.T) {
	patterns := map[string][]string{"prompts": {"prompts/**"}}
	tree := repository(t, map[string]string{"main.py": "x", "prompts/system.md": "be kind"})
	before, err := tree.Dimensions(t.Context(), patterns)
	if err != nil {
		t.Fatal(err)
	}
	write(t, tree.Dir, map[string]string{"prompts/system.md": "be brief"})
	run(t, tree.Dir, "commit", "-q", "-a", "-m", "second")
	after, err := tree.Dimensions(t.Context(), patterns)
	if err != nil {
		t.Fatal(err)
	}
	if before["prompts"] == after["prompts"] || before["code"] != after["code"] {
		t.Errorf("before %v, after %v", before, after)
	}
	_, err = tree.Dimensions(t.Context(), map[string][]string{"skills": {"skils/**"}})
	if release.KindOf(err) != release.KindConfig {
		t.Errorf("a pattern that matches nothing: got %v", err)
	}
}

func TestCredentialsStayOutOfTheRemote(t *testing.T) {
	for in, want := range map[string]string{
		"https://user:canary@example.com/a.git": "https://example.com/a.git",
		"git@example.com:acme/a.git":            "git@example.com:acme/a.git",
		"https://example.com/a@b.git":           "https://example.com/a@b.git",
	} {
		if got := withoutCredentials(in); got != want {
			t.Errorf("%s: got %s", in, got)
		}
	}
}
