package registry

import (
	"slices"

	"github.com/promote-dev/promote/pkg/release"
)

// Media types of manifests. Docker's older, signed format (schema 1) hashes to
// something else than its bytes and is refused.
const (
	typeManifest       = release.MediaTypeManifest
	typeIndex          = release.MediaTypeIndex
	typeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	typeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

var manifestTypes = []string{typeManifest, typeIndex, typeDockerManifest, typeDockerList}

func isIndex(mediaType string) bool { return mediaType == typeIndex || mediaType == typeDockerList }

func isManifest(mediaType string) bool { return slices.Contains(manifestTypes, mediaType) }

// foreignTypes are layers that their owners don't want distributed. They are
// never fetched from the addresses in their descriptors.
var foreignTypes = []string{
	"application/vnd.docker.image.rootfs.foreign.diff.tar",
	"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
	"application/vnd.oci.image.layer.nondistributable.v1.tar",
	"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
	"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
}

// descriptor is the content descriptor of the OCI image specification, as far
// as it is used here. Its "urls" are left out on purpose: nothing may fetch them.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       release.Digest    `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Platform     *platform         `json:"platform,omitempty"`
	Data         []byte            `json:"data,omitempty"`
}

func (d descriptor) foreign() bool { return slices.Contains(foreignTypes, d.MediaType) }

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
	OSVersion    string `json:"os.version,omitempty"`
}

func (p platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// body is what stands in a manifest or an index.
type body struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        *descriptor       `json:"config,omitempty"`
	Layers        []descriptor      `json:"layers,omitempty"`
	Manifests     []descriptor      `json:"manifests,omitempty"`
	Subject       *descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// manifest is bytes that were hashed, and what they say. It is made by parse
// only.
type manifest struct {
	digest    release.Digest
	mediaType string
	raw       []byte
	values    int // that JSON has in it
	body      body
}

// describe gives the descriptor under which others refer to the manifest.
func (m manifest) describe() descriptor {
	d := descriptor{MediaType: m.mediaType, Digest: m.digest, Size: int64(len(m.raw)), ArtifactType: m.artifactType()}
	return d
}

// artifactType is what the distribution specification's list of referrers
// shows for the manifest.
func (m manifest) artifactType() string {
	if m.body.ArtifactType != "" || m.body.Config == nil {
		return m.body.ArtifactType
	}
	return m.body.Config.MediaType
}

// blobs lists what the manifest needs beside itself, config first, each once.
func (m manifest) blobs() []descriptor {
	if m.body.Config == nil {
		return nil
	}
	list := append([]descriptor{*m.body.Config}, m.body.Layers...)
	seen := map[release.Digest]bool{}
	return slices.DeleteFunc(list, func(d descriptor) bool {
		twice := seen[d.Digest]
		seen[d.Digest] = true
		return twice
	})
}

// encode makes a manifest of our own. The same body gives the same bytes.
func encode(b body, l Limits) (manifest, error) {
	raw, err := release.Canonical(b)
	if err != nil {
		return manifest{}, err
	}
	return parse(b.MediaType, raw, l)
}
