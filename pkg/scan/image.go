//go:build goexperiment.jsonv2

package scan

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/scan/parts"
)

// open gives the images behind a subject: itself, or those of an index for the
// platforms, in their order. One that is missing is a denial: an image that
// nobody scanned could be what runs.
func (s *source) open(subject release.Subject, platforms []string) ([]*image, error) {
	mediaType, raw, err := s.registry.Manifest(s.ctx, subject)
	if err != nil {
		return nil, s.fault("reading "+subject.String(), "run it again", s.note(err))
	}
	if mediaType != release.MediaTypeIndex && mediaType != dockerIndex {
		img, err := s.image(subject, mediaType, raw)
		return []*image{img}, err
	}
	var images []*image
	for _, p := range platforms {
		chosen, err := s.registry.Platform(s.ctx, subject, p)
		if err != nil {
			return nil, s.fault("reading "+subject.String(), "build the image for every platform that build.platforms names", s.note(err))
		}
		child := release.Subject{Repository: subject.Repository, Digest: chosen.Manifest}
		mediaType, raw, err := s.registry.Manifest(s.ctx, child)
		if err != nil {
			return nil, s.fault("reading "+child.String(), "run it again", s.note(err))
		}
		img, err := s.image(child, mediaType, raw)
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	return images, nil
}

const dockerIndex = "application/vnd.docker.distribution.manifest.list.v2+json"

// image makes what Trivy reads of a manifest.
func (s *source) image(subject release.Subject, mediaType string, raw []byte) (*image, error) {
	manifest, err := parts.Parse(raw)
	if err != nil {
		return nil, s.deny("reading %s: %w", subject, err)
	}
	img := &image{source: s, subject: subject, manifest: manifest}
	img.Image, err = partial.CompressedToImage(core{img, types.MediaType(mediaType), raw})
	if err != nil {
		return nil, s.fault("reading "+subject.String(), "run it again", err)
	}
	return img, img.readConfig()
}

// core is an image as go-containerregistry completes it.
type core struct {
	*image
	mediaType types.MediaType
	raw       []byte
}

func (c core) MediaType() (types.MediaType, error) { return c.mediaType, nil }
func (c core) RawManifest() ([]byte, error)        { return c.raw, nil }

func (c core) RawConfigFile() ([]byte, error) {
	content, err := c.source.blob(c.subject.Repository, c.manifest.Config.Digest, c.manifest.Config.Size)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	return io.ReadAll(content)
}

func (c core) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, d := range append([]parts.Descriptor{c.manifest.Config}, c.manifest.Layers...) {
		if d.Digest.String() == h.String() {
			return compressed{c.image, d}, nil
		}
	}
	return nil, fmt.Errorf("image %s has no layer %s", c.subject, h)
}

// compressed is a layer as it lies in the registry.
type compressed struct {
	image      *image
	descriptor parts.Descriptor
}

func (l compressed) Digest() (v1.Hash, error) { return v1.NewHash(l.descriptor.Digest.String()) }
func (l compressed) Size() (int64, error)     { return l.descriptor.Size, nil }
func (l compressed) MediaType() (types.MediaType, error) {
	return types.MediaType(l.descriptor.MediaType), nil
}
func (l compressed) Compressed() (io.ReadCloser, error) {
	return l.image.source.blob(l.image.subject.Repository, l.descriptor.Digest, l.descriptor.Size)
}

// image is what Trivy analyses: an image by digest whose layers are bounded
// and verified against the configuration on the way. It implements Trivy's
// types.Image.
type image struct {
	v1.Image
	source   *source
	subject  release.Subject
	manifest parts.Manifest
	config   *v1.ConfigFile

	mu     sync.Mutex
	opened []*parts.Unpacked
}

func (i *image) readConfig() error {
	config, err := i.Image.ConfigFile()
	if err != nil {
		return i.source.fault("reading the configuration of "+i.subject.String(), "run it again", err)
	}
	if len(config.RootFS.DiffIDs) != len(i.manifest.Layers) {
		return i.source.deny("reading %s: %d layers and %d diff IDs", i.subject, len(i.manifest.Layers), len(config.RootFS.DiffIDs))
	}
	for _, d := range config.RootFS.DiffIDs {
		if _, err := release.ParseDigest(d.String()); err != nil {
			return i.source.deny("reading %s: %w", i.subject, err)
		}
	}
	i.config = unguessable(config)
	return nil
}

