//go:build engine

package smoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/engine/enginetest"
	"github.com/promote-dev/promote/pkg/release"
)

// world is an engine in memory whose containers' port 8080 is a server of the
// test, and whose memory the test decides.
type world struct {
	*enginetest.Fake
	port     string
	handler  http.HandlerFunc
	memory   func(service string, running time.Duration) int64
	stop     func(service string) int // the exit code of a stop
	logs     func(service string) []byte
	workload release.Workload
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Fake: enginetest.NewFake("test")}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.handler != nil {
			w.handler(rw, r)
		}
	}))
	t.Cleanup(server.Close)
	_, w.port, _ = net.SplitHostPort(server.Listener.Addr().String())
	w.OnUsage = func(c release.Container) release.Usage {
		u := release.Usage{Time: time.Now(), Memory: 20 * mib, Limit: c.Memory, OOMKills: -1}
		if w.memory != nil {
			u.Memory = w.memory(c.Service, time.Since(c.Started))
		}
		return u
	}
	w.workload = release.Workload{Project: "agent", Networks: []release.NetworkSpec{{Key: "default", Name: "agent_default"}},
		Volumes: []release.VolumeSpec{{Key: "memory", Name: "agent_memory"}}}
	w.service(t, "bus", nil)
	w.service(t, "planner", func(s *release.ServiceSpec) {
		s.Ports = []release.Port{{Target: 8080, Published: "80", Protocol: "tcp"}}
		s.DependsOn = []release.Dependency{{Service: "bus", Condition: release.ServiceHealthy}}
		s.Mounts = []release.Mount{{Type: "volume", Source: "agent_memory", Target: "/memory"}}
	})
	return w
}

func (w *world) service(t *testing.T, name string, change func(*release.ServiceSpec)) {
	t.Helper()
	digest := release.DigestOf([]byte(name))
	image, err := release.NewSubject("registry.acme.dev/agent/"+name, digest)
	if err != nil {
		t.Fatal(err)
	}
	w.Offer(image, release.PlatformImage{Manifest: digest, Config: digest})
	s := release.ServiceSpec{Name: name, ContainerName: "agent-" + name + "-1", Image: image, User: "1000", ReadOnly: true,
		SecurityOpt: []string{"no-new-privileges:true"}, MemoryLimit: 128 * mib, Command: []string{"/probe", "run"}, Health: &release.Health{Test: []string{"CMD", "/probe", "ok"}},
		Networks: []release.Attach{{Network: "agent_default", Aliases: []string{"agent-" + name + "-1", name}}}}
	if change != nil {
		change(&s)
	}
	w.workload.Services = append(w.workload.Services, s)
}

func (w *world) change(name string, change func(*release.ServiceSpec)) {
	for i, s := range w.workload.Services {
		if s.Name == name {
			change(&w.workload.Services[i])
		}
	}
}

func (w *world) Inspect(ctx context.Context, id string) (release.Container, error) {
	c, err := w.Fake.Inspect(ctx, id)
	c.Ports = slices.Clone(c.Ports)
	for i := range c.Ports {
		c.Ports[i].HostIP, c.Ports[i].Published = "127.0.0.1", w.port
	}
	return c, err
}

func (w *world) Stop(ctx context.Context, id string, grace time.Duration) error {
	c, err := w.Fake.Inspect(ctx, id)
	if err != nil {
		return err
	}
	if w.stop != nil && w.stop(c.Service) != 0 {
		w.Die(id, w.stop(c.Service))
		return nil
	}
	return w.Fake.Stop(ctx, id, grace)
}

func (w *world) Logs(ctx context.Context, id string, lines int) ([]byte, error) {
	raw, err := w.Fake.Logs(ctx, id, lines)
	if c, found := w.Fake.Inspect(ctx, id); found == nil && w.logs != nil {
		raw = w.logs(c.Service)
	}
	return raw, err
}

func (w *world) Up(ctx context.Context, l release.Workload) error {
	return deploy.Up(ctx, w, deploy.Run{Target: "test", Workload: l, Settle: time.Millisecond, Timeout: time.Minute})
}

