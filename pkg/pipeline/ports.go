package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Source reads the checkout that a release is made of.
type Source interface {
	Head(ctx context.Context) (release.Head, error)
	// Dimensions gives the digest of each group of tracked files, by pattern,
	// and of everything else as "code".
	Dimensions(ctx context.Context, patterns map[string][]string) (map[string]release.Digest, error)
}

// BuildRequest is one service's image to build and push.
type BuildRequest struct {
	Service    string            `json:"service"`
	Spec       release.BuildSpec `json:"spec"`
	Repository string            `json:"repository"`
	Head       release.Head      `json:"head"`
	Platforms  []string          `json:"platforms"`
}

// Builder builds and pushes an image by digest, with its provenance. It runs
// without keys.
type Builder interface {
	Build(ctx context.Context, r BuildRequest) (release.Image, error)
}

// Scanner gives a subject's vulnerabilities, secrets and SBOM. It runs without
// keys. Findings are a result, not an error.
type Scanner interface {
	Scan(ctx context.Context, s release.Subject) (release.Scan, error)
}

// SmokeRequest is a prod-like run of a release.
type SmokeRequest struct {
	Release release.Digest             `json:"release"`
	Model   []byte                     `json:"model"`
	Images  map[string]release.Subject `json:"images"`
	// Variables names the placeholders of the model.
	Variables []string `json:"variables"`
	// Environments are the models that the release would later run with, which
	// the smoke model is compared with.
	Environments map[string][]byte `json:"environments,omitempty"`
	// Local gives images of the engine's own by service, instead of Images:
	// for a working tree, whose result is no evidence.
	Local map[string]string `json:"local,omitempty"`
	Dir   string            `json:"dir,omitempty"` // the project's root, for scripts
}

// Smoker runs a release under production's conditions. It runs without keys.
// An application that fails is a result, not an error.
type Smoker interface {
	Smoke(ctx context.Context, r SmokeRequest) (release.Smoke, error)
}

// Composition is what a list of Compose files gives, merged.
type Composition struct {
	Sources      []release.Source
	Model        []byte // canonical JSON with placeholders, without build and image
	Requirements release.Requirements
	Findings     []release.Reason
}

// Models merges Compose files and resolves models.
type Models interface {
	Load(ctx context.Context, files []string) (Composition, error)
	// Resolve fills placeholders and images in. A missing value is a fault
	// that names every missing one.
	Resolve(model []byte, values map[string]string, images map[string]release.Subject) (release.Workload, error)
}

// Images reads and copies images by digest.
type Images interface {
	Resolve(ctx context.Context, reference string) (release.Subject, error)
	Platform(ctx context.Context, s release.Subject, platform string) (release.PlatformImage, error)
	// Copy copies a subject's bytes, and with them the attestations about it,
	// to another repository and reads them back. Present ones cost a request.
	Copy(ctx context.Context, s release.Subject, repository string, referrers bool) error
	Tag(ctx context.Context, s release.Subject, tag string) error
}

// Attestations reads and writes the attestations about a subject.
type Attestations interface {
	Attach(ctx context.Context, s release.Subject, a release.Attachment) error
	Attachments(ctx context.Context, s release.Subject) ([]release.Attachment, error)
}

// Documents reads and writes release documents.
type Documents interface {
	PushRelease(ctx context.Context, repository string, d release.Document, tags []string) (release.Subject, error)
	PullRelease(ctx context.Context, s release.Subject) (release.Document, error)
}

// Signer signs statements with the key of whoever runs promote.
type Signer interface {
	// Party is who signs, with the roles the trust policy gives them.
	Party() release.Signer
	Sign(ctx context.Context, st release.Statement) (release.Attachment, error)
}

// Keys opens the signing key, late: only after build, scan and smoke.
type Keys interface {
	Open(ctx context.Context) (Signer, error)
	// Ready does ahead what takes long about opening, where nobody but this
	// process notices: it asks no service and no token.
	Ready(ctx context.Context)
}

