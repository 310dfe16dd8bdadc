package pipeline_test

import (
	"context"
	"testing"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// That what runs was to be taken over is recorded, and a resume goes on so:
// otherwise it would restart what was not to be.
func TestAdoptingIsRecordedAndResumed(t *testing.T) {
	w, p := fixture(t)
	adopt := pipeline.PromoteOptions{Environment: "staging", Adopt: true}
	ctx, cancel := context.WithCancel(t.Context())
	w.hosts["stage"].during = func(context.Context) { cancel() }
	_, err := p.To(ctx, adopt)
	wantKind(t, err, release.KindInterrupted)
	if !w.hosts["stage"].adopts || !w.lastRecord().Adopt {
		t.Errorf("record %+v", w.lastRecord())
	}
	w.hosts["stage"].during, w.hosts["stage"].adopts = nil, false
	if _, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "staging"}); err != nil {
		t.Fatal(err)
	}
	if r := w.lastRecord(); !w.hosts["stage"].adopts || !r.Adopt || r.Phase != release.Deployed {
		t.Errorf("record %+v", r)
	}
	next(w, "v2")
	to(t, p, "staging")
	if w.hosts["stage"].adopts || w.lastRecord().Adopt {
		t.Errorf("the next one adopts: %+v", w.lastRecord())
	}
	adopt.Redeploy = true
	_, err = p.To(t.Context(), adopt)
	wantKind(t, err, release.KindUsage)
}
