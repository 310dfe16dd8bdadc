package registry

import (
	"errors"
	"net/http"
	"regexp"
	"slices"

	"github.com/promote-dev/promote/pkg/release"
)

// apiError is one error of an answer's body (distribution specification,
// "Error Codes"). detail is whatever the registry chose to say.
type apiError struct {
	code, message, detail string
}

var digestPattern = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// missingBlobs reads a registry's refusal of a manifest for blobs that it does
// not have: which of those that the manifest names. ok is false for any other
// error, and for one that says anything beside that.
func missingBlobs(err error, m manifest) (missing []descriptor, ok bool) {
	var status *statusError
	if !errors.As(err, &status) || status.status != http.StatusBadRequest && status.status != http.StatusNotFound || len(status.errors) == 0 {
		return nil, false
	}
	named := map[string]bool{}
	for _, e := range status.errors {
		if !slices.Contains([]string{"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"}, e.code) {
			return nil, false
		}
		for _, d := range digestPattern.FindAllString(e.detail+" "+e.message, -1) {
			named[d] = true
		}
	}
	for _, d := range m.blobs() {
		if named[d.Digest.String()] {
			missing = append(missing, d)
		}
	}
	return missing, len(missing) > 0
}

// provenBy reports whether a registry's answer to a probe shows that it takes
// no manifest whose blobs it lacks, and names each of them.
func provenBy(err error, probe manifest) bool {
	missing, ok := missingBlobs(err, probe)
	return ok && len(missing) == len(probe.blobs())
}

// newProbe makes a manifest whose blobs nobody has.
func newProbe(random func() string, l Limits) (manifest, error) {
	blob := func(mediaType string) descriptor {
		content := []byte(random())
		return descriptor{MediaType: mediaType, Digest: release.DigestOf(content), Size: int64(len(content))}
	}
	config := blob("application/vnd.oci.image.config.v1+json")
	return encode(body{SchemaVersion: 2, MediaType: typeManifest, Config: &config,
		Layers: []descriptor{blob("application/vnd.oci.image.layer.v1.tar+gzip")}}, l)
}
