package deploy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// Difference is one thing about a target that is not as recorded.
type Difference = release.Deviation

// causeOf says the difference as a plan's cause.
func causeOf(d Difference) string {
	switch d.Field {
	case "configuration":
		return "the configuration changed"
	case "image":
		return "the image changed"
	case "origin":
		return "somebody else made the container"
	}
	if strings.HasPrefix(d.Recorded, fingerprintMark) || strings.HasPrefix(d.Running, fingerprintMark) {
		return d.Field + " changed"
	}
	return fmt.Sprintf("%s is %s, the model says %s", d.Field, orNone(d.Running), orNone(d.Recorded))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// Differences lists how a target differs from the workload: images, flags and
// mounts of each container, services that are missing, stopped or unhealthy,
// and containers that nobody asked for. recorded is what the ledger says about
// the target, nil for nothing.
func Differences(w release.Workload, images map[string]release.PlatformImage, seen release.Observed, recorded *release.TargetStatus) []Difference {
	var list []Difference
	for _, s := range w.Services {
		c, there := standing(seen, s, w.Project)
		if !there {
			list = append(list, Difference{Service: s.Name, Field: "state", Recorded: wanted(s), Running: "missing"})
			continue
		}
		list = append(list, differences(w, s, c, images[s.Name], was(recorded, s.Name), Attempt{})...)
		list = append(list, condition(s, c)...)
	}
	p := planner{w: w, seen: seen}
	p.extras()
	for _, step := range p.plan.Steps {
		list = append(list, Difference{Service: step.Service, Field: "state", Recorded: "", Running: step.Cause})
	}
	return list
}

// was is what the ledger says about a service of a target, nil for nothing.
func was(recorded *release.TargetStatus, service string) *release.Running {
	if recorded == nil {
		return nil
	}
	for i, r := range recorded.Running {
		if r.Service == service {
			return &recorded.Running[i]
		}
	}
	return nil
}

func wanted(s release.ServiceSpec) string {
	if s.OneShot {
		return "completed"
	}
	return "running"
}

// condition compares how a container is doing.
func condition(s release.ServiceSpec, c release.Container) []Difference {
	switch {
	case s.OneShot && c.State == "exited" && c.ExitCode == 0:
		return nil
	case s.OneShot || c.State != "running":
		return []Difference{{Service: s.Name, Field: "state", Recorded: wanted(s), Running: state(c)}}
	case c.Health == "unhealthy" || c.Health == "starting":
		return []Difference{{Service: s.Name, Field: "health", Recorded: "healthy", Running: c.Health}}
	}
	return nil
}

// stopped says how a container does not run; empty while it does.
func stopped(c release.Container) string {
	if c.State == "running" {
		return ""
	}
	return state(c)
}

func state(c release.Container) string {
	if c.State == "exited" || c.State == "dead" {
		text := fmt.Sprintf("%s, exit code %d", c.State, c.ExitCode)
		if c.OOMKilled {
			text += ", out of memory"
		}
		return text
	}
	return c.State
}

// differences compares a container with what the service asks for. The firm
// fields always count; the others where it is known what the container was made
// to be. was is what the ledger says about it, nil for nothing; a container of
// the attempt under way is not in the ledger yet.
func differences(w release.Workload, s release.ServiceSpec, c release.Container, image release.PlatformImage, was *release.Running, under Attempt) []Difference {
	var list []Difference
	if !runs(c, s, image) {
		list = append(list, Difference{Service: s.Name, Field: "image", Recorded: s.Image.Digest.String(), Running: imageOf(c)})
	}
	if s.ConfigHash != c.ConfigHash {
		list = append(list, Difference{Service: s.Name, Field: "configuration", Recorded: s.ConfigHash, Running: c.ConfigHash})
	}
	var defaults map[string]string
	if was != nil && !under.made(c) {
		defaults = was.Defaults
		list = append(list, origin(*was, c)...)
	}
	known, ok := readDesired(c)
	if !ok {
		known.Key = newKey()
	}
	which := func(f field) bool { return f.firm || ok && image.Defaults != nil }
	want, have := comparable(w, s, c, image)
	return append(list, desiredOf(want, known.Key).compare(c, have, defaults, which)...)
}

// comparable puts a service and its container into one form.
func comparable(w release.Workload, s release.ServiceSpec, c release.Container, image release.PlatformImage) (want, have release.ServiceSpec) {
	want = asked(w, s, image)
	if s.User == "" && image.Config.IsZero() && image.Manifest.IsZero() {
		want.User = c.User // nobody knows the image's
	}
	if c.Made == nil {
		want.Networks = slices.Clone(want.Networks)
		for i := range want.Networks {
			want.Networks[i].Aliases, want.Networks[i].IPv4 = nil, ""
		}
	}
	have = found(c, image, func(target string) bool {
		return slices.ContainsFunc(s.Mounts, func(m release.Mount) bool { return m.Target == target && m.Source != "" })
	})
	have.Name, have.ContainerName = want.Name, want.ContainerName // aliases of both are left out
	return want, have
}

// origin tells a container that says something else about itself than was
// recorded: somebody else made it.
func origin(was release.Running, c release.Container) []Difference {
	now := desiredDigest(c)
	if was.Desired.IsZero() || now == was.Desired {
		return nil
	}
	d := Difference{Service: c.Service, Field: "origin", Recorded: was.Desired.String()}
	if !now.IsZero() {
		d.Running = now.String()
	}
	return []Difference{d}
}

// runs reports whether a container's image is the verified one: its id is the
// config digest on the classic image store, the platform manifest's on the
// containerd store. Without a verified image the reference decides.
func runs(c release.Container, s release.ServiceSpec, image release.PlatformImage) bool {
	if image.Config.IsZero() && image.Manifest.IsZero() {
		return c.Reference == s.Image.String()
	}
	return isImage(c.Image, image)
}

func isImage(id string, image release.PlatformImage) bool {
	return id != "" && (id == image.Config.String() || id == image.Manifest.String())
}

func mountedAt(c release.Container, target string) release.ObservedMount {
	i := slices.IndexFunc(c.Mounts, func(m release.ObservedMount) bool { return m.Target == target })
	if i < 0 {
		return release.ObservedMount{}
	}
	return c.Mounts[i]
}

func size(n int64) string {
	if n <= 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func number(f float64) string {
	if f <= 0 {
		return ""
	}
	return strconv.FormatFloat(f, 'g', 6, 64)
}

func policy(r release.Restart) string {
	switch {
	case r.Name == "":
		return "no"
	case r.Name == "on-failure" && r.Max > 0:
		return r.Name + ":" + strconv.Itoa(r.Max)
	}
	return r.Name
}
