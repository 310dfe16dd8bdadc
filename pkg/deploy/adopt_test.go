package deploy_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/release"
)

// composed is a target on which docker compose started the stack: same images
// and settings, hashes of its own, none of our labels.
func composed(t *testing.T, change func(*release.ServiceSpec)) (*world, release.Workload) {
	t.Helper()
	w := newWorld(t)
	work := w.secretive()
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range work.Networks {
		check(w.fake.CreateNetwork(ctx, project, n, nil))
	}
	for _, v := range work.Volumes {
		check(w.fake.CreateVolume(ctx, project, v, nil))
	}
	for _, s := range work.Services {
		check(w.fake.Pull(ctx, s.Image))
		s.ConfigHash = "compose's own of " + s.Name
		if change != nil {
			change(&s)
		}
		id, err := w.fake.Create(ctx, project, s, project+"_"+s.Name+"_1", nil)
		check(err)
		check(w.fake.Start(ctx, id))
	}
	return w, work
}

func adopting(w *world, work release.Workload, sequence int64) deploy.Job {
	j := w.job(work, sequence)
	j.Options.Adopt = true
	j.KeepOld, j.KeepBroken = true, true
	return j
}

func actions(p release.Plan) string {
	var list []string
	for _, s := range p.Steps {
		list = append(list, strings.TrimSpace(s.Action+" "+s.Service))
	}
	return strings.Join(list, ", ")
}

func (w *world) drifts(work release.Workload, recorded *release.TargetStatus, values bool) []string {
	q := deploy.Query{Project: project, Images: w.images, Subjects: map[string]release.Subject{}, Recorded: recorded, Key: "k"}
	for name := range w.images {
		q.Subjects[name] = subjectOf(name)
	}
	if values {
		q.Workload = &work
	}
	r := deploy.Drift(q, w.seen(), nil)
	return append(fields(r.Differences), r.Unknown...)
}

func TestAdoptingRestartsNothing(t *testing.T) {
	w, work := composed(t, nil)
	if p := w.plan(w.job(work, 1)); strings.Contains(actions(p), "adopt") || strings.Count(actions(p), "recreate") != 5 {
		t.Errorf("without being asked: %s", actions(p))
	}
	j := adopting(w, work, 1)
	p := w.plan(j)
	if want := "adopt bus, adopt store, adopt migrate, adopt planner, adopt executor"; actions(p) != want {
		t.Fatalf("plan: %s: %+v", actions(p), p.Steps)
	}
	if cause := p.Steps[1].Cause; !strings.Contains(cause, "not restarted") || !strings.Contains(cause, "agent_memory at /var/lib/store") {
		t.Errorf("cause %q", cause)
	}
	before, calls := snapshot(w.seen()), len(w.fake.Calls())
	w.mustDeploy(j)
	if now := snapshot(w.seen()); !slices.Equal(before, now) {
		t.Errorf("was %q, is %q", before, now)
	}
	if did := w.fake.Calls()[calls:]; len(did) != 1 || !strings.HasPrefix(did[0], "createVolume") {
		t.Errorf("it did %q", did)
	}
	recorded := w.recorded(work)
	for _, r := range recorded.Running {
		if r.Desired.IsZero() || r.Container == "" || r.Service == "store" && r.Volumes["/var/lib/store"] == "" {
			t.Errorf("recorded %+v", r)
		}
	}
	// An auditor without the values sees as much as anybody.
	for _, values := range []bool{true, false} {
		if list := w.drifts(work, recorded, values); len(list) != 0 {
			t.Errorf("drift with values %v: %q", values, list)
		}
	}
	j = w.job(work, 2)
	j.Recorded = recorded
	if p := w.plan(j); len(p.Steps) != 0 || len(p.Blocking) != 0 {
		t.Errorf("afterwards: %+v", p)
	}
	// Twice is once.
	if p := w.plan(adopting(w, work, 3)); len(p.Steps) != 0 {
		t.Errorf("again: %s", actions(p))
	}
}

// What differs is replaced, and the plan says why.
func TestAdoptingReplacesWhatDiffers(t *testing.T) {
	w, work := composed(t, func(s *release.ServiceSpec) {
		switch s.Name {
		case "planner":
			s.Environment = map[string]string{"DB_PASSWORD": "hunter3", "MODE": "calm"}
		case "executor":
			s.MemoryLimit = 64 << 20
		}
	})
	j := adopting(w, work, 1)
	p := w.plan(j)
	if want := "adopt bus, adopt store, adopt migrate, recreate planner, recreate executor"; actions(p) != want {
		t.Fatalf("plan: %s", actions(p))
	}
	for _, s := range p.Steps {
		if s.Action == deploy.ActionRecreate && !strings.Contains(s.Cause, "cannot be adopted") || strings.Contains(s.Cause, "hunter") {
			t.Errorf("cause %q", s.Cause)
		}
	}
	if c := p.Steps[4].Cause; !strings.Contains(c, "memory is 67108864, the model says 134217728") {
		t.Errorf("cause %q", c)
	}
	w.mustDeploy(j)
	if err := deploy.Clean(t.Context(), w.fake, j); err != nil {
		t.Fatal(err)
	}
	recorded := w.recorded(work)
	if list := w.drifts(work, recorded, false); len(list) != 0 {
		t.Errorf("drift: %q", list)
	}
}

