//go:build engine

package bench_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/internal/bench"
	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/engine"
	"github.com/promote-dev/promote/pkg/engine/enginetest"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/smoke"
	"github.com/promote-dev/promote/pkg/smoke/smoketest"
)

var (
	b11    = flag.String("b11", "", "measure smoke runs beside docker compose, and write smoke.md and smoke.json here")
	b11Run = flag.Int("runs", 10, "runs of each tool on tuned chains; untuned ones have 3")
	depths = flag.Int("depth", 5, "the longest chain")
	from   = flag.Int("from", 1, "the shortest chain; what is known of shorter ones stays")
	health = flag.String("health", "", "only these health checks: tuned or untuned; what is known of the others stays")
)

// host is an engine as smoke runs use it, with the unruly image on it.
type host struct {
	*engine.Host
	image release.Subject
}

func (h host) run(w release.Workload) deploy.Run {
	return deploy.Run{Target: "bench", Workload: w, Timeout: 5 * time.Minute, Probe: func(ctx context.Context, c release.Container) bool {
		exit, _, err := h.Exec(ctx, c.ID, c.HealthTest)
		return err == nil && exit == 0
	}}
}

func (h host) Up(ctx context.Context, w release.Workload) error {
	return deploy.Up(ctx, h.Host, h.run(w))
}
func (h host) Recreate(ctx context.Context, w release.Workload, service string) error {
	return deploy.Recreate(ctx, h.Host, h.run(w), service)
}
func (h host) Down(ctx context.Context, project string) error {
	return deploy.Down(ctx, h.Host, project, true)
}

func open(t *testing.T) host {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	e, err := engine.Open(ctx, release.Target{Name: "bench"}, engine.Options{})
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("no engine: %v", err)
	}
	t.Cleanup(func() { _ = e.Close() })
	r := enginetest.NewRegistryOf(t, enginetest.Program{
		Dir: smoketest.Dir(), Path: smoketest.Path, Links: []string{smoketest.Link}, Dirs: smoketest.Directories,
	})
	image, _ := r.Push(t, "unruly", enginetest.Image{Command: []string{smoketest.Path, "serve"}})
	if err := e.Pull(context.Background(), image); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.RemoveImage(context.Background(), image) })
	return host{e, image}
}

// healths are the health checks of chains.
var healths = map[string]release.Health{
	bench.Untuned: {Test: smoketest.HealthTest, Interval: 30 * time.Second, Timeout: 5 * time.Second, Retries: 3},
	bench.Quick:   {Test: smoketest.HealthTest, Interval: time.Second, Timeout: 5 * time.Second, Retries: 10, StartPeriod: 5 * time.Second, StartInterval: 200 * time.Millisecond},
}

func chain(image release.Subject, health string, depth int, project string) release.Workload {
	w := smoketest.Workload(image, "")
	one := w.Services[0]
	one.Mounts, one.Ports = nil, nil
	h := healths[health]
	one.Health = &h
	out := release.Workload{Project: project, Networks: []release.NetworkSpec{{Key: "default", Name: project + "_default"}}}
	for i := range depth {
		s := one
		s.Name = fmt.Sprintf("s%d", i)
		s.ContainerName = project + "-" + s.Name + "-1"
		s.Networks = []release.Attach{{Network: project + "_default", Aliases: []string{s.Name}}}
		if i > 0 {
			s.DependsOn = []release.Dependency{{Service: fmt.Sprintf("s%d", i-1), Condition: release.ServiceHealthy}}
		}
		out.Services = append(out.Services, s)
	}
	return out
}

