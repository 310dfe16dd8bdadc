package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// ask asks a canary what `watch` would: the smoke checks that change nothing. One
// that fails is an error. Its first line, which the ledger keeps, names the check
// only; what a service said follows. One that nobody could ask is a warning: the
// target is watched and read back all the same.
func (r *promotion) ask(ctx context.Context, h *host) error {
	_, checks, err := h.Look(ctx, LookQuery{Release: r.subject.Digest, Project: r.workload.Project, Images: r.images[platform(h.info)], Services: r.workload.Services})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		event.Warnf(ctx, "looking at %s: %v", h.target.Name, err)
	}
	var failed, said []string
	for _, c := range checks {
		name := fmt.Sprintf("%q", c.Name)
		if c.Service != "" {
			name += " of " + c.Service
		}
		switch c.Result {
		case release.Failed.String():
			failed = append(failed, name)
			said = append(said, name+": "+c.Detail)
		case release.Unknown.String():
			event.Warnf(ctx, "%s: nobody knows what the check %s would say: %s", h.target.Name, name, c.Detail)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return release.Unavailable("promote smoke runs the same checks; the services' logs have the cause", "the canary fails the check %s\n  %s", strings.Join(failed, ", "), strings.Join(said, "\n  "))
}