func TestAdoptingTakesOnlyWhatIsWell(t *testing.T) {
	w, work := composed(t, nil)
	for _, c := range w.seen().Containers {
		if c.Service == "planner" {
			if err := w.fake.Stop(t.Context(), c.ID, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if p := w.plan(adopting(w, work, 1)); !strings.Contains(actions(p), "recreate planner") || !strings.Contains(actions(p), "adopt bus") {
		t.Errorf("plan: %s", actions(p))
	}
	w, work = composed(t, nil)
	image := w.images["planner"]
	image.Config, image.Manifest = release.DigestOf([]byte("another")), release.DigestOf([]byte("one"))
	w.images["planner"] = image
	if p := w.plan(adopting(w, work, 1)); !strings.Contains(actions(p), "recreate planner") {
		t.Errorf("plan: %s", actions(p))
	}
}

// After the adoption a container made by hand in its place is another one, and
// the next release replaces all and forgets.
func TestAfterAnAdoption(t *testing.T) {
	w, work := composed(t, nil)
	j := adopting(w, work, 1)
	w.mustDeploy(j)
	recorded := w.recorded(work)
	ctx := context.Background()
	var planner release.Container
	for _, c := range w.seen().Containers {
		if c.Service == "planner" {
			planner = c
		}
	}
	if err := errors.Join(w.fake.Stop(ctx, planner.ID, 0), w.fake.Remove(ctx, planner.ID)); err != nil {
		t.Fatal(err)
	}
	s := work.Services[3]
	s.ConfigHash = "compose's own of planner"
	id, err := w.fake.Create(ctx, project, s, planner.Name, nil)
	if err := errors.Join(err, w.fake.Start(ctx, id)); err != nil {
		t.Fatal(err)
	}
	if list := w.drifts(work, recorded, true); !slices.Contains(list, "planner: origin") {
		t.Errorf("drift: %q", list)
	}
	notes := func() (n int) {
		for _, v := range w.seen().Volumes {
			n += len(v.Adoptions())
		}
		return n
	}
	if notes() != 5 {
		t.Errorf("%d notes", notes())
	}
	next := w.stack("2")
	w.known()
	next.Services[0].ConfigHash = "hash of bus 2" // all are replaced
	j = w.job(next, 2)
	j.Recorded, j.KeepOld, j.KeepBroken = recorded, true, true
	for name := range w.images {
		image := w.images[name]
		image.Defaults = nil
		w.images[name] = image
	}
	w.mustDeploy(j)
	if notes() != 5 {
		t.Error("the way back has forgotten what was adopted")
	}
	theirs := `[{"container":"gone","found":"h","configHash":"h","labels":{}}]`
	if err := w.fake.CreateVolume(ctx, "other", release.VolumeSpec{Key: "note", Name: "other_note"}, map[string]string{release.LabelAdopted: theirs}); err != nil {
		t.Fatal(err)
	}
	if err := deploy.Clean(ctx, w.fake, j); err != nil {
		t.Fatal(err)
	}
	if notes() != 1 {
		t.Errorf("%d notes, of which one is another project's; those of containers that are gone go", notes())
	}
	if _, there := w.seen().Volume(project + "_memory"); !there {
		t.Error("a volume with data is gone")
	}
}

func TestAnUndoneAdoptionIsForgotten(t *testing.T) {
	w, work := composed(t, nil)
	j := adopting(w, work, 1)
	w.mustDeploy(j)
	before := snapshot(w.seen())
	if err := deploy.Undo(t.Context(), w.fake, j); err != nil {
		t.Fatal(err)
	}
	if now := snapshot(w.seen()); !slices.Equal(before, now) {
		t.Errorf("was %q, is %q", before, now)
	}
	if p := w.plan(w.job(work, 2)); strings.Count(actions(p), "recreate") != 5 {
		t.Errorf("it is still taken for ours: %s", actions(p))
	}
}

// Findings about state that block a promotion are shown by an adoption.
func TestAdoptingIsExemptFromStateFindings(t *testing.T) {
	w, work := composed(t, nil)
	recorded := &release.TargetStatus{Name: "prod-1", Running: []release.Running{{Service: "store", Volumes: map[string]string{"/var/lib/store": "agent_memory@AAAAAAAAAAAAAAAAAAAAAAAAAA"}}}}
	j := w.job(work, 1)
	j.Recorded = recorded
	if p := w.plan(j); len(p.Blocking) != 1 || len(p.Accepted) != 0 {
		t.Errorf("plan %+v", p)
	}
	j.Options.Adopt = true
	if p := w.plan(j); len(p.Blocking) != 0 || len(p.Accepted) != 1 || p.Accepted[0].Rule != "state/volume-replaced" {
		t.Errorf("plan %+v", p)
	}
}
