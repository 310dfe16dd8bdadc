package pipeline_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// unsure is a ledger that writes an intent and says that it failed, and then
// takes so many more records.
type unsure struct {
	*world
	more int
}

func (u *unsure) Append(ctx context.Context, r release.Record, size int64) (release.Entry, release.Checkpoint, error) {
	if r.Phase != release.Intended {
		if u.more--; u.more < 0 {
			return release.Entry{}, release.Checkpoint{}, errors.New("input/output error")
		}
		return u.world.Append(ctx, r, size)
	}
	r.Time, r.Actor.Name = r.Time.Truncate(time.Millisecond), "as signed" // as the real one does
	_, _, err := u.world.Append(ctx, r, size)
	return release.Entry{}, release.Checkpoint{}, errors.Join(err, release.Unavailable("", "it may not survive a power cut"))
}

// An intent that may be there or not is not left to a resume: it was said that
// nothing happened.
func TestAnIntentThatMayNotLastIsTakenBack(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	before := len(w.records)
	p.Ledger = &unsure{w, 1}
	p.Now = func() time.Time { return time.Now().Truncate(time.Second).Add(123456789) }
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindUnavailable)
	if got := w.phases()[before:]; len(got) != 2 || got[0] != release.Intended || got[1] != release.RolledBack {
		t.Errorf("recorded %q", got)
	}
	if len(w.hosts["prod-1"].running)+len(w.hosts["prod-2"].running) != 0 {
		t.Error("it had an effect")
	}
	p.Ledger = w
	to(t, p, "production")
}

// Where that cannot be recorded either, it is said what to do.
func TestAnIntentThatCannotBeTakenBackIsNamed(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	p.Ledger = &unsure{w, 0}
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindUnavailable)
	var fault *release.Fault
	if !errors.As(err, &fault) || fault.Hint != "promote resume production" {
		t.Errorf("got %v", err)
	}
	p.Ledger = w
	if _, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "production"}); err != nil {
		t.Error(err)
	}
}

// asked is a ledger whose holders are all gone; it notes which lease was asked
// for.
type asked struct {
	*world
	leases []time.Duration
}

func (a *asked) Stale(_ context.Context, _ int64, lease time.Duration) (bool, error) {
	a.leases = append(a.leases, lease)
	return true, nil
}

// What counts is the lease that the holder's record names, not the challenger's.
func TestTheLeaseIsTheHolders(t *testing.T) {
	for seconds, want := range map[int64]time.Duration{7: 7 * time.Second, 0: time.Hour} {
		w, p := fixture(t)
		to(t, p, "staging")
		if _, _, err := w.Append(t.Context(), release.Record{Phase: release.Intended, Kind: release.KindPromote, Environment: "production", Version: "v1", Release: w.lastRecord().Release, LeaseSeconds: seconds}, int64(len(w.records))); err != nil {
			t.Fatal(err)
		}
		l := &asked{world: w}
		p.Ledger, p.Project.Lease = l, time.Hour
		_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production", Wait: time.Minute})
		wantKind(t, err, release.KindHeld)
		if _, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "production"}); err != nil {
			t.Fatal(err)
		}
		if len(l.leases) != 2 || l.leases[0] != want || l.leases[1] != want {
			t.Errorf("a record of %d seconds: asked for %v, want %s", seconds, l.leases, want)
		}
	}
}
