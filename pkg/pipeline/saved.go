package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// SavedPlan is a plan that somebody read, and what it rests on, for a later `to`
// that does exactly this or nothing. It decides nothing: the release is judged
// again, and the targets are planned for again.
type SavedPlan struct {
	SchemaVersion int            `json:"schemaVersion"`
	Project       string         `json:"project"`
	Environment   string         `json:"environment"`
	Release       release.Digest `json:"release"`
	Version       string         `json:"version"`
	// From is the environment's last deployed record; nil where nothing was
	// deployed.
	From *RecordResult `json:"from"`
	// TreeSize is the size of the ledger that was judged against, Checkpoint the
	// signed envelope over it.
	TreeSize     int64          `json:"treeSize"`
	Checkpoint   string         `json:"checkpoint"`
	Adopt        bool           `json:"adopt"`
	StateChanges []string       `json:"stateChanges"`
	Decision     DecisionResult `json:"decision"`
	Targets      []SavedTarget  `json:"targets"`
}

// SavedTarget is what would be done on one target, and what it was decided from.
type SavedTarget struct {
	Name  string         `json:"name"`
	Steps []release.Step `json:"steps"`
	// Seen is what was there: containers, volumes and networks, by name.
	Seen map[string]string `json:"seen"`
}

// PlanDifference is one thing that is not as it was when a plan was saved.
type PlanDifference struct {
	Target  string `json:"target,omitempty"`
	What    string `json:"what"`
	Planned string `json:"planned"` // empty: nothing
	Now     string `json:"now"`     // empty: nothing
}

const (
	// MostPlan bounds a saved plan, in bytes.
	MostPlan = 16 << 20
	// planVersion is the form of a saved plan that is written and read.
	planVersion = 1
)

// planFile is a saved plan as it is written: with the digest of its canonical
// form, so that a file that was cut off or edited is told from a moved world.
type planFile struct {
	Digest release.Digest `json:"digest"`
	Plan   SavedPlan      `json:"plan"`
}

// Encode gives the bytes of a saved plan's file, canonical JSON and a newline.
func (s SavedPlan) Encode() ([]byte, error) {
	plan, err := release.Canonical(s)
	if err != nil {
		return nil, err
	}
	text, err := release.Canonical(planFile{release.DigestOf(plan), s})
	if err == nil && len(text) >= MostPlan {
		err = release.Faultf(release.KindInternal, "plan for fewer targets at once", "the plan takes %d bytes, at most %d can be read again", len(text), MostPlan)
	}
	return append(text, '\n'), err
}

// ParsePlan reads a saved plan's file. One that is none, of another version,
// cut off or edited is KindUsage.
func ParsePlan(text []byte) (SavedPlan, error) {
	bad := func(format string, args ...any) (SavedPlan, error) {
		return SavedPlan{}, release.Misuse("plan again: promote plan --to ENV --save FILE", "it is no saved plan, or not as it was saved: "+format, args...)
	}
	if len(text) > MostPlan {
		return bad("it has more than %d bytes", MostPlan)
	}
	canonical, err := release.CanonicalJSON(text)
	if err != nil {
		return bad("%w", err)
	}
	var version struct {
		Plan struct {
			SchemaVersion *int `json:"schemaVersion"`
		} `json:"plan"`
	}
	if err := json.Unmarshal(canonical, &version); err != nil {
		return bad("%w", err)
	}
	switch v := version.Plan.SchemaVersion; {
	case v == nil:
		return bad("it has no plan.schemaVersion")
	case *v != planVersion:
		return SavedPlan{}, release.Misuse("plan again with this promote", "the plan was saved in version %d of its form; this promote reads version %d", *v, planVersion)
	}
	dec := json.NewDecoder(bytes.NewReader(canonical))
	dec.DisallowUnknownFields()
	var f planFile
	if err := dec.Decode(&f); err != nil {
		return bad("%w", err)
	}
	plan, err := release.Canonical(f.Plan)
	if err != nil {
		return bad("%w", err)
	}
	if d := release.DigestOf(plan); d != f.Digest {
		return bad("its digest says %s, its contents hash to %s", orNothing(f.Digest.String()), d)
	}
	return f.Plan, nil
}

// save puts together what a plan rests on.
func (r *promotion) save() *SavedPlan {
	d := r.decision
	s := &SavedPlan{
		SchemaVersion: planVersion, Project: r.p.Project.Name, Environment: r.env.Name,
		Release: r.subject.Digest, Version: r.document.Release.Version, From: r.from(),
		TreeSize: r.checkpoint.TreeSize, Checkpoint: string(r.checkpoint.Envelope),
		Adopt: r.options.Adopt, StateChanges: append([]string{}, r.options.StateChanges...),
		Decision: DecisionResult{Result: d.Word(), Trust: d.Trust, Policy: d.Policy, Configuration: d.Configuration, Verdicts: d.Verdicts},
	}
	for _, h := range r.hosts {
		t := SavedTarget{Name: h.target.Name, Steps: append([]release.Step{}, h.plan.Steps...), Seen: map[string]string{}}
		maps.Copy(t.Seen, h.plan.Seen)
		s.Targets = append(s.Targets, t)
	}
	return s
}

// from is the environment's last deployed record.
func (r *promotion) from() *RecordResult {
	if r.current == nil {
		return nil
	}
	return &RecordResult{Sequence: r.current.Record.Sequence, Digest: r.current.Digest}
}

