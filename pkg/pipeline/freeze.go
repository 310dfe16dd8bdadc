package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// FreezeOptions are `freeze`.
type FreezeOptions struct {
	Environment string
	Until       time.Time
	Reason      string
	DryRun      bool
}

// FreezeResult is what `freeze` gives.
type FreezeResult struct {
	Environment string    `json:"environment"`
	Until       time.Time `json:"until"`
	Reason      string    `json:"reason"`
	By          string    `json:"by"`
	// Freezes are all that are in force.
	Freezes []release.FreezeFacts `json:"freezes"`
	// Open is the promotion that began before and may finish; null if there is
	// none.
	Open   *release.Entry `json:"open"`
	Record *RecordResult  `json:"record"`
	DryRun bool           `json:"dryRun,omitempty"`
}

// UnfreezeOptions are `unfreeze`.
type UnfreezeOptions struct {
	Environment, Reason string
	DryRun              bool
}

// UnfreezeResult is what `unfreeze` gives.
type UnfreezeResult struct {
	Environment string `json:"environment"`
	By          string `json:"by"`
	Reason      string `json:"reason"`
	// Lifted are the freezes that ended with it, Freezes those that are left.
	Lifted  []release.FreezeFacts `json:"lifted"`
	Freezes []release.FreezeFacts `json:"freezes"`
	Record  *RecordResult         `json:"record"`
	DryRun  bool                  `json:"dryRun,omitempty"`
}

// MaxFreeze is how long a freeze may last: one that nobody would see the end of
// is a change of the configuration.
const MaxFreeze = 366 * 24 * time.Hour

// Freeze keeps promotions from beginning in an environment until a time.
// Rollbacks are not kept, nor is a promotion that has begun. A promoter signs
// it.
func (p *Pipeline) Freeze(ctx context.Context, o FreezeOptions) (FreezeResult, error) {
	if err := p.goodFreeze(o); err != nil {
		return FreezeResult{}, err
	}
	for try := 1; ; try++ {
		out, err := p.freeze(ctx, o)
		if !errors.Is(err, release.ErrMoved) || try == appendTries {
			return out, err
		}
	}
}

func (p *Pipeline) goodFreeze(o FreezeOptions) error {
	if _, err := p.Project.Environment(o.Environment); err != nil {
		return err
	}
	now := p.Now()
	switch {
	case strings.TrimSpace(o.Reason) == "":
		return release.Misuse(`say why: --reason "…"; whoever is held up reads it`, "a freeze needs a reason")
	case !o.Until.After(now):
		return release.Misuse("give a time to come; it is "+now.UTC().Format(time.RFC3339), "a freeze until %s would be over already", o.Until.UTC().Format(time.RFC3339))
	case o.Until.Sub(now) > MaxFreeze:
		return release.Misuse("freeze for less, and again when it ends", "a freeze until %s lasts longer than %d days", o.Until.UTC().Format(time.RFC3339), MaxFreeze/(24*time.Hour))
	}
	return goodReason(o.Reason)
}

func (p *Pipeline) freeze(ctx context.Context, o FreezeOptions) (FreezeResult, error) {
	history, checkpoint, err := p.Ledger.Read(ctx)
	if err != nil {
		return FreezeResult{}, err
	}
	until := o.Until.UTC().Truncate(time.Second)
	out := FreezeResult{Environment: o.Environment, Until: until, Reason: o.Reason, DryRun: o.DryRun,
		Freezes: release.FreezeFactsOf(history, o.Environment, p.Now())}
	if open, ok := history.Open(o.Environment); ok {
		out.Open = &open
	}
	if _, err := p.checkRules(history); err != nil {
		return FreezeResult{}, err
	}
	party, err := p.speaker(ctx, release.Promoter)
	if err != nil {
		return FreezeResult{}, err
	}
	if out.By = party.Name; o.DryRun {
		return out, nil
	}
	entry, err := p.appendTo(ctx, history, checkpoint.TreeSize, release.Record{
		Phase: release.Frozen, Environment: o.Environment, Reason: o.Reason, Until: until,
	})
	if err != nil {
		return FreezeResult{}, err
	}
	out.Record = &RecordResult{Sequence: entry.Record.Sequence, Digest: entry.Digest}
	out.Freezes = release.FreezeFactsOf(append(history, entry), o.Environment, p.Now())
	return out, nil
}

