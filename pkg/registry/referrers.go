package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/promote-dev/promote/pkg/release"
)

// fallbackTag is where a registry without the referrers API keeps its list
// (distribution specification, "Referrers Tag Schema").
func fallbackTag(d release.Digest) string { return "sha256-" + d.Hex() }

// listReferrers lists what refers to a digest, from the store's own list or
// from the fallback tag. None is an empty list. Where there was no list of the
// store's before, the tag is read at the same time, and counts only if there is
// none now either.
func (c *Client) listReferrers(ctx context.Context, s store, d release.Digest) (list []descriptor, api bool, err error) {
	tag := func() ([]descriptor, error) {
		list, _, err := c.listFallback(ctx, s, d)
		return list, err
	}
	if r, ok := s.(*remote); ok {
		endpoint := r.repo.endpoint()
		if _, lacking := c.byTag.Load(endpoint); lacking {
			early, cancel := context.WithCancel(ctx)
			defer cancel()
			ahead := newFuture[[]descriptor]()
			go func() {
				list, _, err := c.listFallback(early, s, d)
				ahead.set(list, err)
			}()
			tag = func() ([]descriptor, error) { return ahead.get(ctx, s.name()) }
		}
		defer func() {
			if err == nil && !api {
				c.byTag.Store(endpoint, true)
			}
		}()
	}
	list, api, err = s.referrers(ctx, d)
	if err != nil || api {
		return list, api, err
	}
	list, err = tag()
	return list, false, err
}

// listFallback lists what the fallback tag says, and gives its index; the zero
// manifest is none.
func (c *Client) listFallback(ctx context.Context, s store, d release.Digest) ([]descriptor, manifest, error) {
	index, err := s.manifest(ctx, fallbackTag(d))
	switch {
	case isNotFound(err):
		return nil, manifest{}, nil
	case err != nil:
		return nil, manifest{}, err
	case !isIndex(index.mediaType):
		return nil, manifest{}, refused(index.digest, "the tag %s must hold an index of referrers, it holds %s", fallbackTag(d), index.mediaType)
	}
	return slices.Clone(index.body.Manifests), index, nil
}

// referrers asks the referrers API, page by page.
func (s *remote) referrers(ctx context.Context, d release.Digest) (list []descriptor, ok bool, err error) {
	var read int64
	next := s.c.api(s.repo, "referrers", d.String())
	for page := 1; next != nil; page++ {
		if page > s.c.limits.Pages {
			return nil, false, flood(s.name(), d, "more than %d pages", s.c.limits.Pages)
		}
		r := s.request(http.MethodGet, http.StatusOK, http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented)
		r.url, r.accept = next, []string{typeIndex}
		a, err := s.c.fetch(ctx, r, s.c.limits.Manifest)
		if err != nil {
			return nil, false, err
		}
		mediaType, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
		if a.status != http.StatusOK || mediaType != typeIndex {
			if page > 1 {
				return nil, false, release.Unavailable("try again", "%s: page %d of the referrers of %s is missing", s.name(), page, d)
			}
			return nil, false, nil
		}
		if err := tooRich(a.body, mostValues); err != nil {
			return nil, false, err
		}
		if read += int64(len(a.body)) + valueBytes*int64(values(a.body)); read > s.c.limits.ManifestBytes {
			return nil, false, release.Denied(floodHint, "%s: the lists of the referrers of %s take more than %d bytes", s.name(), d, s.c.limits.ManifestBytes)
		}
		some, err := parseListing(a.body)
		if err != nil {
			return nil, false, release.Unavailable("look at what the registry answers", "%s: list of the referrers of %s: %w", s.name(), d, err)
		}
		list = append(list, some...)
		if len(list) > s.c.limits.Referrers {
			return nil, false, flood(s.name(), d, "more than %d", s.c.limits.Referrers)
		}
		if next, err = s.nextPage(next, a.header); err != nil {
			return nil, false, err
		}
	}
	return list, true, nil
}

