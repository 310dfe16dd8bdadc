package bench

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30

	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
	typeEmpty    = "application/vnd.oci.empty.v1+json"
	typeBundle   = "application/vnd.dev.sigstore.bundle.v0.3+json"
	typeSimple   = "application/vnd.dev.cosign.simplesigning.v1+json"
)

// Spec is what an image looks like.
type Spec struct {
	Layers int   `json:"layers"`
	Bytes  int64 `json:"bytes"` // of a layer, about
}

func (s Spec) String() string {
	switch {
	case s.Bytes >= gib:
		return fmt.Sprintf("%d × %d GB", s.Layers, s.Bytes/gib)
	case s.Bytes >= mib:
		return fmt.Sprintf("%d × %d MB", s.Layers, s.Bytes/mib)
	}
	return fmt.Sprintf("%d × %d KB", s.Layers, s.Bytes/kib)
}

func (s Spec) total() int64 { return int64(s.Layers) * s.Bytes }

// Descriptor is an OCI content descriptor.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        *Descriptor       `json:"config,omitempty"`
	Layers        []Descriptor      `json:"layers,omitempty"`
	Manifests     []Descriptor      `json:"manifests,omitempty"`
	Subject       *Descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// blob is content that is made anew whenever it is read, so that images may be
// larger than memory.
type blob struct {
	Descriptor
	open func() io.ReadCloser
}

// Image is a manifest and its blobs, config first.
type Image struct {
	Spec     Spec
	Manifest []byte
	Digest   string
	blobs    []blob
	parts    manifest
}

func (i *Image) descriptor() Descriptor {
	return Descriptor{MediaType: typeManifest, Digest: i.Digest, Size: int64(len(i.Manifest))}
}

// NewImage makes an image of random content, the same for the same seed. Its
// layers are real: gzip around tar around one file that can't be compressed.
func NewImage(s Spec, seed uint64) (*Image, error) {
	var layers []blob
	var diffIDs []string
	for n := range s.Layers {
		open := func() io.ReadCloser { return layer(seed, n, s.Bytes) }
		d, diffID, err := measure(open)
		if err != nil {
			return nil, err
		}
		layers = append(layers, blob{d, open})
		diffIDs = append(diffIDs, diffID)
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "author": fmt.Sprint(seed), "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs}})
	if err != nil {
		return nil, err
	}
	return assemble(s, manifest{}, append([]blob{literal(typeConfig, config)}, layers...))
}

// Variant has the same blobs and another manifest.
func (i *Image) Variant() (*Image, error) {
	return assemble(i.Spec, manifest{Annotations: map[string]string{"org.opencontainers.image.version": "another"}}, i.blobs)
}

// artifact is a small image about something else, or beside it.
func artifact(m manifest, layerType string, content []byte, annotations map[string]string) (*Image, error) {
	config, layer := literal(typeEmpty, []byte("{}")), literal(layerType, content)
	layer.Annotations = annotations
	return assemble(Spec{Layers: 1, Bytes: int64(len(content))}, m, []blob{config, layer})
}

func assemble(s Spec, m manifest, blobs []blob) (*Image, error) {
	m.SchemaVersion, m.MediaType, m.Config = 2, typeManifest, &blobs[0].Descriptor
	for _, b := range blobs[1:] {
		m.Layers = append(m.Layers, b.Descriptor)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return &Image{Spec: s, Manifest: raw, Digest: digest(raw), blobs: blobs, parts: m}, nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func literal(mediaType string, b []byte) blob {
	return blob{Descriptor{MediaType: mediaType, Digest: digest(b), Size: int64(len(b))},
		func() io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }}
}

// layer gives a layer's bytes.
func layer(seed uint64, n int, size int64) io.ReadCloser {
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(writeLayer(writer, seed, n, size)) }()
	return reader
}

func writeLayer(w io.Writer, seed uint64, n int, size int64) error {
	z, err := gzip.NewWriterLevel(w, gzip.NoCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	if err := t.WriteHeader(&tar.Header{Name: fmt.Sprintf("layer-%d", n), Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%d/%d", seed, n))
	if _, err := io.CopyBuffer(struct{ io.Writer }{t}, io.LimitReader(rand.NewChaCha8(key), size), make([]byte, 256*kib)); err != nil {
		return err
	}
	if err := t.Close(); err != nil {
		return err
	}
	return z.Close()
}

// measure gives a layer's descriptor and the digest of its tar.
func measure(open func() io.ReadCloser) (Descriptor, string, error) {
	content := open()
	defer content.Close()
	outer, inner := sha256.New(), sha256.New()
	size := &counter{}
	z, err := gzip.NewReader(io.TeeReader(content, io.MultiWriter(outer, size)))
	if err != nil {
		return Descriptor{}, "", err
	}
	if _, err := io.Copy(inner, z); err != nil {
		return Descriptor{}, "", err
	}
	return Descriptor{MediaType: typeLayer, Digest: "sha256:" + hex.EncodeToString(outer.Sum(nil)), Size: size.n},
		"sha256:" + hex.EncodeToString(inner.Sum(nil)), nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// noise is content that a name decides.
func noise(name string, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(name))).Read(b)
	return b
}
