package registry

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// CopyOptions say what goes along with the bytes of a subject.
type CopyOptions struct {
	// Referrers also copies what refers to the subject, and to each manifest
	// of an index: signatures, attestations, SBOMs.
	Referrers bool
	// Tags are set at the destination once everything else is there.
	Tags []string
	// DryRun only looks: the result says what would be done.
	DryRun bool
}

// CopyResult says what a copy did, or would do. Counts are of distinct objects.
type CopyResult struct {
	Source      string         `json:"source"`      // repository, oci:DIR or oci-archive:FILE
	Destination string         `json:"destination"` // likewise
	Digest      release.Digest `json:"digest"`      // the same on both sides
	Tags        []string       `json:"tags,omitempty"`
	// Unchanged: the destination had everything, including the tags.
	Unchanged bool  `json:"unchanged"`
	Manifests int   `json:"manifests"` // written
	Referrers int   `json:"referrers"` // manifests of them that were referrers
	Blobs     int   `json:"blobs"`     // streamed
	Bytes     int64 `json:"bytes"`     // of the streamed blobs
	Mounted   int   `json:"mounted"`   // blobs taken over within one registry
	Present   int   `json:"present"`   // blobs that were there already
	// Foreign layers that the source does not hold; they are never fetched
	// from the addresses in their descriptors.
	Foreign  int   `json:"foreign,omitempty"`
	Requests int64 `json:"requests"` // HTTP requests of all kinds, both sides
	DryRun   bool  `json:"dryRun,omitempty"`
}

// Copy copies a subject's bytes to another repository, or sets tags where it
// already is. The digest stays: manifests are copied byte for byte, indexes
// with all they contain, and nothing is wrapped again. Blobs are mounted within
// one registry and streamed through a hash otherwise. Manifests follow when
// their blobs are there, then referrers, then tags; each is read back. Tags are
// absent when anything failed. If the destination already serves the bytes
// under the (one) tag, that takes one request.
//
// Errors: KindDenied when bytes contradict a digest or a limit; KindUnavailable
// when a side does not answer, breaks off, or does not keep what it accepted;
// ErrNotFound in the chain if the source does not have the subject.
func (c *Client) Copy(ctx context.Context, src release.Subject, dstRepository string, o CopyOptions) (CopyResult, error) {
	from, err := subjectRepository(src)
	if err != nil {
		return CopyResult{}, wrap(ctx, "copying", src.String(), err)
	}
	to, err := parseRepository(dstRepository)
	if err != nil {
		return CopyResult{}, wrap(ctx, "copying", src.String(), err)
	}
	source := c.reading(from)
	return c.copyStores(ctx, source, c.writing(to).mounting(source), src.Digest, o)
}

// copyStores copies between any two stores, as one step that people can follow.
func (c *Client) copyStores(ctx context.Context, src, dst store, d release.Digest, o CopyOptions) (CopyResult, error) {
	ctx, tally := withTally(ctx)
	step := event.Start(ctx, "[copy] %s → %s", src.name()+"@"+d.Short(), dst.name())
	t := &transfer{client: c, src: src, dst: dst, options: o, step: step,
		result: CopyResult{Source: src.name(), Destination: dst.name(), Digest: d, Tags: o.Tags, DryRun: o.DryRun},
		blobs:  map[release.Digest]bool{}}
	err := t.run(ctx, d)
	t.result.Requests = tally.requests.Load()
	err = wrap(ctx, "copying", src.name()+"@"+d.String()+" to "+dst.name(), err)
	if err == nil && t.result.Unchanged {
		step.Cached()
	} else {
		step.Done(err)
	}
	return t.result, err
}

// transfer is one copy under way.
type transfer struct {
	client   *Client
	src, dst store
	options  CopyOptions
	step     *event.Step

	mu     sync.Mutex
	result CopyResult
	blobs  map[release.Digest]bool // moved or under way
}

