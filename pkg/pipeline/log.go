package pipeline

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// LogFilter chooses records. What is empty chooses nothing and lets all through.
type LogFilter struct {
	Environment string
	// Release is a digest, a prefix of at least 12 hex digits, or a version.
	Release string
	Phases  []release.Phase
	// Actor is the name of a signer, or the user of the machine that wrote the
	// record, as it claims.
	Actor        string
	Since, Until time.Time // of the records' own times; both are included
	Limit        int       // the newest so many; 0 is no limit
}

// phases are those that records have, in the order of PRODUCT.md.
var phases = []release.Phase{release.Released, release.Intended, release.Deployed, release.RolledBack, release.FailedPhase, release.DeniedPhase,
	release.Approved, release.Frozen, release.Unfrozen, release.Exception, release.BreakGlassed, release.TrustChanged, release.Watched, release.Compacted}

func (f LogFilter) check(p *Pipeline) error {
	if f.Limit < 0 {
		return release.Misuse("--limit 20; 0 is no limit", "a limit of %d records", f.Limit)
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && f.Until.Before(f.Since) {
		return release.Misuse("exchange them", "--until %s is before --since %s", f.Until.Format(time.RFC3339), f.Since.Format(time.RFC3339))
	}
	for _, phase := range f.Phases {
		if slices.Contains(phases, phase) {
			continue
		}
		names := make([]string, len(phases))
		for i, known := range phases {
			names[i] = string(known)
		}
		hint := "one of " + strings.Join(names, ", ")
		if near := release.Nearest(string(phase), names); near != "" {
			hint = "did you mean " + near + "?"
		}
		return release.Misuse(hint, "no phase %q", phase)
	}
	if f.Environment == "" {
		return nil
	}
	_, err := p.Project.Environment(f.Environment)
	return err
}

func (f LogFilter) lets(e release.Entry, of release.Digest) bool {
	r := e.Record
	return (f.Environment == "" || r.Environment == f.Environment) &&
		(f.Release == "" || r.Release == of) &&
		(len(f.Phases) == 0 || slices.Contains(f.Phases, r.Phase)) &&
		(f.Actor == "" || e.Signer.Name == f.Actor || r.Actor.User == f.Actor) &&
		(f.Since.IsZero() || !r.Time.Before(f.Since)) &&
		(f.Until.IsZero() || !r.Time.After(f.Until))
}

// LogResult is what `log` gives.
type LogResult struct {
	Records release.History `json:"records"`
	// Compacted are records that a filter may have let through, and of which the
	// ledger knows nothing but that they were there.
	Compacted []CompactedRecords `json:"compacted"`
}

// Log gives the records that a filter lets through, newest first.
func (p *Pipeline) Log(ctx context.Context, f LogFilter) (LogResult, error) {
	if err := f.check(p); err != nil {
		return LogResult{}, err
	}
	history, _, err := p.Ledger.Read(ctx)
	if err != nil {
		return LogResult{}, err
	}
	p.warnOfRules(ctx, history)
	var of release.Digest
	if f.Release != "" {
		if of, err = findRelease(history, f.Release); err != nil {
			compactedUnknown(ctx, history, f.Release)
			return LogResult{}, err
		}
	}
	out := LogResult{Records: release.History{}}
	var gone release.Ranges
	for _, e := range slices.Backward(history) {
		switch {
		case e.Stub():
			gone = append(gone, release.Range{From: e.Record.Sequence, To: e.Record.Sequence})
		case f.lets(e, of):
			out.Records = append(out.Records, e)
		}
		if f.Limit > 0 && len(out.Records) == f.Limit {
			break
		}
	}
	slices.Reverse(gone)
	out.Compacted = compacted(history, gone)
	return out, nil
}
