package pipeline

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// DriftOptions are `drift`.
type DriftOptions struct {
	Environment string // empty: every environment that was deployed to
	// Fix deploys the recorded release again where something differs.
	Fix    bool
	Reason string
	DryRun bool // of Fix
}

// DriftResult is what `drift` gives.
type DriftResult struct {
	Targets []DriftTarget `json:"targets"`
	// Fixes are the promotions that --fix made, one for an environment.
	Fixes []Promotion `json:"fixes,omitempty"`
	// Left is what still differs after them.
	Left []DriftTarget `json:"left,omitempty"`
}

// DriftTarget is one target and in what it differs from its record.
type DriftTarget struct {
	Name        string              `json:"name"`
	Environment string              `json:"environment"`
	Release     release.Digest      `json:"release"` // that was recorded
	Differences []release.Deviation `json:"differences"`
	// Error says what kept the target, or a part of it, from being compared.
	Error string `json:"error,omitempty"`
}

// Drift compares what runs with what the ledger recorded last. A difference is
// a KindChanged fault; a target that could not be observed a KindUnavailable
// one, with the other targets' differences in the result.
func (p *Pipeline) Drift(ctx context.Context, o DriftOptions) (DriftResult, error) {
	history, _, err := p.Ledger.Read(ctx)
	if err != nil {
		return DriftResult{}, err
	}
	p.warnOfRules(ctx, history)
	environments, err := p.deployedTo(history, o.Environment)
	if err != nil {
		return DriftResult{}, err
	}
	result := DriftResult{Targets: []DriftTarget{}}
	for _, env := range environments {
		result.Targets = append(result.Targets, p.driftOf(ctx, env, history)...)
	}
	if ctx.Err() != nil {
		return result, ctx.Err()
	}
	if !o.Fix || len(differing(result.Targets)) == 0 {
		return result, driftError(result.Targets)
	}
	return p.fix(ctx, o, result)
}

// deployedTo lists the environments that have a deployed record; one that is
// named must have.
func (p *Pipeline) deployedTo(h release.History, name string) ([]release.Environment, error) {
	if name != "" {
		env, err := p.Project.Environment(name)
		if err != nil {
			return nil, err
		}
		if _, ok := h.Deployed(name); !ok {
			return nil, release.Misuse("promote something first: promote --to "+name, "nothing was ever deployed to %s, so nothing can differ from it", name)
		}
		return []release.Environment{env}, nil
	}
	var list []release.Environment
	for _, env := range p.Project.Environments {
		if _, ok := h.Deployed(env.Name); ok {
			list = append(list, env)
		}
	}
	return list, nil
}

// driftOf compares every target of an environment, side by side. What keeps one
// from being compared is said with it.
func (p *Pipeline) driftOf(ctx context.Context, env release.Environment, h release.History) []DriftTarget {
	if open, ok := h.Open(env.Name); ok {
		last, _ := h.Deployed(env.Name)
		event.Warnf(ctx, "record %d of %s is open: what runs there may differ from record %d because of it (promote resume %s)", open.Record.Sequence, env.Name, last.Record.Sequence, env.Name)
	}
	out, _ := p.compareAll(ctx, env, h, nil)
	return out
}

// compareAll compares every target; also, if it is not nil, is called with each
// one that answered, side by side. It gives what they were compared with, nil if
// that could not be read.
func (p *Pipeline) compareAll(ctx context.Context, env release.Environment, h release.History, also visitor) ([]DriftTarget, *recorded) {
	step := event.Start(ctx, "[drift] %s: %d targets", env.Name, len(env.Targets))
	last, _ := h.Deployed(env.Name)
	out := make([]DriftTarget, len(env.Targets))
	reports := make([]*DriftReport, len(env.Targets))
	d, err := p.recordedRelease(ctx, env, last, h)
	var wait sync.WaitGroup
	for i, t := range env.Targets {
		out[i] = DriftTarget{Name: t.Name, Environment: env.Name, Release: last.Record.Release, Differences: []release.Deviation{}}
		if err != nil {
			out[i].Error = oneLine(err)
			continue
		}
		wait.Go(func() {
			report, err := d.compare(ctx, i, also)
			if err != nil {
				out[i].Error = oneLine(err)
				return
			}
			reports[i] = &report
			out[i].Differences = append(out[i].Differences, report.Differences...)
			out[i].Error = d.unknown(report)
		})
	}
	wait.Wait()
	hostAgainstHost(out, reports)
	step.Done(err)
	if err != nil {
		return out, nil
	}
	return out, d
}

// visitor is shown a target that answered, by its place in the environment, with
// its images.
type visitor func(ctx context.Context, d *recorded, i int, h Host, images map[string]release.PlatformImage)

