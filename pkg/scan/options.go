// Package scan gives vulnerability and secret evidence about an image, and its
// SBOM. It is the only home of Trivy, whose own documentation says that it is
// not made to be a library; nothing of it crosses the package's border.
//
// Trivy compiles with GOEXPERIMENT=jsonv2 only. Without it the package still
// builds, and its functions say what to do.
package scan

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/scan/findings"
)

// DefaultDatabase is where vulnerability data comes from unless promote.yaml
// names another repository.
const DefaultDatabase = "ghcr.io/aquasecurity/trivy-db"

// DefaultMaxAge is how old a vulnerability database may be.
const DefaultMaxAge = 24 * time.Hour

// DatabaseRef says which vulnerability database to use.
type DatabaseRef struct {
	// Repository is an OCI repository; without a tag or digest it is the tag
	// of the schema, "2". Empty is DefaultDatabase.
	Repository string
	MaxAge     time.Duration // 0 is DefaultMaxAge
}

// Waiver lets an uncovered distribution or ecosystem through, visibly and for
// a time.
type Waiver = findings.Waiver

// Registry reads what a scan needs. Every byte it gives has the digest by which
// it was asked for; the end of a blob that has not is an error instead of
// io.EOF.
type Registry interface {
	Images
	// Resolve reads a reference, once.
	Resolve(ctx context.Context, reference string) (release.Subject, error)
}

// Images reads images by digest.
type Images interface {
	// Manifest gives a subject's manifest or index, which can be read in one way
	// only, and its media type.
	Manifest(ctx context.Context, s release.Subject) (mediaType string, raw []byte, err error)
	// Platform gives the one image of an index for a platform.
	Platform(ctx context.Context, s release.Subject, platform string) (release.PlatformImage, error)
	// OpenBlob reads a blob of a known size; progress is told how much has come.
	OpenBlob(ctx context.Context, repository string, d release.Digest, size int64, progress func(done int64)) (io.ReadCloser, error)
}

// Options say what to scan and how to judge.
type Options struct {
	Subject release.Subject
	// CacheDir holds databases and analysed layers. Several processes may
	// share it.
	CacheDir string
	Database DatabaseRef
	// FailOn is the least severity of a vulnerability that fails; empty is
	// critical. Secrets and uncovered distributions always fail.
	FailOn string
	// IgnoreFile is the .trivyignore.yaml of the checkout; never one from
	// inside the image. It need not exist.
	IgnoreFile string
	Waive      []Waiver
	// Platforms are those that an index is scanned for; empty is linux/amd64.
	Platforms []string
	// Registry reads images and databases.
	Registry Registry
	// Offline uses the database at hand and asks no registry for a newer one.
	Offline bool
	Now     func() time.Time
}

// complete fills in defaults and checks what was given.
func (o Options) complete() (Options, error) {
	if o.CacheDir == "" {
		return o, release.Misuse("give the directory that caches are kept in", "scanning: no cache directory")
	}
	if o.Registry == nil && !o.Offline {
		return o, release.Misuse("give what reads from registries", "scanning: no registry")
	}
	if o.Database.Repository == "" {
		o.Database.Repository = DefaultDatabase
	}
	if o.Database.MaxAge == 0 {
		o.Database.MaxAge = DefaultMaxAge
	}
	if o.FailOn == "" {
		o.FailOn = "critical"
	}
	if err := release.CheckFailOn(o.FailOn); err != nil {
		return o, release.Faultf(release.KindConfig, "set scan.failOn to one of them", "scanning: %w", err)
	}
	if len(o.Platforms) == 0 {
		o.Platforms = []string{"linux/amd64"}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, w := range o.Waive {
		if err := w.Check(); err != nil {
			return o, err
		}
	}
	o.Platforms = slices.Compact(slices.Sorted(slices.Values(o.Platforms)))
	return o, nil
}
