//go:build engine

package ledger_test

import (
	"errors"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
	"github.com/promote-dev/promote/pkg/release"
)

// These tests need no engine: they start hundreds of git's processes.

// TestGitStoreOverHTTP runs the contract over git's own server for HTTP, which
// wants a header that only the checkout's settings hold, as CI systems write
// them.
func TestGitStoreOverHTTP(t *testing.T) {
	const header = "Authorization: Basic dDBrZW4="
	ledgertest.RunBriefly(t, func(t *testing.T) func() ledger.Store {
		remote, checkout := bare(t), t.TempDir()
		gitRun(t, remote, "config", "http.receivepack", "true")
		backend := filepath.Join(gitRun(t, "/", "--exec-path"), "git-http-backend")
		if _, err := os.Stat(backend); err != nil {
			t.Fatal(err)
		}
		var asked, refused atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if asked.Add(1); "Authorization: "+r.Header.Get("Authorization") != header {
				refused.Add(1)
				w.WriteHeader(http.StatusForbidden)
				return
			}
			h := cgi.Handler{Path: backend, Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(remote), "GIT_HTTP_EXPORT_ALL=1"}, InheritEnv: []string{"PATH"}}
			h.ServeHTTP(w, r)
		}))
		t.Cleanup(func() {
			server.Close()
			if refused.Load() > 0 {
				t.Errorf("%d of %d requests came without the header", refused.Load(), asked.Load())
			}
		})
		gitRun(t, checkout, "init", "--quiet")
		gitRun(t, checkout, "remote", "add", "origin", server.URL+"/remote.git")
		gitRun(t, checkout, "config", "http."+server.URL+"/.extraheader", header)
		caches, n := []string{shm(t), shm(t)}, 0
		return func() ledger.Store {
			n++
			return ledger.NewGitStore(ledger.GitOptions{Dir: checkout, Remote: "origin", Branch: branch, Cache: caches[n%2]})
		}
	})
}

// TestGitStoreOverSSH runs the contract over ssh, by a program that runs on this
// machine what it should run elsewhere, and a repository that uses SHA-256.
func TestGitStoreOverSSH(t *testing.T) {
	program(t, "ssh", `for last; do :; done; exec sh -c "$last"`)
	ledgertest.RunBriefly(t, func(t *testing.T) func() ledger.Store {
		remote, checkout := filepath.Join(shm(t), "remote.git"), t.TempDir()
		gitRun(t, "/", "init", "--quiet", "--bare", "--object-format=sha256", remote)
		gitRun(t, "/", "init", "--quiet", "--object-format=sha256", checkout)
		gitRun(t, checkout, "commit", "--quiet", "--allow-empty", "-m", "code")
		gitRun(t, checkout, "push", "--quiet", remote, "HEAD:refs/heads/main")
		caches, n := []string{shm(t), shm(t)}, 0
		return func() ledger.Store {
			n++
			return gitStore("git.example.com:"+remote, caches[n%2])
		}
	})
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
			known, err := s.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c.rewrite(t, remote, first)
			refs := gitRun(t, remote, "for-each-ref")
			from := ledger.Position{Found: int64(len(known.Log)), Keep: int64(len(known.Log)), Checkpoint: known.Checkpoint}
			if err := s.Write(t.Context(), from, []byte("third\n"), []byte("{}")); !errors.Is(err, ledger.ErrMoved) {
				t.Errorf("appending to what was read before gave %v, want ErrMoved", err)
			}
			if now := gitRun(t, remote, "for-each-ref"); now != refs {
				t.Errorf("the push brought back what was taken away: %s, it was %s", now, refs)
			}
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
