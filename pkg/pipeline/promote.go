package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// PromoteOptions are the choices of a promotion or a rollback.
type PromoteOptions struct {
	Environment string
	Release     string // a digest, a prefix of it, or a version; empty: see PRODUCT "Promoting, precisely"
	Reason      string
	AllowDirty  bool
	Redeploy    bool // recreate what runs even if nothing differs
	DryRun      bool
	// Adopt takes over what runs already and is just what the release says,
	// without a restart; what volumes there are counts as meant.
	Adopt bool
	// Wait is how long to wait for another promotion of the environment to end;
	// 0 is not at all.
	Wait time.Duration
	// StateChanges names volumes that are meant to be new, other ones, empty or
	// gone. It needs a Reason, but in a dry run.
	StateChanges []string
	// Plan is a saved plan: exactly that is done, or nothing. It says which
	// release, and goes with no other choice of what to do.
	Plan *SavedPlan
	// Restore names the record whose promotion took the snapshots that volumes are
	// brought back to; Identity is the private key that opens them.
	Restore  *int64
	Identity string
	// recreate names the services that drifted, by target.
	recreate map[string]map[string]bool
}

// Promotion is what `to`, `rollback` and `resume` give.
type Promotion struct {
	Environment string                 `json:"environment"`
	Release     release.Digest         `json:"release"`
	Version     string                 `json:"version"`
	Images      []PromotedImage        `json:"images"`
	Decision    *DecisionResult        `json:"decision"`
	Targets     []release.TargetStatus `json:"targets"`
	Record      *RecordResult          `json:"record"`
	// Plan is set by a dry run, and Rollout with it.
	Plan    *release.Plan `json:"plan,omitempty"`
	Rollout *Rollout      `json:"rollout,omitempty"`
	// Pruned are images that were removed from targets because nothing needs them
	// any more.
	Pruned []PrunedImage `json:"pruned,omitempty"`
	// Unchanged is true when everything ran already and nothing was recorded.
	Unchanged bool `json:"unchanged,omitempty"`
	// Moved is in what the world is not as a saved plan saw it.
	Moved []PlanDifference `json:"moved,omitempty"`

	saved *SavedPlan
}

// PromotedImage is one service's image in the environment's registry.
type PromotedImage struct {
	Service    string         `json:"service"`
	Repository string         `json:"repository"`
	Digest     release.Digest `json:"digest"`
}

// PrunedImage is an image that was removed from a target.
type PrunedImage struct {
	Target string `json:"target"`
	Image  string `json:"image"` // as its engine called it
}

// DecisionResult is a decision as results show it.
type DecisionResult struct {
	Result        string            `json:"result"` // allow or deny
	Trust         string            `json:"trust"`
	Policy        release.Digest    `json:"policy"`
	Configuration release.Digest    `json:"configuration"`
	Verdicts      []release.Verdict `json:"verdicts"`
}

// promotion carries one promotion from step to step.
type promotion struct {
	p       *Pipeline
	options PromoteOptions
	kind    string // promote, rollback, fix

	env        release.Environment
	history    release.History
	checkpoint release.Checkpoint
	current    *release.Entry // the environment's last deployed record
	hosts      []*host

	source    string // the registry that holds the release now
	subject   release.Subject
	document  release.Document
	images    map[string]map[string]release.PlatformImage // by platform and service
	workload  release.Workload
	restoring map[string][]release.Snapshot // by target

	decision release.Decision
	intent   release.Entry
	newest   shared[release.History] // for guards
	resumed  bool
	began    string // who began what is resumed, by name

	differences []PlanDifference // from the saved plan

	documents memo[release.Subject, release.Document]
	platforms memo[string, map[string]release.PlatformImage]
	// What goes on beside the steps; nil where nothing does.
	settling func() (struct{}, error)
	matching func() (map[string]release.Scan, error)
	asides   sync.WaitGroup
	cancels  []context.CancelFunc
}

