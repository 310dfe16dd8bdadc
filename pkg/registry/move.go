package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sync/errgroup"

	"github.com/promote-dev/promote/pkg/release"
)

// move brings a tree to the destination, from the deepest manifests to the
// root, each after its blobs. ref is what the root is stored as: its digest or
// a tag.
func (t *transfer) move(ctx context.Context, tree tree, ref string) error {
	for i := len(tree.levels) - 1; i >= 0; i-- {
		g, gctx := t.group(ctx)
		for _, m := range tree.levels[i] {
			as := m.digest.String()
			if i == 0 {
				as = ref
			}
			g.Go(func() error { return t.place(gctx, m, as) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// group bounds how many goroutines wait for the pace. Where only one may write,
// they run one after the other, in order.
func (t *transfer) group(ctx context.Context) (*errgroup.Group, context.Context) {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(t.pace.most)
	return g, gctx
}

// place stores one manifest with its blobs and has it read back. A destination
// that is proven to validate is offered the manifest first: it takes it, or
// names the blobs that it lacks.
func (t *transfer) place(ctx context.Context, m manifest, ref string) error {
	blobs, absent := m.blobs(), false
	if t.offers() && len(blobs) > 0 {
		err := t.pace.run(ctx, func(ctx context.Context) error { return t.dst.writeManifest(ctx, ref, m) })
		if err == nil {
			complete, err := t.accepted(ctx, m, ref)
			if err != nil || complete {
				return err
			}
		} else if missing, ok := missingBlobs(err, m); ok {
			t.count(func(r *CopyResult) { r.Present += len(blobs) - len(missing) })
			blobs, absent = missing, true
		} else {
			return err
		}
	}
	if err := t.bring(ctx, blobs, absent); err != nil {
		return err
	}
	t.count(func(r *CopyResult) { r.Manifests++ })
	if t.options.DryRun {
		return nil
	}
	err := t.settle(ctx, m, ref)
	if _, ok := missingBlobs(err, m); !ok {
		return err
	}
	// A registry may have named only some of what it lacks: now it is asked for
	// each.
	if err := t.bring(ctx, m.blobs(), false); err != nil {
		return err
	}
	err = t.settle(ctx, m, ref)
	if missing, ok := missingBlobs(err, m); ok {
		return release.Unavailable(lostHint, "%s took blob %s and does not have it", t.dst.name(), missing[0].Digest)
	}
	return err
}

// offers reports whether manifests go before their blobs. Within one registry
// mounting them takes no longer.
func (t *transfer) offers() bool {
	return t.validating.Load() && !t.options.DryRun && !t.mountable()
}

// settle stores a manifest and reads it back: under its digest while the copy
// goes on, under a tag at once.
func (t *transfer) settle(ctx context.Context, m manifest, ref string) error {
	if ref != m.digest.String() {
		if err := t.confirm(); err != nil { // a tag comes when all is there
			return err
		}
	}
	err := t.pace.run(ctx, func(ctx context.Context) error { return t.dst.writeManifest(ctx, ref, m) })
	if err != nil {
		return err
	}
	back := func(ctx context.Context) error { return readBack(ctx, t.dst, ref, m.digest) }
	if ref != m.digest.String() {
		return t.pace.run(ctx, back)
	}
	return t.check(back)
}

// check looks at what was written while the copy goes on, up to the next tag.
// Where only one may write, it looks at once.
func (t *transfer) check(look func(context.Context) error) error {
	if t.pace.most == 1 {
		return look(t.ctx)
	}
	checked := newFuture[struct{}]()
	t.mu.Lock()
	t.checks = append(t.checks, checked)
	t.mu.Unlock()
	go func() { checked.set(struct{}{}, t.pace.run(t.ctx, look)) }()
	return nil
}

// confirm waits until everything that was written so far has been looked at.
func (t *transfer) confirm() (first error) {
	t.mu.Lock()
	checks := t.checks
	t.mu.Unlock()
	for _, checked := range checks {
		<-checked.done
		first = cmp.Or(first, checked.state.err)
	}
	return first
}

// accepted checks a manifest that the destination took as it stands, so that
// it has all blobs, as it says: one of them is looked for. A registry that does
// not keep to what it was proven to do is not believed any more: it gets the
// blobs, and the manifest again.
func (t *transfer) accepted(ctx context.Context, m manifest, ref string) (complete bool, err error) {
	blobs := m.blobs()
	sample := blobs[rand.N(len(blobs))]
	complete = true
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return readBack(gctx, t.dst, ref, m.digest) })
	if !sample.foreign() {
		g.Go(func() (err error) {
			complete, err = t.dst.has(gctx, sample)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return false, err
	}
	if !complete {
		t.validating.Store(false)
		if dst, ok := t.dst.(*remote); ok {
			dst.disproved(ctx)
		}
		return false, nil
	}
	t.count(func(r *CopyResult) { r.Manifests++; r.Present += len(blobs) })
	return true, nil
}

// moved is a blob that was brought or is on its way.
type moved struct {
	done chan struct{}
	err  error
}

// bring moves blobs, each once in a transfer. absent says that the destination
// has said it lacks them.
func (t *transfer) bring(ctx context.Context, blobs []descriptor, absent bool) error {
	g, gctx := t.group(ctx)
	for _, d := range blobs {
		g.Go(func() error {
			b, mine := t.claim(d.Digest)
			if mine {
				defer close(b.done)
				b.err = t.pace.run(gctx, func(ctx context.Context) error { return t.blob(ctx, d, absent) })
				return b.err
			}
			select {
			case <-b.done:
				if b.err != nil {
					return fmt.Errorf("with another manifest: %w", b.err)
				}
				return nil
			case <-gctx.Done():
				return gctx.Err()
			}
		})
	}
	return g.Wait()
}

// claim makes sure that a blob is moved once.
func (t *transfer) claim(d release.Digest) (b *moved, mine bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b, ok := t.blobs[d]; ok {
		return b, false
	}
	b = &moved{done: make(chan struct{}), err: errors.New("not done")}
	t.blobs[d] = b
	return b, true
}
