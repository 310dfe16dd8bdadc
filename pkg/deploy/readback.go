package deploy

import (
	"maps"
	"slices"

	"github.com/promote-dev/promote/pkg/release"
)

// ReadBack says what a target runs after a deployment, and in what it is not
// what was meant: the verified image, the configuration, healthy, with the same
// volumes as before. before is the target's last record, nil for its first
// deployment; accepted names volumes whose loss was accepted. Digest is set only for services whose container runs the verified
// image. The deployment succeeded if there is no difference.
func ReadBack(w release.Workload, images map[string]release.PlatformImage, seen release.Observed, before *release.TargetStatus, accepted []string) ([]release.Running, []Difference) {
	list := Differences(w, images, seen)
	var running []release.Running
	for _, s := range w.Services {
		c, there := standing(seen, s, w.Project)
		if !there {
			continue
		}
		r := release.Running{Service: s.Name, Image: c.Image, Container: c.ID, Health: c.Health, Volumes: map[string]string{}}
		if runs(c, s, images[s.Name]) {
			r.Digest = s.Image.Digest
		}
		for _, m := range c.Mounts {
			if m.Type == "volume" {
				r.Volumes[m.Target] = m.Identity
			}
		}
		list = append(list, volumeDifferences(r, before, accepted)...)
		running = append(running, r)
	}
	return running, list
}

// volumeDifferences compares the volumes of a service with those recorded.
func volumeDifferences(now release.Running, before *release.TargetStatus, accepted []string) []Difference {
	if before == nil {
		return nil
	}
	var list []Difference
	for _, was := range before.Running {
		if was.Service != now.Service {
			continue
		}
		for _, path := range slices.Sorted(maps.Keys(was.Volumes)) {
			identity := was.Volumes[path]
			have := now.Volumes[path]
			if !sameVolume(have, identity) && !slices.Contains(accepted, volumeName(identity)) {
				list = append(list, Difference{Service: now.Service, Field: "volume " + path, Recorded: identity, Running: have})
			}
		}
	}
	return list
}