func (w *world) Recreate(ctx context.Context, l release.Workload, service string) error {
	return deploy.Recreate(ctx, w, deploy.Run{Target: "test", Workload: l, Settle: time.Millisecond, Timeout: time.Minute}, service)
}

func (w *world) Down(ctx context.Context, project string) error {
	return deploy.Down(ctx, w, project, true)
}

func (w *world) options() Options {
	return Options{Release: release.DigestOf([]byte("release")), Workload: w.workload, Engine: w, Runner: w,
		Configuration: map[string]release.Digest{"model/smoke": release.DigestOf([]byte("model"))},
		Timeout:       5 * time.Second, Interval: 5 * time.Millisecond, window: 100 * time.Millisecond}
}

func (w *world) run(t *testing.T, change func(*Options)) (release.Smoke, error) {
	t.Helper()
	o := w.options()
	if change != nil {
		change(&o)
	}
	result, err := Run(context.Background(), o)
	w.empty(t)
	return result, err
}

func (w *world) mustRun(t *testing.T, change func(*Options)) release.Smoke {
	t.Helper()
	result, err := w.run(t, change)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// empty asserts that nothing of a run is left.
func (w *world) empty(t *testing.T) {
	t.Helper()
	left, err := w.ListLabelled(context.Background(), release.LabelSmoke)
	if err != nil {
		t.Fatal(err)
	}
	if left.Count() != 0 {
		t.Errorf("left behind: %+v", left)
	}
}

func find(t *testing.T, s release.Smoke, name string) release.SmokeCheck {
	t.Helper()
	for _, c := range s.Checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %s in %s", name, lines(s))
	return release.SmokeCheck{}
}

func has(s release.Smoke, name string) bool {
	return slices.ContainsFunc(s.Checks, func(c release.SmokeCheck) bool { return c.Name == name })
}

func lines(s release.Smoke) string {
	var b strings.Builder
	for _, c := range s.Checks {
		fmt.Fprintf(&b, "\n  %-8s %-22s %s", c.Result, c.Name, c.Detail)
	}
	return b.String()
}

// want asserts one check's result and words of its detail.
func want(t *testing.T, s release.Smoke, name string, result release.Result, words ...string) {
	t.Helper()
	c := find(t, s, name)
	if c.Result != result {
		t.Errorf("%s is %s, want %s: %s", name, c.Result, result, c.Detail)
	}
	for _, w := range words {
		if !strings.Contains(c.Detail, w) {
			t.Errorf("%s does not say %q: %s", name, w, c.Detail)
		}
	}
}

func TestHealthyRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var requests atomic.Int64
	w.handler = func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/task" {
			requests.Add(1)
		}
	}
	w.service(t, "migrate", func(s *release.ServiceSpec) {
		s.OneShot, s.Command, s.Health = true, []string{"/probe", "exit", "0"}, nil
	})
	s := w.mustRun(t, func(o *Options) {
		o.Checks = []Check{{Name: "answers", Service: "planner", HTTP: &HTTP{Path: "/health", Status: 200}}, {Name: "listens", Service: "planner", TCP: 8080}}
		o.Memory = MemoryTest{Duration: 600 * time.Millisecond, Warmup: 20 * time.Millisecond,
			Load: Load{Service: "planner", HTTP: &HTTP{Path: "/task", Method: "POST"}, Rate: 20}}
	})
	if s.Result != release.Passed || s.Release != release.DigestOf([]byte("release")) {
		t.Errorf("result %s%s", s.Result, lines(s))
	}
	for _, name := range []string{"start", "answers", "listens", "load", "healthy/planner", "healthy/bus", "healthy/migrate", "unprivileged/planner",
		"readonly/bus", "memory/planner", "growth/planner", "stops/planner", "stops/bus"} {
		want(t, s, name, release.Passed)
	}
	if has(s, "stops/migrate") || has(s, "memory/migrate") {
		t.Error("claims about a service that had completed")
	}
	if n := requests.Load(); n < 3 {
		t.Errorf("%d requests of the load", n)
	}
	for _, service := range s.Services {
		if !service.Healthy || service.OOMKilled || service.Restarts != 0 {
			t.Errorf("service %+v", service)
		}
		if service.Name == "planner" && (service.Memory.Limit != 128*mib || service.Memory.Peak != 20*mib || service.Memory.Samples < 10) {
			t.Errorf("memory %+v", service.Memory)
		}
	}
	if last := s.Checks[len(s.Checks)-1].Name; last != "stops/bus" {
		t.Errorf("bus is depended on and must stop last, the last is %s", last)
	}
}

