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

func TestGitProgram(t *testing.T) {
	remote := bare(t)
	for _, c := range []struct{ name, script, said, hint string }{
		{"too old", `echo git version 2.20.1`, "version 2.20", "git 2.31 or newer"},
		{"something else", `echo hello`, "hello", "install git"},
		{"fails", `echo boom >&2; exit 3`, "boom", ""},
		{"full disk", `case "$*" in *fast-import*) echo "fatal: write error: No space left on device" >&2; exit 128;; esac; exec GIT "$@"`, "No space left", "free some space"},
		{"read-only cache", `case "$*" in *init*) echo "fatal: cannot mkdir x: Read-only file system" >&2; exit 128;; esac; exec GIT "$@"`, "Read-only", "XDG_CACHE_HOME"},
		{"talks too much", `case "$*" in *ls-remote*) exec yes;; esac; exec GIT "$@"`, "printed more than", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			program(t, "git", c.script)
			if wrong := faulty(add(t.Context(), gitStore(remote, shm(t)), "x\n"), release.KindUnavailable, c.said, c.hint); wrong != "" {
				t.Error(wrong)
			}
		})
	}
	t.Run("absent", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if wrong := faulty(add(t.Context(), gitStore(remote, shm(t)), "x\n"), release.KindUnavailable, "executable file not found", "install git"); wrong != "" {
			t.Error(wrong)
		}
	})
	if out := gitRun(t, remote, "for-each-ref"); out != "" {
		t.Errorf("a failed append left %s", out)
	}
}

// TestGitRejected: what the other side decides is told, and nothing changed.
func TestGitRejected(t *testing.T) {
	hooked := bare(t)
	mustAdd(t, gitStore(hooked, shm(t)), "first\n")
	hook := "#!/bin/sh\necho 'GH006: Protected branch update failed. token https://ci:t0ken@example.com/'\nexit 1\n"
	if err := os.WriteFile(filepath.Join(hooked, "hooks", "update"), []byte(hook), 0o755); err != nil {
		t.Fatal(err)
	}
	checkout := filepath.Join(shm(t), "checkout")
	gitRun(t, "/", "clone", "--quiet", "--branch", branch, hooked, checkout)
	for _, c := range []struct{ remote, said, hint string }{
		{hooked, "hook declined", "rules"},
		{checkout, "branch is currently checked out", "git init --bare"},
	} {
		cache := shm(t)
		err := add(t.Context(), gitStore(c.remote, cache), "second\n")
		if wrong := faulty(err, release.KindUnavailable, c.said, c.hint); wrong != "" {
			t.Error(wrong)
		}
		if err != nil && strings.Contains(err.Error(), "t0ken") {
			t.Errorf("a credential shows: %v", err)
		}
		if got := logOf(t, gitStore(c.remote, cache)); got != "first\n" {
			t.Errorf("%s: the log is %q", c.remote, got)
		}
	}
}

