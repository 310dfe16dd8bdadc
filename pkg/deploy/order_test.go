package deploy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/release"
)

// Which order a service is replaced in follows from what it has only once.
func TestOrder(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*release.ServiceSpec, *release.PlatformImage)
		why    string // empty: start-first
	}{
		"nothing":          {func(*release.ServiceSpec, *release.PlatformImage) {}, ""},
		"a volume":         {mounts(release.Mount{Type: "volume", Source: "v", Target: "/data"}), "mounted at /data"},
		"an anonymous one": {mounts(release.Mount{Type: "volume", Target: "/data"}), "mounted at /data"},
		"a bind":           {mounts(release.Mount{Type: "bind", Source: "/srv", Target: "/data"}), "mounted at /data"},
		"read-only ones":   {mounts(release.Mount{Type: "bind", Source: "/s", Target: "/run/secrets/s", ReadOnly: true}, release.Mount{Type: "volume", Source: "v", Target: "/v", ReadOnly: true}), ""},
		"tmpfs":            {mounts(release.Mount{Type: "tmpfs", Target: "/tmp"}), ""},
		"the image's":      {func(_ *release.ServiceSpec, p *release.PlatformImage) { p.Volumes = []string{"/data"} }, "its image keeps /data"},
		"the image's, tmpfs": {func(s *release.ServiceSpec, p *release.PlatformImage) {
			p.Volumes = []string{"/data"}
			mounts(release.Mount{Type: "tmpfs", Target: "/data"})(s, p)
		}, ""},
		"a port": {func(s *release.ServiceSpec, _ *release.PlatformImage) {
			s.Ports = []release.Port{{Published: "80", Target: 80, Protocol: "tcp"}}
		}, "port 80 of the host"},
		"any port": {func(s *release.ServiceSpec, _ *release.PlatformImage) {
			s.Ports = []release.Port{{Target: 80, Protocol: "tcp"}}
		}, ""},
		"an address":       {func(s *release.ServiceSpec, _ *release.PlatformImage) { s.Networks[0].IPv4 = "10.0.0.7" }, "10.0.0.7"},
		"stop-first":       {func(s *release.ServiceSpec, _ *release.PlatformImage) { s.UpdateOrder = release.StopFirst }, "the model says so"},
		"one-shot":         {func(s *release.ServiceSpec, _ *release.PlatformImage) { s.OneShot = true }, "meant to end"},
		"an unknown image": {func(_ *release.ServiceSpec, p *release.PlatformImage) { *p = release.PlatformImage{} }, "not known"},
		"a schema": {func(s *release.ServiceSpec, _ *release.PlatformImage) {
			s.Labels = map[string]string{release.LabelStateSchema: "2"}
		}, "another schema"},
		"start-first": {func(s *release.ServiceSpec, p *release.PlatformImage) {
			s.UpdateOrder, p.Volumes = release.StartFirst, []string{"/data"}
		}, "its image keeps /data"},
	} {
		w := newWorld(t)
		work := release.Workload{Project: project, Services: []release.ServiceSpec{w.service("executor", "1")}, Networks: []release.NetworkSpec{{Key: "back", Name: project + "_back"}}}
		w.mustDeploy(w.job(work, 1))
		w.images = map[string]release.PlatformImage{}
		work.Services[0] = w.service("executor", "2")
		image := w.images["executor"]
		c.change(&work.Services[0], &image)
		w.images["executor"] = image
		steps := w.plan(w.job(work, 2)).Steps
		i := slices.IndexFunc(steps, func(s release.Step) bool { return s.Action == deploy.ActionRecreate })
		if i < 0 {
			t.Fatalf("%s: %+v", name, steps)
		}
		if got := steps[i]; (got.Order == release.StartFirst) != (c.why == "") || !strings.Contains(got.OrderCause, c.why) || (c.why == "") != (got.OrderCause == "") {
			t.Errorf("%s: %s, %s", name, got.Order, got.OrderCause)
		}
		if c.why == "" && name == "nothing" {
			w.fake.Die("agent-executor-1", 1)
			if got := w.plan(w.job(work, 2)).Steps[i]; got.Order != release.StopFirst {
				t.Errorf("one that does not run: %+v", got)
			}
		}
	}
}

func mounts(list ...release.Mount) func(*release.ServiceSpec, *release.PlatformImage) {
	return func(s *release.ServiceSpec, _ *release.PlatformImage) { s.Mounts = list }
}