func TestPredicateIsATestResult(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.memory = func(string, time.Duration) int64 { return 127 * mib }
	s := w.mustRun(t, loaded)
	var p struct {
		Result        string
		Configuration []struct {
			Name   string
			Digest map[string]string
		}
		PassedTests, FailedTests []string
	}
	if err := json.Unmarshal(s.Predicate, &p); err != nil {
		t.Fatal(err)
	}
	if p.Result != "FAILED" || !slices.Contains(p.FailedTests, "memory/planner") || !slices.Contains(p.PassedTests, "healthy/planner") {
		t.Errorf("predicate %s", s.Predicate)
	}
	var names []string
	for _, c := range p.Configuration {
		names = append(names, c.Name)
		if len(c.Digest["sha256"]) != 64 {
			t.Errorf("configuration %s without a digest", c.Name)
		}
	}
	if !slices.Equal(names, []string{"image/bus", "image/planner", "model/smoke"}) {
		t.Errorf("configuration %q", names)
	}
}

func TestNamesOfItsOwn(t *testing.T) {
	w := newWorld(t)
	w.workload.Networks = append(w.workload.Networks, release.NetworkSpec{Key: "edge", Name: "edge", External: true, Driver: "macvlan"})
	w.workload.Volumes = append(w.workload.Volumes, release.VolumeSpec{Key: "shared", Name: "shared", External: true},
		release.VolumeSpec{Key: "nfs", Name: "agent_nfs", Options: map[string]string{"type": "nfs", "device": ":/production"}})
	w.change("planner", func(s *release.ServiceSpec) {
		s.Networks = append(s.Networks, release.Attach{Network: "edge", IPv4: "10.0.0.5", Aliases: []string{"agent-planner-1", "brain"}})
		s.Mounts = append(s.Mounts, release.Mount{Type: "volume", Source: "shared", Target: "/s"}, release.Mount{Type: "volume", Source: "agent_nfs", Target: "/n"})
		s.ContainerName = "the-planner"
		for i := range s.Networks {
			s.Networks[i].Aliases = []string{"the-planner", "planner"}
		}
	})
	got := isolate(w.workload, "0a1b2c3d", []reached{{"planner", 9000}, {"planner", 8080}, {"bus", 6379}}, false)
	raw, _ := json.Marshal(got)
	for _, real := range []string{`"agent_memory"`, `"agent_default"`, `"edge"`, `"shared"`, "production", "the-planner", `"agent-planner-1"`, "external", "10.0.0.5", `"80"`} {
		if strings.Contains(strings.ReplaceAll(string(raw), `"key":"edge"`, ""), real) && !strings.Contains(`"key":"shared"`, real) {
			t.Errorf("%s of a real place is still there: %s", real, raw)
		}
	}
	if got.Project != "agent-smoke-0a1b2c3d" || got.Labels[release.LabelSmoke] != "0a1b2c3d" {
		t.Errorf("project %s %v", got.Project, got.Labels)
	}
	planner, _ := got.Service("planner")
	wantPorts := []release.Port{{HostIP: "127.0.0.1", Target: 8080, Protocol: "tcp"}, {HostIP: "127.0.0.1", Target: 9000, Protocol: "tcp"}}
	if !slices.Equal(planner.Ports, wantPorts) || planner.Mounts[0].Source != "agent-smoke-0a1b2c3d_memory" || planner.Mounts[1].Source != "agent-smoke-0a1b2c3d_shared" {
		t.Errorf("planner %+v", planner)
	}
	if original := w.workload.Services[1]; original.Mounts[0].Source != "agent_memory" || original.Networks[0].Network != "agent_default" {
		t.Error("the caller's workload was changed")
	}
}

