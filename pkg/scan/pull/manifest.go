package pull

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// Bounds of an image.
const (
	MaxLayers     = 512
	MaxConfig     = 8 << 20
	MaxCompressed = 32 << 30 // all layers together
	maxChildren   = 256
)

// The media types of images and indexes.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	imageConfig    = "application/vnd.oci.image.config.v1+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
)

// Descriptor follows the OCI image specification's content descriptor, as far
// as a scan needs it.
type Descriptor struct {
	MediaType    string          `json:"mediaType"`
	Digest       release.Digest  `json:"digest"`
	Size         int64           `json:"size"`
	URLs         []string        `json:"urls"`
	Platform     *Platform       `json:"platform"`
	ArtifactType string          `json:"artifactType"`
	Data         json.RawMessage `json:"data"`
}

// Platform is what an image runs on.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
}

// String gives "linux/amd64" or "linux/arm/v7".
func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// Manifest is an image's manifest or an index of several.
type Manifest struct {
	Index  bool
	Config Descriptor
	Layers []Descriptor
	Images []Descriptor // an index's images; other artifacts are left out
}

type document struct {
	SchemaVersion int           `json:"schemaVersion"`
	MediaType     string        `json:"mediaType"`
	ArtifactType  string        `json:"artifactType"`
	Config        *Descriptor   `json:"config"`
	Layers        *[]Descriptor `json:"layers"`
	Manifests     *[]Descriptor `json:"manifests"`
}

// Parse reads a manifest that was hashed against its digest. contentType is
// what the registry called it; it must not contradict the manifest. What two
// readers could understand differently, and what no container engine would
// run, is an error.
func Parse(raw []byte, contentType string) (Manifest, error) {
	canonical, err := release.CanonicalJSON(raw) // refuses duplicate keys and trailing bytes
	if err != nil {
		return Manifest{}, err
	}
	var d document
	if err := json.Unmarshal(canonical, &d); err != nil {
		return Manifest{}, err
	}
	contentType, _, _ = strings.Cut(contentType, ";")
	mediaType := strings.TrimSpace(contentType)
	if d.MediaType != "" {
		if mediaType != "" && mediaType != d.MediaType {
			return Manifest{}, fmt.Errorf("a manifest of type %.80q served as %.80q", d.MediaType, mediaType)
		}
		mediaType = d.MediaType
	}
	switch {
	case d.SchemaVersion != 2:
		return Manifest{}, fmt.Errorf("schema version %d", d.SchemaVersion)
	case d.Manifests != nil && (d.Layers != nil || d.Config != nil):
		return Manifest{}, fmt.Errorf("both an image and an index")
	case mediaType == release.MediaTypeIndex || mediaType == dockerIndex:
		return parseIndex(d)
	case mediaType == release.MediaTypeManifest || mediaType == dockerManifest:
		return parseImage(d)
	}
	return Manifest{}, fmt.Errorf("media type %.80q is no image", mediaType)
}

func parseImage(d document) (Manifest, error) {
	if d.Config == nil || d.Layers == nil {
		return Manifest{}, fmt.Errorf("an image without a configuration or layers")
	}
	if d.ArtifactType != "" && d.ArtifactType != imageConfig && d.ArtifactType != dockerConfig {
		return Manifest{}, fmt.Errorf("an artifact of type %.80q is no image", d.ArtifactType)
	}
	if d.Config.MediaType != imageConfig && d.Config.MediaType != dockerConfig {
		return Manifest{}, fmt.Errorf("a configuration of type %.80q is no image's", d.Config.MediaType)
	}
	m := Manifest{Config: *d.Config, Layers: *d.Layers}
	if len(m.Layers) > MaxLayers {
		return Manifest{}, fmt.Errorf("%d layers, at most %d are read", len(m.Layers), MaxLayers)
	}
	if m.Config.Size > MaxConfig {
		return Manifest{}, fmt.Errorf("a configuration of %d bytes, at most %d are read", m.Config.Size, MaxConfig)
	}
	total := int64(0)
	for _, l := range append([]Descriptor{m.Config}, m.Layers...) {
		if err := check(l); err != nil {
			return Manifest{}, err
		}
		if total += l.Size; total > MaxCompressed {
			return Manifest{}, fmt.Errorf("more than %d bytes of layers", int64(MaxCompressed))
		}
	}
	return m, nil
}

func check(d Descriptor) error {
	switch {
	case d.Digest.IsZero():
		return fmt.Errorf("a descriptor without a digest")
	case d.Size <= 0:
		return fmt.Errorf("%s has a size of %d", d.Digest, d.Size)
	case len(d.URLs) > 0 || strings.Contains(d.MediaType, "foreign") || strings.Contains(d.MediaType, "nondistributable"):
		return fmt.Errorf("%s lies outside the registry, where nothing is fetched from", d.Digest)
	case len(d.Data) > 0:
		return fmt.Errorf("%s carries its content in the manifest", d.Digest)
	}
	return nil
}

func parseIndex(d document) (Manifest, error) {
	if d.Manifests == nil || len(*d.Manifests) == 0 {
		return Manifest{}, fmt.Errorf("an index of nothing")
	}
	if len(*d.Manifests) > maxChildren {
		return Manifest{}, fmt.Errorf("an index of %d manifests, at most %d are read", len(*d.Manifests), maxChildren)
	}
	m := Manifest{Index: true}
	for _, c := range *d.Manifests {
		if err := check(c); err != nil {
			return Manifest{}, err
		}
		switch {
		case c.MediaType == release.MediaTypeIndex || c.MediaType == dockerIndex:
			return Manifest{}, fmt.Errorf("an index within an index")
		case c.Platform == nil || c.Platform.OS == "unknown" || c.ArtifactType != "":
			continue // attestations and other artifacts
		case c.Size > MaxManifest:
			return Manifest{}, fmt.Errorf("a manifest of %d bytes, at most %d are read", c.Size, MaxManifest)
		}
		m.Images = append(m.Images, c)
	}
	return m, nil
}

// Select gives an index's images for the platforms ("linux/amd64"), in order
// of the platforms. One that is missing is an error: an image that nobody
// scanned could be what runs.
func (m Manifest) Select(platforms []string) ([]Descriptor, error) {
	var list []Descriptor
	for _, p := range platforms {
		matches := slices.DeleteFunc(slices.Clone(m.Images), func(d Descriptor) bool { return !d.Platform.is(p) })
		switch len(matches) {
		case 0:
			return nil, fmt.Errorf("no image for %s", p)
		case 1:
			list = append(list, matches[0])
		default:
			return nil, fmt.Errorf("%d images for %s", len(matches), p)
		}
	}
	return list, nil
}

// is compares with "os/architecture" or "os/architecture/variant". The variant
// v8 of arm64 goes without saying.
func (p Platform) is(want string) bool {
	q := p
	if q.Architecture == "arm64" && q.Variant == "v8" {
		q.Variant = ""
	}
	return q.String() == strings.TrimSuffix(want, "/v8") || p.String() == want
}
