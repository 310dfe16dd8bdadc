package pipeline

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// mostAttempted is how many releases that were tried and never ran are looked
// up for their images after one deployment.
const mostAttempted = 10

// prune removes images that neither a rollback nor an open record needs from the
// targets, once the deployment is recorded. It changes nothing that runs, so a
// failure is a warning; what stays is looked at again after the next deployment.
func (r *promotion) prune(ctx context.Context) []PrunedImage {
	retained := r.history.Retention(r.env.Name, r.env.KeepReleases)
	pending, err := r.imagesOf(ctx, retained.Pending)
	if err != nil {
		event.Warnf(ctx, "no image was removed from the targets: what open records need is not known: %v", err)
		return nil
	}
	attempted, err := r.imagesOf(ctx, retained.Attempted[:min(mostAttempted, len(retained.Attempted))])
	if err != nil {
		event.Warnf(ctx, "the images of a release that was not let stay are left on the targets: %v", err)
	}
	images := retained.Unneeded(attempted, pending)
	if len(images) == 0 || ctx.Err() != nil {
		return nil
	}
	var mu sync.Mutex
	var pruned []PrunedImage
	err = together(ctx, r.hosts, len(r.hosts), func(ctx context.Context, h *host) error {
		removed, err := h.Prune(ctx, r.env.Registry, images, r.stillLocked(h))
		mu.Lock()
		defer mu.Unlock()
		for _, image := range removed {
			pruned = append(pruned, PrunedImage{Target: h.target.Name, Image: image})
		}
		return err
	})
	if err != nil {
		event.Warnf(ctx, "removing images that nothing needs any more: %v", err)
	}
	slices.SortFunc(pruned, func(a, b PrunedImage) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Image, b.Image))
	})
	return pruned
}

// stillLocked is the fence behind the record: the target's lock is ours.
func (r *promotion) stillLocked(h *host) Guard {
	return func(ctx context.Context) error {
		note, ok, err := h.ReadLock(ctx, r.lockName())
		if err == nil && (!ok || note.Sequence != r.intent.Record.Sequence) {
			err = release.Faultf(release.KindHeld, "promote status "+r.env.Name, "the lock on %s is not ours any more", h.target.Name)
		}
		return err
	}
}

// imagesOf reads the digests of releases' images; with an error, those of the
// others.
func (r *promotion) imagesOf(ctx context.Context, releases []release.Digest) ([]release.Digest, error) {
	var list []release.Digest
	var errs []error
	for _, d := range releases {
		doc, err := r.p.Documents.PullRelease(ctx, release.Subject{Repository: r.p.Project.Repository(r.p.Project.Registry), Digest: d})
		errs = append(errs, err)
		for _, s := range doc.Release.Services {
			list = append(list, s.Digest)
		}
	}
	return list, errors.Join(errs...)
}