func (t *transfer) run(ctx context.Context, d release.Digest) error {
	for _, tag := range t.options.Tags {
		if err := checkTag(tag); err != nil {
			return err
		}
	}
	present, missing, err := t.look(ctx, d)
	if err != nil {
		return err
	}
	t.result.Unchanged = present && len(missing) == 0
	if t.result.Unchanged && !t.options.Referrers {
		return nil
	}
	if t.src.name() == t.dst.name() {
		present = true
	}
	tree, err := t.tree(ctx, d)
	if err != nil {
		return err
	}
	if !present {
		if err := t.move(ctx, tree); err != nil {
			return err
		}
	}
	if t.options.Referrers && t.src.name() != t.dst.name() {
		if err := t.referrers(ctx, tree); err != nil {
			return err
		}
	}
	return t.tags(ctx, tree.root, missing)
}

// look asks the destination what it has: the bytes, and which tags are missing
// or point elsewhere.
func (t *transfer) look(ctx context.Context, d release.Digest) (present bool, missing []string, err error) {
	there := make([]bool, len(t.options.Tags))
	g, gctx := t.group(ctx)
	for i, tag := range t.options.Tags {
		g.Go(func() (err error) {
			there[i], err = serves(gctx, t.dst, tag, d)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return false, nil, err
	}
	for i, tag := range t.options.Tags {
		if !there[i] {
			missing = append(missing, tag)
		}
	}
	if slices.Contains(there, true) {
		return true, missing, nil
	}
	present, err = serves(ctx, t.dst, d.String(), d)
	return present, missing, err
}

// serves reports whether a store serves exactly these bytes as ref.
func serves(ctx context.Context, s store, ref string, d release.Digest) (bool, error) {
	got, err := s.digest(ctx, ref)
	if isNotFound(err) {
		return false, nil
	}
	return err == nil && got == d, err
}

func (t *transfer) group(ctx context.Context) (*errgroup.Group, context.Context) {
	g, gctx := errgroup.WithContext(ctx)
	width := t.client.limits.Width
	if w := t.dst.width(); w > 0 {
		width = min(width, w)
	}
	g.SetLimit(width)
	return g, gctx
}

// move brings a tree to the destination: all blobs, then the manifests from the
// deepest to the root.
func (t *transfer) move(ctx context.Context, tree tree) error {
	g, gctx := t.group(ctx)
	for _, level := range tree.levels {
		for _, m := range level {
			for _, d := range m.blobs() {
				if !t.claim(d.Digest) {
					continue
				}
				g.Go(func() error { return t.blob(gctx, d) })
			}
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, level := range slices.Backward(tree.levels) {
		g, gctx := t.group(ctx)
		for _, m := range level {
			g.Go(func() error { return t.manifest(gctx, m) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// claim makes sure that a blob is moved once.
func (t *transfer) claim(d release.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.blobs[d] {
		return false
	}
	t.blobs[d] = true
	return true
}

func (t *transfer) count(f func(r *CopyResult)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.result)
}

func (t *transfer) manifest(ctx context.Context, m manifest) error {
	if !t.options.DryRun {
		if err := writeAndRead(ctx, t.dst, m.digest.String(), m); err != nil {
			return err
		}
	}
	t.count(func(r *CopyResult) { r.Manifests++ })
	return nil
}

// tags sets the missing tags, and makes a store show an image without any.
func (t *transfer) tags(ctx context.Context, root manifest, missing []string) error {
	if t.options.DryRun {
		return nil
	}
	if len(t.options.Tags) == 0 {
		return t.dst.keep(ctx, root)
	}
	g, gctx := t.group(ctx)
	for _, tag := range missing {
		g.Go(func() error {
			if err := writeAndRead(gctx, t.dst, tag, root); err != nil {
				return fmt.Errorf("tag %s: %w", tag, err)
			}
			return nil
		})
	}
	return g.Wait()
}
