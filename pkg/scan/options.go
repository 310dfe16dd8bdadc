// Package scan gives vulnerability and secret evidence about an image, and its
// SBOM. It is the only home of Trivy, whose own documentation says that it is
// not made to be a library; nothing of it crosses the package's border.
//
// Trivy compiles with GOEXPERIMENT=jsonv2 only. Without it the package still
// builds, and its functions say what to do.
package scan

import (
	"context"
	"crypto/tls"
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
	// Insecure reports whether a registry host is reached by plain HTTP.
	// Loopback hosts always may be.
	Insecure func(host string) bool
	// TLS says how a registry host, and where it sends us, is spoken to with TLS;
	// nil is with the system's certificates.
	TLS func(host string) (*tls.Config, error)
	// Keychain gives the credentials for a registry host, empty for none.
	Keychain func(ctx context.Context, host string) (user, secret string, err error)
	// Offline uses the database at hand and asks no registry for a newer one.
	Offline bool
	Now     func() time.Time
}

// complete fills in defaults and checks what was given.
func (o Options) complete() (Options, error) {
	if o.CacheDir == "" {
		return o, release.Misuse("give the directory that caches are kept in", "scanning: no cache directory")
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
	if o.Insecure == nil {
		o.Insecure = func(string) bool { return false }
	}
	if o.TLS == nil {
		o.TLS = func(string) (*tls.Config, error) { return nil, nil }
	}
	if o.Keychain == nil {
		o.Keychain = func(context.Context, string) (string, string, error) { return "", "", nil }
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
