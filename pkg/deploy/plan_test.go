package deploy_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/release"
)

// lines writes a plan as people would read it.
func lines(p release.Plan) []string {
	var list []string
	for _, s := range p.Steps {
		what := s.Service
		if what == "" {
			what = s.To
		}
		list = append(list, fmt.Sprintf("%s %s: %s", s.Action, what, s.Cause))
	}
	for _, r := range p.Blocking {
		list = append(list, "BLOCK "+r.Rule)
	}
	return list
}

func TestPlan(t *testing.T) {
	change := func(service string, change func(*release.Container)) func(*world, *deploy.Job) {
		return func(w *world, _ *deploy.Job) { w.fake.Change(w.container(service).ID, change) }
	}
	spec := func(service string, change func(*release.ServiceSpec)) func(*world, *deploy.Job) {
		return func(_ *world, j *deploy.Job) {
			for i, s := range j.Workload.Services {
				if s.Name == service {
					change(&j.Workload.Services[i])
				}
			}
		}
	}
	cases := []struct {
		name    string
		arrange func(*world, *deploy.Job)
		want    []string
	}{
		{"nothing", func(*world, *deploy.Job) {}, nil},
		{"an image", func(w *world, j *deploy.Job) {
			v2 := w.service("planner", "2")
			j.Workload.Services[3].Image = v2.Image
			j.Options.Missing = map[string]bool{"planner": true}
		}, []string{"pull planner: the image is not on the target", "recreate planner: the image changed"}},
		{"a configuration", spec("planner", func(s *release.ServiceSpec) { s.ConfigHash = "other" }), []string{"recreate planner: the configuration changed"}},
		{"a memory limit behind our back", change("planner", func(c *release.Container) { c.Memory = 512 << 20 }), []string{"recreate planner: memory is 536870912, the model says 134217728"}},
		{"a restart policy behind our back", change("planner", func(c *release.Container) { c.Restart = "no" }), []string{"recreate planner: restart is no, the model says always"}},
		{"another volume behind our back", change("store", func(c *release.Container) { c.Mounts[0].Name = "other" }), []string{"recreate store: volume /var/lib/store is other, the model says agent_memory"}},
		{"left a network", change("bus", func(c *release.Container) { c.Networks = nil }), []string{"recreate bus: network agent_back is none, the model says joined"}},
		{"privileged", change("bus", func(c *release.Container) { c.Privileged = true }), []string{"recreate bus: privileged is true, the model says false"}},
		{"another image behind our back", change("bus", func(c *release.Container) { c.Image = "sha256:x" }), []string{"recreate bus: the image changed"}},
		{"stopped", func(w *world, _ *deploy.Job) { w.fake.Die(w.container("planner").ID, 9) }, []string{"start planner: stopped, exit code 9"}},
		{"unhealthy", func(w *world, _ *deploy.Job) { w.fake.SetHealth(w.container("planner").ID, "unhealthy") }, []string{"recreate planner: unhealthy"}},
		{"never started", change("planner", func(c *release.Container) { c.State = "created" }), []string{"recreate planner: created, exit code 0"}},
		{"the migration failed", change("migrate", func(c *release.Container) { c.ExitCode = 2 }), []string{"recreate migrate: exited, exit code 2"}},
		{"gone", func(w *world, _ *deploy.Job) { _ = w.fake.Discard(context.Background(), w.container("bus").ID) }, []string{"create bus: missing"}},
		{"a service that the release does not have", func(_ *world, j *deploy.Job) { j.Workload.Services = j.Workload.Services[:4] }, []string{"remove executor: the release has no such service"}},
		{"a second container", func(w *world, j *deploy.Job) {
			_, _ = w.fake.Create(context.Background(), project, j.Workload.Services[0], "agent-bus-2", nil)
		}, []string{"remove bus: a second container, agent-bus-2"}},
		{"docker compose run", func(w *world, j *deploy.Job) {
			_, _ = w.fake.Create(context.Background(), project, j.Workload.Services[0], "agent-bus-run-1", map[string]string{"com.docker.compose.oneoff": "True"})
		}, nil},
		{"redeploy", func(_ *world, j *deploy.Job) {
			j.Workload.Services = j.Workload.Services[:2]
			j.Options.Redeploy = true
		}, []string{"recreate bus: a redeploy was asked for", "recreate store: a redeploy was asked for", "remove migrate: the release has no such service", "remove planner: the release has no such service", "remove executor: the release has no such service"}},
		{"a network and a volume", func(_ *world, j *deploy.Job) {
			j.Workload.Networks = append(j.Workload.Networks, release.NetworkSpec{Name: "agent_front"})
			j.Workload.Volumes = append(j.Workload.Volumes, release.VolumeSpec{Name: "agent_cache"})
		}, []string{"createNetwork agent_front: missing", "createVolume agent_cache: missing"}},
		{"external ones that are missing", func(_ *world, j *deploy.Job) {
			j.Workload.Networks = append(j.Workload.Networks, release.NetworkSpec{Name: "edge", External: true})
			j.Workload.Volumes = append(j.Workload.Volumes, release.VolumeSpec{Name: "shared", External: true})
		}, []string{"BLOCK target/network-missing", "BLOCK state/volume-missing"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			j := w.job(w.stack("1"), 1)
			w.mustDeploy(j)
			c.arrange(w, &j)
			p := deploy.Plan(j.Target, j.Workload, j.Images, w.seen(), j.Recorded, j.Options)
			if got := lines(p); !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			for _, s := range p.Steps {
				if s.Target != "prod-1" {
					t.Errorf("step for %q", s.Target)
				}
			}
		})
	}
}

