package deploy_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/release"
)

// asking answers probes by service and keeps when it was asked.
type asking struct {
	mu     sync.Mutex
	at     map[string][]time.Time
	answer func(service string, times int) bool
}

func (a *asking) probe(_ context.Context, c release.Container) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at == nil {
		a.at = map[string][]time.Time{}
	}
	a.at[c.Service] = append(a.at[c.Service], time.Now())
	return a.answer == nil || a.answer(c.Service, len(a.at[c.Service]))
}

// starting is a world whose engine asks no health check before the test is over.
func starting(t *testing.T) *world {
	w := newWorld(t)
	w.fake.Health = func(c release.Container) string {
		if c.Service == "planner" || c.Service == "bus" {
			return "starting"
		}
		return "healthy"
	}
	return w
}

// A deployment does not wait for an interval of half a minute: a health check
// that goes on passing is enough.
func TestAHealthCheckThatGoesOnPassingIsEnough(t *testing.T) {
	w := starting(t)
	a := &asking{}
	j := w.job(w.stack("1"), 1)
	j.Timeout, j.Probe = 30*time.Second, a.probe
	if err := deploy.Finish(t.Context(), w.fake, j); err != nil {
		t.Fatal(err)
	}
	for _, service := range []string{"bus", "planner"} {
		at := a.at[service]
		if len(at) < 2 || at[len(at)-1].Sub(at[0]) < 250*time.Millisecond {
			t.Errorf("%s was asked at %v", service, at)
		}
	}
	// One that stands already need only pass.
	clear(a.at)
	j = w.job(w.stack("1"), 2)
	j.Probe = a.probe
	if err := deploy.Finish(t.Context(), w.fake, j); err != nil {
		t.Fatal(err)
	}
}

func TestOneAnswerIsNotEnough(t *testing.T) {
	for name, spoil := range map[string]func(w *world, id string){
		"it ends":           func(w *world, id string) { w.fake.Die(id, 1) },
		"it goes unhealthy": func(w *world, id string) { w.fake.SetHealth(id, "unhealthy") },
		"it stops passing":  func(*world, string) {},
	} {
		t.Run(name, func(t *testing.T) {
			w := starting(t)
			var once atomic.Bool
			a := &asking{answer: func(service string, times int) bool {
				if service != "planner" {
					return true
				}
				if once.CompareAndSwap(false, true) {
					time.AfterFunc(20*time.Millisecond, func() { spoil(w, "agent-planner-1") })
				}
				return times == 1
			}}
			j := w.job(w.stack("1"), 1)
			j.Timeout, j.Probe = 2*time.Second, a.probe
			err := deploy.Finish(t.Context(), w.fake, j)
			if release.KindOf(err) != release.KindRolledBack || !strings.Contains(err.Error(), "planner") {
				t.Errorf("%v (%s)", err, release.KindOf(err))
			}
		})
	}
}

// Ctrl-C while health is asked again is a cancellation like any other, whatever
// the signal's own error is; what was deployed stays for resume.
func TestASignalWhileHealthIsAskedAgainIsACancellation(t *testing.T) {
	w := starting(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	j := w.job(w.stack("1"), 1)
	j.Timeout = 30 * time.Second
	j.Probe = (&asking{answer: func(service string, times int) bool {
		if service == "planner" && times == 1 {
			time.AfterFunc(50*time.Millisecond, func() { cancel(errors.New("interrupt signal received")) })
		}
		return times == 1
	}}).probe
	if err := deploy.Finish(ctx, w.fake, j); !errors.Is(err, context.Canceled) {
		t.Errorf("%v (%s)", err, release.KindOf(err))
	}
	if c := w.container("planner"); c.State != "running" {
		t.Errorf("it is %s", c.State)
	}
}

// A restart between the answers begins the time anew.
func TestARestartBeginsAnew(t *testing.T) {
	w := starting(t)
	var restarted atomic.Pointer[time.Time]
	a := &asking{}
	a.answer = func(service string, times int) bool {
		if service == "planner" && times == 1 {
			time.AfterFunc(150*time.Millisecond, func() {
				now := time.Now()
				restarted.Store(&now)
				if err := w.fake.Restart(context.Background(), "agent-planner-1", 0); err != nil {
					t.Error(err)
				}
			})
		}
		return true
	}
	j := w.job(w.stack("1"), 1)
	j.Timeout, j.Probe = 30*time.Second, a.probe
	if err := deploy.Finish(t.Context(), w.fake, j); err != nil {
		t.Fatal(err)
	}
	at := a.at["planner"]
	if last := at[len(at)-1]; restarted.Load() == nil || last.Sub(*restarted.Load()) < 250*time.Millisecond {
		t.Errorf("restarted at %v, asked at %v", restarted.Load(), at)
	}
}

// What the engine has not asked yet is as healthy as it says itself.
func TestAskTakesTheWordOfWhatTheEngineHasNotAsked(t *testing.T) {
	seen := release.Observed{Containers: []release.Container{
		{ID: "a", State: "running", Health: "starting"},
		{ID: "b", State: "running", Health: "starting"},
		{ID: "c", State: "running", Health: "unhealthy"},
		{ID: "d", State: "restarting", Health: "starting"},
		{ID: "e", State: "running", Health: "none"},
	}}
	var mu sync.Mutex
	var asked []string
	now := deploy.Ask(t.Context(), seen, func(_ context.Context, c release.Container) bool {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, c.ID)
		return c.ID != "b"
	})
	var is []string
	for _, c := range now.Containers {
		is = append(is, c.Health)
	}
	if got := strings.Join(is, " "); got != "healthy starting unhealthy starting none" || len(asked) != 2 || seen.Containers[0].Health != "starting" {
		t.Errorf("%s, asked %v, before %s", got, asked, seen.Containers[0].Health)
	}
}