// TestGitLostAnswers: a push whose answer is lost is looked for, so that no
// record is lost or doubled; what cannot be found out is said.
func TestGitLostAnswers(t *testing.T) {
	const push = `case "$*" in *push*) `
	const rest = `;; esac; exec GIT "$@"`
	for _, c := range []struct {
		name, script string
		kind         release.Kind
		want         string
	}{
		{"it arrived", push + `GIT "$@" >/dev/null; echo "fatal: the remote end hung up unexpectedly" >&2; exit 128` + rest, "", "first\nours\n"},
		{"it did not arrive at first", push + `test -e $HERE/once || { touch $HERE/once; echo "fatal: Connection reset" >&2; exit 128; }` + rest, "", "first\nours\n"},
		{"it arrived and nobody answers any more", push + `GIT "$@" >/dev/null; touch $HERE/dead; exit 128;; *ls-remote*) test -e $HERE/dead && exit 128` + rest, release.KindUnavailable, "first\nours\n"},
		{"it never arrives", push + `echo "fatal: unable to access: Could not resolve host: x" >&2; exit 128` + rest, release.KindUnavailable, "first\n"},
		{"the lock of the other side is held for a while", push + `test -e $HERE/once || { touch $HERE/once; printf '!\tx:y\t[remote rejected] (cannot lock ref)\nDone\n'; exit 1; }` + rest, "", "first\nours\n"},
		{"another one is on top of it", push + `GIT "$@" >/dev/null; test -e $HERE/once || { touch $HERE/once; sh "$HERE/another"; }; exit 128` + rest, "", "first\nours\ntheirs\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			remote, path := bare(t), os.Getenv("PATH")
			mustAdd(t, gitStore(remote, shm(t)), "first\n")
			program(t, "git", c.script)
			here, _, _ := strings.Cut(os.Getenv("PATH"), ":")
			another := "PATH='" + path + "' " + childDir + "='" + remote + "' " + childCache + "='" + shm(t) + "' '" + os.Args[0] + "'\n"
			if err := os.WriteFile(filepath.Join(here, "another"), []byte(another), 0o600); err != nil {
				t.Fatal(err)
			}
			err := add(t.Context(), gitStore(remote, shm(t)), "ours\n")
			t.Setenv("PATH", path)
			if release.KindOf(err) != c.kind {
				t.Errorf("got %v, want kind %q", err, c.kind)
			}
			got := logOf(t, gitStore(remote, shm(t)))
			if got != c.want {
				t.Errorf("the log is %q, want %q", got, c.want)
			}
			if doubt := err != nil && strings.Contains(err.Error(), "not certain"); doubt != (err != nil && got != "first\n") {
				t.Errorf("the log is %q, and the error says %v", got, err)
			}
		})
	}
}

// TestGitRewritten: what the branch held when this machine last read it must
// still be there.
func TestGitRewritten(t *testing.T) {
	other := bare(t)
	mustAdd(t, gitStore(other, shm(t)), "something else\n")
	for name, c := range map[string]struct {
		rewrite func(t *testing.T, remote, first string)
		want    release.Kind
	}{
		"back":    {func(t *testing.T, remote, first string) { gitRun(t, remote, "update-ref", "refs/heads/"+branch, first) }, release.KindIntegrity},
		"deleted": {func(t *testing.T, remote, _ string) { gitRun(t, remote, "update-ref", "-d", "refs/heads/"+branch) }, release.KindIntegrity},
		"replaced": {func(t *testing.T, remote, _ string) {
			gitRun(t, other, "push", "--quiet", "--force", remote, branch)
		}, release.KindIntegrity},
		"the same log, squashed": {func(t *testing.T, remote, _ string) {
			squashed := gitRun(t, remote, "commit-tree", "-m", "squashed", branch+"^{tree}")
			gitRun(t, remote, "update-ref", "refs/heads/"+branch, squashed)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			remote, cache := bare(t), shm(t)
			mustAdd(t, gitStore(remote, cache), "first\n")
			first := gitRun(t, remote, "rev-parse", branch)
			s := gitStore(remote, cache)
			mustAdd(t, s, "second\n")
			c.rewrite(t, remote, first)
			for who, s := range map[string]ledger.Store{"the writer": s, "another process": gitStore(remote, cache)} {
				_, err := s.Read(t.Context())
				if release.KindOf(err) != c.want || err != nil && !strings.Contains(err.Error(), "was rewritten") {
					t.Errorf("%s: got %v, want kind %q", who, err, c.want)
				}
			}
		})
	}
}

