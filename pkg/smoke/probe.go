package smoke

import (
	"context"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// probeTime bounds one question.
const probeTime = 3 * time.Second

// answers asks a container by its own health check. It is for those that the
// engine has not asked yet: its first question comes after a whole interval.
func (r *run) answers(ctx context.Context, c release.Container) bool {
	if c.State != "running" || c.Health != "starting" || len(c.HealthTest) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	exit, _, err := r.Engine.Exec(ctx, c.ID, c.HealthTest)
	return err == nil && exit == 0
}

// probeStarting asks, at the end, whoever the engine has not asked by then.
func (r *run) probeStarting(ctx context.Context) {
	for _, s := range r.workload.Services {
		if r.answers(ctx, r.monitor.get(s.Name).last) {
			r.monitor.mu.Lock()
			r.monitor.services[s.Name].answered = true
			r.monitor.mu.Unlock()
		}
	}
}