// Verifier judges signatures, never contents.
type Verifier interface {
	Verify(ctx context.Context, s release.Subject, attachments []release.Attachment) []release.Evidence
}

// Legacy is evidence in the form that cosign had before bundles.
type Legacy interface {
	// Evidence reads and verifies all there is about a subject.
	Evidence(ctx context.Context, s release.Subject) ([]release.Evidence, error)
	// Writes reports whether the configuration asks for signatures in that form
	// beside bundles.
	Writes() bool
	// Sign writes one, after those that are there. The very same again changes
	// nothing.
	Sign(ctx context.Context, s release.Subject, signer Signer) error
}

// Layouts reads what lies in an image layout or an archive on this machine,
// "oci:DIR" or "oci-archive:FILE": which image it is, and what is attached to
// it. The evidence is verified.
type Layouts interface {
	Evidence(ctx context.Context, source string) (release.Subject, []release.Evidence, error)
}

// Judge decides over facts.
type Judge interface {
	Judge(ctx context.Context, f release.Facts) ([]release.Verdict, error)
	// Digest is that of every policy in force.
	Digest() release.Digest
}

// Ledger is the append-only log of records; appending is compare-and-swap.
type Ledger interface {
	// Read gives all records, verified.
	Read(ctx context.Context) (release.History, release.Checkpoint, error)
	// Append adds a record to a log of the given size; if the log has moved,
	// the error is release.ErrMoved.
	Append(ctx context.Context, r release.Record, size int64) (release.Entry, release.Checkpoint, error)
	// Settle completes the record that an interrupted append left half written,
	// and reports whether there was one.
	Settle(ctx context.Context) (bool, error)
	Heartbeat(ctx context.Context, intent int64) error
	// Stale watches until an intent's lease is over (true) or its holder
	// shows life (false). It takes at most one lease.
	Stale(ctx context.Context, intent int64, lease time.Duration) (bool, error)
	// Rest forgets the counter of an intent that was closed.
	Rest(ctx context.Context, intent int64) error
	// Contains is an error unless the log contains an earlier checkpoint,
	// given as its signed envelope.
	Contains(ctx context.Context, envelope []byte) error
}

// Notifier tells others of a record that is durable. It returns at once, and
// what becomes of the message concerns nobody here.
type Notifier interface {
	Recorded(ctx context.Context, e release.Entry)
}

// The hooks of a project: its own programs, by the point at which they run.
const (
	// PreDeploy runs when all is ready and before the first target is changed.
	PreDeploy = "pre-deploy"
	// PostDeploy runs when the deployment is recorded.
	PostDeploy = "post-deploy"
)

// HookRequest is what a hook is told.
type HookRequest struct {
	Hook        string // PreDeploy or PostDeploy
	Project     string
	Environment string
	Kind        string // of the promotion
	Release     release.Digest
	Version     string
	From        release.Digest // that ran before; zero if none did
	Targets     []string
	Record      int64 // the sequence of the intended record, or of the deployed one
}

// Hooks runs hooks. They run without keys. One that is not configured is done.
type Hooks interface {
	RunHook(ctx context.Context, r HookRequest) error
}

// Desired is what a target shall run.
type Desired struct {
	Workload release.Workload
	Images   map[string]release.PlatformImage
	// Recorded is what the last deployed record says about the target; nil
	// for a first deployment.
	Recorded *release.TargetStatus
	// Attempt marks what this deployment makes. A resume keeps the attempt of
	// the promotion that it takes up.
	Attempt Attempt
	// Redeploy recreates what runs even if nothing differs.
	Redeploy bool
	// Adopt takes over, as they run, containers that somebody else made and that
	// are just what the workload asks for.
	Adopt bool
	// StateChanges names the volumes that may be new, other ones, empty or gone;
	// KnownChanges those of which the last record says so.
	StateChanges, KnownChanges []string
	// Recreate names services to recreate because they drifted.
	Recreate map[string]bool
	// Back: it goes back to what ran before; hooks that fail are warnings.
	Back bool
	// Snapshots are taken before services are replaced; Before is what runs until
	// then, and Needed are the releases whose newest snapshot is not pruned.
	Snapshots release.Snapshots
	Before    release.Digest
	Needed    []release.Digest
	// Restore are snapshots that their volumes are brought back to; Identity is
	// the private key that opens them.
	Restore  []release.Snapshot
	Identity string
}