// A plan does what it says: applied, the next one is empty.
func TestPlansConverge(t *testing.T) {
	w := newWorld(t)
	work := w.stack("1")
	w.mustDeploy(w.job(work, 1))
	w.fake.Change(w.container("planner").ID, func(c *release.Container) { c.Memory = 0 })
	w.fake.Die(w.container("executor").ID, 1)
	w.fake.SetHealth(w.container("bus").ID, "unhealthy")
	_, _ = w.fake.Create(context.Background(), project, work.Services[0], "agent-bus-2", nil)
	w.mustDeploy(w.job(work, 2))
	if p := w.plan(w.job(work, 3)); p.Changes() {
		t.Errorf("still to do: %v", lines(p))
	}
	if err := w.whole(work); err != nil {
		t.Error(err)
	}
}

// A step says from which digest to which.
func TestStepsNameDigests(t *testing.T) {
	w := newWorld(t)
	w.mustDeploy(w.job(w.stack("1"), 1))
	p := w.plan(w.job(w.stack("2"), 2))
	i := slices.IndexFunc(p.Steps, func(s release.Step) bool { return s.Service == "planner" && s.Action == deploy.ActionRecreate })
	if i < 0 || p.Steps[i].From != subject("planner", "1").Digest.String() || p.Steps[i].To != subject("planner", "2").Digest.String() {
		t.Errorf("%+v", p.Steps)
	}
}

func TestDifferences(t *testing.T) {
	w := newWorld(t)
	work := w.stack("1")
	w.mustDeploy(w.job(work, 1))
	w.fake.Change(w.container("planner").ID, func(c *release.Container) { c.Memory = 512 << 20 })
	w.fake.OOM(w.container("executor").ID)
	w.fake.SetHealth(w.container("store").ID, "unhealthy")
	w.fake.Change(w.container("bus").ID, func(c *release.Container) { c.Image = "sha256:0" })
	_, _ = w.fake.Create(context.Background(), project, release.ServiceSpec{Name: "miner", Image: work.Services[0].Image}, "agent-miner-1", nil)
	_ = w.fake.Discard(context.Background(), w.container("migrate").ID)
	var got []string
	for _, d := range deploy.Differences(work, w.images, w.seen(), nil) {
		got = append(got, fmt.Sprintf("%s %s %q %q", d.Service, d.Field, d.Recorded, d.Running))
	}
	bus := work.Services[0].Image.Digest.String()
	want := []string{
		`bus image "` + bus + `" "` + bus + `"`,
		`store health "healthy" "unhealthy"`,
		`migrate state "completed" "missing"`,
		`planner memory "134217728" "536870912"`,
		`executor state "running" "exited, exit code 137, out of memory"`,
		`miner state "" "the release has no such service"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A saved plan counts only while what it rests on is there.
func TestAPlanRemembersWhatItSaw(t *testing.T) {
	w := newWorld(t)
	first := w.stack("1")
	w.mustDeploy(w.job(first, 1))
	remembered := func() map[string]string { return w.plan(w.job(w.stack("2"), 2)).Seen }
	before := remembered()
	for _, name := range []string{"container agent-store-1", "volume " + project + "_memory", "network " + first.Networks[0].Name} {
		if before[name] == "" {
			t.Errorf("no %s in %v", name, before)
		}
	}
	if again := remembered(); !maps.Equal(before, again) {
		t.Errorf("first %v, then %v", before, again)
	}
	for name, change := range map[string]func(){
		"container agent-store-1":       func() { w.fake.Die("agent-store-1", 1) },
		"volume " + project + "_memory": func() { w.fake.ReplaceVolume(project + "_memory") },
	} {
		was := remembered()
		change()
		if now := remembered(); now[name] == was[name] {
			t.Errorf("%s is still %s", name, now[name])
		}
	}
}

// Nor while its services would get what they would have got.
func TestAPlanRemembersValuesByFingerprintsOnly(t *testing.T) {
	w := newWorld(t)
	first := w.stack("1")
	w.known()
	w.mustDeploy(w.job(first, 1))
	with := func(value string) map[string]string {
		stack := w.stack("2")
		for i := range stack.Services {
			stack.Services[i].Environment = map[string]string{"TOKEN": value}
		}
		return w.plan(w.job(stack, 2)).Seen
	}
	one, same, other := with("first-secret"), with("first-secret"), with("other-secret")
	if !maps.Equal(one, same) {
		t.Errorf("first %v, then %v", one, same)
	}
	if is := one["values of store"]; is == "" || is == other["values of store"] || is == one["values of planner"] {
		t.Errorf("%q, with another value %q, of another service %q", is, other["values of store"], one["values of planner"])
	}
	for name, text := range one {
		if strings.Contains(text, "secret") {
			t.Errorf("%s: %s", name, text)
		}
	}
}
