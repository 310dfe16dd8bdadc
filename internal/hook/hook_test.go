package hook

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// program writes a script and gives it with what it says.
func program(t *testing.T, script string) (p Program, ctx context.Context, said func() string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hook"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var b strings.Builder
	ctx = event.With(t.Context(), func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Type == event.Log {
			b.WriteString(e.Message + "\n")
		}
	})
	return Program{Name: "pre-deploy", Path: "hook", Dir: dir, Environ: []string{"PATH=" + os.Getenv("PATH")}}, ctx, func() string {
		mu.Lock()
		defer mu.Unlock()
		return b.String()
	}
}

func TestAHookSeesWhatItIsGivenAndNothingElse(t *testing.T) {
	t.Setenv("PROMOTE_KEY", "the secret")
	p, ctx, said := program(t, "pwd; echo to stderr >&2; env; cat")
	p.Environ = Environ([]string{"PATH=" + os.Getenv("PATH"), "PROMOTE_RECORD=forged"}, map[string]string{"PROMOTE_RECORD": "42", "PROMOTE_TARGETS": "a b"})
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	got := said()
	for _, want := range []string{p.Dir + "\n", "to stderr\n", "PROMOTE_RECORD=42\n", "PROMOTE_TARGETS=a b\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("it says nothing of %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "secret") || strings.Contains(got, "forged") {
		t.Errorf("it sees too much:\n%s", got)
	}
}

func TestAHookThatFailsSaysWhy(t *testing.T) {
	p, ctx, said := program(t, `printf 'the queue is \033[2J not empty\n'; exit 3`)
	err := p.Run(ctx)
	if release.KindOf(err) != release.KindUnavailable || err.Error() != "the hook pre-deploy (hook) gave exit code 3" || said() != "the queue is ?[2J not empty\n" {
		t.Errorf("got %v, said %q", err, said())
	}
	p.Path = "absent"
	if err := p.Run(ctx); release.KindOf(err) != release.KindUnavailable || strings.Contains(err.Error(), p.Dir) {
		t.Errorf("got %v", err)
	}
	p.Path = "hook"
	if err := os.Chmod(filepath.Join(p.Dir, "hook"), 0o644); err != nil {
		t.Fatal(err)
	}
	var fault *release.Fault
	if err := p.Run(ctx); !errors.As(err, &fault) || fault.Hint != "chmod +x hook" {
		t.Errorf("got %v", err)
	}
}

// gone waits until a process is no more.
func gone(t *testing.T, p Program) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(p.Dir, "child"))
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		state, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(child), "stat"))
		if err != nil && errors.Is(syscall.Kill(child, 0), syscall.ESRCH) || strings.Contains(string(state), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there", child)
		}
	}
}

func TestAHookEndsWithWhatItStarted(t *testing.T) {
	t.Run("in time", func(t *testing.T) {
		p, ctx, _ := program(t, "sleep 600 >/dev/null 2>&1 & echo $! > child")
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
		gone(t, p)
	})
	t.Run("late", func(t *testing.T) {
		p, ctx, _ := program(t, "sleep 600 & echo $! > child; echo waiting; wait")
		p.Time = 500 * time.Millisecond
		if err := p.Run(ctx); release.KindOf(err) != release.KindUnavailable || !strings.Contains(err.Error(), "did not end within 500ms") {
			t.Errorf("got %v", err)
		}
		gone(t, p)
	})
	t.Run("stopped", func(t *testing.T) {
		p, ctx, _ := program(t, "sleep 600 & echo $! > child; wait")
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(500*time.Millisecond, cancel)
		if err := p.Run(ctx); release.KindOf(err) != release.KindInterrupted {
			t.Errorf("got %v", err)
		}
		gone(t, p)
	})
}

func TestMuchOutputIsBounded(t *testing.T) {
	p, ctx, said := program(t, "yes | head -n 3000; head -c 20000000 /dev/zero; echo; echo the end; exit 1")
	err := p.Run(ctx)
	if release.KindOf(err) != release.KindUnavailable {
		t.Errorf("got %v", err)
	}
	if got := said(); strings.Count(got, "y\n") != maxLines || !strings.Contains(got, "lines more") || len(got) > 64<<10 || strings.Contains(got, "the end") {
		t.Errorf("%d bytes, %d lines", len(got), strings.Count(got, "y\n"))
	}
}
