package reliability

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Options say what is tried, and where.
type Options struct {
	Binary string // promote
	Tracer string // a program that runs Trace; empty: no system calls are struck
	Dir    string // the workspace; one that is there is used again
	Docker string // the engine's socket: unix:///…
	Brief  bool   // set up for first deployments only: one release, in staging
	State  bool   // the store has a pre_stop hook, and snapshots are taken of its volume
	Log    io.Writer
}

// form tells workspaces whose projects differ.
func (o Options) form() int {
	if o.State {
		return 2 // 1 had no hook that can refuse
	}
	return 0
}

// World is a small project that is promoted again and again: two services, the
// second of which needs the first, in staging and production of one engine; a
// registry on disk; a file ledger. Version v1 and v2 have been to both.
type World struct {
	o        Options
	state    state
	tree     string
	registry *Tap
	engine   *Tap
	process  *exec.Cmd // the registry
	held     int       // trials
	running  string    // the version in production, as last verified; empty: nothing
}

// state is what a workspace remembers.
type state struct {
	Name       string                       `json:"name"`
	Port       string                       `json:"port"`
	Passphrase string                       `json:"passphrase"`
	Ready      bool                         `json:"ready"`
	Form       int                          `json:"form"`       // of the project: see form
	Images     map[string]map[string]string `json:"images"`     // of the engine, by version and service
	References map[string][]string          `json:"references"` // of production's images, by version
}

// The environments that are struck.
const (
	production = "production"
	first      = "first" // never deployed to when a trial begins
)

var versions = []string{"v1.0.0", "v2.0.0"}

var services = []string{"store", "worker"}