const floodHint = "somebody floods this subject with referrers, or old ones need clearing away: look at them and delete what nobody needs"

func flood(where string, d release.Digest, format string, most int) error {
	return release.Denied(floodHint,
		"%s: %s has "+format+" referrers", where, d, most)
}

// parseListing reads a page of the referrers API. The page itself is no content
// with a digest; entries we could not address anyway are left out.
func parseListing(raw []byte) ([]descriptor, error) {
	canonical, err := release.CanonicalJSON(raw)
	if err != nil {
		return nil, err
	}
	var page map[string]json.RawMessage
	if err := json.Unmarshal(canonical, &page); err != nil {
		return nil, err
	}
	if page["manifests"] == nil { // null is an empty list to some writers
		return nil, errors.New("no list of manifests")
	}
	var items []json.RawMessage
	if err := json.Unmarshal(page["manifests"], &items); err != nil {
		return nil, err
	}
	var list []descriptor
	for _, item := range items {
		var d descriptor
		if json.Unmarshal(item, &d) == nil && !d.Digest.IsZero() && isManifest(d.MediaType) {
			list = append(list, d)
		}
	}
	return list, nil
}

// nextPage reads the Link header (RFC 8288). A next page is at the same
// registry, or nowhere.
func (s *remote) nextPage(current *url.URL, h http.Header) (*url.URL, error) {
	for _, link := range h.Values("Link") {
		for part := range strings.SplitSeq(link, ",") {
			target, parameters, ok := strings.Cut(strings.TrimSpace(part), ">")
			target, bracket := strings.CutPrefix(target, "<")
			if !ok || !bracket || !strings.Contains(strings.ReplaceAll(parameters, " ", ""), `rel="next"`) {
				continue
			}
			next, err := current.Parse(target)
			if err != nil || next.Host != current.Host || next.Scheme != current.Scheme {
				return nil, release.Denied("the registry, or something between, sends us elsewhere: find out why before going on", "%s: the next page of a list is somewhere else: %q", s.name(), printable(target, 200))
			}
			return next, nil
		}
	}
	return nil, nil
}

// knowledge is whether a store has the referrers API, as far as is known.
type knowledge int

const (
	unknown knowledge = iota
	native
	byTag
)

func known(api bool) knowledge {
	if api {
		return native
	}
	return byTag
}

// changing is how a list of referrers is changed.
type changing struct {
	api knowledge
	// early is the fallback tag's index, read ahead; nil if it was not.
	early *future[manifest]
	// patient waits before it looks again: see ensureListed.
	patient bool
}

// ensureListed makes sure that a store lists these referrers of a digest, after
// their manifests have been written.
//
// Where there is no API, the list is an index under a tag, which two machines
// may change at once; the specification has no lock for it. So whoever wrote
// looks again, and puts what is missing there again. A patient one waits before
// that for as long as another may need that has read the list already: then no
// entry is lost once both are done.
func (c *Client) ensureListed(ctx context.Context, s store, d release.Digest, added []manifest, how *changing) error {
	if len(added) == 0 {
		return nil
	}
	for try := 1; ; try++ {
		start := time.Now()
		missing, err := c.addMissing(ctx, s, d, added, how)
		if err != nil || len(missing) == 0 {
			return err
		}
		most, hint := c.limits.Attempts, lostHint
		if how.api == byTag {
			most, hint = 3*most, "others may be changing that list: try again"
		}
		if try > most {
			return release.Unavailable(hint, "%s does not list %s among the referrers of %s", s.name(), missing[0].digest, d)
		}
		var wait time.Duration
		switch {
		case how.api == native: // it may take a moment
			wait = time.Duration(try) * c.limits.Pause
		case how.patient || try > 1:
			wait = c.limits.Settle + 3*time.Since(start)/2
			wait += rand.N(wait/2 + 1)
		}
		if wait > 0 && sleep(ctx, wait) != nil {
			return ended(ctx, s.name())
		}
	}
}

