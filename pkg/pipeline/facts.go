package pipeline

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// limits are the thresholds in force.
func (p *Pipeline) limits() release.Limits {
	return release.Limits{MaxAgeSeconds: int64(p.Project.MaxAge / time.Second), FailOn: p.Project.FailOn}
}

// facts collects, side by side, everything there is to know about the release
// for this environment, and reduces it to what policies judge.
func (r *promotion) facts(ctx context.Context) (release.Facts, error) {
	known := release.Known{
		Kind: r.kind, Environment: r.env, Digest: r.subject.Digest, Release: r.document.Release, Trust: r.p.Project.Trust,
		Images: map[string][]release.PlatformImage{}, Users: map[string]string{}, Matches: map[string]release.Scan{},
		History: r.history, Limits: r.p.limits(), Now: r.p.Now(),
		Configuration: r.p.Project.Configuration, Resumed: r.resumed,
		// What `to` would make first is unknown to a plan, not denied.
		Producible: r.options.DryRun && r.env.After == "" && r.options.Release == "" && r.kind == release.KindPromote,
	}
	for _, s := range r.workload.Services {
		known.Users[s.Name] = s.User
	}
	subjects := map[string]release.Subject{"": r.subject}
	for _, platform := range sortedKeys(r.images) {
		for name, image := range r.images[platform] {
			known.Images[name] = append(known.Images[name], image)
		}
	}
	for name := range known.Images {
		subject, err := r.document.Release.Subject(name, r.source)
		if err != nil {
			return release.Facts{}, err
		}
		subjects[name] = subject
	}
	var mu sync.Mutex
	err := each(ctx, sortedKeys(subjects), func(ctx context.Context, name string) error {
		needs := neededOfRelease
		if service, ok := r.document.Release.Services[name]; ok {
			needs = needed(service.Origin)
		}
		found, err := r.p.evidence(ctx, subjects[name], needs...)
		if err != nil {
			return err
		}
		mu.Lock()
		known.Evidence = append(known.Evidence, found...)
		mu.Unlock()
		return nil
	})
	if err != nil {
		return release.Facts{}, err
	}
	if r.matching == nil {
		r.matching = func() (map[string]release.Scan, error) { return r.matchAhead(ctx) }
	}
	if known.Matches, err = r.matching(); err != nil {
		return release.Facts{}, err
	}
	if known.Promoter, err = r.promoter(ctx); err != nil {
		return release.Facts{}, err
	}
	return release.GatherFacts(known), nil
}

// promoter gives who promotes, by name, where that matters: nobody approves
// their own. What goes on is its first promoter's, whoever resumes it. A plan
// opens no key, and knows it only where one party promotes.
func (r *promotion) promoter(ctx context.Context) (string, error) {
	switch {
	case r.env.Approvals.Required == 0:
		return "", nil
	case r.resumed:
		return r.began, nil
	case r.options.DryRun:
		return r.p.Project.Actor.Name, nil
	}
	party, err := r.p.recorder(ctx)
	return party.Name, err
}

// matchAhead matches, and then gets the key ready: once nothing untrusted is
// looked at any more, and before it is known whether it is needed.
func (r *promotion) matchAhead(ctx context.Context) (map[string]release.Scan, error) {
	matches, err := r.matches(ctx)
	if err == nil && !r.options.DryRun {
		r.asides.Go(func() { r.p.Keys.Ready(ctx) })
	}
	return matches, err
}

// matches looks at every image again with today's database. It can only deny;
// a rollback is not held up by it, only warned. The first environment's
// evidence was made just now.
func (r *promotion) matches(ctx context.Context) (map[string]release.Scan, error) {
	matches := map[string]release.Scan{}
	if r.env.After == "" && r.kind == release.KindPromote {
		return matches, nil
	}
	var names []string
	subjects := map[string]release.Subject{}
	for _, name := range r.document.Release.ServiceNames() {
		subject, err := r.document.Release.Subject(name, r.source)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(names, func(n string) bool { return subjects[n].Digest == subject.Digest }) {
			names, subjects[name] = append(names, name), subject
		}
	}
	scans, errs := make([]release.Scan, len(names)), make([]error, len(names))
	var group errgroup.Group
	group.SetLimit(mostScans)
	for i, name := range names {
		group.Go(func() error {
			scans[i], errs[i] = r.p.Scanner.Scan(ctx, subjects[name])
			return nil
		})
	}
	_ = group.Wait() // they stand in errs
	for i, name := range names {
		scan, err := scans[i], errs[i]
		switch {
		case err != nil && r.back():
			event.Warnf(ctx, "%s could not be matched against today's vulnerabilities: %s", name, oneLine(err))
		case err != nil:
			return nil, err
		case r.back() && scan.Result == release.Failed:
			for _, reason := range ScanReasons(name, scan) {
				event.Warnf(ctx, "going back to %s", reason.Message)
			}
		case !r.back():
			matches[name] = scan
		}
	}
	return matches, nil
}

// mostScans is how many images are looked at at the same time: each takes a
// process of its own and the database's memory.
const mostScans = 4

// back reports whether it goes to what was let in before: today's
// vulnerabilities are no reason to leave a target as it is.
func (r *promotion) back() bool { return r.kind == release.KindRollback || r.kind == release.KindFix }
