package release

import "time"

// Target is one place that an environment deploys to.
type Target struct {
	Name string `json:"name"`
	// Host is the engine's address (unix://, ssh://, tcp://); empty is the
	// default engine of the machine.
	Host string `json:"host"`
}

// Local reports whether the target is an engine of this machine.
func (t Target) Local() bool {
	return t.Host == "" || len(t.Host) >= 7 && t.Host[:7] == "unix://"
}

// Environment is staging, production and so on, as configured.
type Environment struct {
	Name     string        `json:"name"`
	After    string        `json:"after,omitempty"` // the environment a release must have been deployed to; empty for the first
	Registry string        `json:"registry"`        // where its targets pull from
	Targets  []Target      `json:"targets"`
	Soak     time.Duration `json:"soak,omitempty"`
	// Approvals says who must have agreed to a release.
	Approvals Approvals `json:"approvals,omitzero"`
	// Windows are when promotions may begin.
	Windows []Window `json:"windows,omitempty"`
	// OnFailure is "rollback" or "stop".
	OnFailure string `json:"onFailure"`
	// KeepReleases is how many releases before the present one keep their images
	// on the targets; 0 is KeptReleases.
	KeepReleases int `json:"keepReleases,omitempty"`
	// Snapshots says which volumes are kept before they are touched.
	Snapshots Snapshots `json:"snapshots,omitzero"`
	// Strategy says in which order its targets are changed.
	Strategy Strategy `json:"strategy,omitzero"`
}

// Strategy says which targets of an environment are changed first, and how many
// at once. The zero value is one after the other.
type Strategy struct {
	Canary   int           `json:"canary,omitempty"`   // how many targets go first
	Pause    time.Duration `json:"pause,omitempty"`    // how long they are watched alone
	Parallel int           `json:"parallel,omitempty"` // at once; below 1 is 1
}

// Step is one thing to do to a target: one API call, or one small sequence
// that a resume can take up, with its cause.
type Step struct {
	Target  string `json:"target"`
	Service string `json:"service,omitempty"`
	Action  string `json:"action"`
	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"`
	Cause   string `json:"cause"`
	// Order is in which order a container is replaced, "start-first" or
	// "stop-first", and OrderCause why it is stopped first.
	Order      string `json:"order,omitempty"`
	OrderCause string `json:"orderCause,omitempty"`
}

// Plan is what would be done, in order. An empty plan means: nothing differs.
type Plan struct {
	Steps []Step `json:"steps"`
	// Blocking holds findings that must not be acted over: a volume that is
	// missing or another one than recorded.
	Blocking []Reason `json:"blocking,omitempty"`
	// Accepted holds findings of that kind that somebody said are meant to be so.
	Accepted []Reason `json:"accepted,omitempty"`
	// Seen is what the steps were decided from, by name: a saved plan counts only
	// while it is there.
	Seen map[string]string `json:"-"`
}

// Changes reports whether the plan does anything.
func (p Plan) Changes() bool { return len(p.Steps) > 0 }

// Running is what a target runs for one service, read back from its engine.
type Running struct {
	Service string `json:"service"`
	// Digest is that of the release's image, once the container's image was
	// compared with the verified platform manifest.
	Digest Digest `json:"digest"`
	// Image is the engine's own id of the container's image: the config digest
	// on the classic image store, the manifest digest on the containerd store.
	Image     string `json:"image,omitempty"`
	Container string `json:"container,omitempty"` // the engine's id
	// State says how the container does not run, such as "exited, exit code 137";
	// empty while it does.
	State  string `json:"state,omitempty"`
	Health string `json:"health,omitempty"` // healthy, unhealthy, starting, none
	// Volumes maps mount paths to the identity of the volume mounted there.
	Volumes map[string]string `json:"volumes,omitempty"`
	// StateSchema is the schema in which the service keeps its state, as
	// LabelStateSchema says; 0 is the first, or not known.
	StateSchema int64 `json:"stateSchema,omitempty"`
	// Desired is the digest of what the container says it was made to be, in
	// LabelDesired; zero where it says nothing.
	Desired Digest `json:"desired,omitzero"`
	// Defaults are fingerprints of what the engine had filled in, by field, where
	// it is not what was asked for.
	Defaults map[string]string `json:"defaults,omitempty"`
}

// TargetStatus is the truth about one target after something was done to it.
type TargetStatus struct {
	Name string `json:"name"`
	// Status is deployed, unchanged, rolledBack, failed, skipped or unreachable.
	Status  string    `json:"status"`
	Running []Running `json:"running"`
	Message string    `json:"message,omitempty"`
	// Snapshots are what this promotion kept of volumes before it changed them.
	Snapshots []Snapshot `json:"snapshots,omitempty"`
}

// Deviation is one thing about a target that is not as recorded. Texts that
// may be secret are fingerprints.
type Deviation struct {
	Service string `json:"service"`
	// Field is image, configuration, state, health, origin, twin NAME,
	// container NAME, or one of the fields of docs/drift.md.
	Field    string `json:"field"`
	Recorded string `json:"recorded"` // what should be; empty is nothing
	Running  string `json:"running"`  // what is
}
