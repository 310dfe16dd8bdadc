package deploy

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/promote-dev/promote/pkg/release"
)

// Difference is one thing about a target that is not as recorded.
type Difference struct {
	Service  string `json:"service"`
	Field    string `json:"field"`    // image, configuration, state, health, memory, volume /path, …
	Recorded string `json:"recorded"` // what should be
	Running  string `json:"running"`  // what is
}

// cause says the difference as a plan's cause.
func (d Difference) cause() string {
	switch d.Field {
	case "configuration":
		return "the configuration changed"
	case "image":
		return "the image changed"
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
// and containers that nobody asked for. An empty list means no drift.
func Differences(w release.Workload, images map[string]release.PlatformImage, seen release.Observed) []Difference {
	var list []Difference
	for _, s := range w.Services {
		c, there := standing(seen, s, w.Project)
		if !there {
			list = append(list, Difference{Service: s.Name, Field: "state", Recorded: wanted(s), Running: "missing"})
			continue
		}
		list = append(list, differences(s, c, images[s.Name])...)
		list = append(list, condition(s, c)...)
	}
	p := planner{w: w, seen: seen}
	p.extras()
	for _, step := range p.plan.Steps {
		list = append(list, Difference{Service: step.Service, Field: "state", Recorded: "", Running: step.Cause})
	}
	return list
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

// differences compares what a container was created with, and what docker
// update changes behind the back of its configuration hash.
func differences(s release.ServiceSpec, c release.Container, image release.PlatformImage) []Difference {
	var list []Difference
	add := func(field, recorded, running string) {
		if recorded != running {
			list = append(list, Difference{Service: s.Name, Field: field, Recorded: recorded, Running: running})
		}
	}
	if !runs(c, s, image) {
		list = append(list, Difference{Service: s.Name, Field: "image", Recorded: s.Image.Digest.String(), Running: imageOf(c)})
	}
	add("configuration", s.ConfigHash, c.ConfigHash)
	add("memory", size(s.MemoryLimit), size(c.Memory))
	add("cpus", number(s.CPUs), number(c.CPUs))
	add("pids", number(float64(max(s.PIDs, 0))), number(float64(c.PIDs)))
	add("restart", policy(s.Restart.Name), policy(c.Restart))
	add("readOnly", strconv.FormatBool(s.ReadOnly), strconv.FormatBool(c.ReadOnly))
	add("privileged", strconv.FormatBool(s.Privileged), strconv.FormatBool(c.Privileged))
	if s.User != "" {
		add("user", s.User, c.User)
	}
	for _, n := range s.Networks {
		if _, joined := c.Networks[n.Network]; !joined {
			add("network "+n.Network, "joined", "")
		}
	}
	for _, m := range s.Mounts {
		if m.Type == "volume" && m.Source != "" {
			add("volume "+m.Target, m.Source, mountedAt(c, m.Target).Name)
		}
	}
	return list
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

func policy(name string) string {
	if name == "" {
		return "no"
	}
	return name
}
