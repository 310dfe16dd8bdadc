package smoke

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// live is an engine with one service of which every call is noted.
type live struct {
	Engine
	mu    sync.Mutex
	calls []string
	port  string
	log   string
	exit  int
	down  error
}

func (l *live) note(call string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, call)
	return l.down
}

func (l *live) container() release.Container {
	return release.Container{ID: "c1", Service: "planner", State: "running", Ports: []release.Port{{HostIP: "0.0.0.0", Published: l.port, Target: 8080, Protocol: "tcp"}}}
}

func (l *live) Observe(context.Context, string) (release.Observed, error) {
	return release.Observed{Containers: []release.Container{l.container()}}, l.note("observe")
}

func (l *live) Inspect(context.Context, string) (release.Container, error) {
	return l.container(), l.note("inspect")
}

func (l *live) Exec(_ context.Context, id string, cmd []string) (int, []byte, error) {
	return l.exit, []byte("said"), l.note("exec " + id + " " + strings.Join(cmd, " "))
}

func (l *live) Logs(context.Context, string, int) ([]byte, error) {
	return []byte(l.log), l.note("logs")
}

func (l *live) Restart(context.Context, string, time.Duration) error { return l.note("restart") }

// serve answers /health, and notes what it is asked.
func serve(t *testing.T) (*live, *[]string) {
	t.Helper()
	var mu sync.Mutex
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Method+" "+r.URL.Path)
		if r.URL.Path != "/health" {
			http.Error(w, "no", http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return &live{port: port, log: "ready\n"}, &asked
}

func (l *live) watch(t *testing.T, change func(*WatchOptions), checks ...Check) map[string]release.WatchedCheck {
	t.Helper()
	for i := range checks {
		checks[i].Timeout = cmp.Or(checks[i].Timeout, 60*time.Millisecond)
	}
	o := WatchOptions{Project: "agent", Engine: l, Containers: map[string]release.Container{"planner": l.container()}, Checks: checks}
	if change != nil {
		change(&o)
	}
	out := map[string]release.WatchedCheck{}
	for _, c := range Watch(t.Context(), o) {
		out[c.Name] = c
	}
	return out
}

func TestWatchAsksWithoutChangingAnything(t *testing.T) {
	l, asked := serve(t)
	yes, no := true, false
	got := l.watch(t, nil,
		Check{Name: "http", Service: "planner", HTTP: &HTTP{Path: "/health"}},
		Check{Name: "tcp", Service: "planner", TCP: 8080},
		Check{Name: "exec", Service: "planner", Exec: []string{"recall"}, Contains: "said"},
		Check{Name: "moved", Service: "planner", Exec: []string{"recall", "again"}, Survives: Recreate},
		Check{Name: "restarted", Service: "planner", HTTP: &HTTP{Path: "/health"}, Survives: Restart},
		Check{Name: "log", Service: "planner", Log: "^ready$"},
		Check{Name: "calm", Service: "planner", LogNot: "panic"},
		Check{Name: "old", Service: "planner", Log: "started once"},
		Check{Name: "post", Service: "planner", HTTP: &HTTP{Path: "/task", Method: "POST"}},
		Check{Name: "delete", Service: "planner", HTTP: &HTTP{Path: "/task", Method: "DELETE"}},
		Check{Name: "body", Service: "planner", HTTP: &HTTP{Path: "/task", Body: "x"}},
		Check{Name: "script", Script: []string{"story"}},
		Check{Name: "writes", Service: "planner", Exec: []string{"recall", "{{token}}"}, Write: &Ask{Exec: []string{"learn"}}, Survives: Recreate, Watch: &yes},
		Check{Name: "token", Service: "planner", HTTP: &HTTP{Path: "/recall/{{token}}"}, Watch: &yes},
		Check{Name: "off", Service: "planner", Exec: []string{"off"}, Watch: &no},
		Check{Name: "gone", Service: "memory", TCP: 1},
		Check{Name: "portless", Service: "planner", HTTP: &HTTP{Path: "/health"}, Watch: &yes},
	)
	for _, name := range []string{"http", "tcp", "exec", "moved", "restarted", "log", "calm", "portless"} {
		if got[name].Result != "passed" || got[name].Seconds <= 0 {
			t.Errorf("%s: %+v", name, got[name])
		}
	}
	for name, why := range map[string]string{"old": "watch: true", "post": "watch: true", "delete": "watch: true", "body": "watch: true", "script": "watch: true",
		"writes": "smoke run wrote", "token": "smoke run wrote", "off": "watch: false", "gone": "nothing runs"} {
		if got[name].Result != "skipped" || !strings.Contains(got[name].Detail, why) {
			t.Errorf("%s: %+v", name, got[name])
		}
	}
	for _, request := range *asked {
		if request != "GET /health" {
			t.Errorf("asked %s", request)
		}
	}
	for _, call := range l.calls {
		if !slices.Contains([]string{"observe", "inspect", "logs", "exec c1 recall", "exec c1 recall again"}, call) {
			t.Errorf("it did %s", call)
		}
	}
}

func TestWatchFailsWhatFails(t *testing.T) {
	l, asked := serve(t)
	l.exit, l.log = 3, "panic: no\n"
	yes := true
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "story"), []byte("#!/bin/sh\necho $PROMOTE_SMOKE_PROJECT $PROMOTE_PORT_PLANNER_8080 $SECRET\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	got := l.watch(t, func(o *WatchOptions) { o.Dir, o.Environ = dir, []string{"PATH=" + os.Getenv("PATH")} },
		Check{Name: "http", Service: "planner", HTTP: &HTTP{Path: "/other"}},
		Check{Name: "exec", Service: "planner", Exec: []string{"recall"}},
		Check{Name: "calm", Service: "planner", LogNot: "panic"},
		Check{Name: "log", Service: "planner", Log: "^ready$", Watch: &yes},
		Check{Name: "post", Service: "planner", HTTP: &HTTP{Path: "/task", Method: "POST"}, Watch: &yes},
		Check{Name: "tcp", Service: "planner", TCP: 9},
		Check{Name: "script", Script: []string{"story"}, Contains: "agent 127.0.0.1:" + l.port, Watch: &yes, Timeout: 30 * time.Second},
	)
	for name, why := range map[string]string{"http": "503", "exec": "exit code 3", "calm": "logged panic: no", "log": "no line", "post": "503", "tcp": "not reachable"} {
		if got[name].Result != "failed" || !strings.Contains(got[name].Detail, why) {
			t.Errorf("%s: %+v", name, got[name])
		}
	}
	if got["script"].Result != "passed" {
		t.Errorf("script: %+v", got["script"])
	}
	if !slices.Contains(*asked, "POST /task") {
		t.Errorf("asked %q", *asked)
	}
	l.down = errors.New("no route to host")
	got = l.watch(t, nil, Check{Name: "exec", Service: "planner", Exec: []string{"recall"}})
	if c := got["exec"]; c.Result != "unknown" || !strings.Contains(c.Detail, "no route") {
		t.Errorf("%+v", c)
	}
}

