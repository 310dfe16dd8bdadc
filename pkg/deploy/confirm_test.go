package deploy_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/engine/enginetest"
	"github.com/promote-dev/promote/pkg/release"
)

// unhurried is an engine that asks no health check before so many containers
// were started, and then finds all well.
type unhurried struct {
	*enginetest.Fake
	after   int64
	started atomic.Int64
}

func (u *unhurried) Start(ctx context.Context, id string) error {
	u.started.Add(1)
	return u.Fake.Start(ctx, id)
}

func (u *unhurried) told(c release.Container) release.Container {
	if u.started.Load() < u.after && c.Health == "healthy" {
		c.Health = "starting"
	}
	return c
}

func (u *unhurried) Inspect(ctx context.Context, id string) (release.Container, error) {
	c, err := u.Fake.Inspect(ctx, id)
	return u.told(c), err
}

func (u *unhurried) Observe(ctx context.Context, project string) (release.Observed, error) {
	seen, err := u.Fake.Observe(ctx, project)
	for i, c := range seen.Containers {
		seen.Containers[i] = u.told(c)
	}
	return seen, err
}

// A chain of services waits for the engine once, not once for each.
func TestDependantsStartWhenTheHealthCheckPasses(t *testing.T) {
	w := newWorld(t)
	work := w.stack("1")
	asked := map[string]bool{}
	j := w.job(work, 1)
	j.Timeout = 30 * time.Second
	j.Probe = func(_ context.Context, c release.Container) bool { asked[c.Service] = true; return true }
	w.fake.HealthDelay = 100 * time.Millisecond
	u := &unhurried{Fake: w.fake, after: int64(len(work.Services))}
	if err := deploy.Finish(t.Context(), u, j); err != nil {
		t.Fatal(err)
	}
	if !asked["bus"] || !asked["planner"] {
		t.Errorf("asked only %v", asked)
	}
	for _, c := range w.seen().Containers {
		if c.State == "running" && c.Health != "healthy" {
			t.Errorf("done, and %s is %s", c.Name, c.Health)
		}
	}
}

// What the health check said to us is not the last word.
func TestTheEngineHasToFindThemHealthy(t *testing.T) {
	w := newWorld(t)
	first := w.stack("1")
	w.mustDeploy(w.job(first, 1))
	recorded := w.recorded(first)
	before := snapshot(w.seen())
	old := map[string]bool{}
	for _, c := range w.seen().Containers {
		old[c.ID] = true
	}
	w.fake.HealthDelay = 50 * time.Millisecond
	w.fake.Health = func(c release.Container) string {
		if c.Service == "planner" && !old[c.ID] {
			return "unhealthy"
		}
		return "healthy"
	}
	work := w.stack("2")
	j := w.job(work, 2)
	j.Recorded = recorded
	j.Timeout = 30 * time.Second
	j.Probe = func(context.Context, release.Container) bool { return true }
	err := deploy.Finish(t.Context(), w.fake, j)
	if release.KindOf(err) != release.KindRolledBack || !strings.Contains(err.Error(), "unhealthy") {
		t.Errorf("%v (%s)", err, release.KindOf(err))
	}
	w.fake.Health = nil
	if now := snapshot(w.seen()); strings.Join(before, "\n") != strings.Join(now, "\n") {
		t.Errorf("was %q, is %q", before, now)
	}
}
