//go:build engine

package smoke_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/smoke/smoketest"
)

// tree is a project whose smoke run goes through every phase in seconds.
type tree struct {
	real
	dir, name string
	binary    string
}

// binary finds the promote that is tested.
func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("PROMOTE_BINARY")
	if path == "" {
		path = "../../bin/promote"
	}
	path, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		missing(t, "no promote binary (make build)", err)
	}
	return path
}

var trees atomic.Int64

// plant writes a project of two unruly services, of which one waits for the
// other and keeps state.
func plant(t *testing.T, r real) tree {
	t.Helper()
	x := tree{real: r, dir: t.TempDir(), name: fmt.Sprintf("promote-kill-%d-%d", os.Getpid(), trees.Add(1)), binary: binary(t)}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(x.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("promote.yaml", `name: `+x.name+`
registry: registry.invalid/unruly
compose: {files: [compose.yaml]}
smoke:
  timeout: 1m
  checks:
    - {name: answers, service: unruly, http: {path: /health, status: 200}}
    - {name: keeps, service: unruly, exec: [`+smoketest.Path+`, health], survives: recreate}
  memory: {duration: 3s, warmup: 1s, load: {http: {service: unruly, path: /task, method: POST, rate: 20/s}}}
`)
	service := `
    image: ` + r.image.String() + `
    user: "65532:65532"
    read_only: true
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    mem_limit: 64m
    restart: unless-stopped
    healthcheck: {test: [CMD, ` + smoketest.Path + `, health], interval: 500ms, timeout: 5s, retries: 5}
`
	write("compose.yaml", `name: `+x.name+`
services:
  bus:`+service+`
  unruly:`+service+`    depends_on: {bus: {condition: service_healthy}}
    ports: ["8080:8080"]
    volumes: ["state:/data"]
volumes: {state: {}}
`)
	return x
}

// command is a smoke run of the tree.
func (x tree) command() *exec.Cmd {
	cmd := exec.Command(x.binary, "--progress", "rawjson", "-o", "json", "smoke", "--compose")
	cmd.Dir = x.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// left names what of the tree's runs is still there.
func (x tree) left(t *testing.T) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var left []string
	owned, err := x.Owned(ctx, release.LabelSmoke)
	if err != nil {
		t.Fatal(err)
	}
	for project := range owned {
		if strings.HasPrefix(project, x.name+"-") {
			left = append(left, project)
		}
	}
	seen, err := x.Observe(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range seen.Volumes {
		if strings.HasPrefix(v.Name, x.name+"-") {
			left = append(left, "volume "+v.Name)
		}
	}
	for _, n := range seen.Networks {
		if strings.HasPrefix(n, x.name+"-") {
			left = append(left, "network "+n)
		}
	}
	return left
}

// until runs the tree and calls act with the command as soon as a step begins
// whose name holds a word; then it waits for the end and gives its exit code.
func (x tree) until(t *testing.T, step string, act func(*exec.Cmd)) int {
	t.Helper()
	cmd := x.command()
	events, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	var said []string
	acted := false
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		said = append(said, lines.Text())
		var e event.Event
		if json.Unmarshal(lines.Bytes(), &e) == nil && !acted && e.Type == event.Started && strings.Contains(e.Name, step) {
			acted = true
			act(cmd)
		}
	}
	_, _ = io.Copy(io.Discard, events)
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if !acted {
		t.Fatalf("no step %q before the end: %v\n%s", step, err, strings.Join(said, "\n"))
	}
	return cmd.ProcessState.ExitCode()
}

// workerOf finds the child process that does the run.
func workerOf(t *testing.T, parent int) int {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("process %d has no child", parent)
	return 0
}

func send(t *testing.T, pid int, signal syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, signal); err != nil {
		t.Errorf("sending %s: %v", signal, err)
	}
}

