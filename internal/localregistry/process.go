package localregistry

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/promote-dev/promote/pkg/release"
)

const (
	stateFile = "registry.json"
	lockFile  = "registry.lock"
)

// state is what a running registry tells other processes.
type state struct {
	Addr string `json:"addr"`
	PID  int    `json:"pid"`
}

func writeState(file, addr string) error {
	raw, err := json.Marshal(state{Addr: addr, PID: os.Getpid()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", raw, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func readState(file string) (string, int) {
	raw, err := os.ReadFile(file)
	var s state
	if err != nil || json.Unmarshal(raw, &s) != nil {
		return "", 0
	}
	return s.Addr, s.PID
}

// Running gives the address and process id of the process that serves a
// directory, if there is one and it answers. The lock decides, not the process
// id, which could be another's by now.
func Running(ctx context.Context, root string) (addr string, pid int, ok bool) {
	lock := flock.New(filepath.Join(root, lockFile))
	if _, err := os.Stat(lock.Path()); err != nil {
		return "", 0, false
	}
	free, err := lock.TryRLock()
	if err != nil || free {
		_ = lock.Close()
		return "", 0, false
	}
	addr, pid = readState(filepath.Join(root, stateFile))
	return addr, pid, addr != "" && answers(ctx, addr)
}

func answers(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/v2/", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// startTime is the most time that a process has until its registry answers.
const startTime = 20 * time.Second

// Start makes sure that a process serves a directory and gives its address. If
// none does, it starts a program with these arguments, which must call Run for
// that directory, and which outlives this process; what it prints goes to
// registry.log in the directory.
func Start(ctx context.Context, root, exe string, args ...string) (addr string, err error) {
	if addr, _, ok := Running(ctx, root); ok {
		return addr, nil
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", release.Unavailable("choose a directory that you can write to", "making the registry's directory: %w", err)
	}
	output, err := os.OpenFile(filepath.Join(root, "registry.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return "", release.Unavailable("", "starting the registry: %w", err)
	}
	defer output.Close()
	cmd := exec.Command(exe, args...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C at our terminal is not for it
	if err := cmd.Start(); err != nil {
		return "", release.Unavailable("", "starting the registry: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return await(ctx, root, ended)
}

// await waits until the directory is served, by the process that was started or
// by another that was quicker.
func await(ctx context.Context, root string, ended <-chan error) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for over := false; ; {
		if addr, _, ok := Running(ctx, root); ok {
			return addr, nil
		}
		if over {
			return "", release.Unavailable("read "+filepath.Join(root, "registry.log"), "the registry's process ended at once: %s", tail(root))
		}
		select {
		case <-ctx.Done():
			return "", release.Unavailable("read "+filepath.Join(root, "registry.log"), "the registry in %s does not answer: %w", root, ctx.Err())
		case <-ended:
			over = true
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func tail(root string) string {
	raw, _ := os.ReadFile(filepath.Join(root, "registry.log"))
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return lines[len(lines)-1]
}

// Stop ends the process that serves a directory, and waits until it has. None
// running is no error.
func Stop(ctx context.Context, root string) error {
	_, pid, ok := Running(ctx, root)
	if !ok || pid <= 0 {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return release.Unavailable("", "stopping the registry (process %d): %w", pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	lock := flock.New(filepath.Join(root, lockFile))
	if free, err := lock.TryLockContext(ctx, 20*time.Millisecond); err != nil || !free {
		return release.Unavailable("", "the registry (process %d) does not end: %w", pid, err)
	}
	return lock.Unlock()
}
