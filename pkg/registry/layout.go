package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/promote-dev/promote/pkg/release"
)

// files is what an image layout lies in: a directory or a tar archive. Names
// are slash-separated and relative.
type files interface {
	// read gives a whole file of at most most bytes; fs.ErrNotExist if absent.
	read(name string, most int64) ([]byte, error)
	// open gives a file from an offset on.
	open(name string, offset int64) (io.ReadCloser, error)
	size(name string) (int64, error)
	// create makes a file of a known size; it is there whole or not at all.
	create(name string, size int64, content io.Reader) error
	// replace makes or changes a small file, likewise.
	replace(name string, content []byte) error
	// parallel reports whether files can be created at the same time.
	parallel() bool
}

// layout is a store in the form of the OCI image layout specification. What
// refers to a manifest is found under the fallback tag, as in a registry
// without the referrers API.
type layout struct {
	label  string // "oci:DIR" or "oci-archive:FILE"
	files  files
	limits Limits

	mu sync.Mutex // around changes of index.json
}

var _ store = (*layout)(nil)

const (
	layoutFile    = "oci-layout"
	layoutContent = `{"imageLayoutVersion":"1.0.0"}`
	indexFile     = "index.json"
	refAnnotation = "org.opencontainers.image.ref.name"
)

func blobFile(d release.Digest) string { return "blobs/sha256/" + d.Hex() }

func (s *layout) name() string { return s.label }

func (s *layout) width() int {
	if s.files.parallel() {
		return 0
	}
	return 1
}

func (s *layout) readFile(name string) ([]byte, error) {
	raw, err := s.files.read(name, s.limits.Manifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %s: %w", s.label, name, ErrNotFound)
	}
	return raw, err
}

// entries gives the entries of index.json; raw keeps what others wrote.
func (s *layout) entries() (list []descriptor, raw []json.RawMessage, err error) {
	content, err := s.readFile(indexFile)
	if isNotFound(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var index struct {
		Manifests []json.RawMessage `json:"manifests"`
	}
	if err := tooRich(content, mostValues); err != nil {
		return nil, nil, err
	}
	canonical, err := release.CanonicalJSON(content)
	if err == nil {
		err = json.Unmarshal(canonical, &index)
	}
	for _, item := range index.Manifests {
		var d descriptor
		if err == nil {
			err = json.Unmarshal(item, &d)
		}
		list = append(list, d)
	}
	if err != nil {
		return nil, nil, release.Denied("this is no image layout, or a damaged one", "%s: %s: %w", s.label, indexFile, err)
	}
	return list, index.Manifests, nil
}

// find gives the digest that a ref stands for.
func (s *layout) find(ref string) (release.Digest, error) {
	if d, err := release.ParseDigest(ref); err == nil {
		return d, nil
	}
	list, _, err := s.entries()
	if err != nil {
		return release.Digest{}, err
	}
	for _, d := range list {
		if d.Annotations[refAnnotation] == ref && !d.Digest.IsZero() {
			return d.Digest, nil
		}
	}
	return release.Digest{}, fmt.Errorf("%s: tag %s: %w", s.label, ref, ErrNotFound)
}

func (s *layout) manifestBytes(ref string) ([]byte, error) {
	d, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	raw, err := s.readFile(blobFile(d))
	if err != nil {
		return nil, err
	}
	if got := release.DigestOf(raw); got != d {
		return nil, mismatch("manifest in "+s.label, d, got)
	}
	return raw, nil
}

func (s *layout) digest(_ context.Context, ref string) (release.Digest, error) {
	raw, err := s.manifestBytes(ref)
	if err != nil {
		return release.Digest{}, err
	}
	return release.DigestOf(raw), nil
}

func (s *layout) manifest(_ context.Context, ref string) (manifest, error) {
	raw, err := s.manifestBytes(ref)
	if err != nil {
		return manifest{}, err
	}
	return parse(statedType(raw), raw, s.limits)
}

// statedType is what stands in for a Content-Type header where there is none:
// what the bytes say, or look like. parse holds them to it.
func statedType(raw []byte) string {
	var shape struct {
		MediaType string          `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
	}
	_ = json.Unmarshal(raw, &shape)
	switch {
	case shape.MediaType != "":
		return shape.MediaType
	case shape.Manifests != nil:
		return typeIndex
	}
	return typeManifest
}

func (s *layout) has(_ context.Context, d descriptor) (bool, error) {
	size, err := s.files.size(blobFile(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && size == d.Size, err
}

func (s *layout) open(_ context.Context, d descriptor, offset int64) (io.ReadCloser, error) {
	r, err := s.files.open(blobFile(d.Digest), offset)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: blob %s: %w", s.label, d.Digest, ErrNotFound)
	}
	return r, err
}

func (s *layout) write(_ context.Context, d descriptor, _ store, content source) (bool, error) {
	r := content(0)
	defer r.Close()
	return false, s.files.create(blobFile(d.Digest), d.Size, r)
}

func (s *layout) writeManifest(_ context.Context, ref string, m manifest) error {
	if size, err := s.files.size(blobFile(m.digest)); err != nil || size != int64(len(m.raw)) {
		if err := s.files.create(blobFile(m.digest), int64(len(m.raw)), bytes.NewReader(m.raw)); err != nil {
			return err
		}
	}
	if ref == m.digest.String() {
		return nil
	}
	return s.enter(m, ref)
}

func (s *layout) keep(_ context.Context, m manifest) error {
	list, _, err := s.entries()
	if err != nil || contains(list, m.digest) {
		return err
	}
	return s.enter(m, "")
}

// enter puts a manifest into index.json under a tag, or without one. The tag
// leaves what it stood for before; an entry without a tag gives way to one with.
func (s *layout) enter(m manifest, tag string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, raw, err := s.entries()
	if err != nil {
		return err
	}
	kept := []json.RawMessage{}
	for i, d := range list {
		old := d.Annotations[refAnnotation]
		if old == tag && (tag != "" || d.Digest == m.digest) || old == "" && d.Digest == m.digest {
			continue
		}
		kept = append(kept, raw[i])
	}
	entry := m.describe()
	if tag != "" {
		entry.Annotations = map[string]string{refAnnotation: tag}
	}
	item, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	content, err := release.Canonical(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": append(kept, item)})
	if err != nil {
		return err
	}
	if err := s.files.replace(layoutFile, []byte(layoutContent)); err != nil {
		return err
	}
	return s.files.replace(indexFile, content)
}

func (s *layout) referrers(context.Context, release.Digest) ([]descriptor, bool, error) {
	return nil, false, nil
}