// follow takes over what a saved plan says was asked for.
func (o PromoteOptions) follow(project string) (PromoteOptions, error) {
	s := o.Plan
	if s == nil {
		return o, nil
	}
	if o.Release != "" || o.Adopt || o.Redeploy || o.AllowDirty || len(o.StateChanges) > 0 {
		return o, release.Misuse("leave the other flags out, or plan again with them", "a saved plan says which release, and how: --release, --adopt, --redeploy, --allow-dirty and --state-change cannot change it")
	}
	if s.Project != project || s.Environment != o.Environment {
		return o, release.Misuse(fmt.Sprintf("promote to %s --plan FILE, in the project %s", s.Environment, s.Project),
			"the plan was saved for environment %q of project %q; this is %q of %q", s.Environment, s.Project, o.Environment, project)
	}
	if s.Release.IsZero() {
		return o, release.Misuse("plan again", "the plan names no release")
	}
	o.Release, o.Adopt, o.StateChanges = s.Release.String(), s.Adopt, s.StateChanges
	return o, nil
}

// unmoved is an error unless the ledger and the targets are as they were when
// the plan was saved, and the same would be done.
func (r *promotion) unmoved(ctx context.Context) error {
	s := r.options.Plan
	if s == nil {
		return nil
	}
	if err := r.p.Ledger.Contains(ctx, []byte(s.Checkpoint)); err != nil {
		return fmt.Errorf("the plan was made against another ledger, or this one is an old copy: %w", err)
	}
	list := changed("", map[string]string{"the last deployment": recordText(s.From)}, map[string]string{"the last deployment": recordText(r.from())})
	planned := map[string]SavedTarget{}
	for _, t := range s.Targets {
		planned[t.Name] = t
	}
	for _, h := range r.hosts {
		was, known := planned[h.target.Name]
		delete(planned, h.target.Name)
		if !known {
			list = append(list, PlanDifference{Target: h.target.Name, What: "the target", Now: "is one of " + r.env.Name})
			continue
		}
		list = append(list, changed(h.target.Name, stepTexts(was.Steps), stepTexts(h.plan.Steps))...)
		list = append(list, changed(h.target.Name, was.Seen, h.plan.Seen)...)
	}
	for _, name := range sortedKeys(planned) {
		list = append(list, PlanDifference{Target: name, What: "the target", Planned: "is one of " + r.env.Name})
	}
	return r.refuse(list)
}

// judgedAlike is an error where the release was judged under other rules than
// when the plan was saved, or a gate says something else now.
func (r *promotion) judgedAlike() error {
	s := r.options.Plan
	if s == nil {
		return nil
	}
	d := r.decision
	now := DecisionResult{Result: d.Word(), Trust: d.Trust, Policy: d.Policy, Configuration: d.Configuration, Verdicts: d.Verdicts}
	return r.refuse(changed("", judgement(s.Decision), judgement(now)))
}

// refuse makes an error of differences, if there are any.
func (r *promotion) refuse(list []PlanDifference) error {
	if len(list) == 0 {
		return nil
	}
	r.differences = list
	var text strings.Builder
	for _, d := range list {
		text.WriteString("\n  " + d.String())
	}
	return release.Faultf(release.KindUnavailable, fmt.Sprintf("read a new plan: promote plan --to %s --save FILE", r.env.Name),
		"the world moved since the plan was saved; nothing was promoted:%s", text.String())
}

// String says the difference in one line.
func (d PlanDifference) String() string {
	text := d.What + ": planned " + orNothing(d.Planned) + ", now " + orNothing(d.Now)
	if d.Target != "" {
		text = d.Target + ": " + text
	}
	return text
}

// changed compares two sets of texts by name.
func changed(target string, planned, now map[string]string) []PlanDifference {
	all := maps.Clone(planned)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, now)
	var list []PlanDifference
	for _, what := range sortedKeys(all) {
		if planned[what] != now[what] {
			list = append(list, PlanDifference{Target: target, What: what, Planned: planned[what], Now: now[what]})
		}
	}
	return list
}

// stepTexts gives steps by what they are about. Pulls are left out: nothing that
// runs changes with them.
func stepTexts(steps []release.Step) map[string]string {
	out := map[string]string{}
	for _, s := range steps {
		if s.Action == "pull" {
			continue
		}
		about, text := "step for "+s.Service, s.Action
		if s.Service == "" {
			about = "step for " + s.To
		}
		if s.From != "" {
			text += " " + s.From
		}
		if s.To != "" {
			text += " → " + s.To
		}
		if s.Cause != "" {
			text += " (" + s.Cause + ")"
		}
		if s.Order != "" {
			text += ", " + s.Order
		}
		if out[about] != "" {
			text = out[about] + "; " + text
		}
		out[about] = text
	}
	return out
}

// judgement gives a decision by what it is about. What a gate found counts, not
// its words: they may tell of times.
func judgement(d DecisionResult) map[string]string {
	out := map[string]string{"trust": d.Trust, "policy": d.Policy.String(), "configuration": d.Configuration.String()}
	for _, v := range d.Verdicts {
		var rules []string
		for _, reason := range v.Reasons {
			rules = append(rules, reason.Rule)
		}
		slices.Sort(rules)
		out["gate "+v.Gate] = strings.TrimSpace(v.Result.String() + " " + strings.Join(rules, " "))
	}
	return out
}

func recordText(r *RecordResult) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("record %d (%s)", r.Sequence, r.Digest.Short())
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// Save gives the bytes of the plan's file. Only a plan that would be let in and
// carried out can be saved.
func (p PlanResult) Save() ([]byte, error) {
	if p.saved == nil {
		return nil, errors.New("there is no plan to save")
	}
	return p.saved.Encode()
}
