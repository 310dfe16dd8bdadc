package deploy_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/release"
)

// A service that answers is not waited for until the engine asks it.
func TestProbeIsFasterThanTheEngine(t *testing.T) {
	w := newWorld(t)
	w.fake.HealthDelay = time.Hour
	r := w.run(w.stack("1"))
	r.Timeout = time.Minute
	var asked, atOnce atomic.Int64
	r.Probe = func(_ context.Context, c release.Container) bool {
		if n := atOnce.Add(1); n > 8 {
			t.Error("a container is probed again before it has answered")
		}
		defer atOnce.Add(-1)
		if len(c.HealthTest) == 0 {
			t.Errorf("%s has no health check and was probed", c.Name)
		}
		return asked.Add(1) > 6 // some say no at first
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := deploy.Up(ctx, w.fake, r); err != nil {
		t.Fatal(err)
	}
	if asked.Load() < 7 {
		t.Errorf("asked %d times", asked.Load())
	}
}

// The engine's answer counts where it has one: a probe cannot make it well.
func TestProbeDoesNotOverruleTheEngine(t *testing.T) {
	w := newWorld(t)
	w.fake.Health = func(release.Container) string { return "unhealthy" }
	r := w.run(w.stack("1"))
	r.Probe = func(context.Context, release.Container) bool { return true }
	if err := deploy.Up(t.Context(), w.fake, r); err == nil {
		t.Error("an unhealthy service came up")
	}
}
