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

// WatchOptions are `watch`.
type WatchOptions struct {
	Environment string
	NoRecord    bool // look, and write nothing; it takes no key
	NoMatch     bool // leave today's vulnerability database alone
	// Memory is kept from one look to the next; nil for a single one.
	Memory *WatchMemory
}

// WatchMemory holds what need not be asked at every look.
type WatchMemory struct{ matches map[release.Digest]match }

type match struct {
	scan release.Scan
	at   time.Time // by the process's own clock
}

// WatchResult is what `watch` gives, once for each look.
type WatchResult struct {
	release.Watch
	// Record is the watched record that was written; null where none was due.
	Record *RecordResult `json:"record"`
}

// recordEvery is how often an outcome that does not change is recorded, so that
// the ledger shows that somebody looks.
const recordEvery = 24 * time.Hour

// matchEvery is how long a match against the vulnerability database counts.
const matchEvery = time.Hour

// Watch looks once at what an environment runs: drift from its record, health
// and memory, the checks that can be asked of what runs, what is known of its
// vulnerabilities. It holds no lock, changes nothing on a target, and leaves an
// environment alone that is being promoted to. The outcome is recorded when it
// is another one than before, or was recorded a day ago.
//
// What fails is a KindDenied fault, else what could not be looked at a
// KindUnavailable one, else a difference a KindChanged one; the result is valid
// with each of them.
func (p *Pipeline) Watch(ctx context.Context, o WatchOptions) (WatchResult, error) {
	begin := time.Now()
	history, _, err := p.Ledger.Read(ctx)
	if err != nil {
		return WatchResult{}, err
	}
	p.warnOfRules(ctx, history)
	if o.Environment == "" {
		return WatchResult{}, release.Misuse("promote watch ENV", "watch needs an environment")
	}
	environments, err := p.deployedTo(history, o.Environment)
	if err != nil {
		return WatchResult{}, err
	}
	l := &look{p: p, env: environments[0], options: o, history: history}
	err = l.look(ctx)
	if err == nil && l.w.Result != release.WatchSkipped {
		err = l.record(ctx)
	}
	l.w.Seconds = time.Since(begin).Seconds()
	switch found := watchError(l.w); {
	case ctx.Err() != nil:
		return WatchResult{}, ctx.Err()
	case l.w.Result == "":
		return WatchResult{}, err // it did not come to an outcome
	case found != nil && err != nil:
		event.Warnf(ctx, "%s", oneLine(err))
		return WatchResult{Watch: l.w}, found
	default:
		return WatchResult{Watch: l.w, Record: l.written}, cmp.Or(found, err)
	}
}

// look is one look under way.
type look struct {
	p       *Pipeline
	env     release.Environment
	options WatchOptions
	history release.History
	last    release.Entry // the deployed record
	w       release.Watch
	written *RecordResult
}

func (l *look) look(ctx context.Context) error {
	l.last, _ = l.history.Deployed(l.env.Name)
	l.w = release.Watch{Environment: l.env.Name, Time: l.p.Now().UTC(), Release: l.last.Record.Release, Version: l.last.Record.Version,
		Dimensions: map[string]release.Digest{}, Targets: []release.WatchedTarget{}, Scans: []release.WatchedScan{}, Findings: []release.WatchFinding{},
		Appeared: []release.WatchFinding{}, Gone: []release.WatchFinding{}}
	open, promoting := l.history.Open(l.env.Name)
	if !promoting {
		return l.all(ctx)
	}
	stale, err := gaveUp(l.history, open), error(nil)
	if !stale {
		stale, err = l.p.Ledger.Stale(ctx, open.Record.Sequence, l.p.lease(open))
	}
	switch {
	case err != nil:
		return err
	case !stale:
		l.skip(fmt.Sprintf("record %d is being carried out by %s", open.Record.Sequence, who(open.Record.Actor)))
		return nil
	}
	l.find("", "", release.FoundOpen, fmt.Sprintf("record %d", open.Record.Sequence))
	l.w.Message = fmt.Sprintf("record %d was left open, so what should run is not settled: promote resume %s", open.Record.Sequence, l.env.Name)
	return nil
}