// host is one opened target and what happened to it.
type host struct {
	target release.Target
	Host
	info   release.EngineInfo
	plan   release.Plan
	status release.TargetStatus
	locked bool
	// touched is true from the moment before the first effect.
	touched bool
	ran     time.Duration // for how long it has run the release already
}

// To promotes a release into an environment: verify, decide, copy, deploy,
// read back, record. The first environment makes what is missing, the others
// take the release of the environment before. The result is valid also when
// the error is not nil. Errors are faults with the kinds of PRODUCT.md:
// denied, unavailable, held, rolledBack, broken, interrupted.
func (p *Pipeline) To(ctx context.Context, o PromoteOptions) (Promotion, error) {
	return p.promote(ctx, o, release.KindPromote)
}

// Rollback deploys the release that the environment ran before, or another
// one that it ran, through the same gates for health and state.
func (p *Pipeline) Rollback(ctx context.Context, o PromoteOptions) (Promotion, error) {
	if o.Reason == "" {
		return Promotion{}, release.Misuse(`say why: --reason "…"; it goes into the ledger`, "a rollback needs a reason")
	}
	if err := o.checkRestore(); err != nil {
		return Promotion{Environment: o.Environment}, err
	}
	return p.promote(ctx, o, release.KindRollback)
}

// promote judges again as often as others write to the ledger meanwhile
// without taking the environment.
func (p *Pipeline) promote(ctx context.Context, o PromoteOptions, kind string) (Promotion, error) {
	o, err := o.follow(p.Project.Name)
	if err != nil {
		return Promotion{Environment: o.Environment}, err
	}
	if len(o.StateChanges) > 0 && o.Reason == "" && !o.DryRun {
		return Promotion{Environment: o.Environment}, stateChangeReason()
	}
	if o.Adopt && o.Redeploy {
		return Promotion{Environment: o.Environment}, release.Misuse("leave one of them out", "--adopt restarts nothing, --redeploy everything")
	}
	deadline := time.Now().Add(o.Wait)
	for try := 1; ; try++ {
		r := &promotion{p: p, options: o, kind: kind}
		out, err := r.run(ctx)
		r.close()
		var busy *heldError
		if o.Wait > 0 && errors.As(err, &busy) {
			if err := p.await(ctx, busy.open, deadline); err != nil {
				return out, err
			}
			try = 0
			continue
		}
		if try == judgeTries || !errors.Is(err, errJudgeAgain) {
			return out, err
		}
		event.Noticef(ctx, "the ledger moved while %s was judged; judging again", o.Environment)
	}
}

func stateChangeReason() error {
	return release.Misuse(`say why: --reason "…"; it goes into the ledger`, "a change of state needs a reason")
}

// judgeTries is how often a promotion is judged before it gives way.
const judgeTries = 5

func (r *promotion) run(ctx context.Context) (Promotion, error) {
	// The first half only reads.
	if err := r.look(ctx); err != nil {
		return r.result(nil), err
	}
	if r.nothingToDo() {
		out := r.result(nil)
		out.Unchanged = true
		return out, nil
	}
	if err := r.decide(ctx); err != nil {
		return r.result(nil), err
	}
	if r.decision.Allowed() {
		if err := r.judgedAlike(); err != nil {
			return r.result(nil), err
		}
	}
	if r.options.DryRun {
		return r.dryRun()
	}
	if !r.decision.Allowed() {
		return r.deny(ctx)
	}
	if err := r.maySign(ctx); err != nil {
		return r.result(nil), err
	}
	if err := r.intend(ctx); err != nil {
		return r.result(nil), err
	}
	return r.carryOut(ctx)
}

// look is what comes before it is judged. Whether the environment before is
// settled is found out beside it; if it is not, that is the answer, whatever
// else went wrong.
func (r *promotion) look(ctx context.Context) error {
	var err error
	for _, step := range []func(context.Context) error{r.start, r.preflight, r.choose, r.fetch, r.planTargets, r.unmoved} {
		if err = step(ctx); err != nil {
			break
		}
	}
	if r.settling != nil {
		if _, unsettled := r.settling(); unsettled != nil {
			return unsettled
		}
	}
	return err
}

