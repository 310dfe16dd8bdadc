package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/promote-dev/promote/pkg/release"
)

// Resolve reads a reference, once: "host/path:tag", "host/path@sha256:…", or
// both, in which case the digest decides. It is the only place that reads a
// tag. The bytes behind the reference exist and are hashed here; for a tag they
// must also be what the registry says that they are, asked twice.
//
// Errors: KindUsage for a malformed reference; ErrNotFound in the chain for an
// absent one; KindDenied when the registry contradicts itself or serves
// something ambiguous; KindUnavailable when it does not answer.
func (c *Client) Resolve(ctx context.Context, reference string) (release.Subject, error) {
	s, err := c.resolve(ctx, reference)
	return s, wrap(ctx, "resolving reference", clip(reference), err)
}

func (c *Client) resolve(ctx context.Context, text string) (release.Subject, error) {
	ref, err := parseReference(text)
	if err != nil {
		return release.Subject{}, err
	}
	s := c.reading(ref.repository)
	if !ref.digest.IsZero() {
		subject := release.Subject{Repository: s.name(), Digest: ref.digest}
		m, err := c.resolving.do(ctx, subject, func(ctx context.Context) (manifest, error) { return s.fresh(ctx, ref.digest.String()) })
		if err != nil {
			return release.Subject{}, err
		}
		return release.Subject{Repository: s.name(), Digest: m.digest}, nil
	}
	m, err := c.agree(ctx, s, ref.tag)
	if err != nil {
		return release.Subject{}, err
	}
	return release.Subject{Repository: s.name(), Digest: m.digest}, nil
}

// agree reads a tag with GET and, at the same time, asks for it with HEAD: a
// registry that answers the two differently is not to be relied on.
func (c *Client) agree(ctx context.Context, s *remote, tag string) (manifest, error) {
	var m manifest
	var claimed string
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		m, err = s.manifest(gctx, tag)
		return err
	})
	g.Go(func() (err error) {
		claimed, err = s.claimed(gctx, tag)
		if isNotFound(err) { // for GET to judge
			return nil
		}
		return err
	})
	if err := g.Wait(); err != nil {
		return manifest{}, err
	}
	if claimed != "" && claimed != m.digest.String() {
		return manifest{}, contradiction(s.name()+":"+tag, claimed, m.digest)
	}
	return m, nil
}

// Manifest gives a subject's manifest or index: its media type and its bytes,
// which have the subject's digest and can be read in one way only.
func (c *Client) Manifest(ctx context.Context, s release.Subject) (mediaType string, raw []byte, err error) {
	m, err := c.subject(ctx, s)
	if err != nil {
		return "", nil, wrap(ctx, "reading manifest", s.String(), err)
	}
	return m.mediaType, slices.Clone(m.raw), nil
}

func (c *Client) subject(ctx context.Context, s release.Subject) (manifest, error) {
	repo, err := subjectRepository(s)
	if err != nil {
		return manifest{}, err
	}
	return c.reading(repo).manifest(ctx, s.Digest.String())
}

// Blob reads a small blob of a repository whole: at most max bytes, which have
// the digest. A longer one is a denial.
func (c *Client) Blob(ctx context.Context, repository string, d release.Digest, max int64) ([]byte, error) {
	repo, err := parseRepository(repository)
	if err != nil {
		return nil, wrap(ctx, "reading blob", d.String(), err)
	}
	raw, err := c.reading(repo).small(ctx, d, max)
	return raw, wrap(ctx, "reading blob", repository+"@"+d.String(), err)
}

// OpenBlob reads a blob of a known size as a stream. It goes on by itself when
// the registry breaks off; size and digest are judged on the way, and content
// that is not what was asked for ends with a denial instead of io.EOF. progress
// may be nil.
func (c *Client) OpenBlob(ctx context.Context, repository string, d release.Digest, size int64, progress func(done int64)) (io.ReadCloser, error) {
	repo, err := parseRepository(repository)
	if err != nil {
		return nil, wrap(ctx, "reading blob", d.String(), err)
	}
	v := verifying(ctx, c.reading(repo), descriptor{Digest: d, Size: size}, c.limits, progress)(0)
	if err := v.prepare(); err != nil {
		return nil, wrap(ctx, "reading blob", repository+"@"+d.String(), err)
	}
	return &stream{v, ctx}, nil
}

// stream is a verified blob whose errors say what was read.
type stream struct {
	*verified
	ctx context.Context
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.verified.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = wrap(s.ctx, "reading blob", s.source.name()+"@"+s.want.Digest.String(), err)
	}
	return n, err
}

// readBlob reads the blob of a descriptor from any store.
func (c *Client) readBlob(ctx context.Context, s store, d descriptor, most int64) ([]byte, error) {
	if d.Size > most {
		return nil, release.Denied("nothing legitimate is that large", "%s: blob %s of %d bytes, at most %d are read", s.name(), d.Digest, d.Size, most)
	}
	read := func() ([]byte, error) {
		v := verifying(ctx, s, d, c.limits, nil)(0)
		defer v.Close()
		return readAll(v, d.Size, most)
	}
	raw, err := read()
	if errors.Is(err, errOtherBytes) {
		raw, err = read()
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	return raw, nil
}

// Tags lists a repository's tags. What they point to is read by Resolve only.
func (c *Client) Tags(ctx context.Context, repository string) ([]string, error) {
	list, err := c.tags(ctx, repository)
	return list, wrap(ctx, "listing tags of", repository, err)
}

func (c *Client) tags(ctx context.Context, repository string) ([]string, error) {
	repo, err := parseRepository(repository)
	if err != nil {
		return nil, err
	}
	s := c.reading(repo)
	var list []string
	next := c.api(repo, "tags", "list")
	for page := 1; next != nil; page++ {
		r := s.request(http.MethodGet, http.StatusOK)
		r.url = next
		a, err := c.fetch(ctx, r, c.limits.Manifest)
		if err != nil {
			return nil, err
		}
		var body struct {
			Tags []string `json:"tags"`
		}
		if err := json.Unmarshal(a.body, &body); err != nil {
			return nil, release.Unavailable("look at what the registry answers", "%s: list of tags: %w", repository, err)
		}
		for _, tag := range body.Tags {
			if tagPattern.MatchString(tag) { // nobody can ask for another
				list = append(list, tag)
			}
		}
		if len(list) > c.limits.Tags || page == c.limits.Pages {
			return nil, release.Denied("clear old tags away", "%s: more than %d tags or %d pages of them", repository, c.limits.Tags, c.limits.Pages)
		}
		if next, err = s.nextPage(next, a.header); err != nil {
			return nil, err
		}
	}
	return list, nil
}
