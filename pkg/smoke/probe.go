package smoke

import (
	"context"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Probe makes a container's own health check at once, whatever its interval is.
// A container without one, or whose check does not pass, gives false.
func Probe(ctx context.Context, h Hand, c release.Container) bool {
	if c.State != "running" || len(c.HealthTest) == 0 {
		return false
	}
	exit, _, err := h.Exec(ctx, c.ID, c.HealthTest)
	return err == nil && exit == 0
}

// vouchTime bounds asking a service that the engine has not asked yet.
const vouchTime = 5 * time.Second

// vouch asks those services themselves whose first health check the engine has
// not made yet: an interval may be longer than the run.
func (r *run) vouch(ctx context.Context) {
	for _, s := range r.workload.Services {
		if l := r.monitor.get(s.Name); !s.OneShot && l.last.Health == "starting" {
			ctx, cancel := context.WithTimeout(ctx, vouchTime)
			if Probe(ctx, r.Engine, l.last) {
				r.vouched[s.Name] = true
			}
			cancel()
		}
	}
}
