package deploy

import (
	"fmt"
	"slices"
)

// remember notes what the plan rests on: which containers stand there, and the
// volumes and networks that they and the workload have. How a container is doing
// from moment to moment is no part of it; where that matters there is a step.
func (p *planner) remember() {
	seen := map[string]string{}
	volumes, networks := map[string]bool{}, map[string]bool{}
	for _, c := range p.seen.Containers {
		if c.Service == "" || c.Labels[composeOneOff] == "True" {
			continue
		}
		seen["container "+c.Name] = fmt.Sprintf("%s for %s, image %s, %s", c.ID[:min(12, len(c.ID))], c.Service, imageOf(c), c.State)
		for _, m := range c.Mounts {
			volumes[m.Name] = m.Type == "volume"
		}
	}
	for _, v := range p.w.Volumes {
		volumes[v.Name] = true
	}
	for _, n := range p.w.Networks {
		networks[n.Name] = true
	}
	for _, v := range p.seen.Volumes {
		if volumes[v.Name] {
			seen["volume "+v.Name] = orNone(v.Identity)
		}
	}
	for name := range networks {
		if slices.Contains(p.seen.Networks, name) {
			seen["network "+name] = "there"
		}
	}
	p.plan.Seen = seen
}
