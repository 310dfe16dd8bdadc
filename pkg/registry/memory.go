package registry

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/promote-dev/promote/pkg/release"
)

// memory is a store of what we made ourselves and are about to push. It is only
// read from.
type memory struct {
	label     string
	manifests map[string]manifest // by ref
	blobs     map[release.Digest][]byte
}

var _ store = (*memory)(nil)

func newMemory(label string, m manifest, blobs ...release.Blob) *memory {
	s := &memory{label: label, manifests: map[string]manifest{m.digest.String(): m}, blobs: map[release.Digest][]byte{}}
	for _, b := range blobs {
		s.blobs[b.Digest] = b.Bytes
	}
	return s
}

func (s *memory) name() string { return s.label }
func (s *memory) width() int   { return 0 }

func (s *memory) manifest(_ context.Context, ref string) (manifest, error) {
	if m, ok := s.manifests[ref]; ok {
		return m, nil
	}
	return manifest{}, ErrNotFound
}

func (s *memory) digest(ctx context.Context, ref string) (release.Digest, error) {
	m, err := s.manifest(ctx, ref)
	return m.digest, err
}

func (s *memory) has(_ context.Context, d descriptor) (bool, error) {
	_, ok := s.blobs[d.Digest]
	return ok, nil
}

func (s *memory) open(_ context.Context, d descriptor, offset int64) (io.ReadCloser, error) {
	b, ok := s.blobs[d.Digest]
	if !ok || offset > int64(len(b)) {
		return nil, ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(b[offset:])), nil
}

func (s *memory) referrers(context.Context, release.Digest) ([]descriptor, bool, error) {
	return nil, true, nil
}

var errReadOnly = errors.New("this end of a copy is only read from")

func (s *memory) write(context.Context, descriptor, store, source) (bool, error) {
	return false, errReadOnly
}
func (s *memory) writeManifest(context.Context, string, manifest) error { return errReadOnly }
func (s *memory) keep(context.Context, manifest) error                  { return errReadOnly }
