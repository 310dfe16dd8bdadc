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

// mediaTypeBundle without its version: cosign reads every version from 0.1 on.
const bundlePrefix = "application/vnd.dev.sigstore.bundle"

// Attach stores an attestation as a referrer of a subject: a manifest in the
// form that cosign 2.6 and 3 write and read, with the bundle as its only layer.
// It holds no time, so attaching the same bundle again changes nothing. The
// subject must be there. Manifest and listing are read back.
func (c *Client) Attach(ctx context.Context, s release.Subject, a release.Attachment) error {
	return wrap(ctx, "attaching attestation to", s.String(), c.attach(ctx, s, a))
}

func (c *Client) attach(ctx context.Context, s release.Subject, a release.Attachment) error {
	repo, err := subjectRepository(s)
	if err != nil {
		return err
	}
	if len(a.Bundle) == 0 || int64(len(a.Bundle)) > c.limits.Attachment {
		return release.Denied("", "a bundle of %d bytes, want 1 to %d", len(a.Bundle), c.limits.Attachment)
	}
	dst := c.writing(repo)
	about, err := dst.manifest(ctx, s.Digest.String())
	if err != nil {
		return err
	}
	m, blobs, err := referrer(about, a, c.limits)
	if err != nil {
		return err
	}
	there, err := serves(ctx, dst, m.digest.String(), m.digest)
	if err != nil {
		return err
	}
	if there {
		return c.ensureListed(ctx, dst, s.Digest, []manifest{m}, &changing{patient: true})
	}
	step := event.Start(ctx, "[attach] %s to %s", cmp.Or(a.PredicateType, "attestation"), s.Digest.Short())
	t := c.newTransfer(ctx, newMemory("attestation", m, blobs...), dst, CopyOptions{}, step)
	if err = t.move(ctx, tree{root: m, levels: [][]manifest{{m}}}, m.digest.String()); err == nil {
		err = c.ensureListed(ctx, dst, s.Digest, []manifest{m}, &changing{patient: true})
	}
	err = cmp.Or(t.confirm(), err)
	step.Done(err)
	return err
}

// referrer makes the manifest and blobs of an attestation.
func referrer(about manifest, a release.Attachment, l Limits) (manifest, []release.Blob, error) {
	bundle := release.Blob{MediaType: release.MediaTypeBundle, Digest: release.DigestOf(a.Bundle), Bytes: a.Bundle}
	if !a.Digest.IsZero() && a.Digest != bundle.Digest {
		return manifest{}, nil, mismatch("bundle to attach", a.Digest, bundle.Digest)
	}
	empty := release.Blob{MediaType: release.MediaTypeEmpty, Digest: release.DigestOf([]byte("{}")), Bytes: []byte("{}")}
	subject := descriptor{MediaType: about.mediaType, Digest: about.digest, Size: int64(len(about.raw))}
	m, err := encode(body{
		SchemaVersion: 2,
		MediaType:     typeManifest,
		ArtifactType:  release.MediaTypeBundle,
		Config:        describeBlob(empty),
		Layers:        []descriptor{*describeBlob(bundle)},
		Subject:       &subject,
		Annotations: map[string]string{
			release.AnnotationContent:       "dsse-envelope",
			release.AnnotationPredicateType: a.PredicateType,
		},
	}, l)
	return m, []release.Blob{empty, bundle}, err
}

func describeBlob(b release.Blob) *descriptor {
	return &descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: int64(len(b.Bytes))}
}

// Attachments lists and reads the sigstore bundles about a subject, in order of
// their digests. None is an empty list and no error; an unreachable registry is
// KindUnavailable; more than the limits is KindDenied. Referrers that are no
// bundles, or turn out to be about something else, count for nothing and are
// left out. Nothing is verified here but digests. Those who ask about one subject
// at the same time share one answer; contents that were read before are not read
// again, while the list always is.
func (c *Client) Attachments(ctx context.Context, s release.Subject) ([]release.Attachment, error) {
	list, err := c.asking.do(ctx, s, func(ctx context.Context) ([]release.Attachment, error) {
		bounded, cancel := context.WithTimeoutCause(ctx, c.limits.Listing, errSlow)
		defer cancel()
		return c.attachments(bounded, s)
	})
	return slices.Clone(list), wrap(ctx, "reading attestations about", s.String(), err)
}

func (c *Client) attachments(ctx context.Context, s release.Subject) ([]release.Attachment, error) {
	repo, err := subjectRepository(s)
	if err != nil {
		return nil, err
	}
	return c.attachmentsIn(ctx, c.reading(repo), s.Digest)
}

