package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// fallbackTag is where a registry without the referrers API keeps its list
// (distribution specification, "Referrers Tag Schema").
func fallbackTag(d release.Digest) string { return "sha256-" + d.Hex() }

// listReferrers lists what refers to a digest, from the store's own list or
// from the fallback tag. None is an empty list.
func (c *Client) listReferrers(ctx context.Context, s store, d release.Digest) (list []descriptor, native bool, err error) {
	list, native, err = s.referrers(ctx, d)
	if err != nil || native {
		return list, native, err
	}
	index, err := s.manifest(ctx, fallbackTag(d))
	switch {
	case isNotFound(err):
		return nil, false, nil
	case err != nil:
		return nil, false, err
	case !isIndex(index.mediaType):
		return nil, false, refused(index.digest, "the tag %s must hold an index of referrers, it holds %s", fallbackTag(d), index.mediaType)
	}
	return index.body.Manifests, false, nil
}

// referrers asks the referrers API, page by page.
func (s *remote) referrers(ctx context.Context, d release.Digest) (list []descriptor, ok bool, err error) {
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
				return nil, release.Denied("", "%s: the next page of a list is somewhere else: %q", s.name(), printable(target, 200))
			}
			return next, nil
		}
	}
	return nil, nil
}

// ensureListed makes sure that a store lists these referrers of a digest, after
// their manifests have been written.
func (c *Client) ensureListed(ctx context.Context, s store, d release.Digest, added []manifest) error {
	if len(added) == 0 {
		return nil
	}
	unlock := c.linking.lock(s.name() + "@" + d.String())
	defer unlock()
	for try := 1; ; try++ {
		list, native, err := c.listReferrers(ctx, s, d)
		if err != nil {
			return err
		}
		missing := slices.DeleteFunc(slices.Clone(added), func(m manifest) bool { return contains(list, m.digest) })
		if len(missing) == 0 {
			return nil
		}
		if try > c.limits.Attempts {
			return release.Unavailable(lostHint, "%s does not list %s among the referrers of %s", s.name(), missing[0].digest, d)
		}
		if native { // it may take a moment
			if sleep(ctx, time.Duration(try)*c.limits.Pause) != nil {
				return ended(ctx, s.name())
			}
			continue
		}
		if err := c.link(ctx, s, d, missing); err != nil {
			return err
		}
	}
}

// link adds referrers to the index under the fallback tag. What others wrote
// there stays as it is. Two machines that do this at once can lose one's entry:
// the specification has no lock, so the caller looks again afterwards.
func (c *Client) link(ctx context.Context, s store, d release.Digest, added []manifest) error {
	old, err := s.manifest(ctx, fallbackTag(d))
	if err != nil && !isNotFound(err) {
		return err
	}
	raw, err := mergeListing(old.raw, added)
	if err != nil {
		return err
	}
	m, err := parse(cmp.Or(old.mediaType, typeIndex), raw, c.limits)
	if err != nil {
		return err
	}
	return s.writeManifest(ctx, fallbackTag(d), m)
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
