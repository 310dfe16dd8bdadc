package registry

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// CopyOptions say what goes along with the bytes of a subject.
type CopyOptions struct {
	// Referrers also copies what refers to the subject, to each manifest of an
	// index, and to what is copied so: signatures, attestations, SBOMs. What
	// stands under cosign's tags sha256-<hex>.sig, .att and .sbom goes along,
	// too, unless the destination would lose something by it.
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
	Legacy    int   `json:"legacy"`    // manifests of them under cosign's tags
	Blobs     int   `json:"blobs"`     // streamed
	Bytes     int64 `json:"bytes"`     // of the streamed blobs
	Mounted   int   `json:"mounted"`   // blobs taken over within one registry
	Present   int   `json:"present"`   // blobs that were there already
	// Foreign layers that the source does not hold; they are never fetched
	// from the addresses in their descriptors.
	Foreign int `json:"foreign,omitempty"`
	// Kept are tags of cosign's that the destination has with something else,
	// and under which the source's evidence was not put.
	Kept     []string `json:"kept,omitempty"`
	Requests int64    `json:"requests"` // HTTP requests of all kinds, both sides
	DryRun   bool     `json:"dryRun,omitempty"`
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
	return c.copyStores(ctx, source, c.writing(to).mounting(source), src.Digest, o, nil)
}

// copyStores copies between any two stores, as one step that people can follow.
// there is what the destination serves under its tags, nil if nobody has looked.
func (c *Client) copyStores(ctx context.Context, src, dst store, d release.Digest, o CopyOptions, there tagged) (CopyResult, error) {
	caller := ctx
	ctx, tally := withTally(ctx)
	step := event.Start(ctx, "[copy] %s → %s", src.name()+"@"+d.Short(), dst.name())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := c.newTransfer(ctx, src, dst, o, step)
	t.result.Digest = d
	err := t.run(ctx, d, there)
	if err != nil { // what was lost explains a refusal that came of it
		if failed := t.confirm(); failed != nil && release.KindOf(err) == release.KindUnavailable {
			err = failed
		}
	}
	t.result.Requests = tally.requests.Load()
	err = wrap(caller, "copying", src.name()+"@"+d.String()+" to "+dst.name(), err)
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
	pace     *pace
	// validating: the destination refuses a manifest whose blobs it lacks.
	validating atomic.Bool
	evidence   *evidence    // nil if none goes along
	held       atomic.Int64 // bytes of manifests

	ctx context.Context // of the whole

	mu     sync.Mutex
	api    knowledge          // of the destination
	checks []future[struct{}] // what looks at what was written
	result CopyResult
	blobs  map[release.Digest]*moved
}

func (c *Client) newTransfer(ctx context.Context, src, dst store, o CopyOptions, step *event.Step) *transfer {
	width := c.limits.Width
	if w := dst.width(); w > 0 {
		width = min(width, w)
	}
	t := &transfer{client: c, ctx: ctx, src: src, dst: dst, options: o, step: step, pace: newPace((width+1)/2, width),
		result: CopyResult{Source: src.name(), Destination: dst.name(), Tags: o.Tags, DryRun: o.DryRun},
		blobs:  map[release.Digest]*moved{}}
	if r, ok := dst.(*remote); ok {
		yes, _ := r.validates()
		t.validating.Store(yes)
	}
	return t
}

func (t *transfer) run(ctx context.Context, d release.Digest, there tagged) error {
	if !t.options.Referrers || t.src.name() == t.dst.name() {
		return t.copy(ctx, d, there)
	}
	copying, e := t.gather(ctx, d)
	t.evidence = e
	defer e.stop()
	err := t.copy(copying, d, there)
	// What refused the copy explains its failure better than how it ended.
	if refused := context.Cause(copying); err != nil && refused != nil && ctx.Err() == nil {
		return refused
	}
	return err
}

