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

// A release that would start without its state is blocked, with the rule that
// says why; nothing is touched.
func TestStateBlocks(t *testing.T) {
	const memory = project + "_memory"
	store := func(change func(*release.ServiceSpec)) func(*world, *deploy.Job) {
		return func(_ *world, j *deploy.Job) { change(&j.Workload.Services[1]) }
	}
	remove := func(w *world, _ *deploy.Job) {
		ctx := context.Background()
		if err := w.fake.Discard(ctx, w.container("store").ID); err != nil {
			t.Fatal(err)
		}
		if err := w.fake.RemoveVolume(ctx, memory); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		name    string
		arrange func(*world, *deploy.Job)
		rules   []string
	}{
		{"as it was", func(*world, *deploy.Job) {}, nil},
		{"removed", remove, []string{"state/volume-missing"}},
		{"removed, accepted", func(w *world, j *deploy.Job) {
			remove(w, j)
			j.Options.AcceptLoss = []string{memory}
		}, nil},
		{"removed before the first deployment", func(w *world, j *deploy.Job) {
			remove(w, j)
			j.Recorded = nil
		}, nil},
		{"replaced", func(w *world, _ *deploy.Job) { w.fake.ReplaceVolume(memory) }, []string{"state/volume-replaced"}},
		{"renamed in the model", store(func(s *release.ServiceSpec) { s.Mounts[0].Source = "agent_store" }), []string{"state/volume-renamed"}},
		{"not mounted", store(func(s *release.ServiceSpec) { s.Mounts = nil }), []string{"state/volume-unmounted"}},
		{"mounted elsewhere", store(func(s *release.ServiceSpec) { s.Mounts[0].Target = "/srv" }), []string{"state/volume-unmounted"}},
		{"a directory of the host instead", store(func(s *release.ServiceSpec) { s.Mounts[0].Type = "bind" }), []string{"state/volume-unmounted"}},
		{"renamed, accepted by the new name", func(w *world, j *deploy.Job) {
			j.Workload.Services[1].Mounts[0].Source = "agent_store"
			j.Workload.Volumes = append(j.Workload.Volumes, release.VolumeSpec{Key: "store", Name: "agent_store"})
			j.Options.AcceptLoss = []string{"agent_store"}
		}, nil},
		{"an anonymous one instead", store(func(s *release.ServiceSpec) { s.Mounts[0].Source = "" }), []string{"state/volume-renamed"}},
		{"a new one", store(func(s *release.ServiceSpec) {
			s.Mounts = append(s.Mounts, release.Mount{Type: "volume", Source: "agent_more", Target: "/more"})
		}), []string{"state/volume-new"}},
		{"a new anonymous one", store(func(s *release.ServiceSpec) {
			s.Mounts = append(s.Mounts, release.Mount{Type: "volume", Target: "/more"})
		}), []string{"state/volume-new"}},
		{"another driver", func(_ *world, j *deploy.Job) { j.Workload.Volumes[0].Driver = "nfs" }, []string{"state/volume-driver"}},
		{"other options", func(_ *world, j *deploy.Job) {
			j.Workload.Volumes[0].Options = map[string]string{"type": "tmpfs", "device": "tmpfs"}
		}, []string{"state/volume-driver"}},
		{"emptied", func(_ *world, j *deploy.Job) { j.Options.Empty = []string{memory} }, []string{"state/volume-empty"}},
		{"empty, accepted", func(_ *world, j *deploy.Job) {
			j.Options.Empty, j.Options.AcceptLoss = []string{memory}, []string{memory}
		}, nil},
		{"empty, accepted before", func(_ *world, j *deploy.Job) {
			j.Options.Empty, j.Options.AcceptedEmpty = []string{memory}, []string{memory}
		}, nil},
		{"another one, whatever was accepted before", func(w *world, j *deploy.Job) {
			j.Options.AcceptedEmpty = []string{memory}
			w.fake.ReplaceVolume(memory)
		}, []string{"state/volume-replaced"}},
		{"the anonymous volume of the bus", func(w *world, _ *deploy.Job) {
			w.images["bus"] = release.PlatformImage{Manifest: w.images["bus"].Manifest, Config: w.images["bus"].Config}
		}, []string{"state/volume-unmounted"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			work := w.stack("1")
			w.mustDeploy(w.job(work, 1))
			j := w.job(w.stack("2"), 2)
			old := newWorld(t)
			oldWork := old.stack("1")
			running, _ := deploy.ReadBack(oldWork, old.images, w.seen(), nil, nil)
			j.Recorded = &release.TargetStatus{Name: "prod-1", Running: running}
			c.arrange(w, &j)
			p := w.plan(j)
			var rules []string
			for _, r := range p.Blocking {
				rules = append(rules, r.Rule)
				if r.Message == "" || r.Fix == "" {
					t.Errorf("%s says nothing: %+v", r.Rule, r)
				}
			}
			if !slices.Equal(rules, c.rules) {
				t.Errorf("rules %v, want %v", rules, c.rules)
			}
			if len(p.Blocking)+len(p.Accepted) > 0 && (len(j.Options.AcceptLoss) > 0) == (len(p.Accepted) == 0) {
				t.Errorf("blocking %+v, accepted %+v", p.Blocking, p.Accepted)
			}
			if len(c.rules) == 0 {
				w.mustDeploy(j)
				return
			}
			before, calls := snapshot(w.seen()), len(w.fake.Calls())
			err := deploy.Apply(context.Background(), w.fake, j, p)
			if release.KindOf(err) != release.KindDenied || !strings.Contains(err.Error(), c.rules[0]) {
				t.Errorf("applied: %v (%s)", err, release.KindOf(err))
			}
			for _, call := range w.fake.Calls()[calls:] {
				if !strings.HasPrefix(call, "pull") {
					t.Errorf("effect %s", call)
				}
			}
			if after := snapshot(w.seen()); !slices.Equal(before, after) {
				t.Error("something changed")
			}
		})
	}
}

