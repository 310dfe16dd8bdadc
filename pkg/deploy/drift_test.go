package deploy_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/release"
)

// known gives every image of the world defaults, so that all fields are compared.
func (w *world) known() {
	for name, image := range w.images {
		image.Defaults = &release.ImageDefaults{Environment: map[string]string{"PATH": "/bin"}, Command: []string{"/probe", "run"}}
		w.images[name] = image
		w.fake.Offer(subjectOf(name), image)
	}
}

// secretive is the stack with a password.
func (w *world) secretive() release.Workload {
	work := w.stack("1")
	work.Services[3].Environment = map[string]string{"DB_PASSWORD": "hunter2", "MODE": "calm"}
	work.Services[3].Command = []string{"serve", "--token", "hunter2"}
	work.Services[3].Filled = []string{"command"}
	w.known()
	return work
}

func subjectOf(name string) release.Subject { return subject(name, "1") }

// deployed is a target that runs the stack, and what the ledger says of it.
func deployed(t *testing.T) (*world, deploy.Query) {
	t.Helper()
	w := newWorld(t)
	work := w.secretive()
	j := w.job(work, 1)
	w.mustDeploy(j)
	q := deploy.Query{Project: project, Images: w.images, Subjects: map[string]release.Subject{}, Built: map[string]bool{"planner": true}, Recorded: w.recorded(work), Key: "k"}
	for name := range w.images {
		q.Subjects[name] = subjectOf(name)
	}
	return w, q
}

func fields(list []deploy.Difference) []string {
	var out []string
	for _, d := range list {
		out = append(out, strings.TrimSpace(d.Service+": "+d.Field))
	}
	slices.Sort(out)
	return out
}

func (w *world) drift(q deploy.Query, others ...release.Outsider) deploy.Report {
	w.t.Helper()
	r := deploy.Drift(q, w.seen(), others)
	for _, d := range r.Differences {
		if strings.Contains(d.Recorded+d.Running, "hunter") {
			w.t.Errorf("a secret is shown: %+v", d)
		}
	}
	return r
}

