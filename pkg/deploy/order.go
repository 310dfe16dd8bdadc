package deploy

import (
	"context"
	"slices"

	"github.com/promote-dev/promote/pkg/release"
)

// orderOf says in which order a service's container is replaced. Two of them run
// side by side for a moment only where they share nothing that is there once;
// why is what keeps them from it.
func (p *planner) orderOf(s release.ServiceSpec, old release.Container) (order, why string) {
	if why = p.once(s, old); why != "" {
		return release.StopFirst, why
	}
	return release.StartFirst, ""
}

// once names what a service has only once.
func (p *planner) once(s release.ServiceSpec, old release.Container) string {
	image := p.images[s.Name]
	switch {
	case s.UpdateOrder == release.StopFirst:
		return "the model says so"
	case s.OneShot:
		return "it is meant to end"
	case old.State != "running":
		return "the old one does not run"
	case p.o.Attempt.made(old):
		return "the old one was made for this deployment"
	case image.Config.IsZero() && image.Manifest.IsZero():
		return "what its image keeps in volumes is not known"
	case writes(s, image) != wrote(old):
		return "it keeps its state in another schema"
	}
	if volume, is := p.restoring(s); is {
		return "its volume " + volume + " is restored"
	}
	if len(kept(p.w, p.o.Snapshots, s, p.seen)) > 0 {
		return "its volumes are kept before"
	}
	for _, m := range s.Mounts {
		if m.Type != "tmpfs" && !m.ReadOnly {
			return "it writes to what is mounted at " + m.Target
		}
	}
	for _, target := range image.Volumes {
		if !slices.ContainsFunc(s.Mounts, func(m release.Mount) bool { return m.Target == target }) {
			return "its image keeps " + target + " in a volume"
		}
	}
	for _, port := range s.Ports {
		if port.Published != "" {
			return "it publishes port " + port.Published + " of the host"
		}
	}
	for _, a := range s.Networks {
		if a.IPv4 != "" {
			return "it has the address " + a.IPv4
		}
	}
	return ""
}

// replacing is the step that replaces a container.
func (p *planner) replacing(step release.Step, s release.ServiceSpec, old release.Container) release.Step {
	if step.Action == ActionRecreate {
		step.Order, step.OrderCause = p.orderOf(s, old)
	}
	return step
}

// startFirst makes a service's new container beside the old one, and puts that
// aside only when the new one is well. Both answer under the service's name
// meanwhile. When the old one's name changes the new one is ready: whoever finds
// it without a container under the name goes on from there.
func (d *deployment) startFirst(ctx context.Context, s release.ServiceSpec, old release.Container) error {
	name := containerName(s, d.Workload.Project)
	id, err := d.make(ctx, s, d.Attempt.newName(name), old, true)
	if err != nil {
		return err
	}
	if err := d.setAside(ctx, old); err != nil {
		return err
	}
	if err := d.engine.Rename(ctx, id, name); err != nil {
		return err
	}
	return stop(ctx, d.engine, old)
}

// takeNames finds the containers that were ready when the attempt was
// interrupted, before they had their names: no other stands for their services.
// They are taken for what they will be called.
func (d *deployment) takeNames(seen release.Observed) {
	d.unnamed = map[string]string{}
	for i, c := range seen.Containers {
		name, ok := d.Attempt.begun(c)
		if !ok || slices.ContainsFunc(current(seen), func(other release.Container) bool { return other.Service == c.Service }) {
			continue
		}
		d.unnamed[c.ID] = name
		seen.Containers[i].Name = name
	}
}
