package release

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// Media types of a release in a registry.
const (
	ArtifactType      = "application/vnd.promote.release.v1+json"
	MediaTypeManifest = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeIndex    = "application/vnd.oci.image.index.v1+json"
	MediaTypeModel    = "application/vnd.promote.model.v1+json"
	MediaTypeLock     = "application/vnd.promote.lock.v1+json"
	MediaTypeEmpty    = "application/vnd.oci.empty.v1+json"
)

// SmokeModel is the name under which a release holds the prod-like model that
// smoke runs; the other models are named after their environments.
const SmokeModel = "smoke"

// Origin says where a service's image comes from.
type Origin string

// The origins of an image.
const (
	Built    Origin = "built"    // by this project's build
	External Origin = "external" // a third party's, pinned by digest
)

// Service is one service's image within a release.
type Service struct {
	// Path is relative to the environment's registry.
	Path   string `json:"path"`
	Digest Digest `json:"digest"`
	Origin Origin `json:"origin"`
}

// Release is one version of the whole application. It holds no time, no host
// and nothing of one machine, so the same commit gives the same release.
type Release struct {
	SchemaVersion int                `json:"schemaVersion"` // 1
	Name          string             `json:"name"`
	Version       string             `json:"version"`
	Revision      string             `json:"revision"` // the commit, 40 hex digits
	Services      map[string]Service `json:"services"`
	// Models holds the digest of the merged, uninterpolated Compose model of
	// smoke and of each environment.
	Models map[string]Digest `json:"models"`
	// Dimensions holds the digest of each part that changes on its own.
	Dimensions map[string]Digest `json:"dimensions"`
}

// Subject gives the service's image in the environment's registry.
func (r Release) Subject(service, registry string) (Subject, error) {
	s, ok := r.Services[service]
	if !ok {
		return Subject{}, fmt.Errorf("release %s has no service %q", r.Version, service)
	}
	return NewSubject(registry+"/"+s.Path, s.Digest)
}

// ServiceNames gives the services in order of their names.
func (r Release) ServiceNames() []string { return slices.Sorted(maps.Keys(r.Services)) }

// Document is a release with the bytes it stands for: its models and lock.
// Its identity is the digest of its manifest.
type Document struct {
	Release Release
	// Models holds, for smoke and each environment, the canonical bytes whose
	// digests stand in Release.Models.
	Models map[string][]byte
	// Lock says what the models need, by name.
	Lock Lock
}

// Lock names, for each model, what a target must provide. It never holds a value.
type Lock struct {
	Models map[string]Requirements `json:"models"`
}

// Requirements is what one model needs from the place it runs in, by name.
type Requirements struct {
	Environment []Variable `json:"environment"` // placeholders in the model
	Secrets     []string   `json:"secrets"`     // file secrets: paths on the target
	Volumes     []string   `json:"volumes"`     // full names on the engine
	Networks    []string   `json:"networks"`    // full names on the engine
}

// Variable is a ${PLACEHOLDER} of a model.
type Variable struct {
	Name     string `json:"name"`
	Required bool   `json:"required"` // it has no default in the model
}

// Blob is content with its descriptor's facts.
type Blob struct {
	MediaType string
	Digest    Digest
	Bytes     []byte
}

// descriptor follows the OCI image specification's content descriptor.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      Digest            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

const titleAnnotation = "org.opencontainers.image.title"

// Encode gives the release's OCI manifest and the blobs it refers to, config
// first, then release.json, the models in order of name, the lock. The same
// document gives the same bytes.
func (d Document) Encode() (manifestBlob Blob, blobs []Blob, err error) {
	for name, model := range d.Models {
		if got := DigestOf(model); got != d.Release.Models[name] {
			return Blob{}, nil, fmt.Errorf("model %q is %s, the release says %s", name, got, d.Release.Models[name])
		}
	}
	if len(d.Models) != len(d.Release.Models) {
		return Blob{}, nil, fmt.Errorf("release names %d models, the document holds %d", len(d.Release.Models), len(d.Models))
	}
	body, err := Canonical(d.Release)
	if err != nil {
		return Blob{}, nil, err
	}
	lock, err := Canonical(d.Lock)
	if err != nil {
		return Blob{}, nil, err
	}
	m := manifest{SchemaVersion: 2, MediaType: MediaTypeManifest, ArtifactType: ArtifactType}
	add := func(mediaType, title string, b []byte) {
		blob := Blob{MediaType: mediaType, Digest: DigestOf(b), Bytes: b}
		blobs = append(blobs, blob)
		desc := descriptor{MediaType: mediaType, Digest: blob.Digest, Size: int64(len(b))}
		if mediaType == MediaTypeEmpty {
			m.Config = desc
			return
		}
		desc.Annotations = map[string]string{titleAnnotation: title}
		m.Layers = append(m.Layers, desc)
	}
	add(MediaTypeEmpty, "", []byte("{}"))
	add(ArtifactType, "release.json", body)
	for _, name := range slices.Sorted(maps.Keys(d.Models)) {
		add(MediaTypeModel, "model-"+name+".json", d.Models[name])
	}
	add(MediaTypeLock, "lock.json", lock)
	raw, err := Canonical(m)
	if err != nil {
		return Blob{}, nil, err
	}
	return Blob{MediaType: MediaTypeManifest, Digest: DigestOf(raw), Bytes: raw}, blobs, nil
}

