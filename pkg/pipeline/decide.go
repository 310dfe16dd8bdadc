package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// fetch reads the release document and the platform images that the targets
// will run, and resolves the environment's model with its values. A missing
// value is an error here, before any effect. Its images are looked at again from
// here on, beside everything else.
func (r *promotion) fetch(ctx context.Context) (err error) {
	step := event.Start(ctx, "[fetch] release %s", r.subject.Digest.Short())
	defer func() { step.Done(err) }()
	if r.document, err = r.pull(ctx, r.source, r.subject.Digest); err != nil {
		return err
	}
	model, ok := r.document.Models[r.env.Name]
	if !ok {
		return release.Denied("make a new release: promote release", "release %s was made before %s was configured: it holds no model for it", r.document.Release.Version, r.env.Name)
	}
	images := map[string]release.Subject{}
	for name := range r.document.Release.Services {
		if images[name], err = r.document.Release.Subject(name, r.env.Registry); err != nil {
			return err
		}
	}
	values, err := r.p.Project.Values(r.env.Name)
	if err != nil {
		return err
	}
	if !r.mayBeThere() {
		r.matching = beside(ctx, r, r.matchAhead)
	}
	if r.workload, err = r.p.Models.Resolve(model, values, images); err != nil {
		return err
	}
	r.images = map[string]map[string]release.PlatformImage{}
	for _, h := range r.hosts {
		name := platform(h.info)
		if r.images[name] != nil {
			continue
		}
		if r.images[name], err = r.platform(ctx, r.source, r.subject.Digest, r.document.Release, name); err != nil {
			return err
		}
	}
	return nil
}