// A volume that goes away between the look and the start of the container: the
// engine would make an empty one, and the container must not start with it.
func TestAVolumeThatVanishesOnTheWay(t *testing.T) {
	w := newWorld(t)
	first := w.stack("1")
	w.mustDeploy(w.job(first, 1))
	recorded := w.recorded(first)
	j := w.job(w.stack("2"), 2)
	j.Recorded = recorded
	p := w.plan(j)
	w.fake.Before = func(op, subject string) error {
		if op == "create" && subject == "agent-store-1" {
			w.fake.ReplaceVolume(project + "_memory")
		}
		return nil
	}
	err := deploy.Apply(context.Background(), w.fake, j, p)
	if err == nil || !strings.Contains(err.Error(), "not the one that was there") {
		t.Errorf("%v", err)
	}
	for _, c := range w.seen().Containers {
		if c.Reference == subject("store", "2").String() {
			t.Errorf("the new store is there: %+v", c)
		}
	}
	started := 0
	for _, call := range w.fake.Calls() {
		if call == "start agent-store-1" {
			started++
		}
	}
	if started != 2 { // at the first deployment, and when it was brought back
		t.Errorf("store was started %d times", started)
	}
}

// A volume that is replaced after the plan was made, before anything is done.
func TestAVolumeThatIsReplacedAfterThePlan(t *testing.T) {
	w := newWorld(t)
	w.mustDeploy(w.job(w.stack("1"), 1))
	j := w.job(w.stack("2"), 2)
	p := w.plan(j)
	w.fake.Before = func(op, _ string) error {
		if op == "events" {
			w.fake.Before = nil
			w.fake.ReplaceVolume(project + "_memory")
		}
		return nil
	}
	if err := deploy.Apply(context.Background(), w.fake, j, p); err == nil || !strings.Contains(err.Error(), "not the one that was there") {
		t.Errorf("%v", err)
	}
}

// What a service keeps in the anonymous volume of an image is state, too.
func TestAnonymousVolumesAreInherited(t *testing.T) {
	w := newWorld(t)
	work := w.stack("1")
	w.mustDeploy(w.job(work, 1))
	volume := w.container("bus").Mounts[0]
	recorded := w.recorded(work)
	work.Services[0].ConfigHash = "changed"
	for sequence := int64(2); sequence < 4; sequence++ {
		j := w.job(work, sequence)
		j.Recorded, j.Options.Redeploy = recorded, true
		before := w.container("bus").ID
		w.mustDeploy(j)
		bus := w.container("bus")
		if bus.ID == before || len(bus.Mounts) != 1 || bus.Mounts[0].Name != volume.Name || bus.Mounts[0].Identity != volume.Identity {
			t.Errorf("%+v, before %+v", bus.Mounts, volume)
		}
	}
}

