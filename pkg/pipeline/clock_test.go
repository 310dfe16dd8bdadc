package pipeline_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// A clock that goes back stops a promotion before anything is recorded or
// changed. Another machine's clock does not, nor does a small difference.
func TestAClockThatGoesBack(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	written, records, journal := w.now, len(w.records), len(w.journal)
	w.now = written.Add(-time.Hour)
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindUnavailable)
	if !strings.Contains(err.Error(), "went back by 1h0m0s") || len(w.records) != records || len(w.journal) != journal {
		t.Errorf("%v; %d records, journal %q", err, len(w.records), w.journal[journal:])
	}
	p.Project.Actor.Host = "another"
	to(t, p, "production")
	next(w, "v2")
	w.now = written
	to(t, p, "staging")
	w.now = written.Add(-time.Minute)
	to(t, p, "production")
}

// What was begun is finished, whatever the clock says by now.
func TestAResumeDoesNotAskTheClock(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	ctx, cancel := context.WithCancel(t.Context())
	w.hosts["prod-2"].during = func(context.Context) { cancel() }
	_, err := p.To(ctx, pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindInterrupted)
	w.hosts["prod-2"].during = nil
	w.now = w.now.Add(-30 * time.Minute)
	if _, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "production"}); err != nil {
		t.Error(err)
	}
}