func TestTwoRunsAtOnceDoNotMeet(t *testing.T) {
	w := newWorld(t)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			if s, err := Run(context.Background(), w.options()); err != nil || s.Result != release.Passed {
				t.Errorf("%v %s", err, lines(s))
			}
		})
	}
	group.Wait()
	w.empty(t)
}

func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, w *world)
		options func(*Options)
		check   string
		words   []string
	}{
		"unhealthy at the start": {func(_ *testing.T, w *world) {
			w.change("planner", func(s *release.ServiceSpec) { s.Health.Test = []string{"CMD", "/probe", "fail"} })
		}, nil, "start", []string{"planner is unhealthy", "not well"}},
		"ends at the start": {func(_ *testing.T, w *world) {
			w.change("planner", func(s *release.ServiceSpec) { s.Command = []string{"/probe", "exit", "3"} })
		}, nil, "start", []string{"planner ended with exit code 3", "its log ends: running | exiting with 3"}},
		"one-shot fails": {func(t *testing.T, w *world) {
			w.service(t, "migrate", func(s *release.ServiceSpec) {
				s.OneShot, s.Command, s.Health = true, []string{"/probe", "exit", "1"}, nil
			})
		}, nil, "start", []string{"migrate ended with exit code 1"}},
		"never healthy": {func(_ *testing.T, w *world) { w.Health = func(release.Container) string { return "starting" } },
			func(o *Options) { o.Timeout = 200 * time.Millisecond }, "start", []string{"bus was not healthy after 200ms"}},
		"killed for its memory": {func(_ *testing.T, w *world) {
			w.memory = func(service string, d time.Duration) int64 {
				if service == "planner" && d > 30*time.Millisecond {
					go w.killPlanner()
				}
				return 100 * mib
			}
		}, loaded, "healthy/planner", []string{"killed for want of memory (limit 128.0 MiB)", "exit code 137"}},
		"child killed for its memory": {func(_ *testing.T, w *world) {
			w.OnUsage = func(c release.Container) release.Usage {
				u := release.Usage{Memory: 90 * mib}
				if c.Service == "planner" {
					u.OOMKills = 1
				}
				return u
			}
		}, loaded, "memory/planner", []string{"killed for want of memory", "peak 128.0 MiB of 128.0 MiB (100 %)"}},
		"too near to the limit": {func(_ *testing.T, w *world) { w.memory = func(string, time.Duration) int64 { return 120 * mib } },
			loaded, "memory/planner", []string{"peak 120.0 MiB of 128.0 MiB (94 %)", "want at most 90 %"}},
		"leak": {func(_ *testing.T, w *world) {
			w.memory = func(service string, d time.Duration) int64 { return 20*mib + int64(float64(50*mib)*d.Seconds()) }
		}, func(o *Options) { loaded(o); o.Memory.Duration = 700 * time.Millisecond }, "growth/planner", []string{"grew by", "it would reach its limit of 128.0 MiB in"}},
		"becomes unhealthy": {func(_ *testing.T, w *world) {
			w.memory = func(service string, d time.Duration) int64 {
				if service == "bus" && d > 50*time.Millisecond {
					go w.eachOf("bus", func(id string) { w.SetHealth(id, "unhealthy"); w.SetHealth(id, "healthy") })
				}
				return mib
			}
		}, loaded, "healthy/bus", []string{"became unhealthy"}},
		"ends by itself": {func(_ *testing.T, w *world) {
			w.memory = func(service string, d time.Duration) int64 {
				if service == "bus" && d > 50*time.Millisecond {
					go w.eachOf("bus", func(id string) { w.Die(id, 7) })
				}
				return mib
			}
		}, loaded, "healthy/bus", []string{"ended 1 times by itself, exit code 7; its log ends"}},
		"restarts": {func(_ *testing.T, w *world) {
			w.memory = func(service string, d time.Duration) int64 {
				if service == "bus" && d > 50*time.Millisecond {
					go w.eachOf("bus", func(id string) { w.Change(id, func(c *release.Container) { c.Restarts = 2 }) })
				}
				return mib
			}
		}, loaded, "healthy/bus", []string{"restarted 2 times"}},
		"wrong status": {func(_ *testing.T, w *world) {
			w.handler = func(rw http.ResponseWriter, _ *http.Request) {
				http.Error(rw, "not yet", http.StatusServiceUnavailable)
			}
		}, func(o *Options) {
			o.Checks = []Check{{Name: "answers", Service: "planner", HTTP: &HTTP{Status: 200}, Timeout: 100 * time.Millisecond}}
		}, "answers", []string{"GET / answered 503, want 200: not yet"}},
		"command fails": {func(_ *testing.T, w *world) {
			w.OnExec = func(release.Container, []string) (int, []byte, error) { return 1, []byte("no memory\n"), nil }
		}, func(o *Options) {
			o.Checks = []Check{{Name: "remembers", Service: "planner", Exec: []string{"recall"}, Timeout: 100 * time.Millisecond}}
		}, "remembers", []string{"recall gave exit code 1: no memory"}},
		"forgets": {func(_ *testing.T, w *world) {
			w.OnExec = func(c release.Container, _ []string) (int, []byte, error) {
				return 0, []byte("memory " + c.ID[60:]), nil
			}
		}, func(o *Options) {
			o.Checks = []Check{{Name: "remembers", Service: "planner", Exec: []string{"recall"}, Survives: Recreate}}
		}, "remembers", []string{"recall changed by recreate"}},
		"does not come back": {func(_ *testing.T, w *world) {
			var n atomic.Int64
			w.Health = func(c release.Container) string {
				if c.Service == "planner" && n.Add(1) > 1 {
					return "starting"
				}
				return "healthy"
			}
			w.OnExec = func(c release.Container, cmd []string) (int, []byte, error) {
				if c.Service == "planner" && cmd[0] == "/probe" {
					return 1, nil, nil
				}
				return 0, nil, nil
			}
		}, func(o *Options) {
			o.Timeout = 300 * time.Millisecond
			o.Checks = []Check{{Name: "remembers", Service: "planner", Exec: []string{"recall"}, Survives: Restart}}
		}, "remembers", []string{"after restart not all services became well again within 300ms"}},
		"breaks another": {func(_ *testing.T, w *world) {
			w.OnExec = func(c release.Container, _ []string) (int, []byte, error) {
				w.eachOf("planner", func(id string) { w.SetHealth(id, "unhealthy") })
				return 0, nil, nil
			}
		}, func(o *Options) {
			o.Timeout = 300 * time.Millisecond
			o.Checks = []Check{{Name: "remembers", Service: "bus", Exec: []string{"recall"}, Survives: Recreate}}
		}, "remembers", []string{"after recreate: service planner is unhealthy"}},
		"silent log": {func(*testing.T, *world) {}, func(o *Options) {
			o.Checks = []Check{{Name: "logs", Service: "planner", Log: "^ready$", Timeout: 100 * time.Millisecond}}
		}, "logs", []string{"no line of the log matches"}},
		"load is refused": {func(_ *testing.T, w *world) {
			w.handler = func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(500) }
		},
			loaded, "load", []string{"nothing of the load succeeded", "answered 500"}},
		"must be killed": {func(_ *testing.T, w *world) {
			w.stop = func(service string) int {
				if service == "bus" {
					return 137
				}
				return 0
			}
			w.change("bus", func(s *release.ServiceSpec) { s.StopGrace = time.Nanosecond })
		}, nil, "stops/bus", []string{"was killed"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.prepare(t, w)
			s := w.mustRun(t, c.options)
			if s.Result != release.Failed {
				t.Errorf("result %s%s", s.Result, lines(s))
			}
			want(t, s, c.check, release.Failed, c.words...)
		})
	}
}

