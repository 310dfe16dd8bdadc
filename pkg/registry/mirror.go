package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// mirror is a repository that may hold what its origin holds. It is asked for
// what has a digest only, once and not for long; whatever goes wrong with it is
// a miss, for which there is the origin. It is a registry host of its own: its
// credentials, its certificates, its deadlines, its redirects.
type mirror struct {
	*remote
	origin *remote
}

const (
	// mirrorRest is for how long a mirror that failed is not asked again.
	mirrorRest = time.Minute
	// mirrorHeader, mirrorSmall and mirrorWindow are the patience with a mirror:
	// until it begins to answer, for a whole small answer, and for a stream that
	// does not move.
	mirrorHeader = 3 * time.Second
	mirrorSmall  = 5 * time.Second
	mirrorWindow = 5 * time.Second
)

// errOtherBytes is in the chain when a mirror turned out to serve other bytes
// after some of them were used. Who gets it asks again: the origin answers then.
var errOtherBytes = errors.New("the mirror serves other bytes")

func (l Limits) ofMirror() Limits {
	l.Header, l.Small, l.Window = min(l.Header, mirrorHeader), min(l.Small, mirrorSmall), min(l.Window, mirrorWindow)
	return l
}

// mirrors lists who may be asked for a digest now.
func (s *remote) mirrors(d release.Digest) []*mirror {
	if !s.mirrored {
		return nil
	}
	of := s.c.host(s.repo.endpoint()).mirrors
	if len(of) == 0 {
		return nil
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.distrusted[d] || len(s.c.distrusted) > mostHosts {
		return nil
	}
	var list []*mirror
	for _, r := range of {
		if time.Now().Before(s.c.resting[r.host]) {
			continue
		}
		repo := repository{r.host, strings.TrimPrefix(r.path+"/"+s.repo.path, "/")}
		list = append(list, &mirror{origin: s, remote: &remote{c: s.c, repo: repo, scopes: []string{"repository:" + repo.path + ":pull"}, limits: &s.c.patience}})
	}
	return list
}

// elsewhere lets mirrors try to give what has a digest, and reports whether one
// did.
func (s *remote) elsewhere(ctx context.Context, d release.Digest, try func(m *mirror) error) bool {
	for _, m := range s.mirrors(d) {
		err := try(m)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		m.missed(ctx, d, err)
	}
	return false
}

// missed draws the consequences of a mirror's failure.
func (m *mirror) missed(ctx context.Context, d release.Digest, err error) {
	switch {
	case isNotFound(err):
	case errors.Is(err, errOtherBytes):
		_ = m.wrong(ctx, d)
	default:
		m.rest(ctx, err)
	}
}

// rest leaves a mirror alone for a while.
func (m *mirror) rest(ctx context.Context, why error) {
	now := time.Now()
	m.c.mu.Lock()
	already := now.Before(m.c.resting[m.repo.host])
	m.c.resting[m.repo.host] = now.Add(m.c.mirrorRest)
	m.c.mu.Unlock()
	if !already {
		event.Warnf(ctx, "mirror %s is left alone for %s, and %s read from its origin: %s", m.repo.host, m.c.mirrorRest, m.origin.repo.host, printable(why.Error(), 300))
	}
}

// wrong remembers that a mirror has other bytes under a digest: nothing of that
// digest is read from a mirror again.
func (m *mirror) wrong(ctx context.Context, d release.Digest) error {
	m.c.mu.Lock()
	already := m.c.distrusted[d]
	m.c.distrusted[d] = true
	m.c.mu.Unlock()
	if !already {
		event.Warnf(ctx, "mirror %s serves other bytes than %s: find out why; they are read from %s", m.repo.host, d, m.origin.name())
	}
	return release.Unavailable("try again: it is read from its origin then", "%s at %s: %w", d, m.name(), errOtherBytes)
}

// heldTo compares what a mirror sent with the digest that was asked for.
func heldTo(d release.Digest, raw []byte) error {
	if release.DigestOf(raw) != d {
		return errOtherBytes
	}
	return nil
}

// fresh reads a manifest from a mirror or from the registry, whatever the cache
// holds.
func (s *remote) fresh(ctx context.Context, ref string) (m manifest, err error) {
	d, err := release.ParseDigest(ref)
	found := err == nil && s.elsewhere(ctx, d, func(at *mirror) (err error) {
		m, err = at.read(ctx, d)
		return err
	})
	if !found {
		a, _, err := s.fetchManifest(ctx, ref)
		if err != nil {
			return manifest{}, err
		}
		if m, err = parse(a.header.Get("Content-Type"), a.body, s.c.limits); err != nil {
			return manifest{}, err
		}
	}
	s.c.cache.put(release.Subject{Repository: s.name(), Digest: m.digest}, m)
	return m, nil
}

// read gives a mirror's manifest. One that cannot be read is a miss too: the
// media type is the mirror's word.
func (m *mirror) read(ctx context.Context, d release.Digest) (manifest, error) {
	r := m.request(http.MethodGet, http.StatusOK)
	r.url, r.accept = m.c.api(m.repo, "manifests", d.String()), manifestTypes
	a, err := m.c.fetchOnce(ctx, r, m.c.limits.Manifest)
	if err != nil {
		return manifest{}, err
	}
	if err := heldTo(d, a.body); err != nil {
		return manifest{}, err
	}
	return parse(a.header.Get("Content-Type"), a.body, m.c.limits)
}

// small reads a blob of at most max bytes whole.
func (s *remote) small(ctx context.Context, d release.Digest, max int64) (raw []byte, err error) {
	get := func(at *remote) *request {
		r := at.request(http.MethodGet, http.StatusOK)
		r.url = at.c.api(at.repo, "blobs", d.String())
		return r
	}
	if s.elsewhere(ctx, d, func(at *mirror) error {
		a, err := at.c.fetchOnce(ctx, get(at.remote), max)
		if err != nil {
			return err
		}
		raw = a.body
		return heldTo(d, raw)
	}) {
		return raw, nil
	}
	a, err := s.c.fetch(ctx, get(s), max)
	if err != nil {
		return nil, err
	}
	if got := release.DigestOf(a.body); got != d {
		return nil, mismatch("blob in "+s.name(), d, got)
	}
	return a.body, nil
}

// stream opens a blob at a mirror; nil if none has it.
func (s *remote) stream(ctx context.Context, d descriptor, offset int64) (body io.ReadCloser) {
	s.elsewhere(ctx, d.Digest, func(at *mirror) error {
		resp, err := at.c.open(ctx, ctx, at.ranged(d, offset))
		if err != nil {
			return err
		}
		opened, err := at.from(resp, d, offset)
		if err != nil {
			return err
		}
		body = &mirrorBody{ReadCloser: opened, ctx: ctx, from: at, left: d.Size - offset}
		return nil
	})
	return body
}

// mirrorBody is a blob as a mirror sends it. When it breaks off, the mirror is
// left alone, so that the origin goes on where it was.
type mirrorBody struct {
	io.ReadCloser
	ctx    context.Context
	from   *mirror
	left   int64
	closed atomic.Bool
}

// Close ends reading; a read that it interrupts is not the mirror's fault.
func (b *mirrorBody) Close() error {
	b.closed.Store(true)
	return b.ReadCloser.Close()
}

func (b *mirrorBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if err == nil || b.left <= 0 || b.closed.Load() || b.ctx.Err() != nil {
		return n, err
	}
	// Not the error itself: slowness of a mirror is not the registry's.
	err = fmt.Errorf("mirror %s broke off: %s", b.from.repo.host, err.Error())
	b.from.rest(b.ctx, err)
	return n, err
}
