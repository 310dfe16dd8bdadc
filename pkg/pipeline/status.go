package pipeline

import (
	"context"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Status is what the ledger says about every environment.
type Status struct {
	Environments []EnvironmentStatus `json:"environments"`
}

// EnvironmentStatus is what the ledger says about one environment; Release is
// zero where nothing was deployed yet.
type EnvironmentStatus struct {
	Name       string                 `json:"name"`
	Release    release.Digest         `json:"release"`
	Version    string                 `json:"version"`
	Since      *time.Time             `json:"since"`
	Targets    []release.TargetStatus `json:"targets"`
	Open       *release.Entry         `json:"open"`
	Exceptions []release.Entry        `json:"exceptions"`
	// Freezes are those in force, and Window says whether promotions may begin.
	Freezes []release.FreezeFacts `json:"freezes"`
	Window  release.WindowFacts   `json:"window"`
	// Next is the release that comes next; null if there is none.
	Next *NextRelease `json:"next"`
}

// NextRelease is the release that a promotion would take now, and what people
// and time still have to add, as far as the ledger tells.
type NextRelease struct {
	Release   release.Digest        `json:"release"`
	Version   string                `json:"version"`
	Approvals release.ApprovalFacts `json:"approvals"`
	// SoakSeconds is for how long it has run undisturbed in the environment
	// before, of RequiredSoakSeconds.
	SoakSeconds         int64 `json:"soakSeconds"`
	RequiredSoakSeconds int64 `json:"requiredSoakSeconds"`
}

// Status reads the ledger; an empty name is every environment.
func (p *Pipeline) Status(ctx context.Context, name string) (Status, error) {
	history, _, err := p.Ledger.Read(ctx)
	if err != nil {
		return Status{}, err
	}
	p.warnOfRules(ctx, history)
	if name != "" {
		if _, err := p.Project.Environment(name); err != nil {
			return Status{}, err
		}
	}
	out := Status{Environments: []EnvironmentStatus{}}
	for _, env := range p.Project.Environments {
		if name != "" && env.Name != name {
			continue
		}
		s := EnvironmentStatus{Name: env.Name, Targets: []release.TargetStatus{}, Exceptions: []release.Entry{}}
		if last, ok := history.Deployed(env.Name); ok {
			s.Release, s.Version, s.Since, s.Targets = last.Record.Release, last.Record.Version, &last.Record.Time, last.Record.Targets
		}
		if open, ok := history.Open(env.Name); ok {
			s.Open = &open
		}
		for _, e := range history {
			if e.Record.Phase == release.Exception && e.Record.Environment == env.Name {
				s.Exceptions = append(s.Exceptions, e)
			}
		}
		s.Freezes, s.Window = release.FreezeFactsOf(history, env.Name, p.Now()), release.WindowFactsOf(env.Windows, p.Now())
		s.Next = p.next(history, env, s.Release)
		out.Environments = append(out.Environments, s)
	}
	return out, nil
}

// next gives the release that comes after the one that runs: the newest one
// for the first environment, else what runs in the environment before.
func (p *Pipeline) next(h release.History, env release.Environment, runs release.Digest) *NextRelease {
	var found release.Record
	if env.After != "" {
		last, ok := h.Deployed(env.After)
		if !ok {
			return nil
		}
		found = last.Record
	} else {
		for _, e := range h {
			if e.Record.Phase == release.Released {
				found = e.Record
			}
		}
	}
	if found.Release.IsZero() || found.Release == runs {
		return nil
	}
	history := release.HistoryFactsOf(h, env, found.Release, p.Now())
	return &NextRelease{Release: found.Release, Version: found.Version, Approvals: p.ballot(h, env, found.Release).Count(),
		SoakSeconds: history.SoakSeconds, RequiredSoakSeconds: history.RequiredSoakSeconds}
}
