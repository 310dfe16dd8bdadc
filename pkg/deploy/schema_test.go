package deploy_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/release"
)

// in gives the store of a workload a schema.
func in(work release.Workload, schema string) release.Workload {
	work.Services[1].Labels = map[string]string{release.LabelStateSchema: schema}
	work.Services[1].ConfigHash += " in " + schema
	return work
}

// runsIn deploys the first version with a store of a schema, and gives the
// record of it.
func (w *world) runsIn(schema string) *release.TargetStatus {
	w.t.Helper()
	first := in(w.stack("1"), schema)
	w.mustDeploy(w.job(first, 1))
	return w.recorded(first)
}

func TestStateIsNotReadByAnEarlierSchema(t *testing.T) {
	const memory = project + "_memory"
	for _, c := range []struct {
		name    string
		from    string
		arrange func(*world, *deploy.Job)
		blocked bool
		shown   string // in the cause of the store's step
	}{
		{"the same", "3", func(_ *world, j *deploy.Job) { in(j.Workload, "3") }, false, ""},
		{"a later one", "3", func(_ *world, j *deploy.Job) { in(j.Workload, "5") }, false, "; its state goes from schema 3 to 5"},
		{"an earlier one", "3", func(_ *world, j *deploy.Job) { in(j.Workload, "2") }, true, ""},
		{"none any more", "3", func(*world, *deploy.Job) {}, true, ""},
		{"the first, where there was none", "1", func(*world, *deploy.Job) {}, false, ""},
		{"an earlier one, accepted by its volume", "3", func(_ *world, j *deploy.Job) {
			in(j.Workload, "2")
			j.Options.AcceptLoss = []string{memory}
		}, false, ""},
		{"an earlier one, and another volume accepted", "3", func(_ *world, j *deploy.Job) {
			in(j.Workload, "2")
			j.Options.AcceptLoss = []string{project + "_other"}
		}, true, ""},
		{"of the image", "3", func(w *world, j *deploy.Job) {
			image := w.images["store"]
			image.Defaults = &release.ImageDefaults{Labels: map[string]string{release.LabelStateSchema: "2"}}
			w.images["store"] = image
		}, true, ""},
		{"of the image, later", "3", func(w *world, j *deploy.Job) {
			image := w.images["store"]
			image.Defaults = &release.ImageDefaults{Labels: map[string]string{release.LabelStateSchema: "4"}}
			w.images["store"] = image
		}, false, "; its state goes from schema 3 to 4"},
		{"no number", "3", func(_ *world, j *deploy.Job) { in(j.Workload, "three") }, true, ""},
		{"no number, accepted", "3", func(_ *world, j *deploy.Job) {
			in(j.Workload, "three")
			j.Options.AcceptLoss = []string{memory}
		}, true, ""},
		{"before the first deployment", "3", func(_ *world, j *deploy.Job) { j.Recorded = nil }, false, ""},
		{"a record that does not say, beside a container that does", "3", func(_ *world, j *deploy.Job) {
			in(j.Workload, "2")
			j.Recorded.Running[1].StateSchema = 0
		}, true, ""},
		{"a record that says more than the container", "1", func(_ *world, j *deploy.Job) {
			in(j.Workload, "2")
			j.Recorded.Running[1].StateSchema = 3
		}, true, ""},
		{"under another name, with the same volume", "3", func(_ *world, j *deploy.Job) {
			in(j.Workload, "2")
			j.Workload.Services[1].Name = "memory"
			for i := range j.Workload.Services {
				j.Workload.Services[i].DependsOn = nil
			}
		}, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			recorded := w.runsIn(c.from)
			if got := recorded.Running[1].StateSchema; got != map[string]int64{"1": 0, "3": 3}[c.from] {
				t.Fatalf("recorded schema %d", got)
			}
			j := w.job(w.stack("2"), 2)
			j.Recorded = recorded
			c.arrange(w, &j)
			p := w.plan(j)
			blocked := false
			for _, r := range p.Blocking {
				if r.Rule != "state/schema" || r.Message == "" || r.Fix == "" {
					t.Errorf("blocked by %+v", r)
				}
				blocked = true
			}
			if blocked != c.blocked {
				t.Errorf("blocked %v, want %v: %+v", blocked, c.blocked, p.Blocking)
			}
			if len(j.Options.AcceptLoss) > 0 && !c.blocked && (len(p.Accepted) != 1 || p.Accepted[0].Rule != "state/schema") {
				t.Errorf("accepted and not shown: %+v", p.Accepted)
			}
			for _, s := range p.Steps {
				if s.Service == "store" && s.Action == deploy.ActionRecreate && !strings.HasSuffix(s.Cause, c.shown) {
					t.Errorf("cause %q", s.Cause)
				}
				if c.shown == "" && strings.Contains(s.Cause, "schema") {
					t.Errorf("cause %q", s.Cause)
				}
			}
			if !c.blocked {
				return
			}
			calls := len(w.fake.Calls())
			if err := deploy.Finish(context.Background(), w.fake, j); release.KindOf(err) != release.KindDenied {
				t.Errorf("applied: %v", err)
			}
			for _, call := range w.fake.Calls()[calls:] {
				if !strings.HasPrefix(call, "pull") {
					t.Errorf("effect %s", call)
				}
			}
		})
	}
}

