package pipeline

import (
	"context"

	"github.com/promote-dev/promote/pkg/release"
)

// PlanResult is what `plan` gives.
type PlanResult struct {
	Environment string          `json:"environment"`
	Release     release.Digest  `json:"release"`
	Version     string          `json:"version"`
	Decision    *DecisionResult `json:"decision"`
	Steps       []release.Step  `json:"steps"`
	Changes     bool            `json:"changes"`
	// Rollout is in which order targets are changed; nil where it did not come
	// to a plan.
	Rollout *Rollout `json:"rollout,omitempty"`
	// Saved is the file that the plan was saved in; nil where it was not.
	Saved *SavedFile `json:"saved,omitempty"`

	saved *SavedPlan
}

// SavedFile is a file on this machine.
type SavedFile struct {
	File   string         `json:"file"`
	Digest release.Digest `json:"digest"` // of its bytes
}

// Plan says what To would do, and why; it only reads. A denial is a
// KindDenied fault without a record, evidence that would have to be made a
// KindUnavailable one.
func (p *Pipeline) Plan(ctx context.Context, o PromoteOptions) (PlanResult, error) {
	o.DryRun = true
	done, err := p.To(ctx, o)
	out := PlanResult{Environment: done.Environment, Release: done.Release, Version: done.Version, Decision: done.Decision, Steps: []release.Step{}}
	if done.Plan != nil {
		out.Rollout = done.Rollout
		out.Steps, out.Changes, out.saved = done.Plan.Steps, done.Plan.Changes(), done.saved
	}
	return out, err
}
