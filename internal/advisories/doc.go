// Package advisories makes the demo's vulnerability database: OSV records in,
// a database of the schema that Trivy reads out, and from there into a
// registry as the OCI artifact that Trivy's own downloader expects. What it
// makes is labelled as the demo's everywhere: it knows the ecosystems of its
// records, as of their snapshots, and nothing else.
package advisories

import (
	"context"

	"github.com/promote-dev/promote/pkg/release"
)

// Names that a database carries, so that nobody takes it for the real one.
const (
	// Label is the artifact's title annotation.
	Label = "promote demo vulnerability database"
	// Tag is the schema version; Trivy asks for it as the artifact's tag.
	Tag = "2"
	// Schema is the version of the database's schema.
	Schema = 2
)

// Media types of the artifact, as trivy-db publishes it.
const (
	mediaTypeConfig = "application/vnd.aquasec.trivy.config.v1+json"
	mediaTypeLayer  = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"
)

// Registry is what Push needs of a registry.
type Registry interface {
	// PushBlob uploads content under its digest.
	PushBlob(ctx context.Context, repository string, b release.Blob) error
	// PushManifest uploads a manifest under a tag and gives its digest.
	PushManifest(ctx context.Context, repository, tag string, b release.Blob) (release.Digest, error)
}
