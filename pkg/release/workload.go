package release

import "time"

// Workload is one resolved Compose model, ready to run: every value filled in,
// every image a digest. It is the neutral form between the compose and the
// engine packages; its fields follow the Compose Specification's.
type Workload struct {
	Project  string            `json:"project"`
	Services []ServiceSpec     `json:"services"` // in an order that satisfies DependsOn
	Networks []NetworkSpec     `json:"networks"`
	Volumes  []VolumeSpec      `json:"volumes"`
	Labels   map[string]string `json:"labels,omitempty"` // put on every object
}

// Service gives a service by name.
func (w Workload) Service(name string) (ServiceSpec, bool) {
	for _, s := range w.Services {
		if s.Name == name {
			return s, true
		}
	}
	return ServiceSpec{}, false
}

// ServiceSpec is one container to run. Sizes in bytes.
type ServiceSpec struct {
	Name          string `json:"name"`
	ContainerName string `json:"containerName"` // "<project>-<service>-1" unless set
	// Image is what runs; ConfigHash is Compose's hash of the service with that image.
	Image      Subject `json:"image"`
	ConfigHash string  `json:"configHash"`

	Command     []string          `json:"command,omitempty"` // nil keeps the image's
	Entrypoint  []string          `json:"entrypoint,omitempty"`
	Environment map[string]string `json:"environment,omitempty"`
	User        string            `json:"user,omitempty"`
	GroupAdd    []string          `json:"groupAdd,omitempty"`
	WorkingDir  string            `json:"workingDir,omitempty"`
	Hostname    string            `json:"hostname,omitempty"`
	Init        *bool             `json:"init,omitempty"`
	TTY         bool              `json:"tty,omitempty"`
	StdinOpen   bool              `json:"stdinOpen,omitempty"`
	StopSignal  string            `json:"stopSignal,omitempty"`
	StopGrace   time.Duration     `json:"stopGrace,omitempty"` // 0 is the engine's 10 s

	ReadOnly    bool              `json:"readOnly,omitempty"`
	Privileged  bool              `json:"privileged,omitempty"`
	CapAdd      []string          `json:"capAdd,omitempty"`
	CapDrop     []string          `json:"capDrop,omitempty"`
	SecurityOpt []string          `json:"securityOpt,omitempty"`
	Sysctls     map[string]string `json:"sysctls,omitempty"`
	Ulimits     []Ulimit          `json:"ulimits,omitempty"`
	ShmSize     int64             `json:"shmSize,omitempty"`

	MemoryLimit       int64   `json:"memoryLimit,omitempty"`
	MemoryReservation int64   `json:"memoryReservation,omitempty"`
	MemorySwap        int64   `json:"memorySwap,omitempty"`
	CPUs              float64 `json:"cpus,omitempty"`
	PIDs              int64   `json:"pids,omitempty"`
	OOMScoreAdj       int     `json:"oomScoreAdj,omitempty"`

	Mounts     []Mount           `json:"mounts,omitempty"`
	Ports      []Port            `json:"ports,omitempty"`
	Expose     []string          `json:"expose,omitempty"`
	Networks   []Attach          `json:"networks,omitempty"`
	ExtraHosts []string          `json:"extraHosts,omitempty"`
	DNS        []string          `json:"dns,omitempty"`
	Health     *Health           `json:"health,omitempty"` // nil keeps the image's
	Restart    Restart           `json:"restart"`
	DependsOn  []Dependency      `json:"dependsOn,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	LogDriver  string            `json:"logDriver,omitempty"`
	LogOptions map[string]string `json:"logOptions,omitempty"`
	// OneShot: some service waits for this one to complete successfully.
	OneShot bool `json:"oneShot,omitempty"`
	// UpdateOrder is StopFirst or StartFirst where the model says so.
	UpdateOrder string `json:"updateOrder,omitempty"`
	// PreStop are run in the container, one after the other, before it is stopped
	// to be replaced or taken away.
	PreStop []Hook `json:"preStop,omitempty"`
	// Filled names the keys of the service whose text in the model has
	// placeholders: what they hold came from values, and is never shown.
	Filled []string `json:"-"`
}

// The orders in which a service's container is replaced.
const (
	StopFirst  = "stop-first"
	StartFirst = "start-first"
)

// Hook is a command that is run in a running container.
type Hook struct {
	Command     []string          `json:"command"`
	User        string            `json:"user,omitempty"` // empty: the container's
	WorkingDir  string            `json:"workingDir,omitempty"`
	Environment map[string]string `json:"environment,omitempty"` // beside the container's
}

// Ulimit is one resource limit.
type Ulimit struct {
	Name string `json:"name"`
	Soft int64  `json:"soft"`
	Hard int64  `json:"hard"`
}

// Mount is a mount into a container.
type Mount struct {
	Type     string `json:"type"` // volume, bind, tmpfs
	Source   string `json:"source,omitempty"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly,omitempty"`
	NoCopy   bool   `json:"noCopy,omitempty"`
	Size     int64  `json:"size,omitempty"` // tmpfs
	Mode     uint32 `json:"mode,omitempty"` // tmpfs
}

