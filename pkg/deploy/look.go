package deploy

import "github.com/promote-dev/promote/pkg/release"

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

// Well reports whether a container is as its service wants it: running and not
// unhealthy, or completed where it is meant to end.
func Well(c release.Container) bool {
	return len(condition(release.ServiceSpec{Name: c.Service, OneShot: c.Labels[labelOneShot] == "true"}, c)) == 0
}

// IsImage reports whether an engine's image id is a verified image.
func IsImage(id string, image release.PlatformImage) bool { return isImage(id, image) }
