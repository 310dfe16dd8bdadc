package pipeline

import (
	"context"
	"errors"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// lock makes a target's lock object. The open record is ours, so a lock with an
// earlier one's sequence is only what a promotion left that was killed between
// closing its record and unlocking, or that we resume: it is replaced. A lock
// that the ledger cannot explain stays, and is the error.
func (r *promotion) lock(ctx context.Context, h *host) error {
	name, mine := r.lockName(), r.intent.Record
	note := release.LockNote{Environment: r.env.Name, Sequence: mine.Sequence, Release: r.subject.Digest,
		Holder: mine.Actor.User + " on " + mine.Actor.Host + ", " + mine.Actor.Process}
	err := h.Lock(ctx, name, note)
	if release.KindOf(err) == release.KindHeld {
		left, there, reading := h.ReadLock(ctx, name)
		if reading != nil || there && !r.outlived(left) {
			return errors.Join(err, reading)
		}
		if there {
			event.Noticef(ctx, "replacing the lock that record %d left on %s", left.Sequence, h.target.Name)
		}
		if err := h.Unlock(ctx, name, left.Sequence); err != nil {
			return err
		}
		err = h.Lock(ctx, name, note)
	}
	if err == nil {
		h.locked = true
	}
	return err
}

// outlived reports whether a lock is that of a promotion of this environment
// in this ledger, as the history that was read shows it.
func (r *promotion) outlived(left release.LockNote) bool {
	if left.Sequence < 0 || left.Sequence >= int64(len(r.history)) {
		return false
	}
	rec := r.history[left.Sequence].Record
	if r.history[left.Sequence].Stub() { // nothing goes that is open
		return left.Environment == r.env.Name
	}
	return rec.Phase == release.Intended && rec.Environment == r.env.Name && left.Environment == r.env.Name && rec.Release == left.Release
}

// tidy takes away, where no record is open, the locks that a promotion left
// that was killed right after it had closed its record, and the containers
// through which one read snapshots that was killed before it began. Nobody waits
// for them: the next promotion would replace them, so a failure is only told.
func (r *promotion) tidy(ctx context.Context) {
	for _, t := range r.env.Targets {
		if err := r.tidyTarget(ctx, t); err != nil {
			event.Warnf(ctx, "looking for what was left on %s: %v", t.Name, err)
		}
	}
}

func (r *promotion) tidyTarget(ctx context.Context, t release.Target) error {
	h, err := r.p.Targets.Open(ctx, t)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := r.sweep(ctx, h, t.Name); err != nil {
		return err
	}
	left, there, err := h.ReadLock(ctx, r.lockName())
	if err != nil || !there || !r.outlived(left) {
		return err
	}
	if err := h.SaveCheckpoint(ctx, r.lockName(), string(r.checkpoint.Envelope)); err != nil {
		return err
	}
	event.Noticef(ctx, "removing the lock that record %d left on %s", left.Sequence, t.Name)
	return h.Unlock(ctx, r.lockName(), left.Sequence)
}

// errJudgeAgain is in the chain where the ledger moved after it was read and
// nobody holds the environment: what was judged is not what is there now.
var errJudgeAgain = errors.New("the decision was about an older ledger")

// moved says who was faster where somebody else wrote to the ledger since it
// was read; other errors pass.
func (r *promotion) moved(ctx context.Context, err error) error {
	if !errors.Is(err, release.ErrMoved) {
		return err
	}
	history, _, reading := r.p.Ledger.Read(ctx)
	if reading != nil {
		return errors.Join(err, reading)
	}
	if open, ok := history.Open(r.env.Name); ok {
		return held(open)
	}
	what := "somebody else"
	if len(history) > 0 {
		last := history[len(history)-1].Record
		what = who(last.Actor)
	}
	return release.Faultf(release.KindHeld, "run it again: it will judge what is there now",
		"%s wrote to the ledger while %s was judged: %w: %w", what, r.env.Name, errJudgeAgain, err)
}

func who(a release.Actor) string { return a.User + " on " + a.Host + ", " + a.Process }