// start reads the environment and its history, and refuses while another
// promotion is open.
func (r *promotion) start(ctx context.Context) (err error) {
	if r.env, err = r.p.Project.Environment(r.options.Environment); err != nil {
		return err
	}
	if r.history, r.checkpoint, err = r.p.Ledger.Read(ctx); err != nil {
		return err
	}
	if open, ok := r.history.Open(r.env.Name); ok {
		if gaveUp(r.history, open) {
			return abandoned(open, "it failed and was not undone")
		}
		return held(open)
	}
	if last, ok := r.history.Deployed(r.env.Name); ok {
		r.current = &last
	}
	if _, err = r.p.checkRules(r.history); err != nil {
		return err
	}
	return r.p.checkClock(r.history)
}

// checkClock refuses to go on where this machine's clock shows an earlier time
// than it did when the machine last wrote a record: soak, windows and expiries
// are judged by it. A resume does not ask; to finish is always better.
func (p *Pipeline) checkClock(h release.History) error {
	for _, e := range slices.Backward(h) {
		now := p.Now()
		if c := e.Record.Compaction; c != nil && c.Before.Sub(now) > clockSkew { // this machine's records may be among them
			return release.Unavailable("set this machine's clock", "the clock is wrong: it is %s, and record %d says of records that were compacted that they are of up to %s",
				now.UTC().Format(time.RFC3339), e.Record.Sequence, c.Before.Format(time.RFC3339))
		}
		if e.Stub() || e.Record.Actor.Host != p.Project.Actor.Host {
			continue
		}
		if back := e.Record.Time.Sub(now); back > clockSkew {
			return release.Unavailable("set this machine's clock; if it was ahead when it wrote that record, promote from another machine",
				"the clock went back by %s: it is %s, and this machine wrote record %d at %s", back.Round(time.Second), now.UTC().Format(time.RFC3339), e.Record.Sequence, e.Record.Time.Format(time.RFC3339))
		}
		return nil
	}
	return nil
}

// preflight opens every target and asks it for an answer before anything
// costs time.
func (r *promotion) preflight(ctx context.Context) (err error) {
	step := event.Start(ctx, "[preflight] %s: %d targets", r.env.Name, len(r.env.Targets))
	defer func() { step.Done(err) }()
	r.hosts = make([]*host, len(r.env.Targets))
	for i, t := range r.env.Targets {
		r.hosts[i] = &host{target: t, status: release.TargetStatus{Name: t.Name, Status: "skipped", Running: []release.Running{}}}
	}
	r.warnOfGone(ctx)
	var contains memo[string, struct{}] // most targets remember the same
	return together(ctx, r.hosts, len(r.hosts), func(ctx context.Context, h *host) error {
		kept, err := r.reach(ctx, h)
		if err != nil {
			h.status.Status, h.status.Message = "unreachable", oneLine(err)
			return err
		}
		if kept == "" {
			return nil
		}
		// A ledger that does not contain what the target remembers is another
		// one, or an old copy.
		_, err = contains.get(kept, func() (struct{}, error) { return struct{}{}, r.p.Ledger.Contains(ctx, []byte(kept)) })
		if err != nil {
			h.status.Message = oneLine(err)
			return err
		}
		return nil
	})
}

// reach opens a target and gives the checkpoint that is kept there.
func (r *promotion) reach(ctx context.Context, h *host) (kept string, err error) {
	if h.Host, err = r.p.Targets.Open(ctx, h.target); err != nil {
		return "", err
	}
	if h.info, err = h.Info(ctx); err != nil {
		return "", err
	}
	r.warn(ctx, h)
	return h.ReadCheckpoint(ctx, r.lockName())
}

const (
	lowDisk   = 2 << 30 // bytes
	clockSkew = 2 * time.Minute
)

