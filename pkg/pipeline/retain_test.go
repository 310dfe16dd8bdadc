package pipeline_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// imageOf is what the world builds of a version.
func imageOf(w *world, version string) release.Digest {
	return release.DigestOf([]byte("planner" + strings.Repeat(version[1:], 40) + w.spoiled))
}

// What neither runs nor is where a rollback goes to is removed, once the
// deployment is recorded, and while the target is still locked.
func TestOldImagesArePruned(t *testing.T) {
	w, p := fixture(t)
	stage := w.hosts["stage"]
	for _, version := range []string{"v1", "v2", "v3"} {
		next(w, version)
		if out := to(t, p, "staging"); len(out.Pruned) > 0 || stage.images != nil {
			t.Fatalf("%s: removed %v", version, out.Pruned)
		}
	}
	if w.count("stage prunes 0") > 0 {
		t.Error("the target was asked to prune nothing")
	}
	next(w, "v4")
	out := to(t, p, "staging")
	if want := []release.Digest{imageOf(w, "v1")}; !slices.Equal(stage.images, want) {
		t.Errorf("removed %v, want %v", stage.images, want)
	}
	if len(out.Pruned) != 1 || out.Pruned[0].Target != "stage" || !strings.HasSuffix(out.Pruned[0].Image, imageOf(w, "v1").String()) {
		t.Errorf("said to have removed %v", out.Pruned)
	}
	recorded := 0
	for i, what := range w.journal {
		if what == "record deployed" {
			recorded = i
		}
	}
	if slices.Index(w.journal, "stage prunes 1") < recorded {
		t.Errorf("removed before it was recorded: %q", w.journal)
	}
	if stage.lock != nil {
		t.Error("the lock stayed")
	}
	if _, err := p.Rollback(t.Context(), pipeline.PromoteOptions{Environment: "staging", Reason: "why"}); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"v4", "v3", "v2"} {
		if slices.Contains(stage.images, imageOf(w, version)) {
			t.Errorf("after the rollback the image of %s went", version)
		}
	}
}

// A release that was not let stay leaves images that no record names.
func TestImagesOfAFailedReleaseArePruned(t *testing.T) {
	w, p := fixture(t)
	stage := w.hosts["stage"]
	to(t, p, "staging")
	next(w, "v2")
	stage.applyErr = errBoom
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "staging"})
	wantKind(t, err, release.KindRolledBack)
	if stage.images != nil {
		t.Fatalf("removed %v at once, and it may be tried again", stage.images)
	}
	stage.applyErr = nil
	next(w, "v3")
	to(t, p, "staging")
	if want := []release.Digest{imageOf(w, "v2")}; !slices.Equal(stage.images, want) {
		t.Errorf("removed %v, want %v", stage.images, want)
	}
	stage.images = nil
	next(w, "v4")
	to(t, p, "staging")
	if stage.images != nil {
		t.Errorf("looked at twice: %v", stage.images)
	}
}

// Images that stay are no reason to fail, and whoever lost the lock removes none.
func TestPruningNeverFailsAPromotion(t *testing.T) {
	steps := map[string]func(w *world, stage *fakeHost){
		"the engine says no": func(_ *world, stage *fakeHost) { stage.pruneErr = errBoom },
		"the lock is another's": func(w *world, stage *fakeHost) {
			w.onRecord = func(r release.Record) {
				if r.Phase == release.Deployed {
					stage.lock = &release.LockNote{Sequence: 999}
				}
			}
		},
		"an open record's release is not there": func(w *world, _ *fakeHost) {
			w.records = append(w.records, release.Entry{Record: release.Record{Phase: release.Intended, Environment: "elsewhere",
				Release: release.DigestOf([]byte("unknown")), Sequence: int64(len(w.records)), Rules: w.records[0].Record.Rules}})
		},
	}
	for name, step := range steps {
		w, p := fixture(t)
		stage := w.hosts["stage"]
		for _, version := range []string{"v1", "v2", "v3"} {
			next(w, version)
			to(t, p, "staging")
		}
		step(w, stage)
		next(w, "v4")
		var warned string
		ctx := event.With(t.Context(), func(e event.Event) { warned += e.Message })
		out, err := p.To(ctx, pipeline.PromoteOptions{Environment: "staging"})
		if err != nil || len(out.Pruned) > 0 || stage.images != nil {
			t.Errorf("%s: removed %v, %v", name, stage.images, err)
		}
		if !strings.Contains(warned, "remov") {
			t.Errorf("%s: nobody was told: %q", name, warned)
		}
	}
}
