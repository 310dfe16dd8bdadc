//go:build engine

package smoke_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/engine"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/smoke"
)

// real is an engine, and an image that it can pull.
type real struct {
	*engine.Host
	image   release.Subject
	project string // what workloads are named after; nobody else's
}

var opened atomic.Int64

// missing skips where people work and fails where nobody would notice a skip.
func missing(t *testing.T, what string, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s: %v", what, err)
	}
	t.Skipf("%s: %v", what, err)
}

// open gives a base image with python3.
func open(t *testing.T) real {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	h, err := engine.Open(ctx, release.Target{Name: "test"}, engine.Options{})
	if err != nil {
		missing(t, "no engine", err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return real{h, python(t), fmt.Sprintf("promote-smoketest-%d-%d", os.Getpid(), opened.Add(1))}
}

// python resolves the base image's tag by the registry's own answer.
func python(t *testing.T) release.Subject {
	t.Helper()
	base := os.Getenv("PROMOTE_TEST_BASE")
	if base == "" {
		registry := os.Getenv("PROMOTE_TEST_REGISTRY")
		if registry == "" {
			registry = "127.0.0.1:5000"
		}
		base = registry + "/base/python:bookworm"
	}
	host, rest, _ := strings.Cut(base, "/")
	name, tag, _ := strings.Cut(rest, ":")
	req, _ := http.NewRequest(http.MethodHead, "http://"+host+"/v2/"+name+"/manifests/"+tag, nil)
	req.Header.Set("Accept", release.MediaTypeManifest+", "+release.MediaTypeIndex)
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		missing(t, "no registry with a base image (set PROMOTE_TEST_BASE)", err)
	}
	resp.Body.Close()
	digest, err := release.ParseDigest(resp.Header.Get("Docker-Content-Digest"))
	if err != nil {
		missing(t, "no base image "+base, err)
	}
	subject, err := release.NewSubject(host+"/"+name, digest)
	if err != nil {
		t.Fatal(err)
	}
	return subject
}

func (r real) Up(ctx context.Context, w release.Workload) error {
	return deploy.Up(ctx, r.Host, deploy.Run{Target: "test", Workload: w, Timeout: 5 * time.Minute, Settle: 500 * time.Millisecond})
}

func (r real) Recreate(ctx context.Context, w release.Workload, service string) error {
	return deploy.Recreate(ctx, r.Host, deploy.Run{Target: "test", Workload: w, Timeout: 5 * time.Minute}, service)
}

func (r real) Down(ctx context.Context, project string) error {
	return deploy.Down(ctx, r.Host, project, true)
}

// agent is a small server: what it does with a task is the test's.
const agent = `
import http.server, os, signal, sys, uuid
kept = []
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer("ok")
    def do_POST(self):
        block = b"x" * (64 << 10)
        if "leak" in sys.argv: kept.append(bytearray(block))
        if "flood" in sys.argv: kept.append(bytearray(block * 40))
        self.answer("done")
    def log_message(self, *args): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64
path = "/var/tmp/identity"
if not os.path.exists(path): open(path, "w").write(str(uuid.uuid4()))
def stop(*_):
    print("stopping", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv else stop)
print("ready", flush=True)
Server(("", 8080), Handler).serve_forever()
`

const probe = `import urllib.request; urllib.request.urlopen("http://127.0.0.1:8080/health", timeout=3)`

func (r real) workload(limit int64, mode ...string) release.Workload {
	return release.Workload{
		Project:  r.project,
		Networks: []release.NetworkSpec{{Key: "default", Name: r.project + "_default"}},
		Volumes:  []release.VolumeSpec{{Key: "state", Name: r.project + "_state"}},
		Services: []release.ServiceSpec{{
			Name: "planner", ContainerName: r.project + "-planner-1", Image: r.image,
			Entrypoint: []string{"python3", "-c", agent}, Command: append([]string{"agent"}, mode...),
			User: "1000:1000", ReadOnly: true, CapDrop: []string{"ALL"}, MemoryLimit: limit, MemorySwap: limit,
			Mounts:   []release.Mount{{Type: "volume", Source: r.project + "_state", Target: "/var/tmp"}},
			Ports:    []release.Port{{Target: 8080, Published: "8080", Protocol: "tcp"}},
			Networks: []release.Attach{{Network: r.project + "_default", Aliases: []string{"planner"}}},
			Health:   &release.Health{Test: []string{"CMD", "python3", "-c", probe}, Interval: time.Second, Timeout: 5 * time.Second, Retries: 5},
			Restart:  release.Restart{Name: "unless-stopped"}, StopGrace: 3 * time.Second,
		}},
	}
}

func (r real) run(t *testing.T, o smoke.Options) release.Smoke {
	t.Helper()
	o.Engine, o.Runner = r, r
	begin := time.Now()
	s, err := smoke.Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s after %s, %+v", s.Result, time.Since(begin).Round(time.Millisecond), s.Services)
	for _, c := range s.Checks {
		t.Logf("  %-8s %-22s %s", c.Result, c.Name, c.Detail)
	}
	r.empty(t)
	return s
}

// empty fails if something is left of a project's runs.
func (r real) empty(t *testing.T) {
	t.Helper()
	left, err := r.Owned(context.Background(), release.LabelSmoke)
	if err != nil {
		t.Fatal(err)
	}
	for project := range left {
		if strings.HasPrefix(project, r.project+"-") {
			t.Errorf("left behind: %s", project)
		}
	}
}

func wants(t *testing.T, s release.Smoke, name string, result release.Result, words ...string) {
	t.Helper()
	for _, c := range s.Checks {
		if c.Name != name {
			continue
		}
		if c.Result != result {
			t.Errorf("%s is %s, want %s: %s", name, c.Result, result, c.Detail)
		}
		for _, w := range words {
			if !strings.Contains(c.Detail, w) {
				t.Errorf("%s does not say %q: %s", name, w, c.Detail)
			}
		}
		return
	}
	t.Errorf("no check %s", name)
}

func memory(duration time.Duration) smoke.MemoryTest {
	return smoke.MemoryTest{Duration: duration, Warmup: 3 * time.Second,
		Load: smoke.Load{Service: "planner", HTTP: &smoke.HTTP{Path: "/task", Method: "POST"}, Rate: 20}}
}

// Most of each is waiting. They go beside each other, and beside nothing that has
// short deadlines.
func TestEngine(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"healthy":                         engineHealthy,
		"a leak is seen before the limit": engineLeakIsSeenBeforeTheLimit,
		"killed at the limit":             engineKilledAtTheLimit,
		"restart loop":                    engineRestartLoop,
		"must be killed":                  engineMustBeKilled,
		"cancelled":                       engineCancelled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

func engineHealthy(t *testing.T) {
	r := open(t)
	s := r.run(t, smoke.Options{Workload: r.workload(96 << 20), Memory: memory(20 * time.Second), Checks: []smoke.Check{
		{Name: "answers", Service: "planner", HTTP: &smoke.HTTP{Path: "/health", Status: 200}},
		{Name: "listens", Service: "planner", TCP: 8080},
		{Name: "logs", Service: "planner", Log: "^ready$"},
		{Name: "remembers", Service: "planner", Exec: []string{"cat", "/var/tmp/identity"}, Survives: smoke.Recreate},
		{Name: "restarts", Service: "planner", Exec: []string{"cat", "/var/tmp/identity"}, Survives: smoke.Restart},
	}})
	for _, name := range []string{"start", "answers", "listens", "logs", "remembers", "restarts", "load", "healthy/planner",
		"unprivileged/planner", "readonly/planner", "memory/planner", "growth/planner", "stops/planner"} {
		wants(t, s, name, release.Passed)
	}
	m := s.Services[0].Memory
	if m.Limit != 96<<20 || m.Peak < 5<<20 || m.Peak > 90<<20 || m.Samples < 15 {
		t.Errorf("memory %+v", m)
	}
}

func engineLeakIsSeenBeforeTheLimit(t *testing.T) {
	r := open(t)
	s := r.run(t, smoke.Options{Workload: r.workload(128<<20, "leak"), Memory: memory(20 * time.Second)})
	wants(t, s, "growth/planner", release.Failed, "it would reach its limit of 128.0 MiB in")
	wants(t, s, "healthy/planner", release.Passed)
	if slope := s.Services[0].Memory.SlopePerSecond; slope < 0.7*20*64<<10 || slope > 1.5*20*64<<10 {
		t.Errorf("slope %.0f bytes a second, it leaks %d", slope, 20*64<<10)
	}
	if s.Result != release.Failed {
		t.Errorf("result %s", s.Result)
	}
}

func engineKilledAtTheLimit(t *testing.T) {
	r := open(t)
	begin := time.Now()
	s := r.run(t, smoke.Options{Workload: r.workload(64<<20, "flood"), Memory: memory(2 * time.Minute)})
	wants(t, s, "healthy/planner", release.Failed, "killed for want of memory (limit 64.0 MiB)")
	wants(t, s, "memory/planner", release.Failed, "killed for want of memory", "peak 64.0 MiB of 64.0 MiB")
	if !s.Services[0].OOMKilled || s.Services[0].Healthy || s.Result != release.Failed {
		t.Errorf("%+v", s.Services[0])
	}
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("took %s: nothing more could be learned after the kill", took)
	}
}

func engineRestartLoop(t *testing.T) {
	r := open(t)
	w := r.workload(64 << 20)
	w.Services[0].Command, w.Services[0].Entrypoint = []string{"-c", "import sys; sys.exit('no configuration')"}, []string{"python3"}
	s := r.run(t, smoke.Options{Workload: w, Timeout: time.Minute})
	wants(t, s, "start", release.Failed, "planner was restarted", "no configuration")
	if s.Result != release.Failed {
		t.Errorf("result %s", s.Result)
	}
}

func engineMustBeKilled(t *testing.T) {
	r := open(t)
	s := r.run(t, smoke.Options{Workload: r.workload(64<<20, "deaf")})
	wants(t, s, "stops/planner", release.Failed, "had not ended 3s after SIGTERM")
}

func engineCancelled(t *testing.T) {
	r := open(t)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(4*time.Second, cancel)
	_, err := smoke.Run(ctx, smoke.Options{Engine: r, Runner: r, Workload: r.workload(64 << 20), Memory: memory(time.Minute)})
	if release.KindOf(err) != release.KindInterrupted {
		t.Errorf("got %v", err)
	}
	r.empty(t)
}