// Open starts the registry and both taps, and sets the workspace up unless that
// was done.
func Open(ctx context.Context, o Options) (*World, error) {
	w := &World{o: o, tree: filepath.Join(o.Dir, "tree")}
	if err := os.MkdirAll(w.tree, 0o755); err != nil {
		return nil, err
	}
	if raw, err := os.ReadFile(w.path("state.json")); err == nil {
		if err := json.Unmarshal(raw, &w.state); err != nil {
			return nil, err
		}
		if w.state.Ready && w.state.Form != o.form() {
			return nil, fmt.Errorf("%s was made by another version of this program: take it away", o.Dir)
		}
	} else {
		w.state = state{Name: "reliability-" + random(3), Port: "0", Passphrase: random(8), Images: map[string]map[string]string{}, References: map[string][]string{}}
	}
	if err := w.start(ctx); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	begin := w.setUp
	if w.state.Ready {
		begin = w.look
	}
	if err := begin(ctx); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func random(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func (w *World) path(name string) string { return filepath.Join(w.o.Dir, name) }

func (w *World) save() error {
	raw, err := json.Marshal(w.state)
	if err != nil {
		return err
	}
	return os.WriteFile(w.path("state.json"), raw, 0o600)
}

// start runs the registry behind its tap, and the tap before the engine.
func (w *World) start(ctx context.Context) error {
	address := w.path("registry.address")
	_ = os.Remove(address)
	log, err := os.Create(w.path("registry.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"__registry", "--root", w.path("registry"), "--address-file", address}
	if !w.state.Ready {
		args = append(args, "--bases")
	}
	w.process = exec.Command(w.o.Binary, args...)
	w.process.Stdout, w.process.Stderr = log, log
	w.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := w.process.Start(); err != nil {
		return err
	}
	var at []byte
	for wait := time.Now().Add(2 * time.Minute); len(at) == 0; at, _ = os.ReadFile(address) {
		if time.Now().After(wait) || ctx.Err() != nil {
			return fmt.Errorf("the registry does not answer: see %s", w.path("registry.log"))
		}
		time.Sleep(50 * time.Millisecond)
	}
	if w.registry, err = NewTap("127.0.0.1:"+w.state.Port, strings.TrimSpace(string(at))); err != nil {
		return err
	}
	_, w.state.Port, _ = strings.Cut(w.registry.Addr(), ":")
	_ = os.Remove(w.path("engine.sock"))
	w.engine, err = NewTap("unix:"+w.path("engine.sock"), strings.Replace(w.o.Docker, "unix://", "unix:", 1))
	return err
}

// Close ends what Open started. Containers and files stay for the next time.
func (w *World) Close() error {
	var errs []error
	for _, t := range []*Tap{w.registry, w.engine} {
		if t != nil {
			errs = append(errs, t.Close())
		}
	}
	if w.process != nil && w.process.Process != nil {
		_ = w.process.Process.Signal(syscall.SIGTERM)
		_ = w.process.Wait()
	}
	return errors.Join(errs...)
}

// Remove takes away everything that the workspace has on the engine, and its
// directory.
func (w *World) Remove(ctx context.Context) error {
	for _, env := range []string{"staging", production, first} {
		_ = w.down(ctx, env)
	}
	images, _ := w.docker(ctx, "images", "-q", "--filter", "reference="+w.address()+"/*/*", "--filter", "reference="+w.address()+"/*/*/*")
	if list := strings.Fields(images); len(list) > 0 {
		_, _ = w.docker(ctx, append([]string{"rmi", "-f"}, list...)...)
	}
	return errors.Join(w.Close(), os.RemoveAll(w.o.Dir))
}

// down removes an environment's containers, networks, volumes, its lock and its
// checkpoint.
func (w *World) down(ctx context.Context, env string) error {
	project := "label=com.docker.compose.project=" + w.project(env)
	for _, kind := range []struct {
		list   []string
		remove []string
	}{
		{[]string{"ps", "-aq", "--filter", project}, []string{"rm", "-f"}},
		{[]string{"ps", "-aq", "--filter", "name=^/" + w.lock(env) + "$"}, []string{"rm", "-f"}},
		{[]string{"network", "ls", "-q", "--filter", project}, []string{"network", "rm"}},
		{[]string{"volume", "ls", "-q", "--filter", project}, []string{"volume", "rm"}},
		{[]string{"volume", "ls", "-q", "--filter", "label=dev.promote.checkpoint=" + w.lock(env)}, []string{"volume", "rm"}},
	} {
		out, err := w.docker(ctx, kind.list...)
		if err != nil {
			return err
		}
		if ids := strings.Fields(out); len(ids) > 0 {
			if _, err := w.docker(ctx, append(kind.remove, ids...)...); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *World) address() string { return "127.0.0.1:" + w.state.Port }

func (w *World) project(env string) string { return w.state.Name + "-" + env }

// lock is the name of an environment's lock object and checkpoint.
func (w *World) lock(env string) string { return "promote-" + w.state.Name + "-" + env }

func (w *World) ledger() string { return filepath.Join(w.tree, ".promote", "ledger") }

// docker asks the engine with its own client, past the tap.
func (w *World) docker(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+w.o.Docker)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("docker %q: %w: %s", args, err, stderr.String())
	}
	return string(out), nil
}

// ended is how a run of promote ended.
type ended struct {
	Code           int // 137: killed
	Stdout, Stderr string
	Took           time.Duration
}

func (e ended) String() string {
	lines := strings.Split(strings.TrimSpace(e.Stderr), "\n")
	return fmt.Sprintf("exit %d: %s", e.Code, strings.Join(lines[max(0, len(lines)-3):], " | "))
}

// longest is how long one run may take before it counts as hung.
const longest = 5 * time.Minute

// command is a run of promote in the tree, behind the taps.
func (w *World) command(ctx context.Context, wrap []string, args ...string) *exec.Cmd {
	line := append(append(wrap, w.o.Binary), append([]string{"--progress", "plain", "-o", "json"}, args...)...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Dir = w.tree
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+w.path("engine.sock"), "COSIGN_PASSWORD="+w.state.Passphrase,
		"XDG_CACHE_HOME="+w.path("cache"), "GITHUB_ACTIONS=", "CI=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// run waits for a command; started is called once it runs.
func run(cmd *exec.Cmd, started func()) (ended, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// What a killed program's children still hold must not keep us.
	cmd.WaitDelay = 3 * time.Second
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return ended{}, err
	}
	if started != nil {
		started()
	}
	err := cmd.Wait()
	e := ended{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String(), Took: time.Since(began)}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		e.Code = 128 + int(status.Signal())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return e, err
	}
	return e, nil
}

// promote runs a command to its end.
func (w *World) promote(ctx context.Context, args ...string) (ended, error) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	return run(w.command(ctx, nil, args...), nil)
}

// must runs a command that has to succeed, and decodes its result.
func (w *World) must(ctx context.Context, into any, args ...string) error {
	e, err := w.promote(ctx, args...)
	if err == nil && e.Code != 0 {
		err = fmt.Errorf("promote %s: %s", strings.Join(args, " "), e)
	}
	if err == nil && into != nil {
		err = json.Unmarshal([]byte(e.Stdout), into)
	}
	return err
}
