//go:build goexperiment.jsonv2

package scan

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/aquasecurity/trivy/pkg/remote"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/scan/pull"
)

// open reads a subject's manifest, or those of an index's platforms, and gives
// the images behind it.
func (c connection) open(subject release.Subject, platforms []string) ([]*image, error) {
	img, manifest, err := c.fetch(subject)
	if err != nil {
		return nil, err
	}
	if !manifest.Index {
		return []*image{img}, nil
	}
	children, err := manifest.Select(platforms)
	if err != nil {
		return nil, release.Denied("build the image for every platform that build.platforms names", "reading %s: %w", subject, err)
	}
	var images []*image
	for _, d := range children {
		child := release.Subject{Repository: subject.Repository, Digest: d.Digest}
		img, manifest, err := c.fetch(child)
		if err != nil {
			return nil, err
		}
		if manifest.Index {
			return nil, c.guard.Deny("reading %s: an index within an index", child)
		}
		images = append(images, img)
	}
	return images, nil
}

// fetch reads one manifest. The guard has hashed it; it is hashed again here,
// where it is used.
func (c connection) fetch(subject release.Subject) (*image, pull.Manifest, error) {
	ref, err := c.parse(subject.String())
	if err != nil {
		return nil, pull.Manifest{}, err
	}
	desc, err := remote.Get(c.ctx, ref, c.options)
	if err != nil {
		return nil, pull.Manifest{}, c.fault("reading "+subject.String(), "check that the registry answers, then run it again", err)
	}
	if got := release.DigestOf(desc.Manifest); got != subject.Digest {
		return nil, pull.Manifest{}, c.guard.Deny("reading %s: the registry sent %s", subject, got)
	}
	manifest, err := pull.Parse(desc.Manifest, string(desc.MediaType))
	if err != nil {
		return nil, manifest, c.guard.Deny("reading %s: %w", subject, err)
	}
	if manifest.Index {
		return nil, manifest, nil
	}
	c.guard.Expect(manifest.Config.Digest, manifest.Config.Size)
	for _, l := range manifest.Layers {
		c.guard.Expect(l.Digest, l.Size)
	}
	inner, err := desc.Image()
	if err != nil {
		return nil, manifest, c.fault("reading "+subject.String(), "run it again", err)
	}
	img := &image{Image: inner, connection: c, subject: subject, manifest: manifest}
	return img, manifest, img.readConfig()
}

// image is what Trivy analyses: an image by digest whose layers are bounded
// and verified against the configuration on the way. It implements Trivy's
// types.Image.
type image struct {
	v1.Image
	connection connection
	subject    release.Subject
	manifest   pull.Manifest
	config     *v1.ConfigFile

	mu     sync.Mutex
	opened []*pull.Unpacked
}

func (i *image) readConfig() error {
	config, err := i.Image.ConfigFile()
	if err != nil {
		return i.connection.fault("reading the configuration of "+i.subject.String(), "run it again", err)
	}
	if len(config.RootFS.DiffIDs) != len(i.manifest.Layers) {
		return i.connection.guard.Deny("reading %s: %d layers and %d diff IDs", i.subject, len(i.manifest.Layers), len(config.RootFS.DiffIDs))
	}
	for _, d := range config.RootFS.DiffIDs {
		if _, err := release.ParseDigest(d.String()); err != nil {
			return i.connection.guard.Deny("reading %s: %w", i.subject, err)
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
	return pull.Platform{OS: i.config.OS, Architecture: i.config.Architecture, Variant: i.config.Variant}.String()
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
func (i *image) track(u *pull.Unpacked) {
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
			return i.connection.guard.Deny("reading %s: %w", i.subject, bad)
		}
	}
	return nil
}

// read reports whether a layer's whole content was read and verified.
func (i *image) read(diffID string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.ContainsFunc(i.opened, func(u *pull.Unpacked) bool {
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
	u := pull.NewUnpacked(inner, l.diff, pull.UnpackLimit(l.size))
	l.image.track(u)
	return u, nil
}
