package registry

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// evidence is what the source holds about the manifests of a copy: what refers
// to them, what stands under cosign's tags, and what is about those in turn. It
// is found while the copy is under way, each look-up as soon as it can be made,
// and known whole before the first manifest is written: what is too much or
// contradicts a digest is refused while the destination is as it was.
//
// A digest cannot be in a circle of its own making; each is looked at once
// anyway.
type evidence struct {
	t      *transfer
	root   release.Digest
	ctx    context.Context
	refuse context.CancelCauseFunc // the copy
	cancel context.CancelFunc      // the search
	group  *errgroup.Group
	slots  chan struct{}
	tags   func() map[string]bool // nil is: ask for each

	image   future[tree]     // of the copy itself
	looked  future[bool]     // whether the destination has the root
	native  future[bool]     // whether the source has the referrers API
	settled future[struct{}] // everything is found

	mu      sync.Mutex
	about   map[release.Digest]*about
	entries int
}

// about is what is about one manifest.
type about struct {
	subject   release.Digest
	depth     int // 0 is the copy's own
	follow    []release.Digest
	referrers []tree      // to be copied
	legacy    []legacyTag // likewise
	api       knowledge   // of the destination
}

// gather begins to look for evidence. The context that it gives ends when there
// is something that refuses the copy.
func (t *transfer) gather(ctx context.Context, d release.Digest) (context.Context, *evidence) {
	copying, refuse := context.WithCancelCause(ctx)
	bounded, cancel := context.WithTimeoutCause(ctx, t.client.limits.Listing, errSlow)
	g, gctx := errgroup.WithContext(bounded)
	e := &evidence{t: t, root: d, ctx: gctx, refuse: refuse, cancel: cancel, group: g, slots: make(chan struct{}, max(1, t.client.limits.Width/2)),
		about: map[release.Digest]*about{},
		image: newFuture[tree](), looked: newFuture[bool](), native: newFuture[bool](), settled: newFuture[struct{}]()}
	e.tags = sync.OnceValue(e.listTags)
	e.look(d, 0)
	g.Go(func() error {
		tree, err := t.tree(gctx, d)
		e.image.set(tree, err)
		for _, m := range tree.all() {
			e.look(m.digest, 0)
		}
		return err
	})
	go func() {
		err := g.Wait()
		e.settled.set(struct{}{}, err)
		if err != nil {
			refuse(err)
		}
	}()
	return copying, e
}

// stop ends the search, if it is still on.
func (e *evidence) stop() {
	e.cancel()
	<-e.settled.done
	e.refuse(nil)
}

// wait waits until everything is found.
func (e *evidence) wait(ctx context.Context) error {
	if e == nil {
		return nil
	}
	_, err := e.settled.get(ctx, e.t.src.name())
	return err
}

// look looks for what is about a digest, once.
func (e *evidence) look(d release.Digest, depth int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.about[d] != nil {
		return
	}
	a := &about{subject: d, depth: depth}
	e.about[d] = a
	e.group.Go(func() error { return e.lookForReferrers(a) })
	e.group.Go(func() error { return e.lookForTags(a) })
}

// slot runs f when there is room.
func (e *evidence) slot(f func() error) error {
	select {
	case e.slots <- struct{}{}:
	case <-e.ctx.Done():
		return ended(e.ctx, e.t.src.name())
	}
	defer func() { <-e.slots }()
	return f()
}

func (e *evidence) lookForReferrers(a *about) error {
	list, err := e.list(a.subject)
	if err != nil || len(list) == 0 {
		return err
	}
	if err := e.admit(a, len(list)); err != nil {
		return err
	}
	for _, entry := range list {
		e.look(entry.Digest, a.depth+1)
	}
	// Where the image is, its evidence may be, too.
	present, err := e.looked.get(e.ctx, e.t.dst.name())
	if err != nil {
		return err
	}
	if present {
		if list, err = e.absent(a, list); err != nil {
			return err
		}
	}
	for _, entry := range list {
		e.group.Go(func() error { return e.slot(func() error { return e.read(a, entry) }) })
	}
	return nil
}

