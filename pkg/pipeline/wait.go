package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// heldError says which open record keeps an environment.
type heldError struct{ open release.Entry }

func (e *heldError) Error() string {
	r := e.open.Record
	return fmt.Sprintf("record %d of %s (%s of %s) is open since %s: %s", r.Sequence, r.Environment, r.Kind, r.Version, r.Time.Format(time.RFC3339), who(r.Actor))
}

// held is the answer to whoever comes second: who has it, since when, where.
func held(open release.Entry) error {
	return &release.Fault{Kind: release.KindHeld, Err: &heldError{open}, Hint: "wait for it (--wait), or if it is gone: promote resume " + open.Record.Environment}
}

// abandoned is the answer where nobody carries on with the open record: it is
// finished or undone before anything else happens.
func abandoned(open release.Entry, why string) error {
	return release.Faultf(release.KindHeld, "promote resume "+open.Record.Environment+" finishes or undoes it", "%w; %s", &goneError{open}, why)
}

// goneError is a heldError that no waiting ends.
type goneError struct{ open release.Entry }

func (e *goneError) Error() string { return (*heldError)(e).Error() }

// gaveUp reports whether an open record ended as failed: it has no holder.
func gaveUp(h release.History, open release.Entry) bool {
	for _, e := range h {
		if r := e.Record; r.Phase == release.FailedPhase && r.Intent != nil && *r.Intent == open.Record.Sequence {
			return true
		}
	}
	return false
}

// lease is how long a record holds without a heartbeat: what its holder counts
// on.
func (p *Pipeline) lease(open release.Entry) time.Duration {
	if s := open.Record.LeaseSeconds; s > 0 {
		return time.Duration(s) * time.Second
	}
	return p.Project.Lease
}

// await waits until nobody holds the environment of an open record any more.
// Somebody else may be faster and take it first; then it waits for them, too.
// At the deadline, and where nobody carries on with the open record, it is
// KindHeld.
func (p *Pipeline) await(ctx context.Context, open release.Entry, deadline time.Time) (err error) {
	environment := open.Record.Environment
	step := event.Start(ctx, "[wait] until %s is free, or %s", environment, deadline.UTC().Format(time.RFC3339))
	defer func() { step.Done(err) }()
	step.Logf("%s", &heldError{open})
	for {
		history, _, err := p.Ledger.Read(ctx)
		if err != nil {
			return err
		}
		now, ok := history.Open(environment)
		switch {
		case !ok:
			return nil
		case now.Record.Sequence != open.Record.Sequence:
			open = now
			step.Logf("%s", &heldError{open})
		}
		if gaveUp(history, open) {
			return abandoned(open, "it failed and was not undone")
		}
		if err := p.watch(ctx, open, deadline); err != nil {
			return err
		}
	}
}

// watch waits for the next sign of life of a record's holder.
func (p *Pipeline) watch(ctx context.Context, open release.Entry, deadline time.Time) error {
	limited, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	lease := p.lease(open)
	stale, err := p.Ledger.Stale(limited, open.Record.Sequence, lease)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case limited.Err() != nil:
		return release.Faultf(release.KindHeld, "wait longer, or if it is gone: promote resume "+open.Record.Environment, "%w, and --wait is over", &heldError{open})
	case err != nil || !stale:
		return err
	}
	// It may have closed its record, and no heart beats for that any more.
	history, _, err := p.Ledger.Read(ctx)
	if err != nil {
		return err
	}
	if now, ok := history.Open(open.Record.Environment); ok && now.Record.Sequence == open.Record.Sequence {
		return abandoned(open, fmt.Sprintf("its holder has shown no life for %s", lease))
	}
	return nil
}
