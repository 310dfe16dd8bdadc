//go:build linux && amd64

package reliability

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A copy of the test binary is the tracer, and another one what it traces.
const (
	tracedDir  = "RELIABILITY_TRACED"
	tracerTask = "RELIABILITY_TRACE"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(tracerTask) != "":
		var o TraceOptions
		var fail int
		if _, err := fmt.Sscan(os.Getenv(tracerTask), &o.At, &o.After, &fail, &o.Seen); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(99)
		}
		_ = os.Unsetenv(tracerTask)
		o.Fail = syscall.Errno(fail)
		code, err := Trace(o, os.Args[:1])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(99)
		}
		os.Exit(code)
	case os.Getenv(tracedDir) != "":
		os.Exit(writeSome(os.Getenv(tracedDir)))
	}
	os.Exit(m.Run())
}

// writeSome makes files a to d durable one after the other, each on a thread of
// its own. It counts the failures.
func writeSome(dir string) (failures int) {
	for _, name := range []string{"a", "b", "c", "d"} {
		var thread sync.WaitGroup
		thread.Go(func() {
			f, err := os.Create(filepath.Join(dir, name+".next"))
			if err == nil {
				err = f.Sync()
			}
			if err != nil || os.Rename(f.Name(), filepath.Join(dir, name)) != nil {
				failures++
			}
		})
		thread.Wait()
	}
	return failures
}

// traced runs writeSome under the tracer and gives the exit code, what was
// seen, and the files that were made.
func traced(t *testing.T, at int, after bool, fail syscall.Errno) (int, []string, string) {
	t.Helper()
	dir, seen := t.TempDir(), filepath.Join(t.TempDir(), "seen")
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), tracedDir+"="+dir, fmt.Sprintf("%s=%d %t %d %s", tracerTask, at, after, int(fail), seen))
	cmd.Stderr = os.Stderr
	_ = cmd.Run()
	raw, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "?"))
	names := ""
	for _, f := range files {
		names += filepath.Base(f)
	}
	return cmd.ProcessState.ExitCode(), strings.Fields(string(raw)), names
}

func TestTraceCountsOverAllThreads(t *testing.T) {
	code, seen, files := traced(t, 0, false, 0)
	want := "fsync a.next rename a fsync b.next rename b fsync c.next rename c fsync d.next rename d"
	if got := strings.Join(seen, " "); code != 0 || got != want || files != "abcd" {
		t.Errorf("exit %d, seen %s, files %s", code, got, files)
	}
}

func TestTraceKills(t *testing.T) {
	for _, c := range []struct {
		at    int
		after bool
		files string
	}{{1, false, ""}, {4, false, "a"}, {4, true, "ab"}, {5, true, "ab"}, {8, true, "abcd"}} {
		code, seen, files := traced(t, c.at, c.after, 0)
		if code != 137 || files != c.files || len(seen) != 2*c.at {
			t.Errorf("killed at %d, after %t: exit %d, seen %q, files %q", c.at, c.after, code, seen, files)
		}
	}
}

func TestTraceFails(t *testing.T) {
	if code, _, files := traced(t, 3, false, syscall.EIO); code != 1 || files != "acd" {
		t.Errorf("the third fails: exit %d, files %q", code, files)
	}
	if code, _, files := traced(t, 0, false, syscall.ENOSPC); code != 4 || files != "" {
		t.Errorf("all fail: exit %d, files %q", code, files)
	}
}
