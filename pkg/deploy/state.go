package deploy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// stateReasons says why a release would start without the state that the
// target's services had: a volume that is missing, that is another one of the
// same name, or that is no longer mounted where it was. Before the first
// deployment there is no state.
func stateReasons(w release.Workload, images map[string]release.PlatformImage, seen release.Observed, recorded *release.TargetStatus, accepted []string) []release.Reason {
	if recorded == nil {
		return nil
	}
	var reasons []release.Reason
	for _, was := range recorded.Running {
		s, ok := w.Service(was.Service)
		if !ok { // the service is gone; its volumes stay
			continue
		}
		for _, path := range slices.Sorted(maps.Keys(was.Volumes)) {
			name := volumeName(was.Volumes[path])
			if slices.Contains(accepted, name) {
				continue
			}
			if r, bad := stateReason(s, images[s.Name], seen, path, was.Volumes[path]); bad {
				reasons = append(reasons, r)
			}
		}
	}
	return reasons
}

func stateReason(s release.ServiceSpec, image release.PlatformImage, seen release.Observed, path, identity string) (release.Reason, bool) {
	name := volumeName(identity)
	volume, there := seen.Volume(name)
	switch mount, mounted := mountOf(s, image, seen, path); {
	case !there:
		return release.Reason{
			Rule:    "state/volume-missing",
			Message: fmt.Sprintf("service %s had the volume %s at %s, and it is not on the target any more", s.Name, name, path),
			Fix:     "restore the volume from its backup; started now, the service would have forgotten everything",
		}, true
	case !sameVolume(volume.Identity, identity):
		return release.Reason{
			Rule:    "state/volume-replaced",
			Message: fmt.Sprintf("the volume %s of service %s is another one than was deployed with: %s, recorded %s", name, s.Name, volume.Identity, identity),
			Fix:     "find out who removed and recreated it, and restore the data from its backup",
		}, true
	case !mounted:
		return release.Reason{
			Rule:    "state/volume-unmounted",
			Message: fmt.Sprintf("service %s had the volume %s at %s, and the release mounts no volume there", s.Name, name, path),
			Fix:     "mount " + name + " at " + path + " in the compose file",
		}, true
	case mount != name:
		return release.Reason{
			Rule:    "state/volume-renamed",
			Message: fmt.Sprintf("service %s had the volume %s at %s, and the release mounts %s there", s.Name, name, path, mount),
			Fix:     "give the volume its name in the compose file (volumes: … name: " + name + "); a renamed volume starts empty",
		}, true
	}
	return release.Reason{}, false
}

// mountOf gives the volume that a release would mount at a path: one that the
// model names, or the anonymous one that the image's volume path inherits.
func mountOf(s release.ServiceSpec, image release.PlatformImage, seen release.Observed, path string) (name string, mounted bool) {
	for _, m := range s.Mounts {
		if m.Target == path {
			return m.Source, m.Type == "volume"
		}
	}
	if !slices.Contains(image.Volumes, path) {
		return "", false
	}
	for _, c := range seen.Containers {
		if c.Service != s.Name {
			continue
		}
		if m := mountedAt(c, path); m.Type == "volume" {
			return m.Name, true
		}
	}
	return "", false
}

// volumeName takes the name out of an identity, "<name>@<what tells it apart>".
func volumeName(identity string) string {
	name, _, _ := strings.Cut(identity, "@")
	return name
}

// sameVolume compares two identities. A word that promote gave to a volume
// stays with it, so one that has none, or another, is another volume. An engine
// that cannot tell when a volume was made gives the bare name, which then is
// all there is to compare.
func sameVolume(a, b string) bool {
	if a == b || volumeName(a) != volumeName(b) {
		return a == b
	}
	_, first, _ := strings.Cut(a, "@")
	_, second, _ := strings.Cut(b, "@")
	return !isWord(first) && !isWord(second) && (first == "" || second == "")
}

// isWord tells promote's own word in an identity from a time of creation.
func isWord(mark string) bool { return ownWord.MatchString(mark) }

var ownWord = regexp.MustCompile(`^[A-Z2-7]{26}$`)