// DriftQuery is what the ledger and the release say about one target.
type DriftQuery struct {
	Project  string
	Images   map[string]release.PlatformImage // by service, of the target's platform
	Subjects map[string]release.Subject       // as deployed
	Built    map[string]bool                  // services whose image is the project's own
	Recorded *release.TargetStatus
	// Workload is the resolved model; nil where the values are not known.
	Workload *release.Workload
	Key      string // of fingerprints that are compared between targets
}

// DriftReport is in what a target differs from its record, and what it was
// found to be.
type DriftReport struct {
	Differences []release.Deviation
	// Texts are by service and field; secret ones are fingerprints.
	Texts map[string]map[string]string
	// Untold names fields that the target's engine cannot tell.
	Untold []string
	// Unknown names services of which only image and state were compared.
	Unknown []string
}

// Attempt names one try at deploying by its intended record.
type Attempt struct {
	Sequence int64
	Record   release.Digest
}

// ErrCommitted is in the chain of Undo's error when what was replaced is gone
// already: the way back is a deployment of the release before.
var ErrCommitted = errors.New("what was replaced is gone")

// Guard is asked before every effect; an error stops the run without it.
type Guard func(ctx context.Context) error

// Deployer changes and observes what one target runs.
type Deployer interface {
	Info(ctx context.Context) (release.EngineInfo, error)
	// Plan only reads. It needs no Attempt.
	Plan(ctx context.Context, d Desired) (release.Plan, error)
	// Fetch brings the images of d to the target; nothing that runs changes.
	Fetch(ctx context.Context, d Desired, guard Guard) error
	// Apply makes the target run d; replaced containers stay, stopped, until
	// Commit. After an error nothing is undone, and the error is KindBroken if
	// the target was changed. Interrupted, it can be called again.
	Apply(ctx context.Context, d Desired, guard Guard) error
	// Commit removes what Apply replaced.
	Commit(ctx context.Context, d Desired, guard Guard) error
	// Prune removes those of the images that lie in the environment's registry
	// under its name, as far as no container uses them, and gives their names.
	Prune(ctx context.Context, registry string, images []release.Digest, guard Guard) ([]string, error)
	// Undo brings back what the attempt replaced, from observation only.
	Undo(ctx context.Context, d Desired, guard Guard) error
	// ReadBack says what runs after Apply; the reasons say what differs from d.
	ReadBack(ctx context.Context, d Desired) ([]release.Running, []release.Reason, error)
	// Hold watches for a time that the target goes on running d. A service that
	// turns unhealthy, ends or is restarted meanwhile is an error, at once.
	Hold(ctx context.Context, d Desired, length time.Duration) error
	// Uptime is how long the youngest of d's services has run without a break,
	// by the target's own clock; 0 if one does not run, or it is not known.
	Uptime(ctx context.Context, d Desired) (time.Duration, error)
	// Snapshots lists a project's whole snapshots on the target, oldest first.
	Snapshots(ctx context.Context, project string) ([]release.Snapshot, error)
	// CheckSnapshot decrypts a snapshot with d's Identity, and says why it could
	// not be restored.
	CheckSnapshot(ctx context.Context, d Desired, s release.Snapshot) error
	// Sweep removes the containers through which processes that are gone read a
	// project's volumes.
	Sweep(ctx context.Context, project string) error
	// Drift compares what runs with what was recorded; it only reads.
	Drift(ctx context.Context, q DriftQuery) (DriftReport, error)
	// Running says what runs in a project by comparing each container's image
	// with images; it needs no values.
	Running(ctx context.Context, project string, images map[string]release.PlatformImage) ([]release.Running, []release.Reason, error)
}

