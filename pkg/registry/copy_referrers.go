package registry

import (
	"cmp"
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/promote-dev/promote/pkg/release"
)

// image reads the copy's own manifests, unless the search for evidence does so.
func (t *transfer) image(ctx context.Context, d release.Digest, present bool) (tree, error) {
	if t.evidence == nil {
		return t.tree(ctx, d)
	}
	t.evidence.looked.set(present, nil)
	image, err := t.evidence.image.get(ctx, t.src.name())
	if err != nil { // perhaps because the search has failed elsewhere
		err = cmp.Or(t.evidence.wait(ctx), err)
	}
	return image, err
}

// moveAll moves a tree and, at the same time, the blobs of the evidence about
// it. Where only one may write, or a manifest goes before its blobs, these
// follow later.
func (t *transfer) moveAll(ctx context.Context, image tree, ref string) error {
	if t.evidence == nil || t.pace.most == 1 || t.offers() {
		return t.move(ctx, image, ref)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return t.move(gctx, image, ref) })
	g.Go(func() error {
		if err := t.evidence.wait(gctx); err != nil {
			return err
		}
		return t.bring(gctx, t.evidence.blobs(image), false)
	})
	return g.Wait()
}

// moveEvidence moves what was found about a tree that is at the destination,
// from the image outwards, and has the destination list it.
func (t *transfer) moveEvidence(ctx context.Context, image tree) error {
	if t.evidence == nil {
		return nil
	}
	if err := t.evidence.wait(ctx); err != nil {
		return err
	}
	own := map[release.Digest]bool{}
	for _, m := range image.all() {
		own[m.digest] = true
	}
	for _, level := range t.evidence.levels(image) {
		g, gctx := t.group(ctx)
		for _, a := range level {
			g.Go(func() error { return t.moveAbout(gctx, a, own) })
			for _, l := range a.legacy {
				g.Go(func() error { return t.setTag(gctx, l) })
			}
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// moveAbout moves the referrers of one manifest and has the destination list
// them, all at once. Those that belong to the image are there.
func (t *transfer) moveAbout(ctx context.Context, a *about, own map[release.Digest]bool) error {
	if len(a.referrers) == 0 {
		return nil
	}
	how := changing{api: t.lists(a)}
	if how.api == byTag && !t.options.DryRun {
		early := newFuture[manifest]()
		how.early = &early
		go func() {
			_, index, err := t.client.listFallback(ctx, t.dst, a.subject)
			early.set(index, err)
		}()
		defer func() { <-early.done }()
	}
	var added []manifest
	g, gctx := t.group(ctx)
	for _, referrer := range a.referrers {
		added = append(added, referrer.root)
		if own[referrer.root.digest] {
			continue
		}
		g.Go(func() error {
			if err := t.move(gctx, referrer, referrer.root.digest.String()); err != nil {
				return err
			}
			t.count(func(r *CopyResult) { r.Referrers++; r.Unchanged = false })
			return nil
		})
	}
	if err := g.Wait(); err != nil || t.options.DryRun {
		return err
	}
	err := t.client.ensureListed(ctx, t.dst, a.subject, added, &how)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.api = how.api
	return err
}

// lists tells how the destination lists what is about a manifest, as far as
// the copy has learnt: a registry does it in one way for all its repositories.
func (t *transfer) lists(a *about) knowledge {
	dst, ok := t.dst.(*remote)
	if !ok {
		return byTag
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if api := cmp.Or(a.api, t.api); api != unknown {
		return api
	}
	if src, ok := t.src.(*remote); ok && src.repo.host == dst.repo.host {
		return known(t.evidence.native.state.value)
	}
	return unknown
}

// blobs lists the blobs of the evidence that is to be moved.
func (e *evidence) blobs(image tree) (list []descriptor) {
	for _, level := range e.levels(image) {
		for _, a := range level {
			for _, referrer := range a.referrers {
				for _, m := range referrer.all() {
					list = append(list, m.blobs()...)
				}
			}
			for _, l := range a.legacy {
				list = append(list, l.m.blobs()...)
			}
		}
	}
	return list
}