// phases are a run's steps, by what their events are named.
var phases = []struct{ name, step string }{
	{"create", "[smoke] start promote-kill"},
	{"start", "[smoke] start unruly"},
	{"check", "[smoke] check answers"},
	{"recreate", "[smoke] check keeps"},
	{"memory", "[smoke] memory under load"},
	{"stop", "[smoke] stop in good order"},
	{"teardown", "[smoke] take down"},
}

// However a run ends, in whatever phase: Ctrl-C leaves nothing; after kill -9
// of the run, or of what it runs in, the next run leaves nothing.
func TestKilledInEachPhase(t *testing.T) {
	r := unruly(t)
	pulled(t, r)
	var killed []tree
	t.Run("phases", func(t *testing.T) {
		for _, phase := range phases {
			interrupted, bereft, orphan := plant(t, r), plant(t, r), plant(t, r)
			killed = append(killed, bereft, orphan)
			t.Run("interrupt/"+phase.name, func(t *testing.T) {
				t.Parallel()
				code := interrupted.until(t, phase.step, func(cmd *exec.Cmd) { send(t, cmd.Process.Pid, syscall.SIGINT) })
				// Once everything is being taken down, the result is known.
				if code != 130 && phase.name != "teardown" {
					t.Errorf("exit code %d, want 130", code)
				}
				if left := interrupted.left(t); len(left) > 0 {
					t.Errorf("left behind: %q", left)
				}
			})
			t.Run("kill the run/"+phase.name, func(t *testing.T) {
				t.Parallel()
				code := bereft.until(t, phase.step, func(cmd *exec.Cmd) { send(t, workerOf(t, cmd.Process.Pid), syscall.SIGKILL) })
				if code == 0 || code == 3 {
					t.Errorf("exit code %d of a run that was killed", code)
				}
			})
			t.Run("kill promote/"+phase.name, func(t *testing.T) {
				t.Parallel()
				worker := 0
				orphan.until(t, phase.step, func(cmd *exec.Cmd) {
					worker = workerOf(t, cmd.Process.Pid)
					send(t, cmd.Process.Pid, syscall.SIGKILL)
				})
				ended(t, worker)
			})
		}
	})
	// Runs beside each other sweep each other's leftovers; nobody sweeps this one's.
	alone := plant(t, r)
	killed = append(killed, alone)
	alone.until(t, "[smoke] memory under load", func(cmd *exec.Cmd) {
		send(t, workerOf(t, cmd.Process.Pid), syscall.SIGKILL)
		send(t, cmd.Process.Pid, syscall.SIGKILL)
	})
	if len(alone.left(t)) == 0 {
		t.Error("a killed run left nothing behind, so nothing is shown about the next one")
	}
	next := plant(t, r)
	next.passes(t)
	for _, x := range append(killed, next) {
		if left := x.left(t); len(left) > 0 {
			t.Errorf("left behind after the next run: %q", left)
		}
	}
}

// ended waits until a process is gone.
func ended(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(raw), ") Z ") {
			return
		}
	}
	t.Errorf("process %d does not end", pid)
}

// passes runs the tree once, undisturbed.
func (x tree) passes(t *testing.T) release.Smoke {
	t.Helper()
	cmd := x.command()
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, said.String())
	}
	var s release.Smoke
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// Two runs of one project at once don't meet.
func TestTwoRunsAtOnce(t *testing.T) {
	r := unruly(t)
	pulled(t, r)
	x := plant(t, r)
	t.Run("both", func(t *testing.T) {
		for _, name := range []string{"one", "other"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				if s := x.passes(t); s.Result == release.Failed || len(s.Services) != 2 || !s.Release.IsZero() {
					t.Errorf("%+v", s)
				}
			})
		}
	})
	if left := x.left(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// pulled puts the image on the engine, where docker compose build would.
func pulled(t *testing.T, r real) {
	t.Helper()
	if err := r.Pull(context.Background(), r.image); err != nil {
		t.Fatal(err)
	}
}
