package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// remote is a repository of a registry.
type remote struct {
	c      *Client
	repo   repository
	scopes []string
	// mirrored: what has a digest may come from the host's mirrors.
	mirrored bool
	limits   *Limits // nil is the client's
}

var _ store = (*remote)(nil)

// reading and writing are the token scopes of a repository.
func (c *Client) reading(r repository) *remote {
	return &remote{c: c, repo: r, scopes: []string{"repository:" + r.path + ":pull"}, mirrored: true}
}

func (c *Client) writing(r repository) *remote {
	return &remote{c: c, repo: r, scopes: []string{"repository:" + r.path + ":pull,push"}}
}

// mounting also lets a token read the repository that blobs are mounted from.
func (s *remote) mounting(from store) *remote {
	if s.mountsFrom(from) {
		return &remote{c: s.c, repo: s.repo, scopes: append(s.scopes[:1:1], from.(*remote).scopes...)}
	}
	return s
}

func isNotFound(err error) bool { return errors.Is(err, ErrNotFound) }

func (s *remote) name() string { return s.repo.String() }
func (s *remote) width() int   { return 0 }

func (s *remote) request(method string, expect ...int) *request {
	return &request{method: method, repo: s.repo, scopes: s.scopes, expect: expect, limits: s.limits}
}

// fetchManifest gives the bytes served as ref, hashed. The registry's own word
// about the digest counts for nothing, but a contradiction is a denial.
func (s *remote) fetchManifest(ctx context.Context, ref string) (answer, release.Digest, error) {
	r := s.request(http.MethodGet, http.StatusOK)
	r.url, r.accept = s.c.api(s.repo, "manifests", ref), manifestTypes
	a, err := s.c.fetch(ctx, r, s.c.limits.Manifest)
	if err != nil {
		return answer{}, release.Digest{}, err
	}
	got := release.DigestOf(a.body)
	if want, err := release.ParseDigest(ref); err == nil {
		if got != want {
			return answer{}, got, mismatch("manifest in "+s.name(), want, got)
		}
		return a, got, nil
	}
	if claimed := a.header.Get("Docker-Content-Digest"); claimed != "" && claimed != got.String() {
		return answer{}, got, contradiction(s.name()+":"+ref, claimed, got)
	}
	return a, got, nil
}

func contradiction(what, claimed string, got release.Digest) error {
	return release.Denied("the registry, or something between, gives two answers to one question: find out why before going on",
		"%s: the registry says %s, its bytes are %s", what, asDigest(claimed), got)
}

// asDigest repeats a registry's word only if it is a digest.
func asDigest(claimed string) string {
	if d, err := release.ParseDigest(claimed); err == nil {
		return d.String()
	}
	return "something that is no digest"
}

func (s *remote) digest(ctx context.Context, ref string) (release.Digest, error) {
	_, d, err := s.fetchManifest(ctx, ref)
	return d, err
}

func (s *remote) manifest(ctx context.Context, ref string) (manifest, error) {
	if d, err := release.ParseDigest(ref); err == nil {
		if m, ok := s.c.cache.get(release.Subject{Repository: s.name(), Digest: d}); ok {
			return m, nil
		}
	}
	return s.fresh(ctx, ref)
}

// claimed asks what the registry says a ref's digest is, without its bytes; ""
// if it doesn't say.
func (s *remote) claimed(ctx context.Context, ref string) (string, error) {
	// Some registries don't answer HEAD. That is no contradiction.
	r := s.request(http.MethodHead, http.StatusOK, http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusBadRequest)
	r.url, r.accept = s.c.api(s.repo, "manifests", ref), manifestTypes
	a, err := s.c.fetch(ctx, r, 0)
	if err != nil || a.status != http.StatusOK {
		return "", err
	}
	return a.header.Get("Docker-Content-Digest"), nil
}

func (s *remote) has(ctx context.Context, d descriptor) (bool, error) {
	r := s.request(http.MethodHead, http.StatusOK, http.StatusNotFound)
	r.url = s.c.api(s.repo, "blobs", d.Digest.String())
	a, err := s.c.fetch(ctx, r, 0)
	return err == nil && a.status == http.StatusOK, err
}

// ranged asks for a blob from an offset on.
func (s *remote) ranged(d descriptor, offset int64) *request {
	r := s.request(http.MethodGet, http.StatusOK)
	r.url = s.c.api(s.repo, "blobs", d.Digest.String())
	if offset > 0 {
		r.header = http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", offset, d.Size-1)}}
		r.expect = append(r.expect, http.StatusPartialContent)
	}
	return r
}

func (s *remote) open(ctx context.Context, d descriptor, offset int64) (io.ReadCloser, error) {
	if body := s.stream(ctx, d, offset); body != nil {
		return body, nil
	}
	r := s.ranged(d, offset)
	var body io.ReadCloser
	err := s.c.retry(ctx, s.repo.host, func() error {
		resp, err := s.c.open(ctx, ctx, r)
		if err != nil {
			return err
		}
		body, err = s.from(resp, d, offset)
		return err
	})
	return body, final(s.repo.host, err)
}

// from positions an answer's body at the offset, and refuses one that is
// announced with another length than the blob has.
func (s *remote) from(resp *http.Response, d descriptor, offset int64) (io.ReadCloser, error) {
	fail := func(format string, args ...any) (io.ReadCloser, error) {
		resp.Body.Close()
		return nil, &transient{err: fmt.Errorf("blob %s: "+format, append([]any{d.Digest}, args...)...)}
	}
	expected := d.Size
	if resp.StatusCode == http.StatusPartialContent {
		if got := resp.Header.Get("Content-Range"); !strings.HasPrefix(got, fmt.Sprintf("bytes %d-", offset)) {
			return fail("asked for a range from %d, got %q", offset, printable(got, 60))
		}
		expected -= offset
	}
	if resp.ContentLength >= 0 && resp.ContentLength != expected {
		return fail("%d bytes expected, the registry sends %d", expected, resp.ContentLength)
	}
	if resp.StatusCode == http.StatusOK && offset > 0 { // it takes no ranges
		if _, err := io.CopyN(io.Discard, resp.Body, offset); err != nil {
			return fail("%w", err)
		}
	}
	return resp.Body, nil
}

func (s *remote) writeManifest(ctx context.Context, ref string, m manifest) error {
	r := s.request(http.MethodPut, http.StatusCreated, http.StatusOK, http.StatusAccepted)
	r.url, r.size = s.c.api(s.repo, "manifests", ref), int64(len(m.raw))
	r.header = http.Header{"Content-Type": {m.mediaType}}
	r.body = bytesBody(m.raw)
	_, err := s.c.fetch(ctx, r, s.c.limits.Manifest)
	if err == nil {
		s.c.cache.put(release.Subject{Repository: s.name(), Digest: m.digest}, m)
	}
	return err
}

func (s *remote) keep(context.Context, manifest) error { return nil }
