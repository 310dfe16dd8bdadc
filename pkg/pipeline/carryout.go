package pipeline

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// intend makes the intent durable before the first effect. It is also the
// lock: appending is compare-and-swap on the history that was judged, so what
// came in between means judging again.
func (r *promotion) intend(ctx context.Context) error {
	size, err := r.p.pinRules(ctx, r.history, r.checkpoint.TreeSize)
	if err != nil {
		return r.moved(ctx, err)
	}
	rec := r.p.complete(r.record(release.Intended))
	rec.LeaseSeconds = int64(r.p.Project.Lease / time.Second)
	entry, checkpoint, err := r.p.write(ctx, rec, size)
	if err != nil {
		return r.takeBack(ctx, rec, r.moved(ctx, err))
	}
	r.intent, r.checkpoint = entry, checkpoint
	return nil
}

// takeBack closes an intent that is there although writing it failed: it may
// not survive a power cut, or nobody answered whether it was written. Nothing
// has been done yet, and whoever is told so must not find it done by a resume.
func (r *promotion) takeBack(ctx context.Context, rec release.Record, cause error) error {
	if errors.Is(cause, release.ErrMoved) {
		return cause
	}
	clean, cancel := closing(ctx)
	defer cancel()
	history, _, err := r.p.Ledger.Read(clean)
	if err != nil {
		return cause
	}
	open, ok := history.Open(r.env.Name)
	if !ok || !same(open.Record, rec) {
		return cause
	}
	r.intent = open
	if _, err := r.closeRecord(clean, release.RolledBack, "ended before any target was touched: "+oneLine(cause)); err != nil {
		return release.Faultf(release.KindOf(cause), "promote resume "+r.env.Name, "%w; record %d stays open, and closing it failed: %w", cause, open.Record.Sequence, err)
	}
	return cause
}

// same reports whether a record of the ledger is the one that was to be written.
// The ledger keeps milliseconds, and says by its signer who the actor is.
func same(there, rec release.Record) bool {
	a, b := there.Actor, rec.Actor
	return a.User == b.User && a.Host == b.Host && a.Process == b.Process &&
		there.Release == rec.Release && there.Time.Sub(rec.Time).Abs() < time.Second
}

// attempt is the promotion whose containers these are: the first of a chain of
// resumes.
func (r *promotion) attempt() Attempt {
	e := r.intent
	for e.Record.Resumes != nil && *e.Record.Resumes < int64(len(r.history)) {
		e = r.history[*e.Record.Resumes]
	}
	return Attempt{Sequence: e.Record.Sequence, Record: e.Digest}
}

// carryOut does what was intended, and closes the record with what came of it.
func (r *promotion) carryOut(ctx context.Context) (Promotion, error) {
	stop := r.heartbeat(ctx)
	defer stop()
	if err := r.prepare(ctx); err != nil {
		return r.abandon(ctx, err)
	}
	err := r.rollOut(ctx)
	if err == nil {
		return r.finish(ctx)
	}
	if ctx.Err() != nil {
		return r.interrupted(ctx, err)
	}
	return r.failed(ctx, err)
}