// admit counts what was found about a subject.
func (e *evidence) admit(a *about, n int) error {
	l := e.t.client.limits
	if a.depth >= l.EvidenceDepth {
		return release.Denied(floodHint, "%s: evidence about evidence, nested deeper than %d, about %s", e.t.src.name(), l.EvidenceDepth, a.subject)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.entries += n; e.entries > l.Evidence {
		return release.Denied(floodHint, "%s: %s and what belongs to it has more than %d referrers and tags of cosign's", e.t.src.name(), e.root, l.Evidence)
	}
	return nil
}

// list lists what refers to a digest at the source, each once. The root's list
// is asked for in both forms at once; its answer says which form the source has.
func (e *evidence) list(d release.Digest) (list []descriptor, err error) {
	if d == e.root {
		err = e.slot(func() error { list, err = e.both(d); return err })
		return distinct(list), err
	}
	api, err := e.native.get(e.ctx, e.t.src.name())
	if err != nil {
		return nil, err
	}
	err = e.slot(func() error {
		if api {
			list, _, err = e.t.client.listReferrers(e.ctx, e.t.src, d)
		} else {
			list, _, err = e.t.client.listFallback(e.ctx, e.t.src, d)
		}
		return err
	})
	return distinct(list), err
}

func (e *evidence) both(d release.Digest) ([]descriptor, error) {
	list, _, api, err := e.t.client.listBoth(e.ctx, e.t.src, d)
	e.native.set(api, err)
	return list, err
}

func distinct(list []descriptor) []descriptor {
	seen := map[release.Digest]bool{}
	return slices.DeleteFunc(list, func(d descriptor) bool {
		twice := seen[d.Digest]
		seen[d.Digest] = true
		return twice
	})
}

// absent gives those that the destination does not list.
func (e *evidence) absent(a *about, list []descriptor) (missing []descriptor, err error) {
	err = e.slot(func() error {
		there, api, err := e.t.client.listReferrers(e.ctx, e.t.dst, a.subject)
		a.api = known(api)
		for _, entry := range list {
			if contains(there, entry.Digest) {
				e.follow(a, entry.Digest)
			} else {
				missing = append(missing, entry)
			}
		}
		return err
	})
	return missing, err
}

// read reads a referrer. What is not there, can be read in two ways or is about
// something else counts for nothing.
func (e *evidence) read(a *about, entry descriptor) error {
	tree, err := e.t.tree(e.ctx, entry.Digest)
	if isNotFound(err) || errors.Is(err, errAmbiguous) {
		event.Warnf(e.ctx, "%s: a referrer of %s is left out: %v", e.t.src.name(), a.subject.Short(), err)
		return nil
	}
	if err != nil {
		return err
	}
	if s := tree.root.body.Subject; s == nil || s.Digest != a.subject {
		event.Warnf(e.ctx, "%s lists %s as a referrer of %s, which it is not: left out", e.t.src.name(), entry.Digest, a.subject)
		return nil
	}
	e.follow(a, entry.Digest)
	e.mu.Lock()
	defer e.mu.Unlock()
	a.referrers = append(a.referrers, tree)
	return nil
}

// follow makes what is about a digest count.
func (e *evidence) follow(a *about, d release.Digest) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a.follow = append(a.follow, d)
}

// levels gives what was found and counts, by how far it is from the copy's own
// manifests, in an order that depends on digests only.
func (e *evidence) levels(image tree) (levels [][]*about) {
	seen := map[release.Digest]bool{}
	var next []release.Digest
	for _, m := range image.all() {
		next = append(next, m.digest)
	}
	for len(next) > 0 {
		var level []*about
		slices.SortFunc(next, compareDigests)
		this := next
		next = nil
		for _, d := range this {
			a := e.about[d]
			if a == nil || seen[d] {
				continue
			}
			seen[d] = true
			level = append(level, a)
			next = append(next, a.follow...)
			slices.SortFunc(a.referrers, func(a, b tree) int { return compareDigests(a.root.digest, b.root.digest) })
			slices.SortFunc(a.legacy, func(a, b legacyTag) int { return strings.Compare(a.tag, b.tag) })
		}
		levels = append(levels, level)
	}
	return levels
}

// follows reports whether there is something to be copied after the image.
func (e *evidence) follows(image tree) bool {
	if e == nil {
		return false
	}
	for _, level := range e.levels(image) {
		for _, a := range level {
			if len(a.referrers) > 0 || len(a.legacy) > 0 {
				return true
			}
		}
	}
	return false
}

func compareDigests(a, b release.Digest) int { return strings.Compare(a.String(), b.String()) }
