package config

import "time"

// File is promote.yaml. Every key but name and registry has a default. Paths
// are relative to the file's directory.
type File struct {
	// The project's name: lower-case letters, digits, dots, dashes and
	// underscores. The release is kept in <registry>/<name>.
	Name string `yaml:"name" jsonschema:"required,pattern=^[a-z0-9]+([._-]+[a-z0-9]+)*$,maxLength=63"`
	// Where images are pushed to: a repository with its host and without a
	// tag, such as ghcr.io/acme/openclaw. Services are below it.
	Registry string `yaml:"registry" jsonschema:"required"`
	// How registry hosts are reached where the defaults don't do, by host with
	// its port, such as registry.acme.dev:5000. Never credentials.
	Registries map[string]RegistryHost `yaml:"registries"`
	// The Compose files of the application.
	Compose Compose `yaml:"compose"`
	// How images are built.
	Build Build `yaml:"build"`
	// The parts of the agent that change on their own, and where they live:
	// patterns of tracked files (prompts/**), or compose:KEY for an environment
	// key of the merged model. Everything else is the dimension code.
	Dimensions map[string][]string `yaml:"dimensions"`
	// What a scan judges.
	Scan Scan `yaml:"scan"`
	// What signs.
	Sign Sign `yaml:"sign"`
	// Who may say what. Without it every role except approver and breakGlass is
	// the public half of sign.key. With it, a role that is missing is nobody's.
	Trust *Trust `yaml:"trust"`
	// The prod-like run.
	Smoke Smoke `yaml:"smoke"`
	// Where releases are promoted to. The first one is the one without after.
	Environments map[string]Environment `yaml:"environments"`
	// Executables that run at certain points, with PROMOTE_* in their
	// environment.
	Hooks Hooks `yaml:"hooks"`
	// Who is told what happened.
	Notify []Notification `yaml:"notify"`
	// Directories or files of Rego policies, beside the built-in ones.
	Policies []string `yaml:"policies"`
	// Where the ledger is kept.
	Ledger Ledger `yaml:"ledger"`
}

// Compose names the base files of the model.
type Compose struct {
	// The topology; environments and smoke lay their files over it. Default:
	// compose.yaml.
	Files []string `yaml:"files" jsonschema:"minItems=1"`
	// Files for development only: mounts, debug logging. Never promoted.
	Development []string `yaml:"development"`
}

// Build says how images are built.
type Build struct {
	// As os/arch or os/arch/variant. Default: linux/amd64.
	Platforms []string `yaml:"platforms" jsonschema:"minItems=1"`
	// Tags of pushed images, beside their digest, with {{.Version}},
	// {{.Commit}} and {{.ShortCommit}} filled in. Default: {{.Version}}.
	Tags []string `yaml:"tags"`
	// Caches outside of the builder: registry, or registry=REPOSITORY.
	Cache []string `yaml:"cache"`
}

// Scan says what a scan judges, and with which data.
type Scan struct {
	// The least severity of a vulnerability that fails, fixed or not. Secrets
	// and distributions that the database does not cover always fail. Default:
	// critical.
	FailOn string `yaml:"failOn" jsonschema:"enum=unknown,enum=low,enum=medium,enum=high,enum=critical"`
	// Findings that are accepted, each with a statement and an expiry. Default:
	// .trivyignore.yaml, which need not exist.
	IgnoreFile string `yaml:"ignoreFile"`
	// OpenVEX or CycloneDX VEX documents.
	VEX []string `yaml:"vex"`
	// How old a scan and its database may be. Default: 24h.
	MaxAge time.Duration `yaml:"maxAge"`
	// Where vulnerability data comes from.
	Database Database `yaml:"database"`
	// Distributions that the database does not cover, let through visibly.
	Waive []Waiver `yaml:"waive"`
}

// Database is a vulnerability database.
type Database struct {
	// An OCI repository in the layout of trivy-db; without a tag or digest it
	// is the tag of the schema. Default: the public database.
	Repository string `yaml:"repository"`
}

// Waiver lets an uncovered distribution or ecosystem through for a time. After
// its day it has no effect any more.
type Waiver struct {
	// As the finding names it, such as debian 12.
	Distribution string `yaml:"distribution" jsonschema:"required"`
	// Why this is acceptable.
	Statement string `yaml:"statement" jsonschema:"required"`
	// The day from which it has no effect, such as 2027-01-31.
	Expires Day `yaml:"expires" jsonschema:"required"`
}