// The fast probe brings up a chain whose health checks are asked each thirty
// seconds long before the engine asks them.
func TestUntunedChainIsNotWaitedFor(t *testing.T) {
	h := open(t)
	begin := time.Now()
	s, err := smoke.Run(context.Background(), smoke.Options{Engine: h, Runner: h, Workload: chain(h.image, bench.Untuned, 3, "promote-bench-probe"), Timeout: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if s.Result == release.Failed {
		t.Errorf("%+v", s.Checks)
	}
	if took := time.Since(begin); took > 75*time.Second { // the engine alone would take 90
		t.Errorf("took %s", took)
	}
}

// contender brings a chain up and takes it down again; it says how long it
// took until all were well, if it knows, and the whole.
type contender struct {
	start bench.SmokeTool
	whole bench.SmokeTool
	run   func(t *testing.T, health string, depth, n int) (start, whole time.Duration)
}

// TestB11 measures with -b11; else there is nothing to do.
func TestB11(t *testing.T) {
	if *b11 == "" {
		return
	}
	h := open(t)
	info, err := h.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	compose, err := bench.BuildCompose(t.Context(), filepath.Join(cache, "promote-bench"), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	promote, err := filepath.Abs("../../bin/promote")
	if err != nil {
		t.Fatal(err)
	}
	contenders := []contender{h.library(), h.start(), h.command(promote), h.peer(compose)}
	report := &bench.SmokeReport{Machine: bench.ThisMachine(os.TempDir()), Engine: info.Version}
	for _, kind := range []string{bench.Quick, bench.Untuned} {
		if *health != "" && *health != kind {
			continue
		}
		for depth := *from; depth <= *depths; depth++ {
			runs := *b11Run
			if kind == bench.Untuned {
				runs = min(runs, 3)
			}
			times := make([][2][]float64, len(contenders))
			for round := range runs {
				for turn := range contenders {
					n := (turn + round) % len(contenders)
					start, whole := contenders[n].run(t, kind, depth, round)
					times[n][0] = append(times[n][0], float64(start.Milliseconds()))
					times[n][1] = append(times[n][1], float64(whole.Milliseconds()))
				}
			}
			for n, c := range contenders {
				for i, tool := range []bench.SmokeTool{c.start, c.whole} {
					if tool.Name != "" {
						tool.Whole = i == 1
						report.Results = append(report.Results, bench.SmokeResult{Depth: depth, Health: kind, Tool: tool, Milliseconds: bench.Summarize(times[n][i])})
					}
				}
			}
			if err := report.KeepOthers(*b11); err != nil {
				t.Fatal(err)
			}
			report.Compare()
			for _, r := range slices.DeleteFunc(slices.Clone(report.Results), func(r bench.SmokeResult) bool { return r.Depth != depth || r.Health != kind }) {
				t.Logf("%s, %d services: %s: %.1f s, ratio %.1f", r.Health, r.Depth, r.Tool.Name, r.Milliseconds.Median/1000, r.Ratio)
			}
			if err := report.Write(*b11); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (h host) library() contender {
	return contender{whole: bench.SmokeTool{Name: "promote, library", Ours: true, How: "`smoke.Run` without memory test and checks"},
		run: func(t *testing.T, health string, depth, _ int) (_, whole time.Duration) {
			begin := time.Now()
			s, err := smoke.Run(t.Context(), smoke.Options{Engine: h, Runner: h, Workload: chain(h.image, health, depth, "promote-b11"), Timeout: 4 * time.Minute})
			whole = time.Since(begin)
			if err != nil || s.Result == release.Failed {
				t.Fatalf("%v %+v", err, s.Checks)
			}
			return 0, whole
		}}
}

func (h host) start() contender {
	return contender{start: bench.SmokeTool{Name: "promote, start alone", Ours: true, How: "`deploy.Up` with the fast probe"},
		run: func(t *testing.T, health string, depth, n int) (start, _ time.Duration) {
			w := chain(h.image, health, depth, fmt.Sprintf("promote-b11-start-%d", n))
			begin := time.Now()
			err := h.Up(t.Context(), w)
			start = time.Since(begin)
			if down := h.Down(t.Context(), w.Project); err != nil || down != nil {
				t.Fatal(err, down)
			}
			return start, 0
		}}
}

func (h host) command(promote string) contender {
	return contender{whole: bench.SmokeTool{Name: "promote, command", Ours: true, How: "`promote smoke --compose` with `smoke.memory.duration: 0s`"},
		run: func(t *testing.T, health string, depth, _ int) (_, whole time.Duration) {
			dir := h.tree(t, health, depth)
			begin := time.Now()
			said(t, dir, promote, "--progress", "quiet", "smoke", "--compose")
			return 0, time.Since(begin)
		}}
}

func (h host) peer(compose string) contender {
	return contender{
		start: bench.SmokeTool{Name: "docker compose up --wait", How: "`docker compose up --wait --quiet-pull`"},
		whole: bench.SmokeTool{Name: "docker compose up --wait, down -v", How: "`docker compose up --wait --quiet-pull && docker compose down -v`"},
		run: func(t *testing.T, health string, depth, _ int) (start, whole time.Duration) {
			dir := h.tree(t, health, depth)
			begin := time.Now()
			said(t, dir, compose, "up", "--wait", "--quiet-pull")
			start = time.Since(begin)
			said(t, dir, compose, "down", "-v")
			return start, time.Since(begin)
		}}
}

func said(t *testing.T, dir, program string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
}

// tree writes the chain as a project for commands.
func (h host) tree(t *testing.T, health string, depth int) string {
	t.Helper()
	dir := t.TempDir()
	c := healths[health]
	text := "name: promote-b11-tree\nservices:\n"
	for i := range depth {
		text += fmt.Sprintf("  s%d:\n    image: %s\n    user: \"65532:65532\"\n    read_only: true\n    cap_drop: [ALL]\n    security_opt: [\"no-new-privileges:true\"]\n    mem_limit: 128m\n    restart: unless-stopped\n", i, h.image)
		text += fmt.Sprintf("    healthcheck: {test: [CMD, %s], interval: %s, timeout: %s, retries: %d", strings.Join(c.Test[1:], ", "), c.Interval, c.Timeout, c.Retries)
		if c.StartPeriod > 0 {
			text += fmt.Sprintf(", start_period: %s, start_interval: %s", c.StartPeriod, c.StartInterval)
		}
		text += "}\n"
		if i > 0 {
			text += fmt.Sprintf("    depends_on: {s%d: {condition: service_healthy}}\n", i-1)
		}
	}
	for name, content := range map[string]string{
		"compose.yaml": text,
		"promote.yaml": "name: promote-b11\nregistry: registry.invalid/b11\ncompose: {files: [compose.yaml]}\nsmoke: {timeout: 4m, memory: {duration: 0s}}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
