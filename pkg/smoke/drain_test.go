//go:build engine

package smoke

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// draining is a world whose planner takes tasks; when it is told to stop, the
// test decides what becomes of them.
type draining struct {
	*world
	stopping atomic.Bool
	tasks    atomic.Int64 // complete ones
}

func newDraining(t *testing.T, answer func(d *draining, rw http.ResponseWriter)) *draining {
	d := &draining{world: newWorld(t)}
	d.stop = func(service string) int {
		if service == "planner" {
			d.stopping.Store(true)
			d.Signal(service)
			time.Sleep(300 * time.Millisecond) // it drains
		}
		return 0
	}
	d.handler = func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err == nil && len(body) > 0 {
			d.tasks.Add(1)
		}
		answer(d, rw)
	}
	return d
}

func hangUp(rw http.ResponseWriter) {
	if conn, _, err := rw.(http.Hijacker).Hijack(); err == nil {
		conn.Close()
	}
}

func TestWhatIsUnderWayAtTheSignal(t *testing.T) {
	t.Parallel()
	task := &HTTP{Path: "/task", Method: "POST"}
	answers := func(_ *draining, rw http.ResponseWriter) { _, _ = io.WriteString(rw, "done") }
	for name, c := range map[string]struct {
		answer  func(d *draining, rw http.ResponseWriter)
		options func(*Options)
		result  release.Result
		words   []string
	}{
		"finishes": {answers, nil, release.Passed, []string{"4 requests under way at SIGTERM were answered"}},
		"is refused as not now": {func(_ *draining, rw http.ResponseWriter) { rw.WriteHeader(http.StatusConflict) }, nil,
			release.Passed, []string{"were answered"}},
		"as many as asked": {answers, func(o *Options) { o.Stop.Requests = 7 }, release.Passed, []string{"7 requests"}},
		"is cut off": {func(d *draining, rw http.ResponseWriter) {
			if d.tasks.Load() > 2 {
				hangUp(rw)
			}
		}, nil, release.Failed, []string{"2 of 4 requests under way at SIGTERM were lost: the connection was closed without an answer"}},
		"ends in an error": {func(_ *draining, rw http.ResponseWriter) { rw.WriteHeader(http.StatusServiceUnavailable) }, nil,
			release.Failed, []string{"4 of 4 requests", "answered 503"}},
		"is taken up again": {func(_ *draining, rw http.ResponseWriter) { hangUp(rw) },
			func(o *Options) { o.Stop.Resumed = "answers" }, release.Passed, []string{"4 of 4 requests under way at SIGTERM were lost", "taken up again, answers passes after a start"}},
		"is not taken up again": {func(_ *draining, rw http.ResponseWriter) { hangUp(rw) },
			func(o *Options) { o.Stop.Resumed = "resumes" }, release.Failed, []string{"were lost", "after a start resumes says", "want 201"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDraining(t, c.answer)
			s := d.mustRun(t, func(o *Options) {
				o.Stop = StopTest{Service: "planner", Ask: Ask{HTTP: task}}
				o.Checks = []Check{{Name: "answers", Service: "planner", HTTP: &HTTP{Path: "/"}}}
				if c.options != nil {
					c.options(o)
				}
				if o.Stop.Resumed == "resumes" {
					o.Checks = append(o.Checks, Check{Name: "resumes", Service: "planner", HTTP: &HTTP{Path: "/", Status: 201}, Timeout: 50 * time.Millisecond})
				}
			})
			want(t, s, "drains/planner", c.result, c.words...)
			want(t, s, "stops/planner", release.Passed)
			if has(s, "drains/bus") || d.tasks.Load() == 0 {
				t.Errorf("%d tasks arrived%s", d.tasks.Load(), lines(s))
			}
		})
	}
}

// A busy engine takes its time until the signal goes out; what is answered
// before was not under way at it.
func TestTheSignalOfABusyEngineIsWaitedFor(t *testing.T) {
	t.Parallel()
	var early atomic.Int64
	d := newDraining(t, func(d *draining, _ http.ResponseWriter) {
		if !d.stopping.Load() {
			early.Add(1)
		}
	})
	drains := d.stop
	d.stop = func(service string) int {
		if service == "planner" {
			time.Sleep(600 * time.Millisecond)
		}
		return drains(service)
	}
	s := d.mustRun(t, func(o *Options) {
		o.State = Off // nothing else stops it
		o.Stop = StopTest{Service: "planner", Ask: Ask{HTTP: &HTTP{Path: "/task", Method: "POST"}}}
	})
	want(t, s, "drains/planner", release.Passed)
	if n := early.Load(); n > 0 {
		t.Errorf("%d requests were completed before the signal", n)
	}
}

func TestNothingUnderWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handler = func(http.ResponseWriter, *http.Request) {} // never reads what it is sent
	load := MemoryTest{Load: Load{Service: "planner", HTTP: &HTTP{Path: "/task", Method: "POST"}}}
	s := w.mustRun(t, func(o *Options) { o.Stop = StopTest{Service: "planner", Ask: Ask{HTTP: &HTTP{Method: "PUT"}}} })
	want(t, s, "drains/planner", release.Warned, "nothing was under way at SIGTERM: planner answers before a request is complete")
	if s = w.mustRun(t, func(o *Options) { o.Memory = load }); has(s, "drains/planner") {
		t.Errorf("a claim that nobody asked for: %s", lines(s))
	}
	d := newDraining(t, func(*draining, http.ResponseWriter) {})
	s = d.mustRun(t, func(o *Options) { o.Memory = load })
	want(t, s, "drains/planner", release.Passed, "4 requests")
	if s = d.mustRun(t, func(o *Options) { o.Memory = load; o.Memory.Load.HTTP = &HTTP{Path: "/"} }); has(s, "drains/planner") {
		t.Errorf("a request that changes nothing is sent while the service stops: %s", lines(s))
	}
}