func (l *look) skip(why string) {
	l.w.Result, l.w.Message = release.WatchSkipped, why
	l.w.Targets, l.w.Findings = []release.WatchedTarget{}, []release.WatchFinding{}
}

func (l *look) find(target, service, kind, name string) {
	l.w.Findings = append(l.w.Findings, release.WatchFinding{Target: target, Service: service, Kind: kind, Name: name})
}

// all looks at every target and every image.
func (l *look) all(ctx context.Context) error {
	targets := make([]release.WatchedTarget, len(l.env.Targets))
	drifts, recorded := l.p.compareAll(ctx, l.env, l.history, func(ctx context.Context, d *recorded, i int, h Host, images map[string]release.PlatformImage) {
		t := &targets[i]
		q := LookQuery{Release: l.last.Record.Release, Project: d.project, Images: images}
		if d.workload != nil {
			q.Services = d.workload.Services
		}
		var err error
		if t.Services, t.Checks, err = h.Look(ctx, q); err != nil {
			t.Error = oneLine(err)
		}
	})
	if err := ctx.Err(); err != nil {
		return err
	}
	for i, d := range drifts {
		t := &targets[i]
		t.Name, t.Differences = d.Name, d.Differences
		t.Error = strings.TrimPrefix(strings.Join([]string{d.Error, t.Error}, "; "), "; ")
		t.Error = strings.TrimSuffix(t.Error, "; ")
		t.Services, t.Checks = append([]release.WatchedService{}, t.Services...), append([]release.WatchedCheck{}, t.Checks...)
		l.judge(*t)
	}
	l.w.Targets = targets
	if recorded != nil {
		l.w.Dimensions = recorded.document.Release.Dimensions
		return l.scans(ctx, recorded)
	}
	return nil
}

// judge says what is wrong with a target.
func (l *look) judge(t release.WatchedTarget) {
	if t.Error != "" {
		l.find(t.Name, "", release.FoundUnknown, "")
	}
	for _, d := range t.Differences {
		l.find(t.Name, d.Service, release.FoundDrift, d.Field)
	}
	for _, s := range t.Services {
		if most := l.p.Project.MemoryPercent; most > 0 && s.PercentOfLimit() > most {
			l.find(t.Name, s.Name, release.FoundMemory, "")
		}
	}
	for _, c := range t.Checks {
		switch c.Result {
		case release.Failed.String():
			l.find(t.Name, c.Service, release.FoundCheck, c.Name)
		case release.Unknown.String():
			l.find(t.Name, c.Service, release.FoundUnknown, "check "+c.Name)
		}
	}
}

// scans says what is known of each image's vulnerabilities.
func (l *look) scans(ctx context.Context, d *recorded) error {
	subjects, err := d.subjects()
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(subjects) {
		digest := subjects[name].Digest
		i := slices.IndexFunc(l.w.Scans, func(s release.WatchedScan) bool { return s.Digest == digest })
		if i < 0 {
			i = len(l.w.Scans)
			l.w.Scans = append(l.w.Scans, l.scan(ctx, subjects[name]))
		}
		s := &l.w.Scans[i]
		s.Services = append(s.Services, name)
		for _, id := range s.Failing {
			l.find("", name, release.FoundVulnerability, id)
		}
	}
	return ctx.Err()
}

// anyAge takes scans of any age: how old one is, is what is asked.
const anyAge = int64(200 * 365 * 24 * time.Hour / time.Second)

func (l *look) scan(ctx context.Context, s release.Subject) release.WatchedScan {
	out := release.WatchedScan{Digest: s.Digest, Services: []string{}, Failing: []string{}}
	now := l.p.Now()
	found, err := l.p.evidence(ctx, s, release.PredicateVulnerability)
	if err != nil {
		out.Message = "its evidence could not be read: " + oneLine(err)
	}
	for _, e := range found {
		if e.PredicateType != release.PredicateVulnerability {
			continue
		}
		facts, err := release.FactsFromScan(e, s.Digest, release.Limits{MaxAgeSeconds: anyAge, FailOn: l.p.Project.FailOn}, now)
		if err == nil && (out.ScannedAt == nil || facts.ScannedAt.After(*out.ScannedAt)) {
			out.ScannedAt, out.AgeSeconds = &facts.ScannedAt, &facts.AgeSeconds
		}
	}
	if err == nil && out.ScannedAt == nil {
		out.Message = "no scan of it counts"
	}
	if l.options.NoMatch {
		return out
	}
	scan, err := l.match(ctx, s)
	if err != nil {
		event.Warnf(ctx, "%s could not be matched against today's vulnerabilities: %s", s.Digest.Short(), oneLine(err))
		out.Message = "it could not be matched against today's vulnerabilities: " + oneLine(err)
		return out
	}
	out.Matched, out.Database = true, &scan.Database.UpdatedAt
	for _, f := range scan.Findings {
		if f.Suppressed == "" && f.Matters(l.p.Project.FailOn) && !slices.Contains(out.Failing, f.ID) {
			out.Failing = append(out.Failing, f.ID)
		}
	}
	slices.Sort(out.Failing)
	return out
}

