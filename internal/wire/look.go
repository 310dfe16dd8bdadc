package wire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/promote-dev/promote/internal/worker"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/engine"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/smoke"
)

// lookAt looks at hosts with the checks of a configuration.
func lookAt(c *config.Config) func(context.Context, *engine.Host, pipeline.LookQuery) ([]release.WatchedService, []release.WatchedCheck, error) {
	return func(ctx context.Context, h *engine.Host, q pipeline.LookQuery) ([]release.WatchedService, []release.WatchedCheck, error) {
		seen, err := h.Observe(ctx, q.Project)
		if err != nil {
			return nil, nil, err
		}
		seen = deploy.Ask(ctx, seen, func(ctx context.Context, c release.Container) bool { return askHealth(ctx, h, c) })
		names := slices.Sorted(maps.Keys(q.Images))
		standing := deploy.Standing(q.Project, names, seen)
		services, err := measure(ctx, h, q, names, standing)
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		o := smoke.WatchOptions{
			Release: q.Release, Project: q.Project, Engine: h, Containers: standing, Services: q.Services, Checks: smokeChecks(c.Smoke.Checks),
			NoPorts: !h.Reaches(), Dir: c.Dir(), Environ: worker.Environment(os.Environ(), nil), // scripts see no key
		}
		if !h.Local() {
			o.Connect = h.Dial
		}
		return services, smoke.Watch(ctx, o), err
	}
}

// measure says how each service fares.
func measure(ctx context.Context, h *engine.Host, q pipeline.LookQuery, names []string, standing map[string]release.Container) ([]release.WatchedService, error) {
	var services []release.WatchedService
	var errs []error
	for _, name := range names {
		s := release.WatchedService{Name: name, State: "missing", Health: "none"}
		c, there := standing[name]
		if there {
			s.Image, s.State, s.Health, s.Restarts, s.Limit, s.Healthy = c.Image, c.State, c.Health, c.Restarts, c.Memory, deploy.Well(c)
			if deploy.IsImage(c.Image, q.Images[name]) {
				s.Digest = q.Images[name].Manifest
			}
		}
		if s.State == "running" {
			switch usage, err := h.Usage(ctx, c.ID); {
			case err == nil && usage.Memory > 0:
				s.Memory = &usage.Memory
			case err != nil && !errors.Is(err, release.ErrNotFound):
				errs = append(errs, fmt.Errorf("measuring %s: %w", name, err))
			}
		}
		services = append(services, s)
	}
	return services, errors.Join(errs...)
}
