package registry

import (
	"context"
	"errors"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// referrers copies what refers to the tree's manifests and makes the
// destination list it.
func (t *transfer) referrers(ctx context.Context, tree tree) error {
	for _, m := range tree.all() {
		if err := t.referrersOf(ctx, m.digest); err != nil {
			return err
		}
	}
	return nil
}

func (t *transfer) referrersOf(ctx context.Context, d release.Digest) error {
	list, _, err := t.client.listReferrers(ctx, t.src, d)
	if err != nil || len(list) == 0 {
		return err
	}
	there, _, err := t.client.listReferrers(ctx, t.dst, d)
	if err != nil {
		return err
	}
	var added []manifest
	for _, entry := range list {
		if contains(there, entry.Digest) {
			continue
		}
		there = append(there, entry) // lists may name one twice
		tree, err := t.tree(ctx, entry.Digest)
		if isNotFound(err) || errors.Is(err, errAmbiguous) {
			event.Warnf(ctx, "%s: a referrer of %s is left out: %v", t.src.name(), d.Short(), err)
			continue
		}
		if err != nil {
			return err
		}
		if s := tree.root.body.Subject; s == nil || s.Digest != d {
			event.Warnf(ctx, "%s lists %s as a referrer of %s, which it is not: left out", t.src.name(), entry.Digest, d)
			continue
		}
		if err := t.move(ctx, tree, entry.Digest.String()); err != nil {
			return err
		}
		t.count(func(r *CopyResult) { r.Referrers++; r.Unchanged = false })
		added = append(added, tree.root)
	}
	if t.options.DryRun {
		return nil
	}
	return t.client.ensureListed(ctx, t.dst, d, added)
}
