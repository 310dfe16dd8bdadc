package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// ApproveOptions are `approve`.
type ApproveOptions struct {
	Environment string
	Release     string        // as `to` takes it; not empty
	Expires     time.Duration // how long it holds; 0 is release.DefaultApproval
	Reason      string
	DryRun      bool
	// Confirm is shown what is to be signed before it is; an error is the end.
	// Nil asks nobody.
	Confirm func(ApproveResult) error
}

// ApproveResult is what `approve` gives.
type ApproveResult struct {
	Environment string         `json:"environment"`
	Release     release.Digest `json:"release"`
	Version     string         `json:"version"`
	Revision    string         `json:"revision"`
	// Running is what the environment runs now; null if nothing was deployed.
	Running *DeployedRelease `json:"running"`
	// RunsIn are the environments that run the release.
	RunsIn []DeployedRelease `json:"runsIn"`
	// Changes are the differences from what runs, a line each; Compared is
	// false where they could not be looked up.
	Changes  []string `json:"changes"`
	Compared bool     `json:"compared"`
	// Decision is the last one that the ledger holds about the release for this
	// environment; null if it was not judged yet.
	Decision *DecisionResult `json:"decision"`
	// Approver signs, by name; the approval holds until Until.
	Approver string     `json:"approver"`
	Until    *time.Time `json:"until"`
	Reason   string     `json:"reason"`
	// Approvals count this one, too.
	Approvals release.ApprovalFacts `json:"approvals"`
	Record    *RecordResult         `json:"record"`
	// Existing is true when the approver had approved it already.
	Existing bool `json:"existing,omitempty"`
	DryRun   bool `json:"dryRun,omitempty"`
}

// DeployedRelease is what an environment runs, by its last deployed record.
type DeployedRelease struct {
	Environment string         `json:"environment"`
	Release     release.Digest `json:"release"`
	Version     string         `json:"version"`
	Since       time.Time      `json:"since"`
}

// Approve signs that a release may go into an environment. The approval is for
// this release, this environment and the configuration in force, and ends.
// Whoever is no approver, or would approve their own, is denied; approving
// twice is one approval.
func (p *Pipeline) Approve(ctx context.Context, o ApproveOptions) (ApproveResult, error) {
	env, err := p.Project.Environment(o.Environment)
	if err != nil {
		return ApproveResult{}, err
	}
	if o.Expires != 0 && (o.Expires < time.Minute || o.Expires > release.MaxApproval) {
		return ApproveResult{}, release.Misuse("write --expires 24h", "an approval holds for a minute to %d days, got %s", release.MaxApproval/(24*time.Hour), o.Expires)
	}
	if err := goodReason(o.Reason); err != nil {
		return ApproveResult{}, err
	}
	for try := 1; ; try++ {
		out, err := p.approve(ctx, env, o)
		if !errors.Is(err, release.ErrMoved) || try == appendTries {
			return out, err
		}
		o.Confirm = nil // it was agreed to, and is judged again
	}
}

func (p *Pipeline) approve(ctx context.Context, env release.Environment, o ApproveOptions) (ApproveResult, error) {
	history, checkpoint, err := p.Ledger.Read(ctx)
	if err != nil {
		return ApproveResult{}, err
	}
	out, err := p.toApprove(history, env, o)
	if err != nil {
		return out, err
	}
	if _, err := p.checkRules(history); err != nil {
		return out, err
	}
	party, err := p.speaker(ctx, release.Approver)
	if err != nil {
		return out, err
	}
	if err := p.own(history, env, out, party); err != nil {
		return out, err
	}
	out.Approver = party.Name
	until := p.Now().Add(cmp.Or(o.Expires, release.DefaultApproval)).UTC().Truncate(time.Second)
	if before, ok := given(out.Approvals, party.Name); ok && (o.Expires == 0 || !before.Before(until)) {
		out.Existing, out.Until = true, &before
		return out, nil
	}
	out.Until = &until
	p.compare(ctx, env, &out)
	if o.DryRun {
		return out, nil
	}
	if o.Confirm != nil {
		if err := o.Confirm(out); err != nil {
			return out, err
		}
	}
	entry, err := p.appendTo(ctx, history, checkpoint.TreeSize, release.Record{
		Phase: release.Approved, Environment: env.Name, Release: out.Release, Version: out.Version, Revision: out.Revision,
		Reason: o.Reason, Until: until, Configuration: p.Project.Configuration,
	})
	if err != nil {
		return out, err
	}
	out.Record = &RecordResult{Sequence: entry.Record.Sequence, Digest: entry.Digest}
	out.Approvals = p.ballot(append(slices.Clone(history), entry), env, out.Release).Count()
	return out, nil
}

// toApprove says what the ledger knows of the release.
func (p *Pipeline) toApprove(h release.History, env release.Environment, o ApproveOptions) (ApproveResult, error) {
	out := ApproveResult{Environment: env.Name, Reason: o.Reason, DryRun: o.DryRun, RunsIn: []DeployedRelease{}, Changes: []string{}}
	digest, err := findRelease(h, o.Release)
	if err != nil {
		return ApproveResult{}, err
	}
	released, _ := h.Released(digest)
	out.Release, out.Version, out.Revision = digest, released.Record.Version, released.Record.Revision
	out.Approvals = p.ballot(h, env, digest).Count()
	for _, e := range p.Project.Environments {
		last, ok := h.Deployed(e.Name)
		if !ok {
			continue
		}
		d := DeployedRelease{Environment: e.Name, Release: last.Record.Release, Version: last.Record.Version, Since: last.Record.Time}
		if e.Name == env.Name {
			out.Running = &d
		}
		if d.Release == digest {
			out.RunsIn = append(out.RunsIn, d)
		}
	}
	for _, e := range h {
		if r := e.Record; r.Environment == env.Name && r.Release == digest && r.Decision != nil {
			out.Decision = &DecisionResult{Result: r.Decision.Word(), Trust: r.Decision.Trust, Policy: r.Decision.Policy,
				Configuration: r.Decision.Configuration, Verdicts: r.Decision.Verdicts}
		}
	}
	return out, nil
}

