package deploy

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// patient is an engine whose containers are starting, and whose health checks
// nobody has made yet.
type patient struct {
	Engine
	state  atomic.Value // string
	health atomic.Value // string
	events chan release.ContainerEvent
}

func newPatient(state, health string) *patient {
	p := &patient{events: make(chan release.ContainerEvent)}
	p.state.Store(state)
	p.health.Store(health)
	return p
}

func (p *patient) Inspect(context.Context, string) (release.Container, error) {
	return release.Container{ID: "1", Service: "planner", State: p.state.Load().(string), Health: p.health.Load().(string), Started: time.Unix(1, 0)}, nil
}

func (p *patient) Events(context.Context, string) (<-chan release.ContainerEvent, error) {
	return p.events, nil
}

func (p *patient) Logs(context.Context, string, int) ([]byte, error) { return nil, nil }

func waiting(t *testing.T, p *patient, oneShot bool, limit time.Duration, probe func(context.Context, release.Container) bool) error {
	t.Helper()
	w := release.Workload{Services: []release.ServiceSpec{{Name: "planner", OneShot: oneShot}}}
	v, err := newWatch(t.Context(), p, w, limit, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	v.probe = probe
	return v.ready(t.Context(), "1")
}

func TestAProbeNeedNotWaitForTheEnginesFirstQuestion(t *testing.T) {
	var asked, atOnce, most atomic.Int64
	probe := func(_ context.Context, c release.Container) bool {
		most.Store(max(most.Load(), atOnce.Add(1)))
		defer atOnce.Add(-1)
		time.Sleep(20 * time.Millisecond)
		return asked.Add(1) > 3 && c.ID == "1"
	}
	if err := waiting(t, newPatient("running", "starting"), false, time.Minute, probe); err != nil {
		t.Fatal(err)
	}
	if asked.Load() != 4 || most.Load() != 1 {
		t.Errorf("asked %d times, %d at once", asked.Load(), most.Load())
	}
}

func TestAProbeIsNotAskedWhereItSaysNothing(t *testing.T) {
	yes := func(context.Context, release.Container) bool { return true }
	for name, c := range map[string]struct {
		state, health string
		oneShot       bool
	}{
		"no health check":   {"running", "none", false},
		"is unhealthy":      {"running", "unhealthy", false},
		"restarts":          {"restarting", "starting", false},
		"has ended":         {"exited", "starting", false},
		"is to end":         {"running", "starting", true},
		"created and stays": {"created", "starting", false},
	} {
		if err := waiting(t, newPatient(c.state, c.health), c.oneShot, 50*time.Millisecond, yes); err == nil {
			t.Errorf("%s: a probe makes it well", name)
		}
	}
	no := func(context.Context, release.Container) bool { return false }
	p := newPatient("running", "starting")
	time.AfterFunc(100*time.Millisecond, func() { p.health.Store("healthy") })
	if err := waiting(t, p, false, time.Minute, no); err != nil {
		t.Errorf("a probe that fails decides: %v", err)
	}
	if err := waiting(t, newPatient("running", "starting"), false, 50*time.Millisecond, nil); err == nil {
		t.Error("well without a probe")
	}
}
