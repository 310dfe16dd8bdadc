package pipeline_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// listener remembers what it is told, and whether the ledger held it by then.
type listener struct {
	w       *world
	told    []release.Phase
	durable bool
}

func (l *listener) Recorded(_ context.Context, e release.Entry) {
	l.told = append(l.told, e.Record.Phase)
	l.durable = l.durable && slices.ContainsFunc(l.w.records, func(held release.Entry) bool { return held.Digest == e.Digest })
}

// Whatever is recorded is told, in the order of the records, and not before it
// is durable.
func TestEveryRecordIsTold(t *testing.T) {
	w, p := fixture(t)
	heard := &listener{w: w, durable: true}
	p.Notifier = heard
	to(t, p, "staging")
	w.verdicts = func(release.Facts) []release.Verdict {
		return []release.Verdict{{Gate: "g", Result: release.Failed, Reasons: []release.Reason{{Rule: "g/no", Message: "no"}}}}
	}
	if _, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"}); release.KindOf(err) != release.KindDenied {
		t.Fatal(err)
	}
	if !slices.Equal(heard.told, w.phases()) || !slices.Contains(heard.told, release.DeniedPhase) || !slices.Contains(heard.told, release.Deployed) || !heard.durable {
		t.Errorf("told %q (durable: %v), recorded %q", heard.told, heard.durable, w.phases())
	}
}

// full is a ledger that takes no record of one phase.
type full struct {
	*world
	phase release.Phase
}

func (f full) Append(ctx context.Context, r release.Record, size int64) (release.Entry, release.Checkpoint, error) {
	if r.Phase == f.phase {
		return release.Entry{}, release.Checkpoint{}, errors.New("no space left")
	}
	return f.world.Append(ctx, r, size)
}

func TestWhatIsNotRecordedIsNotTold(t *testing.T) {
	w, p := fixture(t)
	heard := &listener{w: w, durable: true}
	p.Notifier, p.Ledger = heard, full{w, release.Intended}
	if _, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "staging"}); err == nil {
		t.Fatal("it went on without a ledger")
	}
	if slices.Contains(heard.told, release.Intended) || !slices.Equal(heard.told, w.phases()) {
		t.Errorf("told %q, recorded %q", heard.told, w.phases())
	}
}