// Sign names what signs: a key, or an identity.
type Sign struct {
	// A file, env://NAME, or the URI of a key service. Default:
	// env://PROMOTE_KEY.
	Key string `yaml:"key"`
	// Certificates for identities sign instead of the key. A key beside it is for
	// the ledger's records only.
	Keyless *Keyless `yaml:"keyless"`
	// A trusted_root.json, for instances of sigstore other than the public one.
	TrustedRoot string `yaml:"trustedRoot"`
	// Write sha256-<hex>.sig tags too, for tools that read no bundles.
	LegacySignatures bool `yaml:"legacySignatures"`
}

// Keyless names the services that stand in for a key, by their URLs. Those that
// are not named are the public ones.
type Keyless struct {
	// The certificate authority. Default: https://fulcio.sigstore.dev.
	Fulcio string `yaml:"fulcio"`
	// The transparency log. Default: https://rekor.sigstore.dev.
	Rekor string `yaml:"rekor"`
	// Of the transparency log: 1 or 2. A log of version 2 gives no time, so it
	// needs a timestamp authority. Default: 1.
	RekorVersion int `yaml:"rekorVersion" jsonschema:"enum=1,enum=2"`
	// The timestamp authority's full URL. Default: none is asked.
	Timestamp string `yaml:"timestamp"`
	// The OpenID Connect issuer of identity tokens. Default: that of the token
	// in SIGSTORE_ID_TOKEN, or GitHub Actions'.
	Issuer string `yaml:"issuer"`
}

// Hooks are executables, by the point at which they run.
type Hooks struct {
	// Before images are built.
	PreBuild string `yaml:"pre-build"`
	// When all is ready, before the first target is changed. If it fails, nothing
	// is deployed.
	PreDeploy string `yaml:"pre-deploy"`
	// When the deployment is recorded. If it fails, that is a warning.
	PostDeploy string `yaml:"post-deploy"`
}

// Notification tells somebody of records.
type Notification struct {
	// The variable that holds the URL, as env://NAME: URLs of this kind are
	// secrets.
	Webhook string `yaml:"webhook" jsonschema:"required,pattern=^env://[A-Za-z_][A-Za-z0-9_]*$"`
	// The variable that holds what messages are signed with, as env://NAME:
	// whsec_ and base64, or any text. Default: they are not signed.
	Secret string `yaml:"secret" jsonschema:"pattern=^env://[A-Za-z_][A-Za-z0-9_]*$"`
	// What is sent: cloudevents, or slack for {"text": …}. Default: cloudevents.
	Format string `yaml:"format" jsonschema:"enum=cloudevents,enum=slack"`
	// The URL may be http:, and is then sent in the clear. Without it only
	// addresses of this machine may.
	PlainHTTP bool `yaml:"plainHTTP"`
	// The phases of records that are told of. Default: all.
	On []string `yaml:"on" jsonschema:"minItems=1,enum=released,enum=intended,enum=deployed,enum=rolledBack,enum=failed,enum=denied,enum=approved,enum=frozen,enum=unfrozen,enum=exception,enum=breakGlass,enum=trustChanged,enum=watched,enum=compacted"`
}

// Ledger says where the ledger is kept: in one of these places.
type Ledger struct {
	// A directory of this machine. Default: .promote/ledger.
	File FileLedger `yaml:"file"`
	// A branch of a git repository.
	Git *GitLedger `yaml:"git"`
	// How long a promotion holds its environment without a sign of life; from 2s
	// to 1h. Default: 15s, with git 45s.
	Lease time.Duration `yaml:"lease"`
}

// FileLedger is a ledger in a directory: its path, or a mapping.
type FileLedger struct {
	// Relative to promote.yaml. Default: .promote/ledger.
	Path string `yaml:"path"`
	// The directory is one that all machines share, so CI and targets on other
	// hosts may use it.
	Shared bool `yaml:"shared"`
}

// GitLedger is a ledger in a git branch of its own.
type GitLedger struct {
	// A remote's name, a URL or a path. Credentials are git's matter. Default:
	// origin.
	Remote string `yaml:"remote"`
	// Default: promote-ledger.
	Branch string `yaml:"branch"`
}