// ballot is what approvals are judged by, as far as the ledger knows.
func (p *Pipeline) ballot(h release.History, env release.Environment, d release.Digest) release.Ballot {
	return release.Ballot{History: h, Environment: env, Release: d, Trust: p.Project.Trust, Configuration: p.Project.Configuration, Now: p.Now()}
}

// own refuses an approval that would not count: one's own.
func (p *Pipeline) own(h release.History, env release.Environment, out ApproveResult, party release.Signer) error {
	ballot := p.ballot(h, env, out.Release)
	why, own := ballot.Banned()[party.Name]
	if !own {
		return nil
	}
	others := strings.Join(out.Approvals.Approvers, ", ")
	hint := "it takes somebody else: " + others
	if others == "" {
		hint = "name more approvers under trust.approver: nobody is left who could approve it"
	}
	return release.Denied(hint, "the approval of %s for %s would not count: %s", out.Version, env.Name, why)
}

// speaker gives whose key signs, if they hold a role.
func (p *Pipeline) speaker(ctx context.Context, role release.Role) (release.Signer, error) {
	party, err := p.recorder(ctx)
	if err != nil {
		return release.Signer{}, err
	}
	if party.Has(role) {
		return party, nil
	}
	holders := p.holders(role)
	if len(holders) == 0 {
		return party, release.Denied(fmt.Sprintf("name somebody under trust.%s in promote.yaml", role), "nobody is %s here (trust: %s)", role, p.Project.Trust.Mode())
	}
	return party, release.Denied("sign with the key of one of them: --key KEY", "%s is no %s; those are %s", nameOf(party), role, strings.Join(holders, ", "))
}

func nameOf(party release.Signer) string {
	if party.Name != "" {
		return party.Name
	}
	return "this key (" + party.ID + ")"
}

// holders are the names of those who hold a role now.
func (p *Pipeline) holders(role release.Role) []string {
	var names []string
	for _, party := range p.Project.Trust.Roles[role] {
		if p.Project.Trust.State(party, p.Now()) == release.PartyValid {
			names = append(names, party.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// given gives until when an approval of a party counts.
func given(f release.ApprovalFacts, name string) (until time.Time, ok bool) {
	for _, v := range f.Votes {
		if v.Counts && v.Name == name && v.Until.After(until) {
			until, ok = v.Until, true
		}
	}
	return until, ok
}

// comparing bounds the look into the registry: what changed helps whoever
// approves, and is no reason to keep them waiting.
const comparing = 20 * time.Second

// compare looks up what the release changes.
func (p *Pipeline) compare(ctx context.Context, env release.Environment, out *ApproveResult) {
	if out.Running == nil || out.Running.Release == out.Release {
		out.Compared = true
		return
	}
	ctx, cancel := context.WithTimeout(ctx, comparing)
	defer cancel()
	repository := p.Project.Repository(p.Project.Registry)
	before, err := p.Documents.PullRelease(ctx, release.Subject{Repository: repository, Digest: out.Running.Release})
	if err == nil {
		var after release.Document
		if after, err = p.Documents.PullRelease(ctx, release.Subject{Repository: repository, Digest: out.Release}); err == nil {
			out.Changes, out.Compared = changes(before.Release, after.Release, env.Name), true
			return
		}
	}
	event.Warnf(ctx, "what %s changes could not be looked up: %s", out.Version, oneLine(err))
}

// changes are the differences of two releases for an environment, a line each.
func changes(from, to release.Release, env string) []string {
	lines := []string{}
	add := func(what string, from, to map[string]release.Digest) {
		names := map[string]bool{}
		for name := range from {
			names[name] = true
		}
		for name := range to {
			names[name] = true
		}
		for _, name := range sortedKeys(names) {
			switch a, b := from[name], to[name]; {
			case a == b:
			case a.IsZero():
				lines = append(lines, fmt.Sprintf("%s %s is new (%s)", what, name, b.Short()))
			case b.IsZero():
				lines = append(lines, fmt.Sprintf("%s %s is gone (%s)", what, name, a.Short()))
			default:
				lines = append(lines, fmt.Sprintf("%s %s: %s → %s", what, name, a.Short(), b.Short()))
			}
		}
	}
	add("service", imagesOf(from), imagesOf(to))
	add("dimension", from.Dimensions, to.Dimensions)
	add("model", map[string]release.Digest{env: from.Models[env]}, map[string]release.Digest{env: to.Models[env]})
	return lines
}

func imagesOf(r release.Release) map[string]release.Digest {
	images := map[string]release.Digest{}
	for name, s := range r.Services {
		images[name] = s.Digest
	}
	return images
}

// maxReason bounds what people say in a record, in bytes.
const maxReason = 2000

func goodReason(text string) error {
	if len(text) > maxReason {
		return release.Misuse("say it shorter, and link to the rest", "the reason has %d bytes, at most %d", len(text), maxReason)
	}
	return nil
}