// The new container is well before the old one is touched, has its name when
// that stops, and some container of the service runs at every moment.
func TestStartFirst(t *testing.T) {
	w := newWorld(t)
	w.mustDeploy(w.job(w.stack("1"), 1))
	old, calls := w.container("executor"), len(w.fake.Calls())
	w.fake.After = func(op, _ string) error {
		if !slices.ContainsFunc(w.seen().Containers, func(c release.Container) bool { return c.Service == "executor" && c.Health == "healthy" }) {
			t.Errorf("after %s no executor is well", op)
		}
		return nil
	}
	second := w.stack("2")
	w.mustDeploy(w.job(second, 2))
	if err := w.whole(second); err != nil {
		t.Error(err)
	}
	var did []string
	for _, call := range w.fake.Calls()[calls:] {
		if strings.Contains(call, "agent-executor") {
			did = append(did, call)
		}
	}
	want := []string{"create agent-executor-1.promote-new-2", "start agent-executor-1.promote-new-2", "rename agent-executor-1", "hook agent-executor-1.promote-old-2", "rename agent-executor-1.promote-new-2",
		"stop agent-executor-1.promote-old-2", "remove agent-executor-1.promote-old-2"}
	if !slices.Equal(did, want) {
		t.Errorf("did %q", did)
	}
	if now := w.container("executor"); now.ID == old.ID || now.Labels["dev.promote.replaces"] != old.ID {
		t.Errorf("%+v", now)
	}
	if p := w.plan(w.job(second, 3)); p.Changes() {
		t.Errorf("a second plan: %+v", p.Steps)
	}
}

// A new container that does not get well goes; the old one was never stopped,
// renamed or restarted.
func TestStartFirstThatFails(t *testing.T) {
	w := newWorld(t)
	w.mustDeploy(w.job(w.stack("1"), 1))
	old := w.container("executor")
	w.fake.Health = func(c release.Container) string {
		if c.Reference == subject("executor", "2").String() {
			return "unhealthy"
		}
		return "healthy"
	}
	work := w.stack("1")
	newer := w.service("executor", "2")
	newer.DependsOn, work.Services[4] = work.Services[4].DependsOn, newer
	err := w.deploy(w.job(work, 2))
	if release.KindOf(err) != release.KindRolledBack {
		t.Error(err)
	}
	now := w.container("executor")
	if now.ID != old.ID || !now.Started.Equal(old.Started) || len(w.seen().Containers) != len(work.Services) {
		t.Errorf("%s", strings.Join(snapshot(w.seen()), "\n"))
	}
	for _, call := range w.fake.Calls() {
		if call == "stop agent-executor-1" || call == "rename agent-executor-1" {
			t.Error(call)
		}
	}
	// So it is when it is left for a person, and taken up then.
	j := w.job(work, 3)
	j.KeepBroken = true
	if err := w.deploy(j); release.KindOf(err) != release.KindBroken {
		t.Error(err)
	}
	if running := fmt.Sprint(snapshot(w.seen())); !strings.Contains(running, "agent-executor-1.promote-new-3") {
		t.Errorf("%s", running)
	}
	w.fake.Health = nil
	if err := deploy.Finish(t.Context(), w.fake, j); err != nil {
		t.Error(err)
	}
	if err := w.whole(work); err != nil {
		t.Error(err)
	}
}

// One that was ready when its attempt was interrupted gets its name and stays:
// there is no moment without a container that is well.
func TestStartFirstGoesOnWithWhatIsReady(t *testing.T) {
	w := newWorld(t)
	w.mustDeploy(w.job(w.stack("1"), 1))
	second := w.stack("2")
	j := w.job(second, 2)
	w.fake.Before = func(op, name string) error {
		if op == "rename" && name == "agent-executor-1.promote-new-2" {
			w.fake.Before = func(string, string) error { return errKilled }
			return errKilled
		}
		return nil
	}
	if err := w.deploy(j); err == nil {
		t.Fatal("it was not killed")
	}
	disarm(w.fake)
	ready, err := w.fake.Inspect(t.Context(), "agent-executor-1.promote-new-2")
	if err != nil {
		t.Fatal(err)
	}
	if err := deploy.Finish(t.Context(), w.fake, j); err != nil {
		t.Error(err)
	}
	if now := w.container("executor"); now.ID != ready.ID || !now.Started.Equal(ready.Started) {
		t.Errorf("it was made anew: %+v", now)
	}
	if err := w.whole(second); err != nil {
		t.Error(err)
	}
}
