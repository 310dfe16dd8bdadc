package deploy

import (
	"maps"
	"slices"

	"github.com/promote-dev/promote/pkg/release"
)

// Running says what a project's services run and in what that is not the
// verified images, by service: another image, a container that is missing,
// stopped or not healthy, or one too many. Unlike ReadBack it needs no resolved
// workload, and so none of the environment's values; it says nothing about
// configuration.
func Running(project string, images map[string]release.PlatformImage, seen release.Observed) ([]release.Running, []Difference) {
	var running []release.Running
	var list []Difference
	for _, name := range slices.Sorted(maps.Keys(images)) {
		s := release.ServiceSpec{Name: name}
		c, there := standing(seen, s, project)
		if !there {
			list = append(list, Difference{Service: name, Field: "state", Recorded: "running", Running: "missing"})
			continue
		}
		s.OneShot = c.Labels[labelOneShot] == "true"
		r := release.Running{Service: name, Image: c.Image, Container: c.ID, State: stopped(c), Health: c.Health, Desired: desiredDigest(c), StateSchema: recordedAs(wrote(c))}
		if isImage(c.Image, images[name]) {
			r.Digest = images[name].Manifest
		} else {
			list = append(list, Difference{Service: name, Field: "image", Recorded: images[name].Manifest.String(), Running: imageOf(c)})
		}
		list = append(list, condition(s, c)...)
		running = append(running, r)
	}
	for _, c := range current(seen) {
		if _, known := images[c.Service]; !known {
			list = append(list, Difference{Service: c.Service, Field: "state", Running: c.Name + ", which no release asked for"})
		}
	}
	return running, list
}

// Hide leaves out the containers that were put aside and do not run: until
// Clean they wait for an Undo, and are no difference.
func (a Attempt) Hide(seen release.Observed) release.Observed {
	seen.Containers = slices.DeleteFunc(slices.Clone(seen.Containers), func(c release.Container) bool {
		return isAside(c) && c.State != "running"
	})
	return seen
}
