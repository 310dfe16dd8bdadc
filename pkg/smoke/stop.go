package smoke

import (
	"context"
	"slices"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// defaultGrace is what the engine gives a container without stop_grace_period.
const defaultGrace = 10 * time.Second

// stop stops every service as a deployment does, those that others depend on
// last, and looks at how each ended.
func (r *run) stop(ctx context.Context) (err error) {
	step := event.Start(ctx, "[smoke] stop in good order")
	defer func() { step.Done(err) }()
	test := r.stopTest()
	for _, s := range slices.Backward(r.workload.Services) {
		l := r.monitor.get(s.Name)
		if s.OneShot || l.last.State != "running" {
			continue
		}
		var took time.Duration
		stop := func() error {
			begin := time.Now()
			defer func() { took = time.Since(begin) }()
			return r.monitor.moveAs(ctx, release.MarkStop, s.Name, func(id string) error { return r.Engine.Stop(ctx, id, s.StopGrace) }, nil)
		}
		if test.HTTP != nil && test.Service == s.Name && !l.ailing() {
			err = r.drain(ctx, s, test, stop)
		} else {
			err = stop()
		}
		if err != nil {
			return err
		}
		if l.ailing() {
			continue // how it ends says nothing about how it would in health
		}
		r.judgeStop(s, r.monitor.get(s.Name).last, took)
	}
	return nil
}

// judgeStop: exit code 0 in time. Being killed loses what was under way, in
// every deployment.
func (r *run) judgeStop(s release.ServiceSpec, c release.Container, took time.Duration) {
	name := "stops/" + s.Name
	grace := s.StopGrace
	if grace <= 0 {
		grace = defaultGrace
	}
	signal := s.StopSignal
	if signal == "" {
		signal = "SIGTERM"
	}
	switch {
	case c.ExitCode == 0:
		r.add(name, release.Passed, "ended %s after %s with exit code 0", round(took), signal)
	case took >= grace && c.ExitCode == 137:
		r.add(name, release.Failed, "had not ended %s after %s and was killed", grace, signal)
	default:
		r.add(name, release.Warned, "ended %s after %s with exit code %d, as one that does not handle the signal", round(took), signal, c.ExitCode)
	}
}
