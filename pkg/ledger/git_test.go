package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/release"
)

// gitRun runs git as a user with no settings of their own would.
func gitRun(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=somebody", "-c", "user.email=somebody@example.com", "-c", "init.defaultBranch=main"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// shm gives a directory on a file system in memory where there is one: these
// tests sync by the hundred, and prove nothing about disks.
func shm(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "ledger-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// bare makes an empty bare repository.
func bare(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(shm(t), "remote.git")
	gitRun(t, "/", "init", "--quiet", "--bare", dir)
	return dir
}

const branch = "promote-ledger"

func gitStore(remote, cache string) ledger.Store {
	return ledger.NewGitStore(ledger.GitOptions{Remote: remote, Branch: branch, Cache: cache})
}

// add appends bytes to whatever the store holds.
func add(ctx context.Context, s ledger.Store, text string) error {
	state, err := s.Read(ctx)
	if err != nil {
		return err
	}
	from := ledger.Position{Found: int64(len(state.Log)), Keep: int64(len(state.Log)), Checkpoint: state.Checkpoint}
	return s.Write(ctx, from, []byte(text), fmt.Appendf(nil, `{"bytes":%d}`, len(state.Log)+len(text)))
}

func mustAdd(t testing.TB, s ledger.Store, text string) {
	t.Helper()
	if err := add(t.Context(), s, text); err != nil {
		t.Fatal(err)
	}
}

func logOf(t testing.TB, s ledger.Store) string {
	t.Helper()
	state, err := s.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(state.Log)
}

// program puts a program ahead of all others of its name. In its text GIT is
// the real git.
func program(t testing.TB, name, script string) {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text := "#!/bin/sh\nHERE='" + dir + "'\n" + strings.ReplaceAll(script, "GIT", git) + "\n"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// faulty reports what is not right about an error for a person.
func faulty(err error, kind release.Kind, said, hint string) string {
	var fault *release.Fault
	switch {
	case !errors.As(err, &fault) || release.KindOf(err) != kind:
		return fmt.Sprintf("%v is of kind %s, want %s", err, release.KindOf(err), kind)
	case !strings.Contains(err.Error(), said):
		return fmt.Sprintf("%v does not say %q", err, said)
	case !strings.Contains(fault.Hint, hint) || fault.Hint == "":
		return fmt.Sprintf("the hint %q does not say %q", fault.Hint, hint)
	}
	return ""
}

// TestGitUnreadable: each way in which a repository cannot be read is named,
// with what to do, and no credential shows.
func TestGitUnreadable(t *testing.T) {
	denies := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", "Basic")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer denies.Close()
	checkout := t.TempDir()
	gitRun(t, checkout, "init", "--quiet")
	gitRun(t, checkout, "remote", "add", "upstream", "/nowhere")
	foreign := bare(t)
	gitRun(t, checkout, "commit", "--quiet", "--allow-empty", "-m", "code")
	gitRun(t, checkout, "push", "--quiet", foreign, "HEAD:refs/heads/"+branch)
	trace := filepath.Join(t.TempDir(), "ran")
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, dir, remote, cache, said, hint string }{
		{"no repository", "", "/nowhere/to/be.git", "", "does not appear to be a git repository", "git init --bare"},
		{"no such host", "", "http://127.0.0.1:1/x.git", "", "connect", "check the network"},
		{"no credentials", "", strings.Replace(denies.URL, "//", "//ci:t0ken@", 1) + "/x.git", "", "Authentication failed", "credential"},
		{"no such remote", checkout, "origin", "", "no remote origin", "this checkout has upstream"},
		{"no checkout", "", "origin", "", "no remote origin", "URL"},
		{"an option as name", checkout, "--upload-pack=false", "", "no remote --upload-pack", "URL"},
		{"an option as path", "", "--upload-pack=touch " + trace, "", "does not appear to be a git repository", ""},
		{"a program as address", "", "ext::sh -c 'touch " + trace + "'", "", "'ext' not allowed", "ssh://"},
		{"a host that is an option", "", "ssh://-oProxyCommand=touch " + trace + "/x", "", "strange hostname", "ssh://"},
		{"something else in the branch", "", foreign, "", "holds no ledger: it has no file format", "another ledger.git.branch"},
		{"no place for the cache", "", foreign, blocked, "not a directory", "XDG_CACHE_HOME"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := c.cache
			if cache == "" {
				cache = shm(t)
			}
			s := ledger.NewGitStore(ledger.GitOptions{Dir: c.dir, Remote: c.remote, Branch: branch, Cache: cache})
			for what, err := range map[string]error{
				"reading": func() error { _, err := s.Read(t.Context()); return err }(),
				"writing": s.Write(t.Context(), ledger.Position{}, []byte("x\n"), []byte("{}")),
			} {
				if wrong := faulty(err, release.KindUnavailable, c.said, c.hint); wrong != "" {
					t.Errorf("%s: %s", what, wrong)
				}
				if err != nil && (strings.Contains(err.Error()+s.String(), "t0ken") || strings.Contains(err.Error(), "\n")) {
					t.Errorf("%s: the error is %q", what, err)
				}
			}
			if _, err := os.Stat(trace); err == nil {
				t.Error("the remote's name ran a program")
			}
		})
	}
}

// TestGitLeavesTheCheckoutAlone: no file of the checkout, and no repository
// that the environment names, changes; no hook and no other program runs.
func TestGitLeavesTheCheckoutAlone(t *testing.T) {
	remote, checkout, home := bare(t), shm(t), t.TempDir()
	gitRun(t, checkout, "init", "--quiet")
	gitRun(t, checkout, "remote", "add", "origin", remote)
	gitRun(t, checkout, "commit", "--quiet", "--allow-empty", "-m", "code")
	ran := filepath.Join(home, "ran")
	hooks := filepath.Join(home, "hooks")
	for _, dir := range []string{filepath.Join(checkout, ".git", "hooks"), hooks} {
		for _, hook := range []string{"pre-push", "reference-transaction", "post-checkout", "post-commit", "post-rewrite", "pre-auto-gc"} {
			if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, hook), []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o755)); err != nil {
				t.Fatal(err)
			}
		}
	}
	settings := filepath.Join(home, "gitconfig")
	text := "[core]\nhooksPath = " + hooks + "\nfsmonitor = touch " + ran + "\n[init]\ntemplateDir = " + filepath.Dir(hooks) +
		"\n[protocol \"ext\"]\nallow = always\n[push]\ngpgSign = true\nfollowTags = true\n[commit]\ngpgSign = true\n[fetch]\nprune = true\n"
	if err := os.WriteFile(settings, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"GIT_CONFIG_GLOBAL": settings, "GIT_DIR": filepath.Join(checkout, ".git"), "GIT_WORK_TREE": checkout, "GIT_INDEX_FILE": filepath.Join(checkout, ".git", "index"),
		"GIT_OBJECT_DIRECTORY": filepath.Join(checkout, ".git", "objects"), "GIT_NAMESPACE": "elsewhere", "GIT_TRACE": filepath.Join(home, "trace"), "GIT_QUARANTINE_PATH": home,
	} {
		t.Setenv(name, value)
	}
	before := listing(t, checkout)
	cache := shm(t)
	for range 2 {
		s := ledger.NewGitStore(ledger.GitOptions{Dir: checkout, Remote: "origin", Branch: branch, Cache: cache})
		mustAdd(t, s, "line\n")
		if err := s.Beat(t.Context(), 3, 1); err != nil {
			t.Fatal(err)
		}
		if got := listing(t, checkout); !bytes.Equal(before, got) {
			t.Fatalf("the checkout was\n%s\nand is\n%s", before, got)
		}
	}
	for _, path := range []string{ran, filepath.Join(home, "trace")} {
		if _, err := os.Stat(path); err == nil {
			t.Error(path, "was written")
		}
	}
}