func (c *Client) attachmentsIn(ctx context.Context, st store, d release.Digest) ([]release.Attachment, error) {
	entries, _, err := c.listReferrers(ctx, st, d)
	if err != nil {
		return nil, err
	}
	entries = candidates(entries)
	if len(entries) > c.limits.Attachments {
		return nil, flood(st.name(), d, "more than %d attestations among its", c.limits.Attachments)
	}
	bundles, err := c.bundles(ctx, st, d, entries)
	if err != nil {
		return nil, err
	}
	return c.readBundles(ctx, st, d, bundles)
}

// candidates drops what a list says is something else, and doubles. Lists that
// hide the type (a fallback index may, and some registries show the
// configuration's) keep theirs.
func candidates(entries []descriptor) []descriptor {
	seen := map[release.Digest]bool{}
	return slices.DeleteFunc(slices.Clone(entries), func(d descriptor) bool {
		other := d.ArtifactType != "" && !strings.HasPrefix(d.ArtifactType, bundlePrefix) &&
			d.ArtifactType != release.MediaTypeEmpty && !strings.Contains(d.ArtifactType, "image.config")
		twice := seen[d.Digest]
		seen[d.Digest] = true
		return other || twice || isIndex(d.MediaType)
	})
}

// bundle is a referrer's manifest that holds a bundle.
type bundle struct {
	layer         descriptor
	predicateType string
}

// bundles reads the manifests of referrers and keeps those that are bundles
// about the digest.
func (c *Client) bundles(ctx context.Context, s store, d release.Digest, entries []descriptor) ([]bundle, error) {
	found := make([]*bundle, len(entries))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.limits.Width)
	for i, entry := range entries {
		g.Go(func() error {
			m, err := s.manifest(gctx, entry.Digest.String())
			if isNotFound(err) || errors.Is(err, errAmbiguous) {
				event.Warnf(ctx, "a referrer of %s counts for nothing: %v", d.Short(), err)
				return nil
			}
			if err != nil {
				return err
			}
			found[i] = asBundle(m, d)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var list []bundle
	for _, b := range found {
		if b != nil {
			list = append(list, *b)
		}
	}
	return list, nil
}

func asBundle(m manifest, about release.Digest) *bundle {
	if m.body.Subject == nil || m.body.Subject.Digest != about || len(m.body.Layers) != 1 ||
		!strings.HasPrefix(m.body.Layers[0].MediaType, bundlePrefix) {
		return nil
	}
	return &bundle{m.body.Layers[0], m.body.Annotations[release.AnnotationPredicateType]}
}

func (c *Client) readBundles(ctx context.Context, s store, d release.Digest, bundles []bundle) ([]release.Attachment, error) {
	layers := make([]descriptor, len(bundles))
	for i, b := range bundles {
		layers[i] = b.layer
	}
	contents, err := c.readEach(ctx, s, d, layers)
	if err != nil {
		return nil, err
	}
	list := make([]release.Attachment, len(bundles))
	for i, b := range bundles {
		list[i] = release.Attachment{Digest: b.layer.Digest, PredicateType: b.predicateType, Bundle: contents[i]}
	}
	slices.SortFunc(list, func(a, b release.Attachment) int {
		return cmp.Or(strings.Compare(a.Digest.String(), b.Digest.String()), strings.Compare(a.PredicateType, b.PredicateType))
	})
	return slices.CompactFunc(list, func(a, b release.Attachment) bool { return a.Digest == b.Digest }), nil
}

// readEach reads what is attached to a digest, whole, in the same order, each
// content once.
func (c *Client) readEach(ctx context.Context, s store, d release.Digest, layers []descriptor) ([][]byte, error) {
	var total int64
	sizes, at := map[release.Digest]int64{}, map[release.Digest]int{}
	for i, l := range layers {
		if size, twice := sizes[l.Digest]; twice && size != l.Size {
			return nil, release.Denied(ambiguousHint, "%s: blob %s is said to have %d bytes, and %d", s.name(), l.Digest, size, l.Size)
		} else if !twice {
			total += l.Size
			sizes[l.Digest], at[l.Digest] = l.Size, i
		}
	}
	if total > c.limits.AttachmentBytes {
		return nil, release.Denied("look at what is attached and delete what nobody needs", "%s: the attestations about %s have %d bytes, at most %d are read", s.name(), d, total, c.limits.AttachmentBytes)
	}
	list := make([][]byte, len(layers))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.limits.Width)
	for _, i := range at {
		g.Go(func() (err error) {
			key := release.Subject{Repository: s.name(), Digest: layers[i].Digest}
			if known, ok := c.attached.get(key); ok && int64(len(known)) == layers[i].Size {
				list[i] = known
				return nil
			}
			if list[i], err = c.readBlob(gctx, s, layers[i], c.limits.Attachment); err == nil {
				c.attached.put(key, list[i])
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, l := range layers {
		list[i] = list[at[l.Digest]]
	}
	return list, nil
}