func loaded(o *Options) {
	o.Memory = MemoryTest{Duration: 250 * time.Millisecond, Warmup: 20 * time.Millisecond,
		Load: Load{Service: "planner", HTTP: &HTTP{}, Rate: 20}}
}

func (w *world) eachOf(service string, do func(id string)) {
	found, err := w.ListLabelled(context.Background(), release.LabelSmoke)
	if err != nil {
		return
	}
	for _, id := range found.Containers {
		if c, err := w.Fake.Inspect(context.Background(), id); err == nil && c.Service == service {
			do(id)
		}
	}
}

func (w *world) killPlanner() { w.eachOf("planner", func(id string) { w.OOM(id) }) }

func TestWarnings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.change("bus", func(s *release.ServiceSpec) { s.User, s.ReadOnly, s.MemoryLimit, s.Health = "", false, 0, nil })
	w.stop = func(service string) int {
		if service == "bus" {
			return 143
		}
		return 0
	}
	w.change("planner", func(s *release.ServiceSpec) { s.DependsOn[0].Condition = release.ServiceStarted })
	s := w.mustRun(t, loaded)
	if s.Result != release.Warned {
		t.Errorf("result %s%s", s.Result, lines(s))
	}
	want(t, s, "unprivileged/bus", release.Warned, "runs as root")
	want(t, s, "readonly/bus", release.Warned)
	want(t, s, "memory/bus", release.Warned, "no limit")
	want(t, s, "healthy/bus", release.Warned, "without a health check")
	want(t, s, "stops/bus", release.Warned, "exit code 143")
	want(t, s, "healthy/planner", release.Passed)
}