func (t *transfer) copy(ctx context.Context, d release.Digest, there tagged) error {
	here := newFuture[bool]()
	ask := sync.OnceFunc(func() { here.set(serves(ctx, t.dst, d.String(), d)) })
	if t.evidence != nil && there == nil && !t.offers() {
		go ask() // beside the tags: more than one request will follow anyway
		defer func() { <-here.done }()
	}
	present, missing, err := t.look(ctx, d, there)
	if err != nil {
		return err
	}
	offered := !present && len(missing) > 0 && t.offers() && t.plain(d)
	if !present && !offered {
		ask()
		if present, err = here.get(ctx, t.dst.name()); err != nil {
			return err
		}
	}
	t.result.Unchanged = present && len(missing) == 0
	if t.result.Unchanged && t.evidence == nil {
		return nil
	}
	tree, err := t.image(ctx, d, present || offered)
	if err != nil {
		return err
	}
	// Whatever is refused for its evidence is refused before the first write.
	if err := t.evidence.wait(ctx); err != nil {
		return err
	}
	if !present {
		if err := t.probe(ctx, tree); err != nil {
			return err
		}
		// The first tag can come with the root itself when nothing else follows.
		ref := d.String()
		if len(missing) > 0 && !t.evidence.follows(tree) {
			ref, missing = missing[0], missing[1:]
		}
		if err := t.moveAll(ctx, tree, ref); err != nil {
			return err
		}
	}
	if err := t.moveEvidence(ctx, tree); err != nil {
		return err
	}
	if err := t.confirm(); err != nil {
		return err
	}
	return t.tags(ctx, tree.root, missing)
}

// probe finds out what the destination validates, where the copy is large
// enough to gain by it.
func (t *transfer) probe(ctx context.Context, tree tree) error {
	const enough = 4
	dst, ok := t.dst.(*remote)
	if !ok || t.options.DryRun || t.validating.Load() || tree.blobs() < enough {
		return nil
	}
	proven, err := dst.probe(ctx)
	t.validating.Store(proven)
	return err
}

// tagged is what a store serves under tags; absent ones are left out.
type tagged map[string]release.Digest

// tagged asks what a store serves under tags, all at once.
func (c *Client) tagged(ctx context.Context, s store, tags []string) (tagged, error) {
	digests := make([]release.Digest, len(tags))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.limits.Width)
	for i, tag := range tags {
		if err := checkTag(tag); err != nil {
			return nil, err
		}
		g.Go(func() (err error) {
			digests[i], err = s.digest(gctx, tag)
			if isNotFound(err) {
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	there := tagged{}
	for i, tag := range tags {
		if !digests[i].IsZero() {
			there[tag] = digests[i]
		}
	}
	return there, nil
}

// look asks the destination for the tags: whether one of them shows that the
// bytes are there, and which are missing or point elsewhere. Within one
// repository they are there.
func (t *transfer) look(ctx context.Context, d release.Digest, there tagged) (present bool, missing []string, err error) {
	if there == nil {
		if there, err = t.client.tagged(ctx, t.dst, t.options.Tags); err != nil {
			return false, nil, err
		}
	}
	for _, tag := range t.options.Tags {
		if there[tag] == d {
			present = true
		} else {
			missing = append(missing, tag)
		}
	}
	return present || t.src.name() == t.dst.name() && len(missing) > 0, missing, nil
}

// plain reports whether the source's manifest was read already and is no index:
// offering it takes no longer than asking for it.
func (t *transfer) plain(d release.Digest) bool {
	m, ok := t.client.cache.get(release.Subject{Repository: t.src.name(), Digest: d})
	return ok && !isIndex(m.mediaType)
}

// serves reports whether a store serves exactly these bytes as ref.
func serves(ctx context.Context, s store, ref string, d release.Digest) (bool, error) {
	got, err := s.digest(ctx, ref)
	if isNotFound(err) {
		return false, nil
	}
	return err == nil && got == d, err
}

func (t *transfer) count(f func(r *CopyResult)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.result)
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
			if err := t.settle(gctx, root, tag); err != nil {
				return fmt.Errorf("tag %s: %w", tag, err)
			}
			return nil
		})
	}
	return g.Wait()
}