// heartbeat shows life beside the log until it is stopped.
func (r *promotion) heartbeat(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(max(r.p.Project.Lease/5, 100*time.Millisecond))
		defer tick.Stop()
		for {
			// A missed beat only brings the end of the lease closer.
			_ = r.p.Ledger.Heartbeat(ctx, r.intent.Record.Sequence)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return sync.OnceFunc(func() { cancel(); <-done })
}

// prepare locks the targets and brings to the registry and to them what they
// need. Nothing that runs on a target has changed yet.
func (r *promotion) prepare(ctx context.Context) error {
	if err := r.lockAll(ctx); err != nil {
		return err
	}
	return r.bring(ctx)
}

// bring attests the decision and brings the bytes into the environment's
// registry (images, then the release document with the decision, then tags) and,
// once the images are there, to the targets.
func (r *promotion) bring(ctx context.Context) error {
	for _, steps := range [][]func(context.Context) error{{r.attestDecision, r.copyImages}, {r.copyRelease, r.fetchImages}} {
		if err := each(ctx, steps, func(ctx context.Context, step func(context.Context) error) error { return step(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

func (r *promotion) copyImages(ctx context.Context) error {
	if r.env.Registry == r.source {
		return nil
	}
	rel := r.document.Release
	return each(ctx, rel.ServiceNames(), func(ctx context.Context, name string) error {
		from, err := rel.Subject(name, r.source)
		if err != nil {
			return err
		}
		return r.p.Images.Copy(ctx, from, r.env.Registry+"/"+rel.Services[name].Path, true)
	})
}

func (r *promotion) copyRelease(ctx context.Context) (err error) {
	if r.env.Registry == r.source {
		return nil
	}
	rel := r.document.Release
	step := event.Start(ctx, "[copy] %s to %s", rel.Version, r.env.Registry)
	defer func() { step.Done(err) }()
	repository := r.p.Project.Repository(r.env.Registry)
	if err := r.p.Images.Copy(ctx, r.subject, repository, true); err != nil {
		return err
	}
	for _, tag := range []string{release.Tag(r.subject.Digest), rel.Version} {
		if err := r.p.Images.Tag(ctx, r.subject.In(repository), tag); err != nil {
			return err
		}
	}
	return nil
}

// guard is the fence before every effect: the intent is still the open record,
// and the target's lock still carries its sequence. Whoever lost either was
// taken for dead, and must not act any more. Targets that ask at the same time
// share the reading of the ledger, which may be far away and answers one after
// the other.
func (r *promotion) guard(h *host) Guard {
	return func(ctx context.Context) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		history, err := r.newest.get(ctx, r.readHistory)
		if err != nil {
			return err
		}
		mine := r.intent.Record.Sequence
		open, ok := history.Open(r.env.Name)
		if !ok || open.Record.Sequence != mine {
			return release.Faultf(release.KindHeld, "promote status "+r.env.Name, "record %d is not the open record of %s any more: somebody else took over", mine, r.env.Name)
		}
		note, ok, err := h.ReadLock(ctx, r.lockName())
		if err != nil {
			return err
		}
		if !ok || note.Sequence != mine {
			return release.Faultf(release.KindHeld, "promote status "+r.env.Name, "the lock on %s is not ours any more (record %d holds it)", h.target.Name, note.Sequence)
		}
		return nil
	}
}

func (r *promotion) readHistory(ctx context.Context) (release.History, error) {
	history, _, err := r.p.Ledger.Read(ctx)
	return history, err
}

// afterwards is how long closing a promotion may take once its own context is
// of no use any more.
const afterwards = 2 * time.Minute

// grace is how much of that is left once somebody asked for the end: a process
// ends within 10 s of a signal, and what could not be closed is resumed.
var grace = 8 * time.Second

// closing gives the context in which a promotion is closed. It outlives an
// interruption by grace.
func closing(ctx context.Context) (context.Context, context.CancelFunc) {
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
	stop := context.AfterFunc(ctx, func() {
		left := time.NewTimer(grace)
		defer left.Stop()
		select {
		case <-clean.Done():
		case <-left.C:
			cancel()
		}
	})
	return clean, func() { stop(); cancel() }
}

// finish records what runs, leaves the checkpoint on the targets and frees them.
func (r *promotion) finish(run context.Context) (Promotion, error) {
	// The effects are there: record them even if a signal comes now.
	ctx, cancel := closing(run)
	defer cancel()
	entry, err := r.closeRecord(ctx, release.Deployed, "")
	if err != nil {
		return r.result(&r.intent), release.Faultf(release.KindBroken, "promote resume "+r.env.Name, "%s runs on every target and could not be recorded: %w", r.document.Release.Version, err)
	}
	pruned := r.prune(run)
	r.unlock(ctx)
	if err := r.hook(run, PostDeploy, entry); err != nil {
		event.Warnf(run, "%s is deployed; %v", r.document.Release.Version, err)
	}
	out := r.result(&entry)
	out.Pruned = pruned
	return out, nil
}

// closeRecord appends the outcome of the intent.
func (r *promotion) closeRecord(ctx context.Context, phase release.Phase, reason string) (release.Entry, error) {
	rec := r.record(phase)
	rec.Intent = &r.intent.Record.Sequence
	if reason != "" {
		rec.Reason = strings.TrimPrefix(rec.Reason+"; "+reason, "; ")
	}
	for _, h := range r.hosts {
		rec.Targets = append(rec.Targets, h.status)
	}
	var entry release.Entry
	for range appendTries {
		history, checkpoint, err := r.p.Ledger.Read(ctx)
		if err != nil {
			return entry, err
		}
		if open, ok := history.Open(r.env.Name); !ok || open.Record.Sequence != r.intent.Record.Sequence {
			return entry, release.Faultf(release.KindHeld, "promote status "+r.env.Name, "somebody else took over record %d", r.intent.Record.Sequence)
		}
		entry, r.checkpoint, err = r.p.write(ctx, r.p.complete(rec), checkpoint.TreeSize)
		if err == nil {
			r.history = append(history, entry)
		}
		if err == nil || !errors.Is(err, release.ErrMoved) {
			return entry, err
		}
	}
	return entry, release.Unavailable("try again", "the ledger moved %d times while it was written", appendTries)
}

// unlock leaves the checkpoint on each target and removes its lock. Neither
// can undo what was recorded; a lock that stays is found by the next run.
func (r *promotion) unlock(ctx context.Context) {
	_ = r.p.Ledger.Rest(ctx, r.intent.Record.Sequence) // a counter that stays disturbs nobody
	_ = together(ctx, r.hosts, len(r.hosts), func(ctx context.Context, h *host) error {
		if !h.locked {
			return nil
		}
		if err := h.SaveCheckpoint(ctx, r.lockName(), string(r.checkpoint.Envelope)); err != nil {
			event.Warnf(ctx, "leaving the ledger's checkpoint on %s: %v", h.target.Name, err)
		}
		if err := h.Unlock(ctx, r.lockName(), r.intent.Record.Sequence); err != nil {
			event.Warnf(ctx, "removing the lock on %s: %v", h.target.Name, err)
		}
		h.locked = false
		return nil
	})
}

// abandon ends a promotion that has touched no target yet. The record is
// closed as rolled back; the error keeps its kind.
func (r *promotion) abandon(ctx context.Context, cause error) (Promotion, error) {
	clean, cancel := closing(ctx)
	defer cancel()
	r.survey(ctx)
	entry, err := r.closeRecord(clean, release.RolledBack, "ended before any target was touched: "+oneLine(cause))
	if err != nil {
		return r.result(&r.intent), errors.Join(cause, err)
	}
	r.unlock(clean)
	return r.result(&entry), cause
}

// interrupted leaves the record open, and says what each target runs.
func (r *promotion) interrupted(ctx context.Context, cause error) (Promotion, error) {
	r.survey(ctx)
	return r.result(&r.intent), release.Faultf(release.KindInterrupted, "promote resume "+r.env.Name, "interrupted while deploying to %s; record %d stays open: %w", r.env.Name, r.intent.Record.Sequence, cause)
}

// failed undoes what was done, if the environment says so, and records which.
func (r *promotion) failed(ctx context.Context, cause error) (Promotion, error) {
	if release.KindOf(cause) == release.KindHeld {
		r.survey(ctx)
		return r.result(&r.intent), cause // fenced: not ours to touch any more
	}
	if !slices.ContainsFunc(r.hosts, func(h *host) bool { return h.touched }) {
		return r.abandon(ctx, cause)
	}
	err := errors.New("onFailure is stop")
	if r.env.OnFailure != "stop" {
		err = r.undo(ctx)
	}
	r.survey(ctx)
	if err == nil {
		err = r.unreachable()
	}
	if err != nil {
		return r.broken(ctx, cause, err)
	}
	entry, err := r.closeRecord(ctx, release.RolledBack, oneLine(cause))
	if err != nil {
		return r.broken(ctx, cause, err)
	}
	r.unlock(ctx)
	return r.result(&entry), release.Faultf(release.KindRolledBack, "mend what failed and promote again; promote log "+r.env.Name+" keeps the record",
		"deploying to %s failed and was undone: %w", r.env.Name, cause)
}

// undo brings back, in reverse order, what every touched target ran before. One
// that cannot be undone does not keep the others from it.
func (r *promotion) undo(ctx context.Context) (err error) {
	step := event.Start(ctx, "[undo] %s", r.env.Name)
	defer func() { step.Done(err) }()
	var errs []error
	for _, b := range slices.Backward(r.batches()) {
		err := together(ctx, slices.Clone(b.hosts), len(b.hosts), r.undoOn)
		if ctx.Err() != nil || release.KindOf(err) == release.KindHeld {
			return err // not now, or not ours any more
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (r *promotion) undoOn(ctx context.Context, h *host) error {
	if !h.touched {
		return nil
	}
	err := h.Undo(ctx, r.desired(h), r.guard(h))
	switch {
	case errors.Is(err, ErrCommitted) && r.options.Restore != nil:
		err = r.onlyForward(h)
	case errors.Is(err, ErrCommitted):
		err = r.restore(ctx, h)
	}
	if err != nil {
		h.status.Status, h.status.Message = "failed", oneLine(err)
		return err
	}
	h.status.Status = "rolledBack"
	return nil
}

// restore deploys what ran before where it cannot simply be brought back.
func (r *promotion) restore(ctx context.Context, h *host) error {
	if r.current == nil {
		return errors.New("there is no release before this one")
	}
	before := &promotion{p: r.p, kind: release.KindRollback, env: r.env, current: r.current, source: r.env.Registry, hosts: r.hosts, intent: r.intent, options: PromoteOptions{StateChanges: r.options.StateChanges, Identity: r.options.Identity}}
	before.subject = release.Subject{Repository: r.p.Project.Repository(before.source), Digest: r.current.Record.Release}
	if err := before.fetch(ctx); err != nil {
		return err
	}
	desired := before.desired(h)
	desired.Attempt = redeployment(r.intent)
	if err := h.Apply(ctx, desired, r.guard(h)); err != nil {
		return err
	}
	return h.Commit(ctx, desired, r.guard(h))
}

// redeployment is the attempt that deploys the release before again for an
// intent. It is never the one that is undone: whoever goes on after a kill would
// take the containers of the one for the other's.
func redeployment(intent release.Entry) Attempt {
	return Attempt{Sequence: intent.Record.Sequence, Record: release.DigestOf([]byte("redeployment " + intent.Digest.String()))}
}

// broken records a failure that a person must look at; the record stays open.
func (r *promotion) broken(ctx context.Context, cause, why error) (Promotion, error) {
	if ctx.Err() != nil {
		return r.interrupted(ctx, cause)
	}
	if release.KindOf(why) == release.KindHeld {
		return r.result(&r.intent), why // fenced in the middle of undoing
	}
	entry, err := r.closeRecord(ctx, release.FailedPhase, oneLine(cause)+"; "+oneLine(why))
	fault := release.Faultf(release.KindBroken, "look at the targets named above, then promote resume "+r.env.Name,
		"deploying to %s failed and was not undone (%w): %w", r.env.Name, why, errors.Join(cause, err))
	if err != nil {
		return r.result(&r.intent), fault
	}
	return r.result(&entry), fault
}

func oneLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}
