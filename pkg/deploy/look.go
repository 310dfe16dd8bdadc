package deploy

import (
	"context"
	"slices"
	"sync"

	"github.com/promote-dev/promote/pkg/release"
)

// Standing gives, by service, the container that stands for it.
func Standing(project string, services []string, seen release.Observed) map[string]release.Container {
	out := map[string]release.Container{}
	for _, name := range services {
		if c, there := standing(seen, release.ServiceSpec{Name: name}, project); there {
			out[name] = c
		}
	}
	return out
}

// Ask gives what was seen, with the word of the containers themselves where the
// engine has not asked their health check yet: those whose check passes are
// healthy. The engine's first question comes an interval after the start, half a
// minute by default, and a deployment does not wait for it.
func Ask(ctx context.Context, seen release.Observed, probe func(context.Context, release.Container) bool) release.Observed {
	seen.Containers = slices.Clone(seen.Containers)
	var wait sync.WaitGroup
	for i, c := range seen.Containers {
		if c.State != "running" || c.Health != "starting" {
			continue
		}
		wait.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, probeTime)
			defer cancel()
			if probe(ctx, c) {
				seen.Containers[i].Health = "healthy"
			}
		})
	}
	wait.Wait()
	return seen
}

// Well reports whether a container is as its service wants it: running and not
// unhealthy, or completed where it is meant to end.
func Well(c release.Container) bool {
	return len(condition(release.ServiceSpec{Name: c.Service, OneShot: c.Labels[labelOneShot] == "true"}, c)) == 0
}

// IsImage reports whether an engine's image id is a verified image.
func IsImage(id string, image release.PlatformImage) bool { return isImage(id, image) }
