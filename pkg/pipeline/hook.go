package pipeline

import (
	"context"

	"github.com/promote-dev/promote/pkg/release"
)

// hook runs the project's program for a point, if it has one. record is the
// newest of this promotion.
func (r *promotion) hook(ctx context.Context, name string, record release.Entry) error {
	if r.p.Hooks == nil {
		return nil
	}
	request := HookRequest{
		Hook: name, Project: r.p.Project.Name, Environment: r.env.Name, Kind: r.kind,
		Release: r.subject.Digest, Version: r.document.Release.Version, From: record.Record.From, Record: record.Record.Sequence,
	}
	for _, h := range r.hosts {
		request.Targets = append(request.Targets, h.target.Name)
	}
	return r.p.Hooks.RunHook(ctx, request)
}