// Where ports are reached by another way, that one is taken; what only seems to
// take connections does not count.
func TestWatchThroughATunnel(t *testing.T) {
	l, _ := serve(t)
	checks := []Check{{Name: "http", Service: "planner", HTTP: &HTTP{Path: "/health"}}, {Name: "tcp", Service: "planner", TCP: 8080}}
	var dialed []string
	through := func(closes bool) func(*WatchOptions) {
		return func(o *WatchOptions) {
			o.Connect = func(_ context.Context, _, address string) (net.Conn, error) {
				dialed = append(dialed, address)
				if !closes {
					return new(net.Dialer).DialContext(t.Context(), "tcp", "127.0.0.1:"+l.port)
				}
				here, there := net.Pipe()
				there.Close()
				return here, nil
			}
		}
	}
	got := l.watch(t, through(true), slices.Clone(checks)...)
	if got["tcp"].Result != "failed" || got["http"].Result != "failed" || dialed[0] != "127.0.0.1:"+l.port {
		t.Errorf("%+v, %q", got, dialed)
	}
	forwardedTime = 20 * time.Millisecond
	defer func() { forwardedTime = time.Second }()
	if got = l.watch(t, through(false), slices.Clone(checks)...); got["tcp"].Result != "passed" || got["http"].Result != "passed" {
		t.Errorf("%+v", got)
	}
	got = l.watch(t, func(o *WatchOptions) { o.NoPorts = true }, append(slices.Clone(checks), Check{Name: "exec", Service: "planner", Exec: []string{"recall"}})...)
	if got["tcp"].Result != "skipped" || got["http"].Result != "skipped" || got["exec"].Result != "passed" {
		t.Errorf("%+v", got)
	}
}
