package registry

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// legacyLayer is a layer of one of cosign's tags.
type legacyLayer struct {
	kind release.LegacyKind
	descriptor
}

// LegacyAttachments reads what stands under cosign's tags sha256-<hex>.sig,
// .att and .sbom about a subject, in order of kind, digest and signature. None
// is an empty list and no error; an unreachable registry is KindUnavailable;
// more than the limits of attestations is KindDenied. What is no signature,
// attestation or SBOM counts for nothing and is left out. Nothing is verified
// here but digests. It takes three requests, at once, and one for each content.
func (c *Client) LegacyAttachments(ctx context.Context, s release.Subject) ([]release.LegacyAttachment, error) {
	bounded, cancel := context.WithTimeoutCause(ctx, c.limits.Listing, errSlow)
	defer cancel()
	list, err := c.legacyAttachments(bounded, s)
	return list, wrap(ctx, "reading cosign's tags about", s.String(), err)
}

func (c *Client) legacyAttachments(ctx context.Context, s release.Subject) ([]release.LegacyAttachment, error) {
	repo, err := subjectRepository(s)
	if err != nil {
		return nil, err
	}
	return c.legacyIn(ctx, c.reading(repo), s.Digest)
}

func (c *Client) legacyIn(ctx context.Context, st store, d release.Digest) ([]release.LegacyAttachment, error) {
	layers, err := c.legacyLayers(ctx, st, d)
	if err != nil {
		return nil, err
	}
	if len(layers) > c.limits.Attachments {
		return nil, release.Denied(floodHint, "%s: %s has more than %d signatures and attestations under cosign's tags", st.name(), d, c.limits.Attachments)
	}
	blobs := make([]descriptor, len(layers))
	for i, l := range layers {
		blobs[i] = l.descriptor
	}
	contents, err := c.readEach(ctx, st, d, blobs)
	if err != nil {
		return nil, err
	}
	list := make([]release.LegacyAttachment, len(layers))
	for i, l := range layers {
		list[i] = release.LegacyAttachment{Kind: l.kind, MediaType: l.MediaType, Digest: l.Digest, Content: contents[i], Annotations: l.Annotations}
	}
	slices.SortStableFunc(list, func(a, b release.LegacyAttachment) int {
		return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Digest.String(), b.Digest.String()),
			strings.Compare(a.Annotations[release.AnnotationLegacySignature], b.Annotations[release.AnnotationLegacySignature]))
	})
	return list, nil
}

func (c *Client) legacyLayers(ctx context.Context, s store, d release.Digest) ([]legacyLayer, error) {
	found := make([]manifest, len(release.LegacyKinds))
	g, gctx := errgroup.WithContext(ctx)
	for i, kind := range release.LegacyKinds {
		g.Go(func() (err error) {
			found[i], err = legacy(gctx, s, release.LegacyTag(d, kind))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var list []legacyLayer
	for i, kind := range release.LegacyKinds {
		for _, layer := range found[i].body.Layers {
			if kind.Takes(layer.MediaType) {
				list = append(list, legacyLayer{kind, layer})
			}
		}
	}
	return list, nil
}

// legacy reads the manifest under one of cosign's tags. The zero manifest
// stands for none, and for one that counts for nothing.
func legacy(ctx context.Context, s store, tag string) (manifest, error) {
	m, err := s.manifest(ctx, tag)
	switch {
	case isNotFound(err):
		return manifest{}, nil
	case errors.Is(err, errAmbiguous):
		event.Warnf(ctx, "%s: %s counts for nothing: %v", s.name(), tag, err)
		return manifest{}, nil
	case err == nil && isIndex(m.mediaType):
		event.Warnf(ctx, "%s: %s counts for nothing: it is an index", s.name(), tag)
		return manifest{}, nil
	}
	return m, err
}
