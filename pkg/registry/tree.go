package registry

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/promote-dev/promote/pkg/release"
)

// tree is a manifest with all manifests below it, each once, by how deep they
// lie; level 0 is the root.
type tree struct {
	root   manifest
	levels [][]manifest
}

func (t tree) all() []manifest {
	var list []manifest
	for _, level := range t.levels {
		list = append(list, level...)
	}
	return list
}

// blobs counts the blobs that the manifests name, doubles included.
func (t tree) blobs() int {
	n := 0
	for _, m := range t.all() {
		n += len(m.blobs())
	}
	return n
}

// tree reads a manifest and everything below it from the source. A manifest
// that is reached on several ways lies on its deepest level, so that writing
// the levels from the deepest up writes children before their parents.
func (t *transfer) tree(ctx context.Context, d release.Digest) (tree, error) {
	l := t.client.limits
	root, err := t.src.manifest(ctx, d.String())
	if err == nil {
		err = t.hold(root)
	}
	if err != nil {
		return tree{}, err
	}
	levels := [][]manifest{{root}}
	total := 1
	for isParent(levels[len(levels)-1]) {
		if len(levels) > l.Depth {
			return tree{}, refused(d, "indexes nested deeper than %d", l.Depth)
		}
		next, err := t.below(ctx, levels[len(levels)-1], l.Manifests-total)
		if err != nil {
			return tree{}, err
		}
		total += len(next)
		levels = append(levels, next)
	}
	return tree{root: root, levels: deepest(levels)}, nil
}

// hold counts a manifest that the copy keeps until its end.
func (t *transfer) hold(m manifest) error {
	if t.held.Add(m.weight()) > t.client.limits.ManifestBytes {
		return t.tooHeavy()
	}
	return nil
}

func (t *transfer) tooHeavy() error {
	return release.Denied("nothing legitimate is that large", "%s: the manifests of one copy take more than %d bytes", t.src.name(), t.client.limits.ManifestBytes)
}

func isParent(level []manifest) bool {
	for _, m := range level {
		if len(m.body.Manifests) > 0 {
			return true
		}
	}
	return false
}

// below reads the children of a level's indexes, each once.
func (t *transfer) below(ctx context.Context, level []manifest, most int) ([]manifest, error) {
	seen := map[release.Digest]bool{}
	var wanted []descriptor
	for _, m := range level {
		for _, d := range m.body.Manifests {
			if !seen[d.Digest] {
				seen[d.Digest] = true
				wanted = append(wanted, d)
			}
		}
	}
	if len(wanted) > most {
		return nil, refused(level[0].digest, "more than %d manifests behind it", t.client.limits.Manifests)
	}
	announced := t.held.Load()
	for _, d := range wanted {
		announced += min(d.Size, t.client.limits.ManifestBytes)
	}
	if announced > t.client.limits.ManifestBytes {
		return nil, t.tooHeavy()
	}
	children := make([]manifest, len(wanted))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(t.client.limits.Width)
	for i, d := range wanted {
		g.Go(func() (err error) {
			if children[i], err = child(gctx, t.src, d); err != nil {
				return err
			}
			return t.hold(children[i])
		})
	}
	return children, g.Wait()
}

// deepest keeps each manifest on its deepest level only.
func deepest(levels [][]manifest) [][]manifest {
	at := map[release.Digest]int{}
	for i, level := range levels {
		for _, m := range level {
			at[m.digest] = i
		}
	}
	kept := make([][]manifest, len(levels))
	for i, level := range levels {
		for _, m := range level {
			if at[m.digest] == i {
				kept[i] = append(kept[i], m)
			}
		}
	}
	return kept
}