// unguessable keeps Trivy from guessing which layers are of a base image,
// because it looks for no secrets in those: it takes a CMD in the history for
// the end of a base.
func unguessable(config *v1.ConfigFile) *v1.ConfigFile {
	c := config.DeepCopy()
	for n, h := range c.History {
		if h.EmptyLayer {
			c.History[n].CreatedBy = " " + h.CreatedBy
		}
	}
	return c
}

// platform is what the configuration says the image runs on.
func (i *image) platform() string {
	p := v1.Platform{OS: i.config.OS, Architecture: i.config.Architecture, Variant: i.config.Variant}
	return p.String()
}

// Name is what a report calls the image.
func (i *image) Name() string { return i.subject.String() }

// ID is the digest of the configuration.
func (i *image) ID() (string, error) { return i.manifest.Config.Digest.String(), nil }

// RepoTags gives none: a subject has no tag.
func (i *image) RepoTags() []string { return nil }

// RepoDigests names the image by digest.
func (i *image) RepoDigests() []string { return []string{i.subject.String()} }

// ConfigFile gives the configuration.
func (i *image) ConfigFile() (*v1.ConfigFile, error) { return i.config.DeepCopy(), nil }

// LayerByDiffID gives a layer to analyse.
func (i *image) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	for n, d := range i.config.RootFS.DiffIDs {
		if d == h {
			return i.layer(n)
		}
	}
	return nil, fmt.Errorf("image %s has no layer %s", i.subject, h)
}

func (i *image) layer(n int) (*layer, error) {
	d := i.manifest.Layers[n]
	inner, err := i.Image.LayerByDigest(v1.Hash{Algorithm: "sha256", Hex: d.Digest.Hex()})
	if err != nil {
		return nil, err
	}
	diff, err := release.ParseDigest(i.config.RootFS.DiffIDs[n].String())
	if err != nil {
		return nil, err
	}
	return &layer{Layer: inner, image: i, size: d.Size, diff: diff}, nil
}

// track remembers a layer's content, to ask later whether it was what the
// configuration promises.
func (i *image) track(u *parts.Unpacked) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.opened = append(i.opened, u)
}

// contradiction gives what a layer's content broke.
func (i *image) contradiction() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, u := range i.opened {
		if bad := u.Contradiction(); bad != nil {
			return i.source.deny("reading %s: %w", i.subject, bad)
		}
	}
	return nil
}

// read reports whether a layer's whole content was read and verified.
func (i *image) read(diffID string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.ContainsFunc(i.opened, func(u *parts.Unpacked) bool {
		return u.Verified() && u.DiffID().String() == diffID
	})
}

// claims gives, for each layer, the digests of all layers with its diff ID, so
// that an analysis is never taken for that of other bytes.
func (i *image) claims() []string {
	list := make([]string, len(i.manifest.Layers))
	for n, diff := range i.config.RootFS.DiffIDs {
		for m, other := range i.config.RootFS.DiffIDs {
			if other == diff && !strings.Contains(list[n], i.manifest.Layers[m].Digest.Hex()) {
				list[n] += " " + i.manifest.Layers[m].Digest.Hex()
			}
		}
	}
	return list
}

// readTwins reads the layers that Trivy does not, because an earlier one has
// the same diff ID: their content must be the same indeed.
func (i *image) readTwins() error {
	first := map[string]release.Digest{}
	for n, diff := range i.config.RootFS.DiffIDs {
		d := i.manifest.Layers[n].Digest
		if seen, ok := first[diff.String()]; !ok || seen == d {
			first[diff.String()] = d
			continue
		}
		l, err := i.layer(n)
		if err != nil {
			return err
		}
		content, err := l.Uncompressed()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, content)
		content.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// layer is a layer whose content is bounded and verified.
type layer struct {
	v1.Layer
	image *image
	size  int64
	diff  release.Digest
}

// Uncompressed gives the layer's content.
func (l *layer) Uncompressed() (io.ReadCloser, error) {
	inner, err := l.Layer.Uncompressed()
	if err != nil {
		return nil, err
	}
	u := parts.NewUnpacked(inner, l.diff, parts.UnpackLimit(l.size))
	l.image.track(u)
	return u, nil
}