// Identity gives the digest of the document's manifest.
func (d Document) Identity() (Digest, error) {
	m, _, err := d.Encode()
	return m.Digest, err
}

// Layers reads the digests of a release manifest's layers without fetching
// them, in order: release.json, models, lock. raw must already be hashed by
// the caller against the digest it asked for.
func Layers(raw []byte) ([]Digest, error) {
	m, err := decodeManifest(raw)
	if err != nil {
		return nil, err
	}
	list := make([]Digest, len(m.Layers))
	for i, l := range m.Layers {
		list[i] = l.Digest
	}
	return list, nil
}

func decodeManifest(raw []byte) (manifest, error) {
	var m manifest
	canonical, err := CanonicalJSON(raw) // also refuses duplicate keys and trailing bytes
	if err != nil {
		return m, fmt.Errorf("release manifest: %w", err)
	}
	if err := json.Unmarshal(canonical, &m); err != nil {
		return m, fmt.Errorf("release manifest: %w", err)
	}
	if m.ArtifactType != ArtifactType || m.MediaType != MediaTypeManifest || len(m.Layers) < 2 {
		return m, fmt.Errorf("not a release: artifact type %q, media type %q, %d layers", clip(m.ArtifactType), clip(m.MediaType), len(m.Layers))
	}
	return m, nil
}

// Decode reads a release manifest and its layers' bytes (in the order that
// Layers gives) back into a Document, checking every digest.
func Decode(raw []byte, layers [][]byte) (Document, error) {
	m, err := decodeManifest(raw)
	if err != nil {
		return Document{}, err
	}
	if len(layers) != len(m.Layers) {
		return Document{}, fmt.Errorf("release manifest has %d layers, got %d", len(m.Layers), len(layers))
	}
	doc := Document{Models: map[string][]byte{}}
	byDigest := map[Digest][]byte{}
	for i, l := range m.Layers {
		if got := DigestOf(layers[i]); got != l.Digest {
			return Document{}, fmt.Errorf("layer %d of the release is %s, its manifest says %s", i, got, l.Digest)
		}
		switch {
		case i == 0 && l.MediaType == ArtifactType:
			if err := strictJSON(layers[i], &doc.Release); err != nil {
				return Document{}, fmt.Errorf("release.json: %w", err)
			}
		case i == len(m.Layers)-1 && l.MediaType == MediaTypeLock:
			if err := strictJSON(layers[i], &doc.Lock); err != nil {
				return Document{}, fmt.Errorf("lock.json: %w", err)
			}
		case i > 0 && l.MediaType == MediaTypeModel:
			byDigest[l.Digest] = layers[i]
		default:
			return Document{}, fmt.Errorf("layer %d of the release has the unexpected type %q", i, clip(l.MediaType))
		}
	}
	for name, d := range doc.Release.Models {
		model, ok := byDigest[d]
		if !ok {
			return Document{}, fmt.Errorf("the release names model %q %s and does not hold it", clip(name), d)
		}
		doc.Models[name] = model
	}
	again, _, err := doc.Encode()
	if err != nil {
		return Document{}, err
	}
	if want := DigestOf(raw); again.Digest != want {
		return Document{}, fmt.Errorf("the release %s is not in canonical form", want)
	}
	return doc, nil
}

func strictJSON(raw []byte, into any) error {
	canonical, err := CanonicalJSON(raw)
	if err != nil {
		return err
	}
	return json.Unmarshal(canonical, into)
}

// Tag is the tag under which a release's manifest is found by people:
// "release-" and 12 hex digits of its digest.
func Tag(d Digest) string { return "release-" + d.Short() }

var versionPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// CheckVersion reports why a version could not serve as a registry tag.
func CheckVersion(version string) error {
	if !versionPattern.MatchString(version) {
		return fmt.Errorf("version %q: want letters, digits, '.', '_' and '-', at most 128", clip(version))
	}
	return nil
}