// Port is a published port.
type Port struct {
	HostIP    string `json:"hostIP,omitempty"`
	Published string `json:"published,omitempty"` // empty: the engine picks one
	Target    uint32 `json:"target"`
	Protocol  string `json:"protocol"`
}

// Attach joins a container to a network.
type Attach struct {
	Network string   `json:"network"` // the full name on the engine
	Aliases []string `json:"aliases,omitempty"`
	IPv4    string   `json:"ipv4,omitempty"`
}

// Health is a health check; a zero duration is the engine's default.
type Health struct {
	Test          []string      `json:"test"` // as in the image specification: NONE, CMD, CMD-SHELL
	Interval      time.Duration `json:"interval,omitempty"`
	Timeout       time.Duration `json:"timeout,omitempty"`
	StartPeriod   time.Duration `json:"startPeriod,omitempty"`
	StartInterval time.Duration `json:"startInterval,omitempty"`
	Retries       int           `json:"retries,omitempty"`
}

// Restart is a restart policy: no, always, on-failure, unless-stopped.
type Restart struct {
	Name string `json:"name"`
	Max  int    `json:"max,omitempty"`
}

// The conditions of a dependency.
const (
	ServiceStarted   = "service_started"
	ServiceHealthy   = "service_healthy"
	ServiceCompleted = "service_completed_successfully"
)

// Dependency is one depends_on entry.
type Dependency struct {
	Service   string `json:"service"`
	Condition string `json:"condition"`
}

// NetworkSpec is a network of the project, or an external one.
type NetworkSpec struct {
	Key      string            `json:"key"`  // its key in the model
	Name     string            `json:"name"` // its full name on the engine
	Driver   string            `json:"driver,omitempty"`
	Internal bool              `json:"internal,omitempty"`
	External bool              `json:"external,omitempty"`
	Options  map[string]string `json:"options,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
}

// VolumeSpec is a named volume of the project, or an external one.
type VolumeSpec struct {
	Key      string            `json:"key"`
	Name     string            `json:"name"`
	Driver   string            `json:"driver,omitempty"`
	External bool              `json:"external,omitempty"`
	Options  map[string]string `json:"options,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
}

// BuildSpec is a service's build section, with paths relative to the project.
type BuildSpec struct {
	Context    string            `json:"context"`    // absolute path of this machine
	Dockerfile string            `json:"dockerfile"` // relative to Context
	Target     string            `json:"target,omitempty"`
	Args       map[string]string `json:"args,omitempty"`
}

// Source is one service as the merged Compose files describe it before any
// build: what to build, or which image to take.
type Source struct {
	Service string     `json:"service"`
	Build   *BuildSpec `json:"build,omitempty"`
	// Image is the reference as written, for services without a build.
	Image string `json:"image,omitempty"`
	// Tag is what docker compose build calls the image, if the files say so.
	Tag  string `json:"tag,omitempty"`
	File string `json:"file,omitempty"` // where it stands
	Line int    `json:"line,omitempty"`
}
