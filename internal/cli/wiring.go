package cli

import (
	"context"

	"github.com/promote-dev/promote/internal/worker"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// Wiring is what the command line needs of the world.
type Wiring struct {
	// Pipeline builds a pipeline for a configuration. close frees what it holds.
	Pipeline func(ctx context.Context, c *config.Config, o PipelineOptions) (p *pipeline.Pipeline, close func(), err error)
	// Workers are the kinds of work that run in child processes without keys.
	Workers map[string]worker.Handler
	// Copy copies images and their evidence between registries and layouts.
	Copy func(ctx context.Context, o CopyOptions) (CopyResult, error)
	// Pin writes or verifies digests in Dockerfiles and Compose files.
	Pin func(ctx context.Context, o PinOptions) (PinResult, error)
	// Keys makes key pairs.
	Keys func(ctx context.Context, o KeyOptions) (KeyResult, error)
	// SignTrust adds a signature to the trust file that a configuration names.
	SignTrust func(ctx context.Context, c *config.Config, o SignTrustOptions) (SignTrustResult, error)
	// VerifyBundle verifies one sigstore bundle by itself.
	VerifyBundle func(ctx context.Context, o BundleOptions) (BundleResult, error)
	// Audit verifies a whole ledger; c is nil where the options say whom to
	// believe.
	Audit func(ctx context.Context, c *config.Config, o AuditOptions) (release.LedgerAudit, error)
	// ExportLedger and ImportLedger bring the ledger elsewhere and back.
	ExportLedger func(ctx context.Context, c *config.Config, o LedgerOptions) (ExportResult, error)
	ImportLedger func(ctx context.Context, c *config.Config, o LedgerOptions) (ImportResult, error)
	// Compactor archives the ledger where the options say, and compacts it.
	Compactor func(ctx context.Context, c *config.Config, o LedgerOptions) (pipeline.Compactor, error)
	// Doctor lists what can be checked about this machine and configuration;
	// c is nil where there is no configuration.
	Doctor func(c *config.Config) []Check
	// Clean removes what promote left on this machine's engine.
	Clean func(ctx context.Context, o CleanOptions) (CleanResult, error)
	// Demo tells the story on a throw-away workspace.
	Demo func(ctx context.Context, o DemoOptions) error
	// Registry serves the embedded registry until the context ends. Its address
	// is written to a file once it is ready, with bases when it holds those.
	Registry func(ctx context.Context, root, address, addressFile string, bases bool) error
	// Database builds the demo's vulnerability database and pushes it.
	Database func(ctx context.Context, repository string) (release.Digest, error)
	// Version says which promote this is.
	Version VersionResult
}

// PipelineOptions are what the command line says beside the configuration.
type PipelineOptions struct {
	// Offline makes a pipeline that touches no network: it reads the ledger, keys
	// and what lies on this machine.
	Offline bool
	// Tree makes a pipeline that smokes the working tree with local images, and
	// nothing else: no ledger, key or registry is opened.
	Tree bool
	// Key is what to sign with instead of sign.key; empty is sign.key. It
	// changes nothing about who is trusted.
	Key string
	// Unsigned takes a trust file that too few of its owners signed, for those
	// who look at it or sign it.
	Unsigned bool
}

// SignTrustOptions are `trust accept` where a trust file is.
type SignTrustOptions struct {
	Key    string // instead of sign.key, if it is not empty
	DryRun bool
}

// SignTrustResult says who signed a trust file, by name.
type SignTrustResult struct {
	pipeline.TrustFile
	// Signer is who signed it now, or would; empty for a key that is no owner's
	// of the file, or that has signed it.
	Signer string `json:"signer,omitempty"`
}

// CopyOptions are `copy SRC DST`.
type CopyOptions struct {
	Source, Destination string
	Referrers, DryRun   bool
	Registries          map[string]config.RegistrySettings // by host
}

// CopyResult is what copy did, or would do. Bytes are those of the blobs that
// were sent; Manifests include the Referrers and the Legacy ones, which stand
// under cosign's tags sha256-<hex>.sig, .att and .sbom. Kept are such tags that
// the destination has with something else, and keeps.
type CopyResult struct {
	Source      string         `json:"source"`
	Destination string         `json:"destination"`
	Digest      release.Digest `json:"digest"`
	Tags        []string       `json:"tags"`
	Unchanged   bool           `json:"unchanged"`
	Bytes       int64          `json:"bytes"`
	Blobs       int            `json:"blobs"`
	Mounted     int            `json:"mounted"`
	Present     int            `json:"present"`
	Foreign     int            `json:"foreign"` // named by the image, held by nobody
	Manifests   int            `json:"manifests"`
	Referrers   int            `json:"referrers"`
	Legacy      int            `json:"legacy"`
	Kept        []string       `json:"kept,omitempty"`
	Requests    int64          `json:"requests"`
	DryRun      bool           `json:"dryRun,omitempty"`
}

// PinOptions are `pin`.
type PinOptions struct {
	Dir    string
	Files  []string // empty: every Dockerfile and Compose file below Dir
	Check  bool
	Update bool
	DryRun bool
	Map    map[string]string // FROM=TO repositories
	// Registries are the settings of registry hosts, by host.
	Registries map[string]config.RegistrySettings
}

// PinResult is what pin changed or found.
type PinResult struct {
	Changes []PinChange `json:"changes"`
	// Unpinned are references without a digest, in check mode.
	Unpinned []PinChange `json:"unpinned"`
	Result   string      `json:"result"` // passed or failed
}

// PinChange is one reference in one place.
type PinChange struct {
	File string `json:"file"`
	Line int    `json:"line"`
	From string `json:"from"`
	To   string `json:"to,omitempty"`
}

// KeyOptions are `keys generate` and `keys public`.
type KeyOptions struct {
	Generate bool
	// Key is the private key's path or env:// name; its public half is written
	// beside it, with the ending .pub.
	Key string
}

// KeyResult names a key pair.
type KeyResult struct {
	Private     string `json:"private,omitempty"` // path
	Public      string `json:"public,omitempty"`  // path
	PublicKey   string `json:"publicKey"`         // PEM
	Fingerprint string `json:"fingerprint"`
	TrustedRoot string `json:"trustedRoot,omitempty"` // path; for stock tools
}

// Check is one thing that doctor looks at.
type Check struct {
	Name string
	// Run gives what was found; an error is a finding, its hint the fix.
	Run func(ctx context.Context) (detail string, err error)
}

// CleanOptions are `clean`.
type CleanOptions struct {
	DryRun bool
	All    bool // smoke runs that are still going on, too
}

// CleanResult lists what was removed, by name.
type CleanResult struct {
	Containers []string `json:"containers"`
	Networks   []string `json:"networks"`
	Volumes    []string `json:"volumes"`
	Files      []string `json:"files"`
	Processes  []string `json:"processes"`
	DryRun     bool     `json:"dryRun,omitempty"`
}

// DemoOptions are `demo`.
type DemoOptions struct {
	Keep    bool
	Story   string // directory of the example, empty: the embedded one
	Streams Streams
}

// VersionResult is what `version` gives.
type VersionResult struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Scanner is false for a binary that was built without what scans need.
	Scanner bool `json:"scanner"`
}
