package deploy

import (
	"maps"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// ReadBack says what a target runs after a deployment, and in what it is not
// what was meant: the verified image, the configuration, healthy, with the same
// volumes as before. before is the target's last record, nil for its first
// deployment; accepted names volumes whose loss was accepted. Digest is set only for services whose container runs the verified
// image. The deployment succeeded if there is no difference.
//
// What an engine filled in when it made a container, other than was asked for,
// is kept with what runs, as fingerprints, and is no difference later.
func ReadBack(w release.Workload, images map[string]release.PlatformImage, seen release.Observed, before *release.TargetStatus, accepted []string) ([]release.Running, []Difference) {
	list := Differences(w, images, seen, standingStill(before, seen))
	var running []release.Running
	for _, s := range w.Services {
		c, there := standing(seen, s, w.Project)
		if !there {
			continue
		}
		r := release.Running{Service: s.Name, Image: c.Image, Container: c.ID, State: stopped(c), Health: c.Health, Volumes: map[string]string{}, Desired: desiredDigest(c), StateSchema: recordedAs(writes(s, images[s.Name]))}
		if runs(c, s, images[s.Name]) {
			r.Digest = s.Image.Digest
		}
		for _, m := range c.Mounts {
			if m.Type == "volume" {
				r.Volumes[m.Target] = m.Identity
			}
		}
		if old := was(before, s.Name); old != nil && old.Container == c.ID {
			r.Defaults = old.Defaults
		} else {
			r.Defaults, list = filledIn(c, list)
		}
		list = append(list, volumeDifferences(r, before, accepted)...)
		running = append(running, r)
	}
	return running, list
}

// standingStill is what was recorded about containers that are still the same.
func standingStill(before *release.TargetStatus, seen release.Observed) *release.TargetStatus {
	if before == nil {
		return nil
	}
	same := *before
	same.Running = slices.DeleteFunc(slices.Clone(before.Running), func(r release.Running) bool {
		return !slices.ContainsFunc(seen.Containers, func(c release.Container) bool { return c.ID == r.Container })
	})
	return &same
}

// filledIn takes what an engine may fill in out of the differences of a
// container that was just made.
func filledIn(c release.Container, list []Difference) (map[string]string, []Difference) {
	said, ok := readDesired(c)
	if !ok {
		return nil, list
	}
	defaults := map[string]string{}
	rest := slices.DeleteFunc(slices.Clone(list), func(d Difference) bool {
		if d.Service != c.Service || !mayFill(d.Field) {
			return false
		}
		text := d.Running
		if !strings.HasPrefix(text, fingerprintMark) {
			text = fingerprint(said.Key, d.Field, text)
		}
		defaults[d.Field] = text
		return true
	})
	if len(defaults) == 0 {
		return nil, list
	}
	return defaults, rest
}

// mayFill reports whether a field is one that engines may fill in.
func mayFill(name string) bool {
	name, _, _ = strings.Cut(name, " ")
	if slices.Contains([]string{"image", "configuration", "name", "state", "health", "origin"}, name) {
		return false
	}
	i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
	return i < 0 || !fields[i].firm && !fields[i].strict
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
			if !sameVolume(have, identity) && !slices.Contains(accepted, volumeName(identity)) && (have == "" || !slices.Contains(accepted, volumeName(have))) {
				list = append(list, Difference{Service: now.Service, Field: "volume " + path, Recorded: identity, Running: have})
			}
		}
	}
	return list
}
