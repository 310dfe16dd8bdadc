//go:build engine

package ledger_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
	"github.com/promote-dev/promote/pkg/release"
)

// TestGitForeign: a branch that is not just what we write is no ledger.
func TestGitForeign(t *testing.T) {
	for name, c := range map[string]struct {
		path, content, mode, says string
	}{
		"a newer format":      {"format", "promote ledger 2\n", "100644", "its format is"},
		"no log":              {"log/00/00", "", "", ""},
		"a gap":               {"log/00/02", "x\n", "100644", `"log/00/02" is where log/00/01 is expected`},
		"something else":      {"log/00/notes", "x\n", "100644", `"log/00/notes" is where`},
		"a link":              {"log/00/01", "/etc/passwd", "120000", "is where"},
		"a program":           {"log/00/01", "x\n", "100755", "is where"},
		"a checkpoint's size": {"checkpoint", strings.Repeat("x", 1<<17), "100644", "larger than"},
		"no checkpoint":       {"checkpoint", "", "", "it has no file checkpoint"},
		"a file beside it":    {"CODEOWNERS", "* @ops\n", "100644", ""},
	} {
		t.Run(name, func(t *testing.T) {
			remote := bare(t)
			mustAdd(t, gitStore(remote, shm(t)), "first\n")
			index := filepath.Join(t.TempDir(), "index")
			t.Setenv("GIT_INDEX_FILE", index)
			gitRun(t, remote, "read-tree", branch)
			if c.mode == "" {
				gitRun(t, remote, "--work-tree="+t.TempDir(), "update-index", "--force-remove", c.path)
			} else {
				file := filepath.Join(t.TempDir(), "content")
				if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
					t.Fatal(err)
				}
				gitRun(t, remote, "update-index", "--add", "--cacheinfo", c.mode+","+gitRun(t, remote, "hash-object", "-w", file)+","+c.path)
			}
			commit := gitRun(t, remote, "commit-tree", "-p", branch, "-m", "by hand", gitRun(t, remote, "write-tree"))
			gitRun(t, remote, "update-ref", "refs/heads/"+branch, commit)
			s := gitStore(remote, shm(t))
			err := add(t.Context(), s, "second\n")
			if c.says != "" {
				if wrong := faulty(err, release.KindUnavailable, c.says, "ledger.git.branch"); wrong != "" {
					t.Error(wrong)
				}
				return
			}
			if err != nil || !strings.HasSuffix(logOf(t, gitStore(remote, shm(t))), "second\n") {
				t.Error(err)
			}
			if left := gitRun(t, remote, "ls-tree", "-r", "--name-only", branch); c.path == "CODEOWNERS" && !strings.Contains(left, c.path) {
				t.Errorf("the branch holds %s", left)
			}
		})
	}
}

// TestGitKilled kills processes that append, at whatever they are doing. What
// they said that they wrote is there, at most one record more of each, and the
// next process goes on in the same cache.
func TestGitKilled(t *testing.T) {
	remote, cache := bare(t), shm(t)
	said, kills := map[int64]string{}, 12
	for n := range kills {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+remote, childCache+"="+cache, childRounds+"=1000")
		var out strings.Builder
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(100+rand.IntN(500)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		for line := range strings.Lines(out.String()) {
			var sequence int64
			var pid string
			if k, _ := fmt.Sscan(line, &sequence, &pid); k != 2 {
				t.Fatalf("kill %d: the child says %q", n, line)
			}
			said[sequence] = pid
		}
		l := opened(t, ledgertest.Options(gitStore(remote, cache)))
		for {
			_, c, err := l.Read(t.Context())
			if err != nil {
				t.Fatalf("kill %d: %v", n, err)
			}
			// A push that outlived its process may still arrive.
			if _, _, err = l.Append(t.Context(), ledgertest.Released(n), c.TreeSize); err == nil {
				break
			} else if !errors.Is(err, ledger.ErrMoved) {
				t.Fatalf("kill %d: %v", n, err)
			}
		}
	}
	h, _, err := opened(t, ledgertest.Options(gitStore(remote, shm(t)))).Read(t.Context())
	if err != nil || len(h) < len(said)+kills || len(h) > len(said)+2*kills {
		t.Fatalf("%d records, %v; %d were said to be written, and %d more", len(h), err, len(said), kills)
	}
	for _, e := range h {
		if pid := said[e.Record.Sequence]; pid != "" && pid != e.Record.Actor.Process {
			t.Errorf("record %d is by %q, and %s said that it wrote it", e.Record.Sequence, e.Record.Actor.Process, pid)
		}
	}
	t.Logf("%d records, %d of them by processes that were killed", len(h), len(h)-kills)
}