func TestSlowServiceIsNotSpared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handler = func(http.ResponseWriter, *http.Request) { time.Sleep(60 * time.Millisecond) }
	s := w.mustRun(t, func(o *Options) {
		loaded(o)
		o.Memory.Load.Rate, o.Memory.Load.Concurrency = 50, 1
	})
	want(t, s, "load", release.Warned, "the service is too slow for 50.0 a second")
}

func TestShortRunsClaimNothingAboutGrowth(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.mustRun(t, func(o *Options) {
		o.window = 0 // five seconds
		o.Memory = MemoryTest{Duration: 100 * time.Millisecond}
	})
	want(t, s, "memory/planner", release.Passed, "too short to say anything about growth")
	if has(s, "growth/planner") || s.Services[0].Memory.SlopePerSecond != 0 {
		t.Errorf("claims growth: %s", lines(s))
	}
	w.OnExec = func(release.Container, []string) (int, []byte, error) {
		time.Sleep(200 * time.Millisecond)
		return 0, nil, nil
	}
	s = w.mustRun(t, func(o *Options) { o.Checks = []Check{{Name: "x", Service: "bus", Exec: []string{"x"}}} })
	want(t, s, "memory/planner", release.Passed, "no memory test was made")
}

func TestStateSurvives(t *testing.T) {
	for _, how := range []string{Restart, Recreate} {
		w := newWorld(t)
		var asked atomic.Int64
		w.OnExec = func(c release.Container, cmd []string) (int, []byte, error) {
			asked.Add(1)
			for _, m := range c.Mounts {
				if m.Target == "/memory" {
					return 0, []byte("memory " + m.Identity), nil
				}
			}
			return 1, nil, nil
		}
		s := w.mustRun(t, func(o *Options) {
			o.Checks = []Check{{Name: "remembers", Service: "planner", Exec: []string{"recall"}, Survives: how}}
		})
		want(t, s, "remembers", release.Passed, "and again after "+how)
		want(t, s, "healthy/planner", release.Passed)
		if asked.Load() != 2 || s.Result != release.Passed {
			t.Errorf("%s: asked %d times%s", how, asked.Load(), lines(s))
		}
	}
}

func TestChecksAreAskedUntilTheyPass(t *testing.T) {
	w := newWorld(t)
	var n atomic.Int64
	w.handler = func(rw http.ResponseWriter, _ *http.Request) {
		if n.Add(1) < 3 {
			rw.WriteHeader(503)
		}
	}
	s := w.mustRun(t, func(o *Options) {
		o.Checks = []Check{{Name: "answers", Service: "planner", HTTP: &HTTP{Status: 200}}, {Name: "logs", Service: "bus", Log: "^running$"}}
	})
	want(t, s, "answers", release.Passed)
	want(t, s, "logs", release.Passed)
}

