package registry

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// legacyTag is one of cosign's tags at the source, with what it stands for.
type legacyTag struct {
	tag string
	m   manifest
}

// tagPage is how many tags one page of a list is asked to have. A repository
// with more of them is asked for each of cosign's tags.
const tagPage = 1000

// listTags gives the source's tags if one request tells them all, else nil.
// That spares three questions about each manifest, most of which have no tag of
// cosign's. A list that is wrong hides evidence, and hidden evidence passes no
// gate.
func (e *evidence) listTags() map[string]bool {
	var all map[string]bool
	_ = e.slot(func() error {
		list, complete, err := e.t.src.tags(e.ctx, tagPage)
		if err != nil || !complete {
			return nil // the questions will tell
		}
		all = map[string]bool{}
		for _, tag := range list {
			all[tag] = true
		}
		return nil
	})
	return all
}

// lookForTags looks for cosign's tags about a manifest.
func (e *evidence) lookForTags(a *about) error {
	all := e.tags()
	for _, kind := range release.LegacyKinds {
		if tag := release.LegacyTag(a.subject, kind); all == nil || all[tag] {
			e.group.Go(func() error { return e.readTag(a, tag, all != nil) })
		}
	}
	return nil
}

// readTag reads one of cosign's tags at the source and, at the same time where
// it is listed, at the destination.
func (e *evidence) readTag(a *about, tag string, listed bool) error {
	there := newFuture[manifest]()
	look := sync.OnceFunc(func() { there.set(e.t.dst.manifest(e.ctx, tag)) })
	if listed {
		go look()
		defer func() { <-there.done }()
	}
	var m manifest
	err := e.slot(func() (err error) {
		m, err = legacy(e.ctx, e.t.src, tag)
		return err
	})
	if err != nil || m.digest.IsZero() {
		return err
	}
	if err := e.admit(a, 1); err != nil {
		return err
	}
	e.look(m.digest, a.depth+1)
	e.follow(a, m.digest)
	look()
	l := legacyTag{tag, m}
	old, err := there.get(e.ctx, e.t.dst.name())
	if wanted, err := e.t.replaces(e.ctx, l, old, err); err != nil || !wanted {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	a.legacy = append(a.legacy, l)
	return nil
}

// replaces reports whether the destination lacks what stands under one of
// cosign's tags at the source; old is what it has there. The layers of such a manifest grow in number, so that a tag is moved
// only if nothing that stood under it is lost. Where each side has what the
// other lacks, the destination keeps its own, and the result says so: to put
// them together is cosign's business, because it needs a new manifest.
func (t *transfer) replaces(ctx context.Context, l legacyTag, old manifest, err error) (bool, error) {
	switch {
	case isNotFound(err):
		return true, nil
	case err != nil && !errors.Is(err, errAmbiguous):
		return false, err
	case err == nil && (old.digest == l.m.digest || holds(old, l.m)):
		return false, nil
	case err == nil && holds(l.m, old):
		return true, nil
	}
	event.Warnf(ctx, "%s keeps what it has under %s: the source has something else there, and neither includes the other. `cosign verify` there does not see the source's; bring them together, or delete the tag and copy again", t.dst.name(), l.tag)
	t.count(func(r *CopyResult) {
		if !slices.Contains(r.Kept, l.tag) {
			r.Kept = append(r.Kept, l.tag)
		}
	})
	return false, nil
}

// holds reports whether a manifest has all layers of another: signatures by
// several keys are told apart by their annotations.
func holds(m, other manifest) bool {
	for _, want := range other.body.Layers {
		if !slices.ContainsFunc(m.body.Layers, func(d descriptor) bool {
			return d.Digest == want.Digest && d.MediaType == want.MediaType && maps.Equal(d.Annotations, want.Annotations)
		}) {
			return false
		}
	}
	return len(other.body.Layers) > 0 || len(m.body.Layers) == 0
}

// setTag sets one of cosign's tags. Where streaming took its time, the
// destination may have got something under it since it was looked at.
func (t *transfer) setTag(ctx context.Context, l legacyTag) error {
	t.mu.Lock()
	streamed := t.result.Bytes > 0 && !t.options.DryRun
	t.mu.Unlock()
	if streamed {
		old, err := t.dst.manifest(ctx, l.tag)
		if wanted, err := t.replaces(ctx, l, old, err); err != nil || !wanted {
			return err
		}
	}
	if err := t.place(ctx, l.m, l.tag); err != nil {
		return err
	}
	t.count(func(r *CopyResult) { r.Legacy++; r.Unchanged = false })
	return nil
}

// tags is one attempt at a page of a repository's tags.
func (s *remote) tags(ctx context.Context, most int) (list []string, all bool, err error) {
	r := s.request(http.MethodGet, http.StatusOK)
	r.url = s.c.api(s.repo, "tags", "list")
	r.url.RawQuery = url.Values{"n": {strconv.Itoa(most)}}.Encode()
	a, err := s.c.fetchOnce(ctx, r, s.c.limits.Manifest)
	if err != nil {
		return nil, false, err
	}
	var page struct {
		Tags *[]string `json:"tags"`
	}
	if err := json.Unmarshal(a.body, &page); err != nil || page.Tags == nil {
		return nil, false, err
	}
	next, err := s.nextPage(r.url, a.header)
	return *page.Tags, next == nil && len(*page.Tags) < most, err
}

func (s *layout) tags(context.Context, int) (list []string, all bool, err error) {
	entries, _, err := s.entries()
	for _, d := range entries {
		list = append(list, d.Annotations[refAnnotation])
	}
	return list, err == nil, err
}

func (s *memory) tags(context.Context, int) ([]string, bool, error) { return nil, true, nil }