// recorded is what one environment is compared with.
type recorded struct {
	p        *Pipeline
	env      release.Environment
	document release.Document
	project  string
	statuses map[string]release.TargetStatus
	workload *release.Workload
	why      error // why workload is nil
	key      string
}

func (p *Pipeline) recordedRelease(ctx context.Context, env release.Environment, last release.Entry, h release.History) (*recorded, error) {
	d := &recorded{p: p, env: env, statuses: recordedTargets(h, env.Name), key: rand.Text()}
	var err error
	subject := release.Subject{Repository: p.Project.Repository(env.Registry), Digest: last.Record.Release}
	if d.document, err = p.Documents.PullRelease(ctx, subject); err != nil {
		return nil, err
	}
	if d.project, err = projectName(d.document.Models[env.Name]); err != nil {
		return nil, err
	}
	if d.workload, d.why = d.resolve(); d.why != nil {
		event.Noticef(ctx, "the values of %s are not here, so containers are compared with the fingerprints beside them: %s", env.Name, oneLine(d.why))
	}
	return d, nil
}

// recordedTargets is what the last deployed record says about each target of an
// environment. A promotion since that was undone may have had to make containers
// of that very release again: its record vouches for those.
func recordedTargets(h release.History, environment string) map[string]release.TargetStatus {
	all := map[string]release.TargetStatus{}
	last := len(h) - 1
	for last >= 0 && (h[last].Record.Environment != environment || h[last].Record.Phase != release.Deployed) {
		last--
	}
	if last < 0 {
		return all
	}
	for _, t := range h[last].Record.Targets {
		t.Running = slices.Clone(t.Running)
		all[t.Name] = t
	}
	for _, e := range h[last+1:] {
		if e.Record.Environment != environment || e.Record.Phase != release.RolledBack {
			continue
		}
		for _, t := range e.Record.Targets {
			replacedSince(all[t.Name].Running, t.Running)
		}
	}
	return all
}

// replacedSince takes over which containers stand for the same images now.
func replacedSince(list, now []release.Running) {
	for i, was := range list {
		for _, s := range now {
			if s.Service == was.Service && s.Digest == was.Digest && s.Container != was.Container && !s.Desired.IsZero() {
				list[i].Container, list[i].Desired, list[i].Defaults = s.Container, s.Desired, s.Defaults
			}
		}
	}
}

