package config

import "time"

// Smoke describes the prod-like run.
type Smoke struct {
	// Compose files, laid over the base: production's limits and hardening.
	Files []string `yaml:"files"`
	// For the start, and for each check with what it needs. Default: 2m.
	Timeout time.Duration `yaml:"timeout"`
	// What running services must answer.
	Checks []Check `yaml:"checks"`
	// How memory is tested.
	Memory Memory `yaml:"memory"`
	// Whether services may reach anything outside the run. With deny all its
	// networks are internal, and a service that needs the internet to start
	// fails; it takes an engine of this machine. Default: allow.
	Egress string `yaml:"egress" jsonschema:"enum=allow,enum=deny"`
	// With recreate, each service with a named volume is replaced once, if no
	// check does it: what is then gone was not in the volume. Default: recreate.
	State string `yaml:"state" jsonschema:"enum=recreate,enum=off"`
	// How the tested model may differ from those of later environments.
	Parity Parity `yaml:"parity"`
	// What is under way when a service is told to stop.
	Stop *StopTest `yaml:"stop"`
}

// Parity says which differences between the models are known and accepted.
type Parity struct {
	// Each one warns with its statement instead of failing.
	Accept []AcceptedDifference `yaml:"accept"`
}

// AcceptedDifference is a difference that somebody answers for.
type AcceptedDifference struct {
	// The environment whose model differs.
	Environment string `yaml:"environment" jsonschema:"required"`
	// The service; without it the model as a whole.
	Service string `yaml:"service"`
	// As results name it: memory, mounts, environment.
	Field string `yaml:"field" jsonschema:"required"`
	// Why that is right.
	Statement string `yaml:"statement" jsonschema:"required"`
}

// StopTest is what is under way when a service is told to stop: it must be
// answered, or taken up again afterwards.
type StopTest struct {
	// The requests. Default: those of the memory test's load, where they have a
	// body or change something.
	HTTP *ServiceHTTP `yaml:"http" jsonschema:"required"`
	// How many are under way at once. Default: 4.
	Requests int `yaml:"requests" jsonschema:"minimum=1,maximum=64"`
	// A check that passes after starting again if what was lost was taken up.
	Resumed string `yaml:"resumed"`
}

// ServiceHTTP is a request to a service.
type ServiceHTTP struct {
	// The service that is asked.
	Service string `yaml:"service" jsonschema:"required"`
	HTTP    `yaml:",inline"`
}

// Check is one thing to ask of a running service, until it answers as wanted:
// one of http, exec, tcp, log, logNot and script.
type Check struct {
	// Its name in results: letters, digits, - _ and .
	Name string `yaml:"name" jsonschema:"required,pattern=^[A-Za-z0-9][A-Za-z0-9_.-]{0\\,63}$"`
	// The service that is asked. Only a script needs none.
	Service string `yaml:"service"`
	// A request.
	HTTP *CheckHTTP `yaml:"http"`
	// A command in the container; exit code 0 is wanted.
	Exec []string `yaml:"exec"`
	// A port that must take connections.
	TCP int `yaml:"tcp" jsonschema:"minimum=1,maximum=65535"`
	// A regular expression that a line of the log must match.
	Log string `yaml:"log"`
	// A regular expression that no line of the log may match, from the start to
	// the end of the run.
	LogNot string `yaml:"logNot"`
	// A program of the project with its arguments, run on this machine with
	// PROMOTE_* in its environment; exit code 0 is wanted.
	Script []string `yaml:"script"`
	// Words that the output of exec or script must contain.
	Contains string `yaml:"contains"`
	// Done once before a check that must survive: {{token}} in it, and in what
	// the check wants, is a word of this run.
	Write *Ask `yaml:"write"`
	// What is done to the service between two runs of the check: restart or
	// recreate. The answer must be the same.
	Survives string `yaml:"survives" jsonschema:"enum=restart,enum=recreate"`
	// Default: 10s.
	Timeout time.Duration `yaml:"timeout"`
	// Whether promote watch asks it of what runs, once, without moving anything.
	// Default: http by GET, HEAD or OPTIONS, tcp, exec, log and logNot are asked;
	// other requests and scripts are not. What has write never is.
	Watch *bool `yaml:"watch"`
}

// Ask is one thing to do: one of http, exec and script.
type Ask struct {
	// A request.
	HTTP *HTTP `yaml:"http"`
	// A command in the container; exit code 0 is wanted.
	Exec []string `yaml:"exec"`
	// A program of the project with its arguments.
	Script []string `yaml:"script"`
}

// CheckHTTP is a request and all that is wanted of the answer.
type CheckHTTP struct {
	HTTP `yaml:",inline"`
	// Values in the JSON answer by their path, such as a.b[0].c; an empty one
	// must only be there.
	JSON map[string]Scalar `yaml:"json"`
	// How long the answer may take, such as 500ms.
	Within time.Duration `yaml:"within"`
}

// HTTP is a request and the answer that is wanted.
type HTTP struct {
	// With its query. Default: /.
	Path string `yaml:"path" jsonschema:"pattern=^/"`
	// Default: GET.
	Method string `yaml:"method"`
	// Default: any below 400.
	Status int `yaml:"status" jsonschema:"minimum=100,maximum=599"`
	// In the container. Default: the first that the service publishes or
	// exposes.
	Port int `yaml:"port" jsonschema:"minimum=1,maximum=65535"`
	// What is sent.
	Body string `yaml:"body"`
}

// Memory says how to look for too much memory, and for leaks.
type Memory struct {
	// How long services are loaded and measured; 0s leaves it out. Default:
	// 60s.
	Duration time.Duration `yaml:"duration"`
	// Its beginning, which does not count for growth. Default: 10s.
	Warmup time.Duration `yaml:"warmup"`
	// What keeps a service busy meanwhile.
	Load MemoryLoad `yaml:"load"`
	// What a service's peak may be, of its limit. Default: 90.
	MaxPercentOfLimit float64 `yaml:"maxPercentOfLimit" jsonschema:"minimum=1,maximum=100"`
	// For how long a service must not reach its limit at the rate at which it
	// grows. Default: 24h.
	Horizon time.Duration `yaml:"horizon"`
}

// MemoryLoad is what keeps a service busy: http, exec or script.
type MemoryLoad struct {
	// Requests at a rate.
	HTTP *LoadHTTP `yaml:"http"`
	// A command that is repeated.
	Exec *LoadExec `yaml:"exec"`
	// A program of the project that is repeated, on this machine.
	Script *LoadScript `yaml:"script"`
}

// LoadHTTP is a request that is repeated.
type LoadHTTP struct {
	// The service that is asked.
	Service string `yaml:"service" jsonschema:"required"`
	HTTP    `yaml:",inline"`
	// Such as 20/s or 90/m. Default: 10/s.
	Rate Rate `yaml:"rate"`
	// At most so many requests at once. Default: 8.
	Concurrency int `yaml:"concurrency" jsonschema:"minimum=1"`
}

// LoadExec is a command that is repeated.
type LoadExec struct {
	// The service it runs in.
	Service string `yaml:"service" jsonschema:"required"`
	// With its arguments.
	Command []string `yaml:"command" jsonschema:"required,minItems=1"`
	// Such as 20/s or 90/m. Default: 10/s.
	Rate Rate `yaml:"rate"`
}

// LoadScript is a program of the project that is repeated.
type LoadScript struct {
	// With its arguments.
	Command []string `yaml:"command" jsonschema:"required,minItems=1"`
	// Such as 20/s or 90/m. Default: 10/s.
	Rate Rate `yaml:"rate"`
}
