package config

import "time"

// Environment is one place in the order of promotion.
type Environment struct {
	// The environment that a release must have been deployed to before. Empty
	// for the first one.
	After string `yaml:"after"`
	// Compose files, laid over the base in order.
	Files []string `yaml:"files"`
	// A file of KEY=VALUE lines for the model's placeholders, on the machine
	// that deploys. It need not exist elsewhere.
	EnvFile string `yaml:"envFile"`
	// Where its targets pull from. Default: the project's registry.
	Registry string `yaml:"registry"`
	// The hosts. Default: this machine's engine, as local.
	Targets []Target `yaml:"targets" jsonschema:"minItems=1"`
	// How long a release must have run in the environment before, healthy.
	Soak time.Duration `yaml:"soak"`
	// Who must have approved.
	Approvals Approvals `yaml:"approvals"`
	// When promotions are allowed. Several allow windows add up; a deny window
	// wins.
	Windows []Window `yaml:"windows"`
	// How targets are changed.
	Strategy Strategy `yaml:"strategy"`
	// How many releases before the present one keep their images on the targets.
	// Default: 2.
	KeepReleases int `yaml:"keepReleases" jsonschema:"minimum=1"`
	// What is kept of volumes before they are touched.
	Snapshots *Snapshots `yaml:"snapshots"`
}

// Target is one host.
type Target struct {
	// Its name in records and messages.
	Name string `yaml:"name" jsonschema:"required"`
	// The engine: ssh://USER@HOST, unix:///PATH or tcp://HOST:PORT. Default:
	// this machine's, as docker finds it.
	Host string `yaml:"host"`
}

// Approvals is a quorum of distinct people.
type Approvals struct {
	// How many approvers must agree. Default: 0.
	Required int `yaml:"required" jsonschema:"minimum=0"`
	// Whoever acted in these roles for the release does not count. Whoever
	// recorded the release or promotes it never does.
	NotBy []string `yaml:"notBy" jsonschema:"enum=builder,enum=scanner,enum=tester,enum=promoter,enum=approver,enum=owner,enum=breakGlass"`
}

// Window is a span of the week: allow or deny, as "Mon-Thu 09:00-16:00",
// "Sat,Sun 00:00-24:00", "09:00-16:00" or, over midnight, "Fri 22:00-Sat 02:00".
type Window struct {
	// Promotions may begin.
	Allow string `yaml:"allow"`
	// Promotions may not begin.
	Deny string `yaml:"deny"`
	// A zone of the IANA database. Default: UTC.
	Zone string `yaml:"zone"`
}

// Strategy says how the targets of an environment are changed.
type Strategy struct {
	// How many targets go first.
	Canary int `yaml:"canary" jsonschema:"minimum=0"`
	// How long the canaries run alone.
	Pause time.Duration `yaml:"pause"`
	// How many targets are changed at once. Default: 1.
	Parallel int `yaml:"parallel" jsonschema:"minimum=1"`
	// What a failed deployment does: rollback or stop. Default: rollback.
	OnFailure string `yaml:"onFailure" jsonschema:"enum=rollback,enum=stop"`
}

// Snapshots says which volumes are kept, encrypted, before they are touched.
type Snapshots struct {
	// By their keys in the Compose model.
	Volumes []string `yaml:"volumes" jsonschema:"required,minItems=1"`
	// A file of public keys that they are encrypted to, one a line: age's (age1…)
	// or ssh's.
	EncryptTo string `yaml:"encryptTo" jsonschema:"required"`
	// How many are kept of each volume. Default: 5.
	Keep int `yaml:"keep" jsonschema:"minimum=1"`
}