func TestDriftNamesWhatDiffers(t *testing.T) {
	change := func(change func(*release.Container)) func(*world, *deploy.Query) []release.Outsider {
		return func(w *world, _ *deploy.Query) []release.Outsider {
			w.fake.Change(w.container("planner").ID, change)
			return nil
		}
	}
	spec := func(set func(*release.ServiceSpec)) func(*world, *deploy.Query) []release.Outsider {
		return change(func(c *release.Container) {
			made := *c.Made
			made.Spec.Environment = map[string]string{}
			for k, v := range c.Made.Spec.Environment {
				made.Spec.Environment[k] = v
			}
			set(&made.Spec)
			c.Made = &made
		})
	}
	outsider := func(o release.Outsider) func(*world, *deploy.Query) []release.Outsider {
		return func(*world, *deploy.Query) []release.Outsider { return []release.Outsider{o} }
	}
	planner := subjectOf("planner")
	for _, c := range []struct {
		name    string
		arrange func(*world, *deploy.Query) []release.Outsider
		want    []string
	}{
		{"nothing", func(*world, *deploy.Query) []release.Outsider { return nil }, nil},
		{"a value", spec(func(s *release.ServiceSpec) { s.Environment["DB_PASSWORD"] = "hunter3" }), []string{"planner: environment DB_PASSWORD"}},
		{"a key more", spec(func(s *release.ServiceSpec) { s.Environment["X"] = "" }), []string{"planner: environment X"}},
		{"a key less", spec(func(s *release.ServiceSpec) { delete(s.Environment, "MODE") }), []string{"planner: environment MODE"}},
		{"an image's own key", spec(func(s *release.ServiceSpec) { s.Environment["PATH"] = "/" }), []string{"planner: environment PATH"}},
		{"a secret argument", spec(func(s *release.ServiceSpec) { s.Command = []string{"serve", "--token", "hunter3"} }), []string{"planner: command"}},
		{"a capability", spec(func(s *release.ServiceSpec) { s.CapAdd = []string{"CAP_SYS_ADMIN"} }), []string{"planner: capAdd"}},
		{"a device", change(func(c *release.Container) {
			made := *c.Made
			made.Further = map[string]string{"device /dev/kvm": "/dev/kvm:rwm"}
			c.Made = &made
		}), []string{"planner: device /dev/kvm"}},
		{"memory", change(func(c *release.Container) { c.Memory = 1 << 30 }), []string{"planner: memory"}},
		{"a network", change(func(c *release.Container) { c.Networks["other"] = "" }), []string{"planner: network other"}},
		{"a network's alias", spec(func(s *release.ServiceSpec) {
			s.Networks = []release.Attach{{Network: project + "_back", Aliases: []string{"boss"}}}
		}), []string{"planner: network agent_back"}},
		{"another image", change(func(c *release.Container) { c.Image = "sha256:x" }), []string{"planner: image"}},
		{"stopped", change(func(c *release.Container) { c.State = "exited" }), []string{"planner: state"}},
		{"a name", change(func(c *release.Container) { c.Name = "x" }), []string{"planner: name"}},
		{"Compose's hash", change(func(c *release.Container) { c.ConfigHash = "x" }), []string{"planner: configuration"}},
		{"another volume of the name", func(w *world, _ *deploy.Query) []release.Outsider {
			w.fake.ReplaceVolume(project + "_memory")
			return nil
		}, []string{"store: volume /var/lib/store"}},
		{"made by somebody else", change(func(c *release.Container) { delete(c.Labels, release.LabelDesired) }), []string{"planner: origin"}},
		{"a forged description", change(func(c *release.Container) {
			c.Labels[release.LabelDesired] = strings.ReplaceAll(c.Labels[release.LabelDesired], "134217728", "134217729")
			c.Memory = 134217729
		}), []string{"planner: origin"}},
		{"a service that nobody asked for", change(func(c *release.Container) { c.Service = "miner" }), []string{"miner: container agent-planner-1", "planner: state"}},
		{"a twin", outsider(release.Outsider{Name: "x", Image: "sha256:y", Reference: "elsewhere/x@" + planner.Digest.String()}), []string{"planner: twin x"}},
		{"a twin in another project", outsider(release.Outsider{Name: "x", Project: "other", Reference: "x@" + planner.Digest.String()}), []string{"planner: twin x"}},
		{"a public image in another project", outsider(release.Outsider{Name: "x", Project: "other", Reference: "x@" + subjectOf("bus").Digest.String()}), nil},
		{"another environment of promote", outsider(release.Outsider{Name: "x", Project: "other", Promoted: true, Reference: "x@" + planner.Digest.String()}), nil},
		{"another container on a volume", outsider(release.Outsider{Name: "x", Project: "other", Volumes: []string{project + "_memory"}}), []string{"store: twin x on volume agent_memory"}},
		{"something else", outsider(release.Outsider{Name: "x", Image: "sha256:y", Volumes: []string{"y"}}), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, q := deployed(t)
			others := c.arrange(w, &q)
			if got := fields(w.drift(q, others...).Differences); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// What nothing vouches for is said, never passed over.
func TestDriftKnowsWhatItCannotCompare(t *testing.T) {
	w, q := deployed(t)
	w.fake.Change(w.container("planner").ID, func(c *release.Container) { delete(c.Labels, release.LabelDesired) })
	if r := w.drift(q); !slices.Equal(r.Unknown, []string{"planner"}) {
		t.Errorf("unknown %q", r.Unknown)
	}
	work := w.secretive()
	work.Services[3].Environment["DB_PASSWORD"] = "hunter3"
	q.Workload = &work // with values, that service is compared with the model
	r := w.drift(q)
	if got := fields(r.Differences); len(r.Unknown) != 0 || !slices.Equal(got, []string{"planner: environment DB_PASSWORD", "planner: origin"}) {
		t.Errorf("unknown %q, differences %q", r.Unknown, got)
	}
}

func TestDriftOfNetworksAndVolumes(t *testing.T) {
	w, q := deployed(t)
	work := w.secretive()
	q.Workload = &work
	seen := w.seen()
	seen.Networks = []string{project + "_back"}
	seen.NetworkSpecs = []release.NetworkSpec{{Name: project + "_back", Driver: "bridge", Internal: true, Options: map[string]string{"mtu": "9000"}}}
	for i := range seen.Volumes {
		seen.Volumes[i].Driver = "nfs"
	}
	want := []string{": network agent_back internal", ": network agent_back option mtu", ": volume agent_memory driver"}
	if got := fields(deploy.Drift(q, seen, nil).Differences); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What an engine filled in when it made a container is no difference later, and
// what was changed since is.
func TestWhatTheEngineFilledIn(t *testing.T) {
	w, q := deployed(t)
	work := w.secretive()
	id := w.container("bus").ID
	fill := func(driver string) {
		w.fake.Change(id, func(c *release.Container) {
			made := *c.Made
			made.Spec.LogDriver = driver
			c.Made = &made
		})
	}
	fill("journald")
	running, list := deploy.ReadBack(work, w.images, w.seen(), nil, nil)
	if got := fields(list); slices.Contains(got, "bus: logDriver") {
		t.Errorf("differences %q", got)
	}
	q.Recorded = &release.TargetStatus{Running: running}
	if got := fields(w.drift(q).Differences); len(got) != 0 {
		t.Errorf("differences %q", got)
	}
	fill("none")
	if got := fields(w.drift(q).Differences); !slices.Equal(got, []string{"bus: logDriver"}) {
		t.Errorf("differences %q", got)
	}
	again, _ := deploy.ReadBack(work, w.images, w.seen(), q.Recorded, nil)
	q.Recorded = &release.TargetStatus{Running: again}
	if got := fields(w.drift(q).Differences); !slices.Equal(got, []string{"bus: logDriver"}) {
		t.Errorf("reading back again takes drift for the record: %q", got)
	}
}

// A container that was just made without what the model drops is not what was
// meant, whatever the engine says.
func TestReadBackInsistsOnSecurity(t *testing.T) {
	w, _ := deployed(t)
	w.fake.Change(w.container("bus").ID, func(c *release.Container) {
		made := *c.Made
		made.Spec.CapAdd = []string{"ALL"}
		c.Made = &made
	})
	work := w.secretive()
	if _, list := deploy.ReadBack(work, w.images, w.seen(), nil, nil); !slices.Contains(fields(list), "bus: capAdd") {
		t.Errorf("differences %q", fields(list))
	}
}

// Plans see what drift sees.
func TestPlanMendsWhatDrifted(t *testing.T) {
	w, q := deployed(t)
	work := w.secretive()
	j := w.job(work, 2)
	j.Recorded = q.Recorded
	if got := lines(w.plan(j)); len(got) != 0 {
		t.Fatalf("untouched: %q", got)
	}
	w.fake.Change(w.container("planner").ID, func(c *release.Container) {
		made := *c.Made
		made.Spec.CapAdd, made.Spec.Command = []string{"SYS_ADMIN"}, []string{"serve", "--token", "hunter3"}
		c.Made = &made
	})
	if got := lines(w.plan(j)); !slices.Equal(got, []string{`recreate planner: capAdd is ["SYS_ADMIN"], the model says none; command changed`}) {
		t.Errorf("got %q", got)
	}
	w.mustDeploy(j)
	if got := fields(w.drift(deploy.Query{Project: project, Images: w.images, Subjects: q.Subjects, Recorded: w.recorded(work), Key: "k"}).Differences); len(got) != 0 {
		t.Errorf("after the fix: %q", got)
	}
	j.Recorded, j.Options.Recreate = w.recorded(work), map[string]bool{"bus": true}
	if got := lines(w.plan(j)); !slices.Equal(got, []string{"recreate bus: it drifted from its record"}) {
		t.Errorf("got %q", got)
	}
}

// docs/drift.md names every field of the table.
func TestDocsNameEveryField(t *testing.T) {
	text, err := os.ReadFile("../../docs/drift.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range deploy.FieldTable() {
		if !strings.Contains(string(text), line) {
			t.Errorf("docs/drift.md lacks the line %s", line)
		}
	}
}
