package smoke

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// mostOutput is how much of a script's output is kept.
const mostOutput = 1 << 20

// script runs a program of the project on this machine, for a check or as
// load. What it started goes with it. Its output is returned with an error, too.
func (r *run) script(ctx context.Context, argv, environ []string) ([]byte, error) {
	path := filepath.Join(r.Dir, filepath.FromSlash(argv[0]))
	cmd := exec.CommandContext(ctx, path, argv[1:]...)
	cmd.Dir, cmd.Env = r.Dir, environ
	out := &capped{most: mostOutput}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Start()
	if err == nil {
		err = cmd.Wait()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left in the background
		if errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success() {
			err = nil
		}
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return out.bytes(), nil
	case ctx.Err() != nil:
		return out.bytes(), fmt.Errorf("%s did not end in time: %s", strings.Join(argv, " "), oneLine(string(out.bytes())))
	case errors.As(err, &exit) && exit.Exited():
		return out.bytes(), fmt.Errorf("%s gave exit code %d: %s", strings.Join(argv, " "), exit.ExitCode(), oneLine(string(out.bytes())))
	}
	return out.bytes(), fmt.Errorf("%s: %s", strings.Join(argv, " "), strings.ReplaceAll(err.Error(), path, argv[0]))
}

// scriptEnviron is what a script sees: the environment of whoever runs the test,
// which holds no key, and where to find what.
func (r *run) scriptEnviron(ctx context.Context, check, service string) []string {
	env := map[string]string{
		"PROMOTE_SMOKE_PROJECT": r.workload.Project, "PROMOTE_SMOKE_SERVICE": service, "PROMOTE_SMOKE_CHECK": check,
		"PROMOTE_SMOKE_TOKEN": r.token, "PROMOTE_RELEASE": r.Release.String(),
	}
	for _, s := range r.workload.Services {
		for _, p := range s.Ports {
			if p.Protocol == "udp" {
				continue
			}
			if address, err := r.address(ctx, s.Name, int(p.Target)); err == nil {
				env["PROMOTE_PORT_"+variable(s.Name)+"_"+strconv.Itoa(int(p.Target))] = address
			}
		}
	}
	out := slices.DeleteFunc(slices.Clone(r.Environ), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		_, ours := env[name]
		return ours
	})
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}

// variable makes a name fit for an environment variable.
func variable(name string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			return c
		}
		return '_'
	}, strings.ToUpper(name))
}

// capped keeps the beginning of what is written.
type capped struct {
	mu   sync.Mutex
	kept []byte
	most int
}

func (c *capped) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept = append(c.kept, p[:min(len(p), c.most-len(c.kept))]...)
	return len(p), nil
}

func (c *capped) bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.kept)
}
