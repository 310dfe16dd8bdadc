package deploy_test

import (
	"testing"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/release"
)

func TestRunning(t *testing.T) {
	image := release.PlatformImage{Manifest: release.DigestOf([]byte("manifest")), Config: release.DigestOf([]byte("config"))}
	images := map[string]release.PlatformImage{"planner": image}
	well := release.Container{Name: "agent-planner-1", Service: "planner", Image: image.Config.String(), State: "running", Health: "healthy"}
	for name, c := range map[string]struct {
		change func(*release.Container)
		field  string // "" is no difference
	}{
		"classic store":    {func(*release.Container) {}, ""},
		"containerd store": {func(c *release.Container) { c.Image = image.Manifest.String() }, ""},
		"another image":    {func(c *release.Container) { c.Image = release.DigestOf([]byte("x")).String() }, "image"},
		"no image id":      {func(c *release.Container) { c.Image = "" }, "image"},
		"stopped":          {func(c *release.Container) { c.State = "exited" }, "state"},
		"unhealthy":        {func(c *release.Container) { c.Health = "unhealthy" }, "health"},
		"another service":  {func(c *release.Container) { c.Service = "miner" }, "state"},
	} {
		t.Run(name, func(t *testing.T) {
			seen := well
			c.change(&seen)
			running, list := deploy.Running("agent", images, release.Observed{Containers: []release.Container{seen}})
			switch {
			case c.field == "" && len(list) != 0:
				t.Errorf("differences %+v", list)
			case c.field == "" && (len(running) != 1 || running[0].Digest != image.Manifest):
				t.Errorf("running %+v", running)
			case c.field != "" && (len(list) == 0 || list[0].Field != c.field):
				t.Errorf("differences %+v, want %s", list, c.field)
			}
			if len(running) == 1 && (running[0].State != "") != (c.field == "state") {
				t.Errorf("state %q", running[0].State)
			}
			if c.field == "image" && !running[0].Digest.IsZero() {
				t.Error("a digest is claimed for another image")
			}
		})
	}
}

// What was put aside and stopped waits for Commit, which removes it whoever put
// it there; what runs is never hidden.
func TestHideLeavesOutWhatWaits(t *testing.T) {
	mine := deploy.Attempt{Sequence: 7}
	seen := release.Observed{Containers: []release.Container{
		{Name: "agent-planner-1"}, {Name: "agent-planner-1.promote-old-7", State: "exited"},
		{Name: "agent-planner-1.promote-old-5", State: "exited"}, {Name: "agent-bus-1.promote-old-5", State: "running"},
	}}
	left := mine.Hide(seen).Containers
	if len(left) != 2 || left[0].Name != "agent-planner-1" || left[1].Name != "agent-bus-1.promote-old-5" {
		t.Errorf("left %+v", left)
	}
	if len(seen.Containers) != 4 {
		t.Error("what was seen was changed")
	}
}