func (d *recorded) subjects() (map[string]release.Subject, error) {
	out := map[string]release.Subject{}
	var err error
	for name := range d.document.Release.Services {
		if out[name], err = d.document.Release.Subject(name, d.env.Registry); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// resolve fills the recorded model in with today's values.
func (d *recorded) resolve() (*release.Workload, error) {
	values, err := d.p.Project.Values(d.env.Name)
	if err != nil {
		return nil, err
	}
	images, err := d.subjects()
	if err != nil {
		return nil, err
	}
	w, err := d.p.Models.Resolve(d.document.Models[d.env.Name], values, images)
	if err != nil {
		return nil, err
	}
	return &w, nil
}

// compare opens a target and compares it.
func (d *recorded) compare(ctx context.Context, i int, also visitor) (DriftReport, error) {
	t := d.env.Targets[i]
	h, err := d.p.Targets.Open(ctx, t)
	if err != nil {
		return DriftReport{}, err
	}
	defer h.Close()
	info, err := h.Info(ctx)
	if err != nil {
		return DriftReport{}, err
	}
	q := DriftQuery{Project: d.project, Built: map[string]bool{}, Workload: d.workload, Key: d.key}
	if q.Images, err = d.p.platformImages(ctx, d.document.Release, d.env.Registry, platform(info)); err != nil {
		return DriftReport{}, err
	}
	if q.Subjects, err = d.subjects(); err != nil {
		return DriftReport{}, err
	}
	for name, s := range d.document.Release.Services {
		q.Built[name] = s.Origin == release.Built
	}
	if status, ok := d.statuses[t.Name]; ok {
		q.Recorded = &status
	}
	if also != nil {
		also(ctx, d, i, h, q.Images)
	}
	return h.Drift(ctx, q)
}

// unknown says of what only the image and the state could be compared.
func (d *recorded) unknown(r DriftReport) string {
	var services []string
	for _, name := range r.Unknown {
		if !slices.ContainsFunc(r.Differences, func(x release.Deviation) bool { return x.Service == name }) {
			services = append(services, name)
		}
	}
	if len(services) == 0 {
		return ""
	}
	return fmt.Sprintf("of %s only image and state could be compared: nothing vouches for what else was recorded, and %s", strings.Join(services, ", "), oneLine(d.why))
}

// hostAgainstHost adds in what the targets of one environment differ from the
// first one that answered, where neither differs from the record.
func hostAgainstHost(out []DriftTarget, reports []*DriftReport) {
	first := slices.IndexFunc(reports, func(r *DriftReport) bool { return r != nil })
	for i := first + 1; first >= 0 && i < len(reports); i++ {
		if reports[i] != nil {
			out[i].Differences = append(out[i].Differences, between(out[first].Name, *reports[first], *reports[i])...)
		}
	}
}

// between compares what two targets of one environment run, service by service.
func between(name string, first, second DriftReport) []release.Deviation {
	var list []release.Deviation
	for _, service := range sortedKeys(second.Texts) {
		a, b := first.Texts[service], second.Texts[service]
		if a == nil {
			continue
		}
		all := maps.Clone(a)
		maps.Copy(all, b)
		for _, field := range sortedKeys(all) {
			known := func(d release.Deviation) bool { return d.Service == service && d.Field == field }
			if a[field] == b[field] || slices.ContainsFunc(first.Differences, known) || slices.ContainsFunc(second.Differences, known) ||
				slices.Contains(first.Untold, field) || slices.Contains(second.Untold, field) {
				continue
			}
			other := a[field]
			if other == "" {
				other = "none"
			}
			list = append(list, release.Deviation{Service: service, Field: field, Recorded: other + " on " + name, Running: b[field]})
		}
	}
	return list
}

// differing are the targets with differences.
func differing(list []DriftTarget) []DriftTarget {
	return slices.DeleteFunc(slices.Clone(list), func(t DriftTarget) bool { return len(t.Differences) == 0 })
}

// driftError says what was found: first that something could not be observed,
// then that something differs.
func driftError(list []DriftTarget) error {
	var blind []string
	for _, t := range list {
		if t.Error != "" {
			blind = append(blind, fmt.Sprintf("%s of %s: %s", t.Name, t.Environment, t.Error))
		}
	}
	bad := differing(list)
	n := 0
	for _, t := range bad {
		n += len(t.Differences)
	}
	switch {
	case len(blind) > 0:
		return release.Unavailable("what could be observed is in the result; mend the connection, or give the values, and run it again",
			"could not compare %s", strings.Join(blind, "; "))
	case n > 0:
		return release.Faultf(release.KindChanged, "find out who changed it; promote drift "+bad[0].Environment+" --fix deploys the recorded release again",
			"%d differences on %d targets", n, len(bad))
	}
	return nil
}

// fix promotes the recorded release of every environment that drifted, and
// looks again.
func (p *Pipeline) fix(ctx context.Context, o DriftOptions, result DriftResult) (DriftResult, error) {
	var names []string
	for _, t := range differing(result.Targets) {
		if !slices.Contains(names, t.Environment) {
			names = append(names, t.Environment)
		}
	}
	for _, name := range names {
		options := PromoteOptions{Environment: name, Reason: o.Reason, DryRun: o.DryRun, recreate: drifted(result.Targets, name)}
		if options.Reason == "" {
			options.Reason = "drift from the record"
		}
		done, err := p.promote(ctx, options, release.KindFix)
		result.Fixes = append(result.Fixes, done)
		if err != nil {
			return result, err
		}
	}
	if o.DryRun {
		return result, driftError(result.Targets)
	}
	history, _, err := p.Ledger.Read(ctx)
	if err != nil {
		return result, err
	}
	for _, name := range names {
		env, err := p.Project.Environment(name)
		if err != nil {
			return result, err
		}
		result.Left = append(result.Left, p.driftOf(ctx, env, history)...)
	}
	err = driftError(append(slices.Clone(result.Left), blindOthers(result.Targets, names)...))
	if release.KindOf(err) == release.KindChanged {
		return result, release.Faultf(release.KindChanged, "what is outside the project, or not a container's, a promotion does not touch: mend it by hand", "after the fix there are differences left: %w", err)
	}
	return result, err
}

// drifted are the services of an environment that differ, by target.
func drifted(list []DriftTarget, environment string) map[string]map[string]bool {
	all := map[string]map[string]bool{}
	for _, t := range list {
		if t.Environment != environment {
			continue
		}
		all[t.Name] = map[string]bool{}
		for _, d := range t.Differences {
			if word, _, _ := strings.Cut(d.Field, " "); word != "twin" && word != "container" {
				all[t.Name][d.Service] = true
			}
		}
	}
	return all
}

// blindOthers are targets that could not be compared in environments that were
// not fixed.
func blindOthers(list []DriftTarget, fixed []string) []DriftTarget {
	return slices.DeleteFunc(slices.Clone(list), func(t DriftTarget) bool { return t.Error == "" || slices.Contains(fixed, t.Environment) })
}