// Unfreeze lifts freezes: an approver all, whoever froze their own. An
// environment that is not frozen is a KindUsage fault.
func (p *Pipeline) Unfreeze(ctx context.Context, o UnfreezeOptions) (UnfreezeResult, error) {
	if _, err := p.Project.Environment(o.Environment); err != nil {
		return UnfreezeResult{}, err
	}
	if err := goodReason(o.Reason); err != nil {
		return UnfreezeResult{}, err
	}
	for try := 1; ; try++ {
		out, err := p.unfreeze(ctx, o)
		if !errors.Is(err, release.ErrMoved) || try == appendTries {
			return out, err
		}
	}
}

func (p *Pipeline) unfreeze(ctx context.Context, o UnfreezeOptions) (UnfreezeResult, error) {
	history, checkpoint, err := p.Ledger.Read(ctx)
	if err != nil {
		return UnfreezeResult{}, err
	}
	frozen := history.Frozen(o.Environment, p.Now())
	if len(frozen) == 0 {
		return UnfreezeResult{}, p.notFrozen(history, o.Environment)
	}
	if _, err := p.checkRules(history); err != nil {
		return UnfreezeResult{}, err
	}
	party, err := p.recorder(ctx)
	if err != nil {
		return UnfreezeResult{}, err
	}
	left := release.Thaw(frozen, party)
	out := UnfreezeResult{Environment: o.Environment, By: party.Name, Reason: o.Reason, DryRun: o.DryRun,
		Lifted: release.FreezeFactsOf(frozen, o.Environment, p.Now()), Freezes: release.FreezeFactsOf(left, o.Environment, p.Now())}
	if len(left) == len(frozen) {
		return UnfreezeResult{}, p.mayNotThaw(party, out)
	}
	out.Lifted = without(out.Lifted, out.Freezes)
	if o.DryRun {
		return out, nil
	}
	entry, err := p.appendTo(ctx, history, checkpoint.TreeSize, release.Record{Phase: release.Unfrozen, Environment: o.Environment, Reason: o.Reason})
	if err != nil {
		return UnfreezeResult{}, err
	}
	out.Record = &RecordResult{Sequence: entry.Record.Sequence, Digest: entry.Digest}
	return out, nil
}

// without gives the freezes of a list that are not in another one.
func without(list, others []release.FreezeFacts) []release.FreezeFacts {
	kept := []release.FreezeFacts{}
	for _, f := range list {
		found := false
		for _, other := range others {
			found = found || other.Sequence == f.Sequence
		}
		if !found {
			kept = append(kept, f)
		}
	}
	return kept
}

func (p *Pipeline) mayNotThaw(party release.Signer, out UnfreezeResult) error {
	var by []string
	for _, f := range out.Freezes {
		by = append(by, fmt.Sprintf("%s (record %d, until %s: %s)", f.By, f.Sequence, f.Until.Format(time.RFC3339), f.Reason))
	}
	hint := "an approver or whoever froze it lifts a freeze: --key KEY"
	if names := p.holders(release.Approver); len(names) > 0 {
		hint += "; approvers are " + strings.Join(names, ", ")
	}
	return release.Denied(hint, "%s may not lift the freeze of %s by %s", nameOf(party), out.Environment, strings.Join(by, ", "))
}

// notFrozen says what is: maybe another environment was meant, or it is over.
func (p *Pipeline) notFrozen(h release.History, environment string) error {
	var others []string
	for _, e := range p.Project.Environments {
		if len(h.Frozen(e.Name, p.Now())) > 0 {
			others = append(others, e.Name)
		}
	}
	hint := "no environment is frozen"
	if len(others) > 0 {
		hint = "frozen: " + strings.Join(others, ", ")
	}
	if ended := h.Frozen(environment, time.Time{}); len(ended) > 0 {
		last := ended[len(ended)-1].Record
		return release.Misuse(hint, "%s is not frozen any more: the freeze of record %d ended at %s", environment, last.Sequence, last.Until.Format(time.RFC3339))
	}
	return release.Misuse(hint, "%s is not frozen", environment)
}
