package registrytest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

// Docker's media types.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"

	imageConfig = "application/vnd.oci.image.config.v1+json"
	imageLayer  = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// Image is an image, an index or an artifact to put into a registry.
type Image struct {
	Manifest release.Blob
	Blobs    []release.Blob // config first
	Children []Image
	Platform string
}

// Descriptor is an OCI content descriptor, with everything tests need in it.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       release.Digest    `json:"digest"`
	Size         int64             `json:"size"`
	URLs         []string          `json:"urls,omitempty"`
	Platform     map[string]string `json:"platform,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
}

// Describe gives a blob's descriptor.
func Describe(b release.Blob) Descriptor {
	return Descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: int64(len(b.Bytes))}
}

// NewBlob makes a blob of some bytes.
func NewBlob(mediaType string, b []byte) release.Blob {
	return release.Blob{MediaType: mediaType, Digest: release.DigestOf(b), Bytes: b}
}

// Random gives bytes that the seed decides.
func Random(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = r.Read(b)
	return b
}

// NewImage makes an image for linux/amd64 whose layers have these sizes. Each
// seed gives another image.
func NewImage(seed uint64, layers ...int) Image { return NewPlatformImage(seed, "amd64", layers...) }

// NewPlatformImage is NewImage for an architecture.
func NewPlatformImage(seed uint64, architecture string, layers ...int) Image {
	config := NewBlob(imageConfig, fmt.Appendf(nil,
		`{"architecture":%q,"os":"linux","config":{"User":"10001","Volumes":{"/data":{}},"Healthcheck":{"Test":["CMD","true"]}},"rootfs":{"type":"layers","diff_ids":[]},"author":"%d"}`, architecture, seed))
	img := Image{Blobs: []release.Blob{config}, Platform: architecture}
	list := []Descriptor{}
	for i, size := range layers {
		b := NewBlob(imageLayer, Random(seed*1000+uint64(i), size))
		img.Blobs = append(img.Blobs, b)
		list = append(list, Describe(b))
	}
	img.Manifest = Encode(release.MediaTypeManifest, map[string]any{
		"schemaVersion": 2, "mediaType": release.MediaTypeManifest, "config": Describe(config), "layers": list})
	return img
}

// NewIndex makes an index of images.
func NewIndex(children ...Image) Image {
	list := []Descriptor{}
	for _, c := range children {
		d := Describe(c.Manifest)
		if c.Platform != "" {
			d.Platform = map[string]string{"os": "linux", "architecture": c.Platform}
		}
		list = append(list, d)
	}
	return Image{Children: children, Manifest: Encode(release.MediaTypeIndex, map[string]any{
		"schemaVersion": 2, "mediaType": release.MediaTypeIndex, "manifests": list})}
}

// NewReferrer makes an artifact about a manifest, with one layer.
func NewReferrer(about release.Blob, artifactType, layerType string, content []byte) Image {
	empty, layer := NewBlob(release.MediaTypeEmpty, []byte("{}")), NewBlob(layerType, content)
	return Image{Blobs: []release.Blob{empty, layer}, Manifest: Encode(release.MediaTypeManifest, map[string]any{
		"schemaVersion": 2, "mediaType": release.MediaTypeManifest, "artifactType": artifactType,
		"config": Describe(empty), "layers": []Descriptor{Describe(layer)}, "subject": Describe(about),
		"annotations": map[string]string{release.AnnotationPredicateType: release.PredicateProvenance}})}
}

// Encode makes a manifest's blob of any value.
func Encode(mediaType string, v any) release.Blob {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return NewBlob(mediaType, b)
}

// Put stores an image with all that belongs to it in the backend itself; the
// root under tag, or under its digest if tag is empty.
func (p *Proxy) Put(t testing.TB, repository, tag string, img Image) release.Subject {
	t.Helper()
	for _, b := range img.Blobs {
		p.PutBlob(t, repository, b.Bytes)
	}
	for _, c := range img.Children {
		p.Put(t, repository, "", c)
	}
	d := p.PutManifest(t, repository, tag, img.Manifest.MediaType, img.Manifest.Bytes)
	return release.Subject{Repository: p.Host + "/" + repository, Digest: d}
}
