package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// surveyTime bounds looking at the targets once something went wrong, and
// hastyTime where somebody waits for the process to end.
const (
	surveyTime = 5 * time.Second
	hastyTime  = 2 * time.Second
)

// survey looks what each target runs now, for the record and the result of what
// did not go well. It works without the promotion's own context, which may be
// over, and only reads.
func (r *promotion) survey(ctx context.Context) {
	if r.workload.Project == "" {
		return // it did not get as far as knowing what to look at
	}
	limit := surveyTime
	if ctx.Err() != nil {
		limit = hastyTime
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	_ = together(ctx, r.hosts, len(r.hosts), func(ctx context.Context, h *host) error {
		running, err := r.runs(ctx, h)
		if err != nil {
			h.status.Status, h.status.Running = "unreachable", []release.Running{}
			h.status.Message = cmp.Or(h.status.Message, oneLine(err))
			return nil
		}
		if h.status.Status == "rolledBack" && r.differs(h, running) {
			h.status.Message = cmp.Or(h.status.Message, fmt.Sprintf("does not run what record %d says", r.current.Record.Sequence))
		}
		h.status.Running = running
		if err := r.noteSnapshots(ctx, h); err != nil {
			h.status.Message = cmp.Or(h.status.Message, oneLine(err))
		}
		return nil
	})
}

// runs says what a target runs: services of the release, and of the one that
// is on record.
func (r *promotion) runs(ctx context.Context, h *host) ([]release.Running, error) {
	running, _, err := h.Running(ctx, r.workload.Project, r.images[platform(h.info)])
	if err != nil {
		return nil, err
	}
	running = slices.Concat([]release.Running{}, running)
	if was := r.recorded(h.target.Name); was != nil {
		before, _, err := h.Running(ctx, r.workload.Project, platformsOf(was.Running))
		if err != nil {
			return nil, err
		}
		for _, b := range before {
			i := slices.IndexFunc(running, func(s release.Running) bool { return s.Service == b.Service })
			switch {
			case i < 0:
				running = append(running, b)
			case running[i].Digest.IsZero():
				running[i] = b
			}
		}
	}
	for i, s := range running { // what was read back says more
		for _, known := range h.status.Running {
			if known.Container != "" && known.Container == s.Container {
				running[i].Volumes = known.Volumes
			}
		}
	}
	return running, nil
}

// platformsOf gives the images that a record says run, as far as telling them
// needs: by the engine's own id.
func platformsOf(list []release.Running) map[string]release.PlatformImage {
	images := map[string]release.PlatformImage{}
	for _, s := range list {
		image := release.PlatformImage{Manifest: s.Digest, Config: s.Digest}
		if id, err := release.ParseDigest(s.Image); err == nil {
			image.Config = id
		}
		images[s.Service] = image
	}
	return images
}

// differs reports whether a target runs something else than is on record.
func (r *promotion) differs(h *host, running []release.Running) bool {
	was := r.recorded(h.target.Name)
	if was == nil {
		return false
	}
	for _, s := range was.Running {
		if !slices.ContainsFunc(running, func(now release.Running) bool { return now.Service == s.Service && now.Digest == s.Digest }) {
			return true
		}
	}
	return false
}

// unreachable is an error if a survey got no answer from a target that is
// locked: nobody knows what it runs, and only a resume frees it.
func (r *promotion) unreachable() error {
	var errs []error
	for _, h := range r.hosts {
		if h.locked && h.status.Status == "unreachable" {
			errs = append(errs, fmt.Errorf("%s cannot be reached: %s", h.target.Name, h.status.Message))
		}
	}
	return errors.Join(errs...)
}