// match asks today's database, at most once an hour.
func (l *look) match(ctx context.Context, s release.Subject) (release.Scan, error) {
	memory := l.options.Memory
	if memory != nil {
		if known, ok := memory.matches[s.Digest]; ok && time.Since(known.at) < matchEvery {
			return known.scan, nil
		}
	}
	scan, err := l.p.Scanner.Scan(ctx, s)
	if err == nil && memory != nil {
		if memory.matches == nil {
			memory.matches = map[release.Digest]match{}
		}
		scan.SBOM, scan.Predicate = nil, nil
		memory.matches[s.Digest] = match{scan, time.Now()}
	}
	return scan, err
}

// record compares the outcome with the last recorded one, and records it where
// that is due. What others wrote to the ledger meanwhile counts: a promotion
// that began makes what was seen worth nothing.
func (l *look) record(ctx context.Context) error {
	for try := 1; ; try++ {
		history, checkpoint, err := l.p.Ledger.Read(ctx)
		if err != nil {
			return err
		}
		if begun := l.overtaken(history); begun != "" {
			l.skip(begun)
			return nil
		}
		before, known := history.LastWatched(l.env.Name)
		if err := l.w.Conclude(before.Record.Watched, before.Record.Release); err != nil {
			return err
		}
		due := l.w.Changed || !known || l.w.Time.Sub(before.Record.Time) >= recordEvery
		if l.options.NoRecord || !due {
			return nil
		}
		outcome, err := l.w.Outcome()
		if err != nil {
			return err
		}
		entry, err := l.p.appendTo(ctx, history, checkpoint.TreeSize, release.Record{Phase: release.Watched, Environment: l.env.Name,
			Release: l.w.Release, Version: l.w.Version, Reason: l.w.Summary(), Watched: &outcome})
		switch {
		case err == nil:
			l.written = &RecordResult{Sequence: entry.Record.Sequence, Digest: entry.Digest}
			return nil
		case errors.Is(err, release.ErrMoved) && try < appendTries:
			continue
		}
		// Who may not write the ledger has still looked.
		return release.Unavailable("a promoter's key records it; --no-record only looks", "the outcome (%s) could not be recorded: %w", l.w.Summary(), err)
	}
}

// overtaken says which promotion of the environment began since it was looked.
func (l *look) overtaken(now release.History) string {
	last := l.history[len(l.history)-1].Record.Sequence // it has a deployed record
	for _, e := range now {
		if r := e.Record; r.Sequence > last && r.Environment == l.env.Name && slices.Contains([]release.Phase{release.Intended, release.Deployed, release.RolledBack}, r.Phase) {
			return fmt.Sprintf("record %d (%s, by %s) came while it was looked", r.Sequence, r.Phase, who(r.Actor))
		}
	}
	return ""
}

func watchError(w release.Watch) error {
	said := fmt.Sprintf("%s is %s", w.Environment, w.Summary())
	switch w.Result {
	case release.WatchFailing:
		return release.Denied("the result names each; promote log "+w.Environment+" shows since when", "%s", said)
	case release.WatchUnknown:
		return release.Unavailable(cmp.Or(w.Message, "what could be seen is in the result"), "%s", said)
	case release.WatchDrifted:
		return release.Faultf(release.KindChanged, "promote drift "+w.Environment+" shows it; --fix deploys the recorded release again", "%s", said)
	}
	return nil
}
