package smoke

import (
	"context"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Watcher tells what the engine runs.
type Watcher interface {
	// Observe reports a project's containers, stopped ones too.
	Observe(ctx context.Context, project string) (release.Observed, error)
	// Inspect reports one container by id.
	Inspect(ctx context.Context, id string) (release.Container, error)
	// Events subscribes to a project's containers until ctx ends. Nothing that
	// happens after it returned is missed; the channel closes early when the
	// connection does.
	Events(ctx context.Context, project string) (<-chan release.ContainerEvent, error)
}

// Sampler measures containers and reads what they say.
type Sampler interface {
	Usage(ctx context.Context, id string) (release.Usage, error)
	Logs(ctx context.Context, id string, lines int) ([]byte, error)
}

// Hand acts on containers.
type Hand interface {
	// Exec runs a command and gives its exit code and output, stdout and stderr.
	Exec(ctx context.Context, id string, cmd []string) (exit int, output []byte, err error)
	// Stop sends the stop signal and kills after grace; 0 is the container's own.
	Stop(ctx context.Context, id string, grace time.Duration) error
	Restart(ctx context.Context, id string, grace time.Duration) error
}

// Prober looks into containers and volumes.
type Prober interface {
	// Confinement tells how a running container is confined and what it wrote.
	Confinement(ctx context.Context, id string) (release.Confinement, error)
	// Processes lists a running container's processes, at little cost.
	Processes(ctx context.Context, id string) ([]release.Process, error)
	// Entries counts the entries of a volume's top directory, at most 100.
	// errors.ErrUnsupported is in the chain where the engine's machine is one
	// that the probe does not run on.
	Entries(ctx context.Context, volume string) (n int, err error)
	// Start starts a container that was stopped.
	Start(ctx context.Context, id string) error
}

// Sweeper finds and removes what earlier runs left behind.
type Sweeper interface {
	// Owned gives the projects of all objects that carry a label, with the
	// value of their release.LabelOwner; empty where they have none.
	Owned(ctx context.Context, label string) (map[string]string, error)
	Info(ctx context.Context) (release.EngineInfo, error)
	// Down removes a project's containers, networks and volumes.
	Down(ctx context.Context, project string) error
}

// Engine is what a run needs of the engine it runs on. Its ports and container
// addresses must be reachable from here.
type Engine interface {
	Watcher
	Sampler
	Hand
	Prober
}

// Runner runs workloads; it is the way that deployments use, too.
type Runner interface {
	// Up starts a workload and returns when all services are well, or with the
	// first that is not. What it made stays.
	Up(ctx context.Context, w release.Workload) error
	// Recreate replaces one service's container and returns when it is well.
	Recreate(ctx context.Context, w release.Workload, service string) error
	// Down removes a project's containers, networks and volumes. What is not
	// there is no error.
	Down(ctx context.Context, project string) error
}

// Options says what to run, and what to look at.
type Options struct {
	// Release is the digest of the release under test; zero if there is none.
	Release release.Digest
	// Workload is the resolved smoke model. Run changes its names, see isolate.
	Workload release.Workload
	// Configuration names what was run by digest, for the predicate: the smoke
	// model, the images.
	Configuration map[string]release.Digest
	Engine        Engine
	Runner        Runner
	Checks        []Check
	Memory        MemoryTest
	Stop          StopTest
	// State is Recreate or Off: whether every service with a named volume is
	// replaced once, if no check does it. Empty is Recreate.
	State string
	// DenyEgress gives the run no way out. Checks then talk to the containers'
	// own addresses, which must be reachable from here.
	DenyEgress bool
	// Environments names those whose models the workload was compared with,
	// Parity is what differs, and Accept what of it somebody answers for.
	Environments []string
	Parity       []release.Difference
	Accept       []Accepted
	// ImageUsers is the user that each service's image is made for, where known.
	ImageUsers map[string]string
	// Owner says whose run this is, see Owner; it becomes a label of everything
	// that the run makes.
	Owner string
	// Dir is the project's root, where scripts are, and Environ what they see,
	// in the form of os.Environ.
	Dir     string
	Environ []string
	// Timeout bounds the start and each check together with what it needs; 0 is
	// two minutes.
	Timeout time.Duration
	// Interval is between two samples of a service's memory; 0 is 100 ms where
	// they come from the kernel, else a second.
	Interval time.Duration

	window time.Duration // what a slope is told from at least; 0 is minWindow
}

// The ways in which state must survive.
const (
	Restart  = "restart"  // the container is stopped and started again
	Recreate = "recreate" // the container is replaced, as a deployment does
)

// Off is what State is without recreating.
const Off = "off"

// Accepted is a difference between models that somebody answers for.
type Accepted struct {
	Environment string `json:"environment"`
	Service     string `json:"service,omitempty"`
	Field       string `json:"field"`
	Statement   string `json:"statement"`
}

// Ask is one thing to do: one of HTTP, Exec and Script.
type Ask struct {
	HTTP *HTTP    `json:"http,omitempty"`
	Exec []string `json:"exec,omitempty"` // in the container
	// Script is a program of the project with its arguments, run on this machine.
	Script []string `json:"script,omitempty"`
}

// StopTest is what is under way when a service is told to stop.
type StopTest struct {
	Ask
	Service  string `json:"service,omitempty"`
	Requests int    `json:"requests,omitempty"` // at once; 0 is four
	// Resumed is a check that passes after a start if what was lost was taken up.
	Resumed string `json:"resumed,omitempty"`
}

// Check is one thing to ask of a running service. Exactly one of HTTP, Exec,
// TCP, Log, LogNot and Script is set. It is asked until it answers as wanted or
// its time is over; LogNot is looked at when the run ends.
type Check struct {
	Name    string   `json:"name"`              // letters, digits, - _ and .
	Service string   `json:"service,omitempty"` // a script needs none
	HTTP    *HTTP    `json:"http,omitempty"`
	Exec    []string `json:"exec,omitempty"`   // exit code 0 is wanted
	TCP     int      `json:"tcp,omitempty"`    // a port that must take connections
	Log     string   `json:"log,omitempty"`    // a regular expression that a line of the log must match
	LogNot  string   `json:"logNot,omitempty"` // one that none may match
	Script  []string `json:"script,omitempty"` // as in Ask; exit code 0 is wanted
	// Contains are words that the output of Exec or Script must hold.
	Contains string `json:"contains,omitempty"`
	// Write is done once before a check that must survive. {{token}} in it, and
	// in what the check asks and wants, is a random word of the run.
	Write *Ask `json:"write,omitempty"`
	// Survives is empty, Restart or Recreate: the check is made, then that is
	// done to the service, then the check is made again. For Exec and Script the
	// output must be the same both times.
	Survives string        `json:"survives,omitempty"`
	Timeout  time.Duration `json:"timeout,omitempty"` // 0 is ten seconds
	// Watch says whether Watch asks it, where that is not what it does anyway.
	Watch *bool `json:"watch,omitempty"`
}

// HTTP is a request and the answer that is wanted.
type HTTP struct {
	Path   string `json:"path,omitempty"`   // with its query; "" is "/"
	Method string `json:"method,omitempty"` // "" is GET
	Status int    `json:"status,omitempty"` // 0 is any below 400
	// Port in the container; 0 is the first that the service publishes or exposes.
	Port int    `json:"port,omitempty"`
	Body string `json:"body,omitempty"`
	// JSON is what is wanted in the answer, by path (a.b[0].c), as it is written;
	// an empty value must only be there.
	JSON map[string]string `json:"json,omitempty"`
	// Within is how long an answer may take; 0 is any time.
	Within time.Duration `json:"within,omitempty"`
}

// MemoryTest says how to look for too much memory, and for leaks.
type MemoryTest struct {
	Duration time.Duration `json:"duration,omitempty"` // of load and sampling; 0 leaves it out
	Warmup   time.Duration `json:"warmup,omitempty"`   // at its beginning, not counted for growth
	Load     Load          `json:"load,omitzero"`
	// MaxPercentOfLimit is what a service's peak may be; 0 is 90.
	MaxPercentOfLimit float64 `json:"maxPercentOfLimit,omitempty"`
	// Horizon is for how long a service must not reach its limit at the rate at
	// which it grows; 0 is a day.
	Horizon time.Duration `json:"horizon,omitempty"`
}

// Load is what keeps a service busy: requests, or a command or script that is
// repeated.
type Load struct {
	Service     string   `json:"service,omitempty"`
	HTTP        *HTTP    `json:"http,omitempty"`
	Rate        float64  `json:"rate,omitempty"`        // requests a second; 0 is 10
	Concurrency int      `json:"concurrency,omitempty"` // at most so many at once; 0 is 8
	Exec        []string `json:"exec,omitempty"`
	Script      []string `json:"script,omitempty"` // as in Ask
}

func (l Load) none() bool { return l.HTTP == nil && len(l.Exec) == 0 && len(l.Script) == 0 }

const (
	defaultTimeout = 2 * time.Minute
	checkTimeout   = 10 * time.Second
	defaultPercent = 90
	defaultHorizon = 24 * time.Hour
)

func (o Options) withDefaults() Options {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.window <= 0 {
		o.window = minWindow
	}
	if o.State == "" {
		o.State = Recreate
	}
	if o.Memory.MaxPercentOfLimit <= 0 {
		o.Memory.MaxPercentOfLimit = defaultPercent
	}
	if o.Memory.Horizon <= 0 {
		o.Memory.Horizon = defaultHorizon
	}
	if o.Memory.Load.Rate <= 0 {
		o.Memory.Load.Rate = 10
	}
	if o.Memory.Load.Concurrency <= 0 {
		o.Memory.Load.Concurrency = 8
	}
	return o
}
