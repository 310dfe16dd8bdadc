package pipeline

import (
	"context"
	"slices"
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
		out.Environments = append(out.Environments, s)
	}
	return out, nil
}

// Log gives the records of an environment, newest first; an empty name is all
// of them, and 0 is no limit.
func (p *Pipeline) Log(ctx context.Context, name string, most int) (release.History, error) {
	history, _, err := p.Ledger.Read(ctx)
	if err != nil {
		return nil, err
	}
	p.warnOfRules(ctx, history)
	if name != "" {
		if _, err := p.Project.Environment(name); err != nil {
			return nil, err
		}
	}
	out := release.History{}
	for _, e := range slices.Backward(history) {
		if name == "" || e.Record.Environment == name {
			out = append(out, e)
		}
		if most > 0 && len(out) == most {
			break
		}
	}
	return out, nil
}