// After the new release ran, and may have migrated what it found, the one before
// is not started over it: that is said, and everything stays as it is.
func TestAMigratedStateIsNotUndone(t *testing.T) {
	for _, c := range []struct {
		name   string
		schema string
		fails  string // which service's start, or health
		accept bool
		undone bool
	}{
		{"a later schema, running", "2", "planner", false, false},
		{"a later schema, that did not become well", "2", "store", false, false},
		{"a later schema, never started", "2", "start store", false, true},
		{"a later schema, accepted", "2", "planner", true, true},
		{"the same schema", "1", "planner", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			first := w.stack("1")
			w.mustDeploy(w.job(first, 1))
			recorded := w.recorded(first)
			j := w.job(in(w.stack("2"), c.schema), 2)
			j.Recorded = recorded
			if c.accept {
				j.Options.AcceptLoss = []string{project + "_memory"}
			}
			w.fake.Health = func(container release.Container) string {
				if container.Service == c.fails && container.Labels[release.LabelSequence] == "2" {
					return "unhealthy"
				}
				return "healthy"
			}
			failed := false
			w.fake.Before = func(op, subject string) error {
				if op+" "+subject == "start agent-store-1" && c.fails == "start store" && !failed {
					failed = true
					return errors.New("no such device")
				}
				return nil
			}
			old := newWorld(t)
			err := deploy.Finish(context.Background(), w.fake, j)
			if c.undone {
				if release.KindOf(err) != release.KindRolledBack {
					t.Fatalf("%v", err)
				}
				if err := (&world{t: t, fake: w.fake, images: old.imagesOf("1")}).whole(first); err != nil {
					t.Error(err)
				}
				return
			}
			if release.KindOf(err) != release.KindBroken || !strings.Contains(err.Error(), "state/schema") {
				t.Fatalf("%v", err)
			}
			before, calls := snapshot(w.seen()), len(w.fake.Calls())
			if err := deploy.Undo(context.Background(), w.fake, j); release.KindOf(err) != release.KindDenied {
				t.Errorf("undo: %v", err)
			}
			if len(w.fake.Calls()) != calls || strings.Join(before, "\n") != strings.Join(snapshot(w.seen()), "\n") {
				t.Errorf("something was touched: %v", w.fake.Calls()[calls:])
			}
			j.Options.AcceptLoss = []string{"store"}
			if err := deploy.Undo(context.Background(), w.fake, j); err != nil {
				t.Errorf("undo, accepted: %v", err)
			}
			if err := (&world{t: t, fake: w.fake, images: old.imagesOf("1")}).whole(first); err != nil {
				t.Error(err)
			}
		})
	}
}

// imagesOf are the images of a version of the stack.
func (w *world) imagesOf(version string) map[string]release.PlatformImage {
	w.stack(version)
	return w.images
}
