package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

const ambiguousHint = "tools would disagree about what this is; have it built again by a builder that follows the OCI image specification"

// errAmbiguous is in the chain of every refusal of a manifest for what it says,
// as opposed to one for not being what was asked for.
var errAmbiguous = errors.New("refused")

// refused is the denial of bytes that could be read in two ways, or that say
// what no manifest says.
func refused(d release.Digest, format string, args ...any) error {
	return release.Denied(ambiguousHint, "manifest %s %w: %w", d, errAmbiguous, fmt.Errorf(format, args...))
}

// parse reads a manifest or index that the caller has fetched under a media
// type. It takes only what every reader understands in the same way: JSON
// without duplicate keys, invalid UTF-8 or trailing bytes; no key that differs
// from a known one in case only, which Go programs take for the same; one
// media type in header and body, and the fields of that type and of no other.
func parse(contentType string, raw []byte, l Limits) (m manifest, err error) {
	alone(len(raw), func() { m, err = parseManifest(contentType, raw, l) })
	return m, err
}

func parseManifest(contentType string, raw []byte, l Limits) (manifest, error) {
	m := manifest{digest: release.DigestOf(raw), raw: raw, values: values(raw)}
	if int64(len(raw)) > l.Manifest {
		return manifest{}, refused(m.digest, "%d bytes, at most %d are read", len(raw), l.Manifest)
	}
	if m.values > mostValues {
		return manifest{}, refused(m.digest, "%d values, at most %d are read", m.values, mostValues)
	}
	canonical, err := release.CanonicalJSON(raw)
	if err != nil {
		return manifest{}, refused(m.digest, "%w", err)
	}
	var tree any
	if err := json.Unmarshal(canonical, &tree); err != nil {
		return manifest{}, refused(m.digest, "%w", err)
	}
	top, ok := tree.(map[string]any)
	if !ok {
		return manifest{}, refused(m.digest, "not a JSON object")
	}
	if err := checkKeys(top); err != nil {
		return manifest{}, refused(m.digest, "%w", err)
	}
	if err := json.Unmarshal(raw, &m.body); err != nil {
		return manifest{}, refused(m.digest, "%w", err)
	}
	if m.mediaType, err = agreedType(contentType, m.body.MediaType, top); err != nil {
		return manifest{}, refused(m.digest, "%w", err)
	}
	if err := checkShape(m, top, l); err != nil {
		return manifest{}, refused(m.digest, "%w", err)
	}
	return m, nil
}

// topKeys and descriptorKeys are the keys that mean something to somebody.
var (
	topKeys        = []string{"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations", "fsLayers", "history", "signatures", "blobs"}
	descriptorKeys = []string{"mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType"}
	platformKeys   = []string{"os", "architecture", "variant", "os.version", "os.features", "features"}
)

func checkKeys(top map[string]any) error {
	if err := noLookalike(top, topKeys); err != nil {
		return err
	}
	for _, key := range []string{"config", "subject"} {
		if v, ok := top[key]; ok {
			if err := checkDescriptor(key, v); err != nil {
				return err
			}
		}
	}
	for _, key := range []string{"layers", "manifests"} {
		v, ok := top[key]
		if !ok {
			continue
		}
		list, ok := v.([]any)
		if !ok {
			return fmt.Errorf("%q is not a list", key)
		}
		for i, item := range list {
			if err := checkDescriptor(fmt.Sprintf("%s[%d]", key, i), item); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkDescriptor requires a digest, a size and a media type, each once.
func checkDescriptor(where string, v any) error {
	d, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s is not an object", where)
	}
	if err := noLookalike(d, descriptorKeys); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	digest, _ := d["digest"].(string)
	if _, err := release.ParseDigest(digest); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	if size, ok := d["size"].(float64); !ok || size < 0 || size > 1<<50 {
		return fmt.Errorf("%s: no size", where)
	}
	if t, ok := d["mediaType"].(string); !ok || t == "" {
		return fmt.Errorf("%s: no media type", where)
	}
	if p, ok := d["platform"].(map[string]any); ok {
		return noLookalike(p, platformKeys)
	}
	return nil
}

func noLookalike(object map[string]any, known []string) error {
	for key := range object {
		for _, k := range known {
			if key != k && strings.EqualFold(key, k) {
				return fmt.Errorf("the key %q is not %q, but some read it so", clip(key), k)
			}
		}
	}
	return nil
}

// agreedType gives the one media type that header and body agree on. A body
// without one (OCI allows it) is what its header and its fields say.
func agreedType(contentType, inBody string, top map[string]any) (string, error) {
	header, _, err := mime.ParseMediaType(contentType)
	if err != nil || !isManifest(header) {
		return "", fmt.Errorf("served as %q, which is no manifest", printable(contentType, 100))
	}
	if inBody != "" && inBody != header {
		return "", fmt.Errorf("served as %q, but says %q itself", header, printable(inBody, 100))
	}
	if _, stated := top["mediaType"]; stated && inBody == "" {
		return "", fmt.Errorf("an empty media type")
	}
	if inBody == "" && (header == typeDockerManifest || header == typeDockerList) {
		return "", fmt.Errorf("served as %q, which must say so itself", header)
	}
	return header, nil
}

// checkShape requires the fields of the manifest's type and refuses another's.
func checkShape(m manifest, top map[string]any, l Limits) error {
	if m.body.SchemaVersion != 2 {
		return fmt.Errorf("schema version %d, want 2", m.body.SchemaVersion)
	}
	want, alien := []string{"config", "layers"}, []string{"manifests", "fsLayers", "history", "signatures", "blobs"}
	if isIndex(m.mediaType) {
		want, alien = []string{"manifests"}, []string{"config", "layers", "fsLayers", "history", "signatures", "blobs"}
	}
	for _, key := range want {
		if _, ok := top[key]; !ok {
			return fmt.Errorf("%s without %q", m.mediaType, key)
		}
	}
	for _, key := range alien {
		if _, ok := top[key]; ok {
			return fmt.Errorf("%s with %q", m.mediaType, key)
		}
	}
	if n := len(m.body.Layers); n > l.Layers {
		return fmt.Errorf("%d layers, at most %d are taken", n, l.Layers)
	}
	if n := len(m.body.Manifests); n > l.Children {
		return fmt.Errorf("%d manifests in an index, at most %d are taken", n, l.Children)
	}
	for _, d := range m.blobs() {
		if isManifest(d.MediaType) {
			return fmt.Errorf("%s as a layer", d.MediaType)
		}
		if err := checkData(d); err != nil {
			return err
		}
	}
	for _, d := range m.body.Manifests {
		if !isManifest(d.MediaType) {
			return fmt.Errorf("an index entry of type %q", printable(d.MediaType, 100))
		}
		if err := checkData(d); err != nil {
			return err
		}
	}
	return nil
}

// checkData compares content that is embedded in a descriptor with its digest:
// some readers take it from there.
func checkData(d descriptor) error {
	if len(d.Data) == 0 {
		return nil
	}
	if got := release.DigestOf(d.Data); got != d.Digest || int64(len(d.Data)) != d.Size {
		return fmt.Errorf("the data embedded for %s is %s, %d bytes", d.Digest, got, len(d.Data))
	}
	return nil
}
