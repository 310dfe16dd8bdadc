package registry

import (
	"context"
	"slices"

	"github.com/promote-dev/promote/pkg/release"
)

// Tag points a tag at a subject that is in its repository. If it already does,
// that takes one request. The tag is read back.
func (c *Client) Tag(ctx context.Context, s release.Subject, tag string) error {
	return wrap(ctx, "tagging", s.String()+" as "+clip(tag), c.tag(ctx, s, tag))
}

func (c *Client) tag(ctx context.Context, s release.Subject, tag string) error {
	repo, err := subjectRepository(s)
	if err != nil {
		return err
	}
	if err := checkTag(tag); err != nil {
		return err
	}
	st := c.writing(repo)
	if there, err := serves(ctx, st, tag, s.Digest); err != nil || there {
		return err
	}
	m, err := st.manifest(ctx, s.Digest.String())
	if err != nil {
		return err
	}
	return writeAndRead(ctx, st, tag, m)
}

// PushBlob stores a blob in a repository, unless it is there.
func (c *Client) PushBlob(ctx context.Context, repository string, b release.Blob) error {
	return wrap(ctx, "pushing blob", b.Digest.String()+" to "+repository, c.pushBlob(ctx, repository, b))
}

func (c *Client) pushBlob(ctx context.Context, repository string, b release.Blob) error {
	repo, err := parseRepository(repository)
	if err != nil {
		return err
	}
	d := descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: int64(len(b.Bytes))}
	if got := release.DigestOf(b.Bytes); got != b.Digest {
		return mismatch("blob to push", b.Digest, got)
	}
	dst := c.writing(repo)
	if there, err := dst.has(ctx, d); err != nil || there {
		return err
	}
	src := &memory{label: "memory", blobs: map[release.Digest][]byte{b.Digest: b.Bytes}}
	if _, err = dst.write(ctx, d, src, verifying(ctx, src, d, c.limits, nil)); err != nil {
		return err
	}
	return held(ctx, dst, d)
}

// PushManifest stores a manifest, whose blobs and children are already there,
// under a tag, or without one if tag is empty. It is parsed first: what this
// package would not read, it does not write. It is read back.
func (c *Client) PushManifest(ctx context.Context, repository, tag string, b release.Blob) (release.Digest, error) {
	d, err := c.pushManifest(ctx, repository, tag, b)
	return d, wrap(ctx, "pushing manifest", b.Digest.String()+" to "+repository, err)
}

func (c *Client) pushManifest(ctx context.Context, repository, tag string, b release.Blob) (release.Digest, error) {
	repo, err := parseRepository(repository)
	if err != nil {
		return release.Digest{}, err
	}
	m, err := parse(b.MediaType, slices.Clone(b.Bytes), c.limits)
	if err != nil {
		return release.Digest{}, err
	}
	if !b.Digest.IsZero() && b.Digest != m.digest {
		return release.Digest{}, mismatch("manifest to push", b.Digest, m.digest)
	}
	ref := m.digest.String()
	if tag != "" {
		if err := checkTag(tag); err != nil {
			return release.Digest{}, err
		}
		ref = tag
	}
	if err := writeAndRead(ctx, c.writing(repo), ref, m); err != nil {
		return release.Digest{}, err
	}
	return m.digest, nil
}

// PushRelease stores a release document: its blobs, then its manifest, then the
// tags, each read back. The same document pushed again takes one request a tag.
func (c *Client) PushRelease(ctx context.Context, repository string, d release.Document, tags []string) (release.Subject, error) {
	repo, err := parseRepository(repository)
	if err != nil {
		return release.Subject{}, wrap(ctx, "pushing release to", repository, err)
	}
	top, blobs, err := d.Encode()
	if err != nil {
		return release.Subject{}, wrap(ctx, "encoding release", d.Release.Version, err)
	}
	m, err := parse(top.MediaType, top.Bytes, c.limits)
	if err != nil {
		return release.Subject{}, wrap(ctx, "encoding release", d.Release.Version, err)
	}
	src := newMemory("release "+d.Release.Name, m, blobs...)
	if _, err := c.copyStores(ctx, src, c.writing(repo), m.digest, CopyOptions{Tags: tags}, nil); err != nil {
		return release.Subject{}, err
	}
	return release.Subject{Repository: repo.String(), Digest: m.digest}, nil
}

// mostModel bounds one layer of a release, a model or a lock; mostModels bounds
// all of them.
const (
	mostModel  = 16 * mib
	mostModels = 4 * mostModel
)

func (c *Client) releaseLayers(ctx context.Context, s store, m manifest) ([][]byte, error) {
	layers, total := make([][]byte, len(m.body.Layers)), int64(0)
	for _, d := range m.body.Layers {
		if total += min(d.Size, mostModels+1); total > mostModels {
			return nil, release.Denied("nothing legitimate is that large", "%s: the layers of release %s have more than %d bytes", s.name(), m.digest, mostModels)
		}
	}
	for i, d := range m.body.Layers {
		raw, err := c.readBlob(ctx, s, d, mostModel)
		if err == nil {
			err = tooRich(raw, mostModelValues)
		}
		if err != nil {
			return nil, err
		}
		layers[i] = raw
	}
	return layers, nil
}

// PullRelease reads a release document. Bytes that are no release in canonical
// form, or not the ones that the subject names, are a denial.
func (c *Client) PullRelease(ctx context.Context, s release.Subject) (release.Document, error) {
	doc, err := c.pullRelease(ctx, s)
	return doc, wrap(ctx, "reading release", s.String(), err)
}

func (c *Client) pullRelease(ctx context.Context, s release.Subject) (release.Document, error) {
	repo, err := subjectRepository(s)
	if err != nil {
		return release.Document{}, err
	}
	st := c.reading(repo)
	m, err := st.manifest(ctx, s.Digest.String())
	if err != nil {
		return release.Document{}, err
	}
	const hint = "name a release, not an image; if it is one, it was not made by promote"
	if _, err := release.Layers(m.raw); err != nil {
		return release.Document{}, release.Denied(hint, "%w", err)
	}
	layers, err := c.releaseLayers(ctx, st, m)
	if err != nil {
		return release.Document{}, err
	}
	doc, err := release.Decode(m.raw, layers)
	if err != nil {
		return release.Document{}, release.Denied(hint, "%w", err)
	}
	return doc, nil
}
