//go:build engine

package smoke

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

func follow(t *testing.T) (*world, *monitor) {
	t.Helper()
	w := newWorld(t)
	m := newMonitor(w, w.workload, time.Hour)
	m.services["bus"].id = "b"
	return w, m
}

func TestEventsAloneTell(t *testing.T) {
	_, m := follow(t)
	say := func(action string, code int) {
		m.event(context.Background(), release.ContainerEvent{Time: time.Now(), Container: "b", Service: "bus", Action: action, ExitCode: code})
	}
	say("start", 0)
	say("exec_create: x", 0)
	if l := m.get("bus"); l.oom || len(l.exits) > 0 || m.alarmed() {
		t.Errorf("harmless events: %+v", l)
	}
	say("oom", 0) // the engine's flag is gone as soon as the container was restarted
	if l := m.get("bus"); !l.oom || !m.alarmed() {
		t.Errorf("oom: %+v", l)
	}
	say("die", 0)
	if l := m.get("bus"); len(l.exits) != 1 {
		t.Errorf("an end with exit code 0 is one that nobody asked for: %+v", l)
	}
	say("health_status: unhealthy", 0)
	if l := m.get("bus"); l.unhealthy == "" {
		t.Errorf("unhealthy: %+v", l)
	}
	if l := m.get("planner"); l.ailing() {
		t.Errorf("another service: %+v", l)
	}
}

func TestWhatWeDoIsNobodysFault(t *testing.T) {
	_, m := follow(t)
	event := func(at time.Time, service, action string) {
		m.event(context.Background(), release.ContainerEvent{Time: at, Container: "b", Service: service, Action: action, ExitCode: 1})
	}
	failed := errors.New("stop here") // Observe would not find the container
	err := m.move(context.Background(), "bus", func(id string) error {
		event(time.Now(), "bus", "die")
		event(time.Now(), "planner", "health_status: unhealthy")
		m.seen("planner", release.Container{Health: "unhealthy"})
		return failed
	}, nil)
	if !errors.Is(err, failed) {
		t.Fatal(err)
	}
	if l := m.get("bus"); l.ailing() {
		t.Errorf("moved on purpose: %+v", l)
	}
	if l := m.get("planner"); l.unhealthy != "" {
		t.Errorf("suffered from what was done to another: %+v", l)
	}
	event(time.Now().Add(-time.Minute), "bus", "die") // told late
	if l := m.get("bus"); l.ailing() {
		t.Errorf("an old event: %+v", l)
	}
	event(time.Now().Add(time.Minute), "bus", "die")
	if l := m.get("bus"); len(l.exits) != 1 {
		t.Errorf("a new event: %+v", l)
	}
}

func TestSilentEngineEndsTheRun(t *testing.T) {
	w, m := follow(t)
	w.Before = func(op, _ string) error { return iff(op == "inspect", release.Unavailable("", "gone")) }
	if _, err := m.look(context.Background(), "bus", true); release.KindOf(err) != release.KindUnavailable {
		t.Errorf("got %v", err)
	}
	m.services["bus"].moved = true
	if _, err := m.look(context.Background(), "bus", true); err != nil {
		t.Errorf("a container that is being replaced cannot be looked at: %v", err)
	}
}

func TestOneLife(t *testing.T) {
	var samples []sample
	begin := time.Unix(100, 0)
	for i := range 20 {
		samples = append(samples, sample{at: begin.Add(time.Duration(i) * time.Second), bytes: int64(i)})
	}
	started := []time.Time{begin.Add(-time.Hour), begin.Add(4 * time.Second), begin.Add(15 * time.Second)}
	if got := oneLife(samples, started); len(got) != 11 || got[0].bytes != 4 || got[10].bytes != 14 {
		t.Errorf("got %v", got)
	}
	if got := oneLife(samples, nil); len(got) != 20 {
		t.Errorf("without restarts: %d", len(got))
	}
	if got := since(samples, begin.Add(18*time.Second)); len(got) != 2 {
		t.Errorf("since: %d", len(got))
	}
}

// What was started anew says with which exit code it ended before, and what it
// said then.
func TestEndedBeforeItWasStartedAnew(t *testing.T) {
	w := newWorld(t)
	m := newMonitor(w, w.workload, time.Hour)
	r := &run{Options: w.options(), workload: w.workload, monitor: m}
	anew := release.Container{Service: "planner", State: "running", Restarts: 6}
	m.services["planner"].exits = []string{"exit code 9" + endOfLog + "first", "exit code 7" + endOfLog + "no configuration"}
	if got := r.ended(t.Context(), anew, ailment(anew, false)); got != "was restarted 6 times, last exit code 7; its log ends: no configuration" {
		t.Errorf("%q", got)
	}
	gone := release.Container{ID: "nobody", Service: "planner", State: "exited", ExitCode: 3}
	if got := r.ended(t.Context(), gone, ailment(gone, false)); !strings.HasPrefix(got, "ended with exit code 3; its log could not be read: ") {
		t.Errorf("%q", got)
	}
}