// addMissing gives those referrers that a store does not list, and has put them
// into the list where that is ours to do. It leaves in how what it learnt.
func (c *Client) addMissing(ctx context.Context, s store, d release.Digest, added []manifest, how *changing) (missing []manifest, err error) {
	unlock := c.linking.lock(s.name() + "@" + d.String())
	defer unlock()
	list, index, err := c.current(ctx, s, d, how)
	if err != nil {
		return nil, err
	}
	missing = slices.DeleteFunc(slices.Clone(added), func(m manifest) bool { return contains(list, m.digest) })
	if how.api == native || len(missing) == 0 {
		return missing, nil
	}
	// What others wrote there stays as it is.
	raw, err := mergeListing(index.raw, missing)
	if err != nil {
		return nil, err
	}
	m, err := parse(cmp.Or(index.mediaType, typeIndex), raw, c.limits)
	if err != nil {
		return nil, err
	}
	return missing, s.writeManifest(ctx, fallbackTag(d), m)
}

// current gives the list as it is, and the index that holds it where there is
// no API. A store of which nothing is known is asked in both ways at once.
func (c *Client) current(ctx context.Context, s store, d release.Digest, how *changing) (list []descriptor, index manifest, err error) {
	if how.api == unknown {
		var api bool
		if list, index, api, err = c.listBoth(ctx, s, d); err == nil {
			how.api = known(api)
		}
		return list, index, err
	}
	if how.api == native {
		if list, api, err := s.referrers(ctx, d); err != nil || api {
			return list, manifest{}, err
		}
		how.api = byTag
	}
	if early := how.early; early != nil {
		how.early = nil
		index, err := early.get(ctx, s.name())
		return index.body.Manifests, index, err
	}
	return c.listFallback(ctx, s, d)
}

// listBoth lists with the API and from the fallback tag at once. Where there is
// an API, the tag counts for nothing.
func (c *Client) listBoth(ctx context.Context, s store, d release.Digest) (list []descriptor, index manifest, api bool, err error) {
	var tagged []descriptor
	var failed error
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		list, api, err = s.referrers(gctx, d)
		return err
	})
	g.Go(func() error {
		tagged, index, failed = c.listFallback(gctx, s, d)
		return nil
	})
	if err := g.Wait(); err != nil || api {
		return list, manifest{}, api, err
	}
	return tagged, index, false, failed
}

// mergeListing adds entries to an index, which may be nil, without touching
// what it holds. The same entries give the same bytes in any order.
func mergeListing(index []byte, added []manifest) ([]byte, error) {
	top := map[string]json.RawMessage{
		"schemaVersion": json.RawMessage("2"),
		"mediaType":     json.RawMessage(`"` + typeIndex + `"`),
	}
	var entries []json.RawMessage
	if index != nil {
		if err := json.Unmarshal(index, &top); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(top["manifests"], &entries); err != nil {
			return nil, err
		}
	}
	for _, m := range added {
		entry := m.describe()
		entry.Annotations = m.body.Annotations
		raw, err := json.Marshal(entry)
		if err != nil {
			return nil, err
		}
		entries = append(entries, raw)
	}
	slices.SortFunc(entries, func(a, b json.RawMessage) int { return strings.Compare(entryDigest(a), entryDigest(b)) })
	var err error
	if top["manifests"], err = json.Marshal(entries); err != nil {
		return nil, err
	}
	return release.Canonical(top)
}

func entryDigest(raw json.RawMessage) string {
	var d descriptor
	_ = json.Unmarshal(raw, &d) // from an index that parse has read
	return d.Digest.String()
}

func contains(list []descriptor, d release.Digest) bool {
	return slices.ContainsFunc(list, func(entry descriptor) bool { return entry.Digest == d })
}
