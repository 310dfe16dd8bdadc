package registry

import (
	"context"

	"github.com/promote-dev/promote/pkg/release"
)

// Held is an image on this machine and what is attached to it. Nothing is
// verified but digests.
type Held struct {
	// Subject's repository is the place, as it was named.
	Subject     release.Subject
	Attachments []release.Attachment
	Legacy      []release.LegacyAttachment
}

// Held reads which image a layout "oci:DIR[:TAG]" or an archive
// "oci-archive:FILE[:TAG]" holds, and the attestations beside it, with the same
// limits as of a registry. It touches no network; a registry's reference is
// KindUsage.
func (c *Client) Held(ctx context.Context, source string) (Held, error) {
	bounded, cancel := context.WithTimeoutCause(ctx, c.limits.Listing, errSlow)
	defer cancel()
	h, err := c.held(bounded, source)
	if err != nil && isNotFound(err) && release.KindOf(err) == release.KindInternal {
		err = release.Unavailable("look at what it holds, or copy it there again: promote copy REF oci:DIR", "%w", err)
	}
	return h, wrap(ctx, "reading attestations in", clip(source), err)
}

func (c *Client) held(ctx context.Context, source string) (Held, error) {
	l, err := parseLocation(source)
	if err != nil {
		return Held{}, err
	}
	if l.kind == "" {
		return Held{}, release.Misuse("oci:DIR or oci-archive:FILE", "%s is in a registry", l)
	}
	st, done, err := c.openSource(l)
	if err != nil {
		return Held{}, err
	}
	defer done()
	d, _, err := c.rootOf(ctx, st, l)
	if err != nil {
		return Held{}, err
	}
	// What is there is read, hashed and parsed: a digest alone is no image.
	if _, err := st.manifest(ctx, d.String()); err != nil {
		return Held{}, err
	}
	h := Held{Subject: release.Subject{Repository: l.String(), Digest: d}}
	if h.Attachments, err = c.attachmentsIn(ctx, st, d); err != nil {
		return Held{}, err
	}
	h.Legacy, err = c.legacyIn(ctx, st, d)
	return h, err
}
