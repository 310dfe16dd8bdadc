package parts

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// Bounds of an image.
const (
	MaxLayers     = 512
	MaxConfig     = 8 << 20
	MaxCompressed = 32 << 30 // all layers together
)

// The media types of an image's configuration.
const (
	imageConfig  = "application/vnd.oci.image.config.v1+json"
	dockerConfig = "application/vnd.docker.container.image.v1+json"
)

// Descriptor follows the OCI image specification's content descriptor, as far
// as a scan needs it.
type Descriptor struct {
	MediaType string          `json:"mediaType"`
	Digest    release.Digest  `json:"digest"`
	Size      int64           `json:"size"`
	URLs      []string        `json:"urls"`
	Data      json.RawMessage `json:"data"`
}

// Manifest is what an image consists of.
type Manifest struct {
	Config Descriptor   `json:"config"`
	Layers []Descriptor `json:"layers"`

	ArtifactType string `json:"artifactType"`
}

// Parse reads an image's manifest, whose bytes were verified and can be read in
// one way only. What no container engine would run is an error: so is what
// lies outside of the registry, which nobody could scan.
func Parse(raw []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return Manifest{}, err
	}
	if m.ArtifactType != "" && m.ArtifactType != imageConfig && m.ArtifactType != dockerConfig {
		return Manifest{}, fmt.Errorf("an artifact of type %.80q is no image", m.ArtifactType)
	}
	if m.Config.MediaType != imageConfig && m.Config.MediaType != dockerConfig {
		return Manifest{}, fmt.Errorf("a configuration of type %.80q is no image's", m.Config.MediaType)
	}
	if m.Layers == nil {
		return Manifest{}, fmt.Errorf("an image without layers")
	}
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
