package registry

import (
	"context"
	"io"

	"github.com/promote-dev/promote/pkg/release"
)

// store is one end of a copy: a repository of a registry, an image layout or
// an archive. A ref is a digest's text or a tag. Its methods may be called from
// several goroutines; absent things are ErrNotFound.
type store interface {
	// name says where it is, for people.
	name() string
	// digest hashes what is served as ref now, without parsing or remembering
	// it: for looking before and for reading back after a write.
	digest(ctx context.Context, ref string) (release.Digest, error)
	// manifest reads, hashes and parses what is served as ref. If ref is a
	// digest, the bytes fit it.
	manifest(ctx context.Context, ref string) (manifest, error)
	// has reports whether a blob of that digest and size is there.
	has(ctx context.Context, d descriptor) (bool, error)
	// open reads a blob from an offset on. Nothing is verified.
	open(ctx context.Context, d descriptor, offset int64) (io.ReadCloser, error)
	// write stores a blob. It may take it from another store by itself, else it
	// reads what content gives, which is verified; content may be called again
	// for another attempt, also from the middle on. A registry's word that it
	// has the blob is not held against what it serves.
	write(ctx context.Context, d descriptor, from store, content source) (mounted bool, err error)
	// writeManifest stores a manifest as ref, which is its digest or a tag.
	writeManifest(ctx context.Context, ref string, m manifest) error
	// referrers lists what refers to a digest; ok is false if the store keeps
	// no such list itself, so that the fallback tag holds it.
	referrers(ctx context.Context, d release.Digest) (list []descriptor, ok bool, err error)
	// tags lists up to most tags; all is false if there may be others.
	tags(ctx context.Context, most int) (list []string, all bool, err error)
	// keep makes a manifest that has no tag one that the store shows.
	keep(ctx context.Context, m manifest) error
	// width is how many blobs may be written at once; 0 is any number.
	width() int
}

// child reads the manifest that a descriptor refers to and holds it to all that
// the descriptor says.
func child(ctx context.Context, s store, d descriptor) (manifest, error) {
	m, err := s.manifest(ctx, d.Digest.String())
	if isNotFound(err) { // an index named it: this is no plain absence
		return manifest{}, release.Unavailable("the source is incomplete: push the image there again", "%s does not hold manifest %s, which an index there names", s.name(), d.Digest)
	}
	if err != nil {
		return manifest{}, err
	}
	if m.mediaType != d.MediaType || int64(len(m.raw)) != d.Size {
		return manifest{}, refused(d.Digest, "%d bytes of %s, but its parent says %d of %s", len(m.raw), m.mediaType, d.Size, printable(d.MediaType, 100))
	}
	return m, nil
}

// writeAndRead stores a manifest and reads it back: a store may say yes and
// lose it.
func writeAndRead(ctx context.Context, s store, ref string, m manifest) error {
	if err := s.writeManifest(ctx, ref, m); err != nil {
		return err
	}
	return readBack(ctx, s, ref, m.digest)
}

func readBack(ctx context.Context, s store, ref string, want release.Digest) error {
	got, err := s.digest(ctx, ref)
	switch {
	case isNotFound(err):
		return release.Unavailable(lostHint, "%s took %s and does not have it", s.name(), ref)
	case release.KindOf(err) == release.KindDenied: // what we wrote is true; it is not kept
		return release.Unavailable(lostHint, "%s took %s and serves something else: %w", s.name(), ref, err)
	case err != nil:
		return err
	}
	if got != want {
		return release.Unavailable(lostHint, "%s took %s as %s and serves %s", s.name(), ref, want, got)
	}
	return nil
}

// held makes sure that a store has a blob that it took.
func held(ctx context.Context, s store, d descriptor) error {
	ok, err := s.has(ctx, d)
	if err == nil && !ok {
		err = release.Unavailable(lostHint, "%s took blob %s and does not have it", s.name(), d.Digest)
	}
	return err
}

const lostHint = "the destination does not keep what it accepts: look at its storage and its logs"
