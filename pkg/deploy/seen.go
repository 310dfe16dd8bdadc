package deploy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// remember notes what the plan rests on: which containers stand there, the
// volumes and networks that they and the workload have, and the values that the
// services would get. How a container is doing from moment to moment is no part
// of it; where that matters there is a step.
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
	for _, s := range p.w.Services {
		if text := p.values(s); text != "" {
			seen["values of "+s.Name] = text
		}
	}
	p.plan.Seen = seen
}

// values stands for all that a service would be given from values: a fingerprint
// under the key that lies beside its container. Where there is none, nobody could
// tell one value from another by anything that may be written down, and it is
// empty.
func (p *planner) values(s release.ServiceSpec) string {
	c, ok := standing(p.seen, s, p.w.Project)
	if !ok {
		return ""
	}
	said, ok := readDesired(c)
	if !ok {
		return ""
	}
	meant := desiredOf(asked(p.w, s, p.images[s.Name]), said.Key)
	for name := range meant.Fields {
		if field, _, _ := strings.Cut(name, " "); !slices.Contains(meant.Hidden, field) {
			delete(meant.Fields, name)
		}
	}
	text, _ := json.Marshal(meant.Fields) // texts always encode
	return fingerprint(said.Key, "values of "+s.Name, string(text))
}
