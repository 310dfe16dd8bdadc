//go:build engine

package smoke

import (
	"context"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/release"
)

// unasked is a world whose engine makes no health check for as long as the run
// takes.
type unasked struct{ *world }

func (u unasked) starting(c release.Container) release.Container {
	if c.Health == "healthy" {
		c.Health = "starting"
	}
	return c
}

func (u unasked) Inspect(ctx context.Context, id string) (release.Container, error) {
	c, err := u.world.Inspect(ctx, id)
	return u.starting(c), err
}

func (u unasked) Observe(ctx context.Context, project string) (release.Observed, error) {
	seen, err := u.world.Observe(ctx, project)
	for i, c := range seen.Containers {
		seen.Containers[i] = u.starting(c)
	}
	return seen, err
}

func (u unasked) run(l release.Workload) deploy.Run {
	return deploy.Run{Target: "test", Workload: l, Settle: time.Millisecond, Timeout: time.Minute,
		Probe: func(ctx context.Context, c release.Container) bool { return Probe(ctx, u, c) }}
}

func (u unasked) Up(ctx context.Context, l release.Workload) error {
	return deploy.Up(ctx, u, u.run(l))
}

func (u unasked) Recreate(ctx context.Context, l release.Workload, service string) error {
	return deploy.Recreate(ctx, u, u.run(l), service)
}

func TestLongIntervalsOfHealthChecksCostNoTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.options()
	o.Engine, o.Runner = unasked{w}, unasked{w}
	o.Checks = []Check{{Name: "listens", Service: "planner", TCP: 8080, Survives: Restart}}
	s, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"start", "listens", "state/planner/memory", "stops/planner"} {
		want(t, s, name, release.Passed)
	}
	want(t, s, "healthy/planner", release.Passed, "its health check passes, no restart; the engine had not asked yet")

	if Probe(t.Context(), w, release.Container{State: "running"}) || Probe(t.Context(), w, release.Container{State: "exited", HealthTest: []string{"/probe", "ok"}}) {
		t.Error("a container without a health check, or that does not run, is well")
	}
}

func TestAServiceThatDoesNotAnswerItselfIsNotHealthy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.options()
	u := unasked{w}
	o.Engine, o.Runner, o.State = u, w, Off // the runner's engine asks, the run's does not
	o.Engine = silent{u}
	s, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want(t, s, "healthy/planner", release.Failed, "it is running, starting")
}

// silent has health checks that fail when we make them.
type silent struct{ unasked }

func (silent) Exec(context.Context, string, []string) (int, []byte, error) { return 1, nil, nil }
