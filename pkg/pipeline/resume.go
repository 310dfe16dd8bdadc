package pipeline

import (
	"context"
	"fmt"
	"slices"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// ResumeOptions are the choices of a resume.
type ResumeOptions struct {
	Environment string
	DryRun      bool
	// StateChanges adds to the volumes whose change was accepted when it began;
	// it needs a Reason, but in a dry run.
	StateChanges []string
	Reason       string
	// Identity is the private key that opens snapshots.
	Identity string
}

// Resume finishes what was interrupted if its decision still holds and its
// images are there, else undoes it; both are success. An intent whose holder
// shows life within one lease is KindHeld. Without an open record there is
// nothing to do.
func (p *Pipeline) Resume(ctx context.Context, o ResumeOptions) (Promotion, error) {
	if len(o.StateChanges) > 0 && o.Reason == "" && !o.DryRun {
		return Promotion{Environment: o.Environment}, stateChangeReason()
	}
	r := &promotion{p: p, options: PromoteOptions{Environment: o.Environment, DryRun: o.DryRun, Identity: o.Identity}}
	defer r.close()
	open, err := r.reopen(ctx)
	if err == nil && open == nil && !o.DryRun {
		r.tidy(ctx)
	}
	if err != nil || open == nil {
		out := r.result(nil)
		out.Unchanged = err == nil
		return out, err
	}
	for _, volume := range o.StateChanges {
		if !slices.Contains(r.options.StateChanges, volume) {
			r.options.StateChanges = append(slices.Clone(r.options.StateChanges), volume)
		}
	}
	for _, step := range []func(context.Context) error{r.preflight, r.fetch, r.planTargets, r.decide} {
		if err := step(ctx); err != nil {
			return r.result(nil), err
		}
	}
	if o.DryRun {
		return r.dryRun()
	}
	if err := r.needsIdentity(); err != nil {
		return r.result(nil), err
	}
	if err := r.takeOver(ctx, *open, o.Reason); err != nil {
		return r.result(nil), err
	}
	stop := r.heartbeat(ctx)
	defer stop()
	if !r.decision.Allowed() {
		event.Noticef(ctx, "%s would not be let in any more; undoing it", r.document.Release.Version)
		return r.giveUp(ctx, "the decision does not hold any more")
	}
	if err := r.bring(ctx); err != nil {
		event.Noticef(ctx, "its images cannot be had (%v); undoing it", err)
		return r.giveUp(ctx, oneLine(err))
	}
	err = r.rollOut(ctx)
	switch {
	case err == nil:
		return r.finish(ctx)
	case ctx.Err() != nil:
		return r.interrupted(ctx, err)
	}
	return r.failed(ctx, err)
}

// reopen finds the environment's open record and waits for its lease to end.
func (r *promotion) reopen(ctx context.Context) (*release.Entry, error) {
	var err error
	if r.env, err = r.p.Project.Environment(r.options.Environment); err != nil {
		return nil, err
	}
	if r.history, r.checkpoint, err = r.p.Ledger.Read(ctx); err != nil {
		return nil, err
	}
	if err := r.settle(ctx); err != nil {
		return nil, err
	}
	if last, ok := r.history.Deployed(r.env.Name); ok {
		r.current = &last
	}
	open, ok := r.history.Open(r.env.Name)
	if !ok {
		return nil, nil
	}
	// Rules that nobody accepted finish nothing; those that it began under do.
	if _, err := r.p.checkRules(r.history); err != nil {
		return nil, err
	}
	if err := r.leaseOver(ctx, open); err != nil {
		return nil, err
	}
	r.kind, r.source = open.Record.Kind, r.p.Project.Registry
	r.resumed, r.began = true, r.firstOf(open).Signer.Name
	r.options.Restore = open.Record.Restore
	r.options.Reason, r.options.StateChanges, r.options.Adopt = open.Record.Reason, open.Record.StateChanges, open.Record.Adopt
	r.subject = release.Subject{Repository: r.p.Project.Repository(r.source), Digest: open.Record.Release}
	return &open, nil
}

// firstOf gives the intended record that a chain of resumes began with.
func (r *promotion) firstOf(e release.Entry) release.Entry {
	for e.Record.Resumes != nil && *e.Record.Resumes >= 0 && *e.Record.Resumes < min(e.Record.Sequence, int64(len(r.history))) {
		e = r.history[*e.Record.Resumes]
	}
	return e
}

// settle makes a record that was being written when its writer was killed part
// of the history: an intent that nobody sees could not be resumed, and an
// outcome that nobody sees would be recorded twice.
func (r *promotion) settle(ctx context.Context) error {
	if r.options.DryRun {
		return nil
	}
	settled, err := r.p.Ledger.Settle(ctx)
	if err != nil || !settled {
		return err
	}
	r.history, r.checkpoint, err = r.p.Ledger.Read(ctx)
	return err
}

// leaseOver holds unless the record's holder is alive. A record that ended as
// failed has no holder.
func (r *promotion) leaseOver(ctx context.Context, open release.Entry) (err error) {
	if gaveUp(r.history, open) {
		return nil
	}
	lease := r.p.lease(open)
	step := event.Start(ctx, "[resume] waiting for the lease of record %d to end (%s)", open.Record.Sequence, lease)
	defer func() { step.Done(err) }()
	stale, err := r.p.Ledger.Stale(ctx, open.Record.Sequence, lease)
	if err != nil {
		return err
	}
	if !stale {
		return held(open)
	}
	return nil
}

// takeOver opens a new intent for the same release, which fences the old
// holder off, and replaces the locks.
func (r *promotion) takeOver(ctx context.Context, old release.Entry, why string) error {
	rec := r.record(release.Intended)
	rec.From, rec.Reason = old.Record.From, fmt.Sprintf("resumes record %d", old.Record.Sequence)
	if why != "" {
		rec.Reason += "; " + why
	}
	rec.Resumes = &old.Record.Sequence
	r.options.Reason = rec.Reason
	rec = r.p.complete(rec)
	rec.LeaseSeconds = int64(r.p.Project.Lease.Seconds())
	size, err := r.p.pinRules(ctx, r.history, r.checkpoint.TreeSize)
	if err != nil {
		return r.moved(ctx, err)
	}
	entry, checkpoint, err := r.p.write(ctx, rec, size)
	if err != nil {
		return r.moved(ctx, err)
	}
	r.intent, r.checkpoint = entry, checkpoint
	_ = r.p.Ledger.Rest(ctx, old.Record.Sequence) // a counter that stays disturbs nobody
	for _, h := range r.hosts {
		h.touched = true
	}
	return r.lockAll(ctx)
}

// giveUp undoes an interrupted promotion; that is a success of resume.
func (r *promotion) giveUp(ctx context.Context, why string) (Promotion, error) {
	err := r.undo(ctx)
	r.survey(ctx)
	if err != nil {
		return r.broken(ctx, fmt.Errorf("undoing: %s", why), err)
	}
	entry, err := r.closeRecord(ctx, release.RolledBack, why)
	if err != nil {
		return r.broken(ctx, fmt.Errorf("undoing: %s", why), err)
	}
	r.unlock(ctx)
	return r.result(&entry), nil
}