func TestEngineFailuresAreErrors(t *testing.T) {
	gone := release.Unavailable("start it", "the engine does not answer")
	for name, before := range map[string]func(op, subject string) error{
		"events": func(op, _ string) error { return iff(op == "events", gone) },
		"pull":   func(op, _ string) error { return iff(op == "pull", gone) },
		"create": func(op, subject string) error {
			return iff(op == "create" && strings.Contains(subject, "planner"), gone)
		},
		"observe": func(op, _ string) error { return iff(op == "observe", gone) },
		"stop":    func(op, _ string) error { return iff(op == "stop", gone) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Before = before
			_, err := Run(context.Background(), w.options())
			if release.KindOf(err) != release.KindUnavailable {
				t.Errorf("got %v", err)
			}
			w.Before = nil
			w.empty(t)
		})
	}
}

func iff(yes bool, err error) error {
	if yes {
		return err
	}
	return nil
}

func TestCancelTakesDown(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"create", "usage", "execute"} {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(context.Background())
		w.Before = func(op, _ string) error {
			if op == when {
				cancel()
			}
			return nil
		}
		w.OnExec = func(release.Container, []string) (int, []byte, error) { cancel(); return 1, nil, nil }
		o := w.options()
		loaded(&o)
		o.Memory.Duration = time.Minute
		if when == "execute" {
			o.Checks = []Check{{Name: "x", Service: "planner", Exec: []string{"x"}}}
		}
		begin := time.Now()
		_, err := Run(ctx, o)
		if !errors.Is(err, context.Canceled) && release.KindOf(err) != release.KindInterrupted {
			t.Errorf("%s: got %v", when, err)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s: took %s", when, took)
		}
		w.empty(t)
	}
}

func TestRefusesWhatCannotWork(t *testing.T) {
	w := newWorld(t)
	w.service(t, "migrate", func(s *release.ServiceSpec) { s.OneShot = true })
	for name, change := range map[string]func(*Options){
		"no services":     func(o *Options) { o.Workload.Services = nil },
		"unknown service": func(o *Options) { o.Checks = []Check{{Name: "a", Service: "nobody", TCP: 1}} },
		"one-shot":        func(o *Options) { o.Checks = []Check{{Name: "a", Service: "migrate", Exec: []string{"x"}}} },
		"no port":         func(o *Options) { o.Checks = []Check{{Name: "a", Service: "bus", HTTP: &HTTP{}}} },
		"two kinds":       func(o *Options) { o.Checks = []Check{{Name: "a", Service: "bus", TCP: 1, Log: "x"}} },
		"none":            func(o *Options) { o.Checks = []Check{{Name: "a", Service: "bus"}} },
		"bad pattern":     func(o *Options) { o.Checks = []Check{{Name: "a", Service: "bus", Log: "("}} },
		"same name": func(o *Options) {
			o.Checks = []Check{{Name: "a", Service: "bus", TCP: 1}, {Name: "a", Service: "bus", TCP: 2}}
		},
		"name of ours":  func(o *Options) { o.Checks = []Check{{Name: "memory/bus", Service: "bus", TCP: 1}} },
		"survives what": func(o *Options) { o.Checks = []Check{{Name: "a", Service: "bus", TCP: 1, Survives: "war"}} },
		"path": func(o *Options) {
			o.Checks = []Check{{Name: "a", Service: "planner", HTTP: &HTTP{Path: "@evil.example/"}}}
		},
		"load of nobody": func(o *Options) { o.Memory.Load = Load{Service: "nobody", Exec: []string{"x"}} },
		"all warm-up":    func(o *Options) { loaded(o); o.Memory.Warmup = o.Memory.Duration },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.run(t, change)
			if release.KindOf(err) != release.KindConfig {
				t.Errorf("got %v", err)
			}
			if calls := w.Calls(); len(calls) > 0 {
				t.Errorf("effects before the refusal: %v", calls)
			}
		})
	}
}