func listing(t *testing.T, dir string) []byte {
	t.Helper()
	var list bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		fmt.Fprintln(&list, path, release.DigestOf(raw))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list.Bytes()
}

// TestGitCostDoesNotGrow counts what an append adds to a repository whose log
// has thirty segments: the last of them, and what leads there.
func TestGitCostDoesNotGrow(t *testing.T) {
	remote, cache := bare(t), shm(t)
	s := gitStore(remote, cache)
	mustAdd(t, s, strings.Repeat(strings.Repeat("x", 999)+"\n", 2000))
	if n := len(strings.Fields(gitRun(t, remote, "ls-tree", "-r", "--name-only", branch, "log"))); n < 25 {
		t.Fatalf("%d segments of a log of 2 MB", n)
	}
	before := strings.Fields(gitRun(t, remote, "rev-list", "--objects", "--no-object-names", "--all"))
	mustAdd(t, s, "one more\n")
	added := gitRun(t, remote, "rev-list", "--objects", "--disk-usage", branch, "^"+before[0])
	after := strings.Fields(gitRun(t, remote, "rev-list", "--objects", "--no-object-names", "--all"))
	if n := len(after) - len(before); n > 6 {
		t.Errorf("an append adds %d objects", n)
	}
	t.Logf("%s bytes on disk", added)
	if shallow := gitRun(t, "/", "--git-dir="+repositoryIn(t, cache), "rev-list", "--count", "refs/promote/seen"); shallow != "2" {
		t.Errorf("the writer's cache holds %s commits", shallow)
	}
	fresh := shm(t)
	logOf(t, gitStore(remote, fresh))
	if depth := gitRun(t, "/", "--git-dir="+repositoryIn(t, fresh), "rev-list", "--count", "refs/promote/seen"); depth != "1" {
		t.Errorf("a reader fetched %s commits", depth)
	}
}

func repositoryIn(t *testing.T, cache string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(cache, "*", "repository"))
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	return list[0]
}