// platformImages reads each service's image for a platform, from bytes hashed
// on the way.
func (p *Pipeline) platformImages(ctx context.Context, rel release.Release, registry, platform string) (map[string]release.PlatformImage, error) {
	names := rel.ServiceNames()
	list := make([]release.PlatformImage, len(names))
	err := each(ctx, names, func(ctx context.Context, name string) error {
		subject, err := rel.Subject(name, registry)
		if err == nil {
			list[slices.Index(names, name)], err = p.Images.Platform(ctx, subject, platform)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	images := map[string]release.PlatformImage{}
	for i, name := range names {
		images[name] = list[i]
	}
	return images, nil
}

func projectName(model []byte) (string, error) {
	var m struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(model, &m); err != nil || m.Name == "" {
		return "", fmt.Errorf("reading the project name of a model: %w", errors.Join(err, errors.New("no name")))
	}
	return m.Name, nil
}

// planTargets observes every target and plans what to do there.
func (r *promotion) planTargets(ctx context.Context) error {
	if err := r.checkSnapshots(ctx); err != nil {
		return err
	}
	return each(ctx, r.hosts, func(ctx context.Context, h *host) (err error) {
		h.plan, err = h.Plan(ctx, r.desired(h))
		return err
	})
}

func (r *promotion) desired(h *host) Desired {
	return Desired{Workload: r.workload, Images: r.images[platform(h.info)], Recorded: r.recorded(h.target.Name), Attempt: r.attempt(), Redeploy: r.options.Redeploy, Adopt: r.options.Adopt,
		Recreate: r.options.recreate[h.target.Name], StateChanges: r.options.StateChanges, KnownChanges: r.knownChanges(), Back: r.kind == release.KindRollback,
		Snapshots: r.env.Snapshots, Before: r.before(), Needed: r.candidates(), Restore: r.restoring[h.target.Name], Identity: r.options.Identity}
}

// recorded is what the last deployed record says about a target.
func (r *promotion) recorded(target string) *release.TargetStatus {
	if r.current == nil {
		return nil
	}
	h := r.history
	if len(h) == 0 {
		h = release.History{*r.current}
	}
	if t, ok := recordedTargets(h, r.env.Name)[target]; ok {
		return &t
	}
	return nil
}

// knownChanges are the changes of state that the last record accepted.
func (r *promotion) knownChanges() []string {
	if r.current == nil {
		return nil
	}
	return r.current.Record.StateChanges
}

// mayBeThere: the last record is of this release, so that there may be nothing
// to do, nor to judge.
func (r *promotion) mayBeThere() bool {
	return !r.options.Redeploy && r.options.Restore == nil && !r.options.DryRun && r.current != nil && r.current.Record.Release == r.subject.Digest
}

// nothingToDo: the last record is of this release and every target runs it.
func (r *promotion) nothingToDo() bool {
	if !r.mayBeThere() {
		return false
	}
	for _, h := range r.hosts {
		if h.plan.Changes() || len(h.plan.Blocking) > 0 {
			return false
		}
	}
	for _, h := range r.hosts {
		h.status = *r.recordedOr(h)
		h.status.Status = "unchanged"
	}
	return true
}

func (r *promotion) recordedOr(h *host) *release.TargetStatus {
	if t := r.recorded(h.target.Name); t != nil {
		return t
	}
	return &h.status
}

// decide collects the facts side by side and judges them. What the ledger and
// the plan say are gates of their own, in a fixed order before the policies.
func (r *promotion) decide(ctx context.Context) (err error) {
	step := event.Start(ctx, "[judge] %s for %s", r.document.Release.Version, r.env.Name)
	defer func() { step.Done(err) }()
	facts, err := r.facts(ctx)
	if err != nil {
		return err
	}
	verdicts, err := r.p.Judge.Judge(ctx, facts)
	if err != nil {
		return err
	}
	r.decision = release.Decision{
		Release: r.subject.Digest, Environment: r.env.Name, Trust: r.p.Project.Trust.Mode(),
		Policy: r.p.Judge.Digest(), Configuration: r.p.Project.Configuration, Evidence: facts.EvidenceDigests(), TreeSize: r.checkpoint.TreeSize,
		Verdicts: slices.Concat([]release.Verdict{r.orderVerdict(), r.stateVerdict()}, verdicts),
	}
	for _, v := range r.decision.Verdicts {
		for _, reason := range v.Reasons {
			step.Logf("%s %s: %s", v.Result, reason.Rule, reason.Message)
		}
	}
	return nil
}

func verdict(gate string, reasons ...release.Reason) release.Verdict {
	v := release.Verdict{Gate: gate, Result: release.Passed, Reasons: []release.Reason{}}
	if len(reasons) > 0 {
		v.Result, v.Reasons = release.Failed, reasons
	}
	return v
}

// orderVerdict: going back needs `rollback`. Older is a lower sequence of the
// first released record.
func (r *promotion) orderVerdict() release.Verdict {
	mine, ok := r.history.Released(r.subject.Digest)
	if !ok {
		return verdict("history", release.Reason{Rule: "history/released", Message: "the ledger has no released record of " + r.subject.Digest.String(), Fix: "promote release"})
	}
	if r.kind == release.KindRollback || r.current == nil {
		return verdict("history")
	}
	running, ok := r.history.Released(r.current.Record.Release)
	if ok && mine.Record.Sequence < running.Record.Sequence {
		return verdict("history", release.Reason{Rule: "history/older",
			Message: fmt.Sprintf("%s is older than %s, which runs in %s", mine.Record.Version, running.Record.Version, r.env.Name),
			Fix:     fmt.Sprintf("promote rollback %s --to %s --reason TEXT", r.env.Name, mine.Record.Version)})
	}
	return verdict("history")
}

// stateVerdict: a release that would start with another or an empty volume
// does not start.
func (r *promotion) stateVerdict() release.Verdict {
	var reasons []release.Reason
	var accepted []release.Reason
	for _, h := range r.hosts {
		reasons = append(reasons, onTarget(h, h.plan.Blocking)...)
		accepted = append(accepted, onTarget(h, h.plan.Accepted)...)
	}
	v := verdict("state", reasons...)
	if len(reasons) == 0 && len(accepted) > 0 {
		v.Result, v.Reasons = release.Warned, accepted
	}
	return v
}

// onTarget says of reasons which target they are about.
func onTarget(h *host, list []release.Reason) []release.Reason {
	var out []release.Reason
	for _, reason := range list {
		reason.Message = h.target.Name + ": " + reason.Message
		out = append(out, reason)
	}
	return out
}

// decisionPredicate follows https://slsa.dev/spec/v1.0/verification_summary.
type decisionPredicate struct {
	Verifier           map[string]string `json:"verifier"`
	TimeVerified       time.Time         `json:"timeVerified"`
	ResourceURI        string            `json:"resourceUri"`
	Policy             map[string]any    `json:"policy"`
	InputAttestations  []map[string]any  `json:"inputAttestations"`
	VerificationResult string            `json:"verificationResult"`
	VerifiedLevels     []string          `json:"verifiedLevels"`
	SLSAVersion        string            `json:"slsaVersion"`
	Promote            release.Decision  `json:"promote"`
	// Checkpoint is the signed envelope of the ledger's checkpoint over the
	// intent: whoever has the attestation can hold the ledger against it.
	Checkpoint string `json:"checkpoint,omitempty"`
}

// maySign finds out, while nothing is recorded yet, that the decision can be
// signed.
func (r *promotion) maySign(ctx context.Context) error {
	signer, err := r.p.Keys.Open(ctx)
	if err != nil {
		return err
	}
	return r.p.mayAttest(r.subject, release.PredicateDecision, signer.Party())
}

// attestDecision signs the decision and attaches it to the release, before
// anything is promoted and after the intent is durable: to write to a registry
// is an effect, too.
func (r *promotion) attestDecision(ctx context.Context) (err error) {
	step := event.Start(ctx, "[sign] the decision for %s", r.env.Name)
	defer func() { step.Done(err) }()
	signer, err := r.p.Keys.Open(ctx)
	if err != nil {
		return err
	}
	inputs := []map[string]any{}
	for _, d := range r.decision.Evidence {
		inputs = append(inputs, map[string]any{"digest": map[string]string{"sha256": d.Hex()}})
	}
	body := predicate(decisionPredicate{
		Verifier: map[string]string{"id": "https://github.com/promote-dev/promote"}, TimeVerified: r.p.Now().UTC(),
		ResourceURI: r.subject.String(), VerificationResult: "PASSED", VerifiedLevels: []string{}, SLSAVersion: "1.0",
		Policy:            map[string]any{"uri": "promote:policies", "digest": map[string]string{"sha256": r.decision.Policy.Hex()}},
		InputAttestations: inputs, Promote: r.decision,
		Checkpoint: string(r.checkpoint.Envelope),
	})
	_, err = r.p.attest(ctx, signer, r.subject, release.PredicateDecision, body)
	return err
}
