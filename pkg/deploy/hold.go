package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Fetch brings the images of a job to its target and compares what the engine
// then has with what was verified. Nothing that runs changes.
func Fetch(ctx context.Context, e Engine, j Job) error {
	return pullAll(ctx, &guarded{Engine: e, guard: j.Guard}, j.Target, j.Workload, j.Images)
}

const (
	// mostUnseen is how long a target may give no answer while it is held.
	mostUnseen = 30 * time.Second
	lookEvery  = 2 * time.Second
)

// Hold watches that a target goes on running the job's workload for a time, and
// changes nothing. A service that turns unhealthy, ends, is restarted or is
// replaced in that time is an error at once, with what it said about itself. So
// is a target that cannot be looked at for half a minute, or at the end.
func Hold(ctx context.Context, e Engine, j Job, length time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := e.Events(ctx, j.Workload.Project)
	if err != nil {
		return err
	}
	h := &holder{engine: e, job: j}
	if err := h.look(ctx, true); err != nil {
		return err
	}
	end := time.NewTimer(length)
	defer end.Stop()
	tick := time.NewTicker(max(min(lookEvery, length/10), 10*time.Millisecond))
	defer tick.Stop()
	seen := time.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return h.look(ctx, true)
		case e, ok := <-events:
			if !ok { // the looks go on without them
				events = nil
			} else if err := h.heard(ctx, e); err != nil {
				return err
			}
		case <-tick.C:
			err := h.look(ctx, false)
			var changed *changedError
			switch {
			case err == nil:
				seen = time.Now()
			case errors.As(err, &changed), ctx.Err() != nil, time.Since(seen) > mostUnseen:
				return err
			}
		}
	}
}

// holder remembers what the first look found.
type holder struct {
	engine Engine
	job    Job
	first  map[string]release.Container // by service
}

// changedError is what is wrong with a target, other than that it gives no answer.
type changedError struct{ err error }

func (e *changedError) Error() string { return e.err.Error() }
func (e *changedError) Unwrap() error { return e.err }

// look compares what there is with what the first look found. Unless it is strict
// it leaves the health of what the engine has not asked yet to the engine, which
// asks more than once before it says unhealthy.
func (h *holder) look(ctx context.Context, strict bool) error {
	seen, err := h.engine.Observe(ctx, h.job.Workload.Project)
	if err != nil {
		return err
	}
	now := map[string]release.Container{}
	for _, s := range h.job.Workload.Services {
		c, there := standing(seen, s, h.job.Workload.Project)
		if !there {
			return &changedError{release.Unavailable("look at the target: docker ps -a", "service %s has no container any more", s.Name)}
		}
		if was, before := h.first[s.Name]; before && !s.OneShot {
			if why := broke(was, c); why != "" {
				return &changedError{h.explain(ctx, c, why)}
			}
		}
		for _, d := range condition(s, c) {
			if !strict && c.State == "running" && c.Health == "starting" {
				continue
			}
			return &changedError{h.explain(ctx, c, causeOf(d))}
		}
		now[s.Name] = c
	}
	if h.first == nil {
		h.first = now
	}
	return nil
}

// broke says how a container did not simply go on running.
func broke(was, c release.Container) string {
	switch {
	case c.ID != was.ID:
		return "somebody replaced it"
	case c.Restarts > was.Restarts || !c.Started.Equal(was.Started):
		return "it was restarted"
	}
	return ""
}

// heard judges an event: a service may be well again by the next look.
func (h *holder) heard(ctx context.Context, e release.ContainerEvent) error {
	c, held := h.first[e.Service]
	s, known := h.job.Workload.Service(e.Service)
	if !held || !known || s.OneShot || e.Container != c.ID {
		return nil
	}
	switch {
	case e.Action == "die":
		return &changedError{h.explain(ctx, c, fmt.Sprintf("it ended with exit code %d", e.ExitCode))}
	case e.Action == "oom":
		return &changedError{h.explain(ctx, c, "it ran out of memory")}
	case strings.HasPrefix(e.Action, "health_status") && strings.HasSuffix(e.Action, "unhealthy"):
		return &changedError{h.explain(ctx, c, "it turned unhealthy")}
	}
	return nil
}

// explain adds what the container says about itself now.
func (h *holder) explain(ctx context.Context, c release.Container, why string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	text := c.Name + ": " + why
	if now, err := h.engine.Inspect(ctx, c.ID); err == nil && now.HealthLog != "" {
		text += "; its last health check: " + now.HealthLog
	}
	if log, err := h.engine.Logs(ctx, c.ID, 20); err == nil && len(log) > 0 {
		text += "; the last lines of its log:\n" + clip(strings.TrimRight(string(log), "\n"), 4000)
	}
	return release.Unavailable("the service's log has the cause: docker logs "+c.Name, "%s", text)
}

// RunningSince is when the youngest of a workload's services was started, by
// the target's own clock; it is zero unless all of them run. What is meant to
// end does not count.
func RunningSince(w release.Workload, seen release.Observed) time.Time {
	var youngest time.Time
	for _, s := range w.Services {
		if s.OneShot {
			continue
		}
		c, there := standing(seen, s, w.Project)
		if !there || len(condition(s, c)) > 0 || c.Started.IsZero() {
			return time.Time{}
		}
		if c.Started.After(youngest) {
			youngest = c.Started
		}
	}
	return youngest
}