// Fence is a target's lock object and the checkpoint kept on it.
type Fence interface {
	Lock(ctx context.Context, name string, note release.LockNote) error
	ReadLock(ctx context.Context, name string) (release.LockNote, bool, error)
	// Unlock removes the lock that carries the sequence. Another one stays, and
	// none is no error.
	Unlock(ctx context.Context, name string, sequence int64) error
	SaveCheckpoint(ctx context.Context, name, text string) error
	ReadCheckpoint(ctx context.Context, name string) (string, error)
}

// LookQuery names what to look at on a target.
type LookQuery struct {
	Release release.Digest
	Project string
	Images  map[string]release.PlatformImage // by service, of the target's platform
	// Services is what the resolved model says; nil where the values are not known.
	Services []release.ServiceSpec
}

// Looker looks at what a target runs.
type Looker interface {
	// Look measures the services and asks them what the configured checks ask, as
	// far as that changes nothing. Both lists are valid with an error, which says
	// what could not be measured.
	Look(ctx context.Context, q LookQuery) ([]release.WatchedService, []release.WatchedCheck, error)
}

// Host is one target, opened.
type Host interface {
	Deployer
	Fence
	Looker
	Close() error
}

// Targets opens hosts.
type Targets interface {
	Open(ctx context.Context, t release.Target) (Host, error)
}

// Project is what promote.yaml says, as far as the pipeline needs it.
type Project struct {
	Name     string
	Registry string
	// Models maps smoke and each environment to its Compose files in order.
	Models       map[string][]string
	Platforms    []string
	Dimensions   map[string][]string // file patterns, or "compose:KEY"
	Environments []release.Environment
	MaxAge       time.Duration // of a scan and of the database
	FailOn       string
	// MemoryPercent is what a service's memory may be of its limit; 0 is any.
	MemoryPercent float64
	Trust         release.Trust
	// TrustFile says who signed the file that Trust is from; nil where
	// promote.yaml holds it.
	TrustFile *TrustFile
	// Configuration is the digest of trust, environments and policies.
	Configuration release.Digest
	Lease         time.Duration
	Actor         release.Actor
	// Values gives the placeholders of an environment: promote's own
	// environment and the envFile.
	Values func(environment string) (map[string]string, error)
}

// Repository is where the project's release manifests are.
func (p Project) Repository(registry string) string { return registry + "/" + p.Name }

// Environment finds an environment by name.
func (p Project) Environment(name string) (release.Environment, error) {
	var names []string
	for _, e := range p.Environments {
		if e.Name == name {
			return e, nil
		}
		names = append(names, e.Name)
	}
	hint, near := "", release.Nearest(name, names)
	if near == "" && name != "" { // people abbreviate
		for _, known := range names {
			if strings.HasPrefix(known, name) {
				near = known
			}
		}
	}
	if near != "" {
		hint = "did you mean " + near + "?"
	}
	return release.Environment{}, release.Misuse(hint, "no environment %q: promote.yaml has %q", name, names)
}

// TrustFile is a trust file and who signed it.
type TrustFile struct {
	Path    string `json:"path"`
	Version int64  `json:"version"`
	// Signers are the distinct owners who signed it, of Needed ones.
	Signers []string `json:"signers"`
	Needed  int      `json:"needed"`
}

// Pipeline is the order of things: a release, a promotion, a rollback. Its
// parts are handed in.
type Pipeline struct {
	Project Project
	// Recorder says who signs the ledger's records; nil is whom Keys gives.
	Recorder     func(context.Context) (release.Signer, error)
	Source       Source
	Builder      Builder
	Scanner      Scanner
	Smoker       Smoker
	Models       Models
	Images       Images
	Attestations Attestations
	Legacy       Legacy  // nil: only bundles are read and written
	Layouts      Layouts // nil: only registries are read
	Documents    Documents
	Keys         Keys
	Verifier     Verifier
	Judge        Judge
	Ledger       Ledger
	Notifier     Notifier // nil: nobody is told
	Hooks        Hooks    // nil: there are none
	Targets      Targets
	Now          func() time.Time
}

// predicate encodes a predicate; the types it is given always encode.
func predicate(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}