// Going back to the release before by deploying it again, as the same attempt
// and after Clean: what the service kept in an anonymous volume is still there.
func TestAnonymousVolumesSurviveTheWayBack(t *testing.T) {
	w := newWorld(t)
	first, second := w.stack("1"), w.stack("1")
	second.Services[0].ConfigHash = "changed"
	w.mustDeploy(w.job(first, 1))
	volume := w.container("bus").Mounts[0]
	w.mustDeploy(w.job(second, 2))
	if err := deploy.Finish(context.Background(), w.fake, w.job(first, 2)); err != nil {
		t.Fatal(err)
	}
	if err := w.whole(first); err != nil {
		t.Error(err)
	}
	if now := w.container("bus").Mounts[0]; now.Name != volume.Name || now.Identity != volume.Identity {
		t.Errorf("%+v, before %+v", now, volume)
	}
}

// Reading back finds a volume that is not the recorded one.
func TestReadBackComparesVolumes(t *testing.T) {
	w := newWorld(t)
	work := w.stack("1")
	w.mustDeploy(w.job(work, 1))
	recorded := w.recorded(work)
	w.fake.ReplaceVolume(project + "_memory")
	_, differences := deploy.ReadBack(work, w.images, w.seen(), recorded, nil)
	if len(differences) != 1 || differences[0].Service != "store" || differences[0].Field != "volume /var/lib/store" {
		t.Errorf("%+v", differences)
	}
	if _, differences = deploy.ReadBack(work, w.images, w.seen(), recorded, []string{project + "_memory"}); len(differences) != 0 {
		t.Errorf("accepted: %+v", differences)
	}
}

// Engines before 23.0 cannot tell volumes that others made apart; their name
// is then all there is.
func TestVolumesWithoutIdentity(t *testing.T) {
	w := newWorld(t)
	work := w.stack("1")
	w.mustDeploy(w.job(work, 1))
	recorded := w.recorded(work)
	for _, r := range recorded.Running {
		for path, identity := range r.Volumes {
			r.Volumes[path], _, _ = strings.Cut(identity, "@")
		}
	}
	j := w.job(work, 2)
	j.Recorded = recorded
	if p := w.plan(j); len(p.Blocking) != 0 {
		t.Errorf("%+v", p.Blocking)
	}
}

// What was accepted is read back as it is, and nothing else.
func TestReadBackOfAnAcceptedRename(t *testing.T) {
	w := newWorld(t)
	work := w.stack("1")
	w.mustDeploy(w.job(work, 1))
	recorded := w.recorded(work)
	work.Services[1].Mounts = []release.Mount{{Type: "volume", Source: "agent_store", Target: "/var/lib/store"}}
	work.Volumes = append(work.Volumes, release.VolumeSpec{Key: "store", Name: "agent_store"})
	j := w.job(work, 2)
	j.Recorded, j.Options.AcceptLoss = recorded, []string{"agent_store"}
	w.mustDeploy(j)
	if _, list := deploy.ReadBack(work, w.images, w.seen(), recorded, []string{"agent_store"}); len(list) != 0 {
		t.Errorf("accepted: %+v", list)
	}
	if _, list := deploy.ReadBack(work, w.images, w.seen(), recorded, []string{"other"}); len(list) != 1 {
		t.Errorf("not accepted: %+v", list)
	}
}

type looker map[string]error // by container; none is something

var errEmpty = errors.New("empty")

func (l looker) Holds(_ context.Context, container, _ string) (bool, error) {
	err := l[container]
	if errors.Is(err, errEmpty) {
		return false, nil
	}
	return err == nil, err
}

func TestEmptyVolumes(t *testing.T) {
	w := newWorld(t)
	work := w.stack("1")
	w.mustDeploy(w.job(work, 1))
	recorded, store := w.recorded(work), w.container("store").ID
	const memory = project + "_memory"
	for _, c := range []struct {
		look          looker
		empty, unseen []string
	}{
		{looker{}, nil, nil},
		{looker{store: errEmpty}, []string{memory}, nil},
		{looker{store: errors.New("broken")}, nil, []string{memory}},
	} {
		empty, unseen := deploy.EmptyVolumes(context.Background(), c.look, w.seen(), recorded)
		if !slices.Equal(empty, c.empty) || !slices.Equal(unseen, c.unseen) {
			t.Errorf("empty %q, unseen %q, want %q and %q", empty, unseen, c.empty, c.unseen)
		}
	}
	if err := w.fake.Discard(context.Background(), store); err != nil {
		t.Fatal(err)
	}
	if _, unseen := deploy.EmptyVolumes(context.Background(), looker{}, w.seen(), recorded); !slices.Equal(unseen, []string{memory}) {
		t.Errorf("without a container: unseen %q", unseen)
	}
}
