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
}

// Check is one thing to ask of a running service, until it answers as wanted:
// one of http, exec, tcp and log.
type Check struct {
	// Its name in results: letters, digits, - _ and .
	Name string `yaml:"name" jsonschema:"required,pattern=^[A-Za-z0-9][A-Za-z0-9_.-]{0\\,63}$"`
	// The service that is asked.
	Service string `yaml:"service" jsonschema:"required"`
	// A request.
	HTTP *HTTP `yaml:"http"`
	// A command in the container; exit code 0 is wanted.
	Exec []string `yaml:"exec"`
	// A port that must take connections.
	TCP int `yaml:"tcp" jsonschema:"minimum=1,maximum=65535"`
	// A regular expression that a line of the log must match.
	Log string `yaml:"log"`
	// What is done to the service between two runs of the check: restart or
	// recreate. The answer must be the same.
	Survives string `yaml:"survives" jsonschema:"enum=restart,enum=recreate"`
	// Default: 10s.
	Timeout time.Duration `yaml:"timeout"`
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

// MemoryLoad is what keeps a service busy: http or exec.
type MemoryLoad struct {
	// Requests at a rate.
	HTTP *LoadHTTP `yaml:"http"`
	// A command that is repeated.
	Exec *LoadExec `yaml:"exec"`
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
