package deploy

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// state says why a release would start without the state that the target's
// services had: a volume that is missing, that is another one of the same name,
// that is no longer mounted where it was, that is empty, that nobody had before
// or that the model makes in another way. What is accepted is shown, and does
// not block. Before the first deployment there is no state.
func (p *planner) state() {
	if p.recorded == nil || len(p.recorded.Running) == 0 {
		return
	}
	said := map[string]bool{} // service and path
	known := map[string]bool{}
	for _, was := range p.recorded.Running {
		for _, path := range slices.Sorted(maps.Keys(was.Volumes)) {
			identity := was.Volumes[path]
			known[volumeName(identity)] = true
			s, ok := p.w.Service(was.Service)
			if !ok { // the service is gone; its volumes stay
				continue
			}
			if r, bad := stateReason(s, p.images[s.Name], p.seen, path, identity); bad {
				said[s.Name+" "+path] = true
				mount, _ := mountOf(s, p.images[s.Name], p.seen, path)
				p.change(r, volumeName(identity), mount)
			} else {
				p.empty(s, path, volumeName(identity))
			}
		}
	}
	p.newVolumes(said, known)
	p.otherKinds()
}

// change adds a finding about volumes: it blocks unless one of them was named.
func (p *planner) change(r release.Reason, volumes ...string) {
	if p.o.Adopt || slices.ContainsFunc(volumes, func(v string) bool { return v != "" && slices.Contains(p.o.AcceptLoss, v) }) {
		p.plan.Accepted = append(p.plan.Accepted, r)
		return
	}
	name := volumes[len(volumes)-1]
	if name == "" {
		name = volumes[0]
	}
	r.Fix += "; if it is meant to be so: --state-change " + name + " --reason TEXT"
	p.plan.Blocking = append(p.plan.Blocking, r)
}

// empty is about a volume of the model that is still the same and holds nothing.
// A container that nobody touches goes on with it.
func (p *planner) empty(s release.ServiceSpec, path, name string) {
	mounted := slices.ContainsFunc(s.Mounts, func(m release.Mount) bool { return m.Type == "volume" && m.Target == path && m.Source == name })
	touched := slices.ContainsFunc(p.plan.Steps, func(step release.Step) bool { return step.Service == s.Name && step.Action != ActionPull })
	restored := slices.ContainsFunc(p.o.Restore, func(s release.Snapshot) bool { return volumeName(s.Volume) == name })
	if restored || !mounted || !touched || !slices.Contains(p.o.Empty, name) || slices.Contains(p.o.AcceptedEmpty, name) {
		return
	}
	p.change(release.Reason{
		Rule:    "state/volume-empty",
		Message: fmt.Sprintf("the volume %s of service %s at %s holds nothing", name, s.Name, path),
		Fix:     "find out who emptied it, and restore the data from its backup",
	}, name)
}

// newVolumes are those that no service of the record had.
func (p *planner) newVolumes(said, known map[string]bool) {
	for _, s := range p.w.Services {
		for _, m := range s.Mounts {
			if m.Type != "volume" || known[m.Source] || said[s.Name+" "+m.Target] {
				continue
			}
			r := release.Reason{
				Rule:    "state/volume-new",
				Message: fmt.Sprintf("service %s would have the volume %s at %s, which nothing had at the last deployment", s.Name, m.Source, m.Target),
				Fix:     "give it the name of the volume that holds the data",
			}
			name := m.Source
			if name == "" {
				name = m.Target
				r.Message = fmt.Sprintf("service %s would have an anonymous volume at %s, a new one at every deployment", s.Name, m.Target)
				r.Fix = "give the volume a name in the compose file"
			}
			if !known[name] {
				known[name] = m.Source != "" // once is enough
				p.change(r, name)
			}
		}
	}
}

// otherKinds are volumes that are there and that the model would make with
// another driver or other options: it would not get what it says.
func (p *planner) otherKinds() {
	for _, v := range p.w.Volumes {
		have, there := p.seen.Volume(v.Name)
		if !there || v.External || orWord(v.Driver, "local") == have.Driver && maps.Equal(under(v.Options, nil), under(have.Options, nil)) {
			continue
		}
		p.change(release.Reason{
			Rule: "state/volume-driver",
			Message: fmt.Sprintf("the volume %s is there with driver %s and options %q; the model says driver %s and options %q", v.Name,
				have.Driver, pairs(have.Options), orWord(v.Driver, "local"), pairs(v.Options)),
			Fix: "a volume is never made again by itself: give the changed one another name and move the data, or take the change back",
		}, v.Name)
	}
}

func pairs(m map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, k+"="+m[k])
	}
	return strings.Join(list, ",")
}

// Looker looks into what containers mount.
type Looker interface {
	// Holds reports whether a directory of a container has an entry. It reads
	// no content.
	Holds(ctx context.Context, container, dir string) (bool, error)
}

// EmptyVolumes names the recorded volumes that hold nothing, as far as a
// container mounts them, and those that could not be looked into.
func EmptyVolumes(ctx context.Context, l Looker, seen release.Observed, recorded *release.TargetStatus) (empty, unseen []string) {
	if recorded == nil {
		return nil, nil
	}
	done := map[string]bool{}
	for _, was := range recorded.Running {
		for _, path := range slices.Sorted(maps.Keys(was.Volumes)) {
			name := volumeName(was.Volumes[path])
			if done[name] || anonymous.MatchString(name) {
				continue
			}
			done[name] = true
			c, dir, there := mounting(seen, name)
			if !there {
				unseen = append(unseen, name)
				continue
			}
			switch holds, err := l.Holds(ctx, c.ID, dir); {
			case err != nil:
				unseen = append(unseen, name)
			case !holds:
				empty = append(empty, name)
			}
		}
	}
	return empty, unseen
}

// mounting finds a container that mounts a volume, and where.
func mounting(seen release.Observed, volume string) (release.Container, string, bool) {
	for _, c := range seen.Containers {
		for _, m := range c.Mounts {
			if m.Type == "volume" && m.Name == volume {
				return c, m.Target, true
			}
		}
	}
	return release.Container{}, "", false
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