// TestGitCacheDamaged: a cache that is lost, old or damaged gives the same
// answers.
func TestGitCacheDamaged(t *testing.T) {
	remote, cache := bare(t), shm(t)
	long := strings.Repeat(strings.Repeat("x", 1000)+"\n", 100)
	mustAdd(t, gitStore(remote, cache), long)
	home, err := filepath.Glob(filepath.Join(cache, "*"))
	if err != nil || len(home) != 1 {
		t.Fatal(home, err)
	}
	overwrite := func(pattern string, change func(path string) error) func() error {
		return func() error {
			paths, err := filepath.Glob(filepath.Join(home[0], pattern))
			if len(paths) == 0 {
				return errors.New("nothing is called " + pattern)
			}
			for _, path := range paths {
				err = errors.Join(err, os.Chmod(path, 0o700), change(path))
			}
			return err
		}
	}
	garbage := func(path string) error { return os.WriteFile(path, []byte("garbage"), 0o600) }
	flip := func(path string) error {
		raw, err := os.ReadFile(path)
		raw[len(raw)/2] ^= 1
		return errors.Join(err, os.WriteFile(path, raw, 0o600))
	}
	for name, damage := range map[string]func() error{
		"gone":               overwrite("", os.RemoveAll),
		"no copy":            overwrite("log", os.RemoveAll),
		"copy cut":           overwrite("log", func(path string) error { return os.Truncate(path, 70_000) }),
		"copy with an error": overwrite("log", flip),
		"no objects":         overwrite("repository/objects/??", os.RemoveAll),
		"bad objects":        overwrite("repository/objects/??/*", garbage),
		"no HEAD":            overwrite("repository/HEAD", os.Remove),
		"bad ref":            overwrite("repository/refs/promote/seen", garbage),
		"bad config":         overwrite("repository/config", garbage),
	} {
		t.Run(name, func(t *testing.T) {
			logOf(t, gitStore(remote, cache))
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			if got := logOf(t, gitStore(remote, cache)); got != long {
				t.Errorf("read %d bytes, want %d", len(got), len(long))
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

// TestGitHeartbeatsKeepNoHistory: a counter is one commit on a branch of its
// own, and gone with its intent.
func TestGitHeartbeatsKeepNoHistory(t *testing.T) {
	remote, cache := bare(t), shm(t)
	s := gitStore(remote, cache)
	mustAdd(t, s, "line\n")
	at := gitRun(t, remote, "rev-parse", branch)
	for n := range int64(3) {
		if err := s.Beat(t.Context(), 5, n+1); err != nil {
			t.Fatal(err)
		}
	}
	if n := gitRun(t, remote, "rev-list", "--count", branch+"-heartbeats/5"); n != "1" {
		t.Errorf("a counter has %s commits", n)
	}
	for range 2 { // the second time there is nothing to remove
		if err := s.Beat(t.Context(), 5, 0); err != nil {
			t.Fatal(err)
		}
	}
	if refs := gitRun(t, remote, "for-each-ref", "--format=%(objectname) %(refname)"); refs != at+" refs/heads/"+branch {
		t.Errorf("the repository has %s", refs)
	}
}

// TestGitOffline reads what was fetched, and writes nothing.
func TestGitOffline(t *testing.T) {
	remote, cache := bare(t), shm(t)
	at := func(remote string, offline bool) ledger.Store {
		return ledger.NewGitStore(ledger.GitOptions{Remote: remote, Branch: branch, Cache: cache, Offline: offline})
	}
	program(t, "ssh", `for last; do :; done; exec sh -c "$last"`)
	there := "ssh://git.example.com" + remote
	if _, err := at(there, true).Read(t.Context()); faulty(err, release.KindUnavailable, "nothing of it was fetched", "without --offline") != "" {
		t.Error(err)
	}
	mustAdd(t, at(there, false), "first\n")
	program(t, "ssh", `exit 255`)
	if got := logOf(t, at(there, true)); got != "first\n" {
		t.Errorf("offline the log is %q", got)
	}
	if err := add(t.Context(), at(there, true), "second\n"); release.KindOf(err) != release.KindUsage {
		t.Errorf("writing offline gave %v", err)
	}
	if got := logOf(t, at(remote, true)); got != "first\n" { // a path needs no network
		t.Errorf("offline the log at the path is %q", got)
	}
}