func (r *promotion) warn(ctx context.Context, h *host) {
	if h.info.FreeDisk > 0 && h.info.FreeDisk < lowDisk {
		event.Warnf(ctx, "%s has only %d MB of disk left", h.target.Name, h.info.FreeDisk>>20)
	}
	if skew := r.p.Now().Sub(h.info.Time); !h.info.Time.IsZero() && skew.Abs() > clockSkew {
		event.Warnf(ctx, "the clock of %s differs by %s", h.target.Name, skew.Round(time.Second))
	}
	if !h.info.MemoryLimit {
		event.Warnf(ctx, "the engine of %s cannot limit memory", h.target.Name)
	}
}

func (r *promotion) lockName() string { return LockName(r.p.Project.Name, r.env.Name) }

// LockName names an environment's lock object and checkpoint on its targets.
func LockName(project, environment string) string { return "promote-" + project + "-" + environment }

func (r *promotion) close() {
	for _, cancel := range r.cancels {
		cancel()
	}
	r.asides.Wait()
	for _, h := range r.hosts {
		if h != nil && h.Host != nil {
			_ = h.Close()
		}
	}
}

// result puts together what is known so far.
func (r *promotion) result(record *release.Entry) Promotion {
	out := Promotion{Environment: r.env.Name, Release: r.subject.Digest, Version: r.document.Release.Version,
		Images: []PromotedImage{}, Targets: []release.TargetStatus{}, Moved: r.differences}
	for _, name := range r.document.Release.ServiceNames() {
		s := r.document.Release.Services[name]
		out.Images = append(out.Images, PromotedImage{Service: name, Repository: r.env.Registry + "/" + s.Path, Digest: s.Digest})
	}
	if len(r.decision.Verdicts) > 0 {
		d := r.decision
		out.Decision = &DecisionResult{Result: d.Word(), Trust: d.Trust, Policy: d.Policy, Configuration: d.Configuration, Verdicts: d.Verdicts}
	}
	for _, h := range r.hosts {
		out.Targets = append(out.Targets, h.status)
	}
	if record != nil {
		out.Record = &RecordResult{Sequence: record.Record.Sequence, Digest: record.Digest}
	}
	return out
}

// deny records the denial; nothing else is touched.
func (r *promotion) deny(ctx context.Context) (Promotion, error) {
	entry, err := r.p.append(ctx, r.record(release.DeniedPhase))
	err = errors.Join(denial(fmt.Sprintf("%s is not let into %s", r.document.Release.Version, r.env.Name), failing(r.decision)), err)
	if entry.Digest.IsZero() {
		return r.result(nil), err
	}
	return r.result(&entry), err
}

func failing(d release.Decision) []release.Reason {
	var reasons []release.Reason
	for _, v := range d.Verdicts {
		if v.Result < release.Warned {
			reasons = append(reasons, v.Reasons...)
		}
	}
	return reasons
}

func (r *promotion) record(phase release.Phase) release.Record {
	d := r.decision
	rec := release.Record{Phase: phase, Kind: r.kind, Environment: r.env.Name, Release: r.subject.Digest,
		Version: r.document.Release.Version, Revision: r.document.Release.Revision, Decision: &d, Reason: r.options.Reason, StateChanges: r.options.StateChanges, Adopt: r.options.Adopt, Restore: r.options.Restore}
	if r.current != nil {
		rec.From = r.current.Record.Release
	}
	return rec
}

func (r *promotion) dryRun() (Promotion, error) {
	out := r.result(nil)
	plan := release.Plan{Steps: []release.Step{}}
	for _, h := range r.hosts {
		plan.Steps = append(plan.Steps, h.plan.Steps...)
		plan.Blocking = append(plan.Blocking, onTarget(h, h.plan.Blocking)...)
		plan.Accepted = append(plan.Accepted, onTarget(h, h.plan.Accepted)...)
	}
	out.Plan, out.Rollout = &plan, r.rollout()
	switch r.decision.Result() {
	case release.Failed:
		return out, denial(fmt.Sprintf("%s would not be let into %s", out.Version, r.env.Name), failing(r.decision))
	case release.Unknown:
		return out, release.Unavailable("", "what decides could not be determined: %v", failing(r.decision))
	}
	out.saved = r.save()
	return out, nil
}
