package release

import (
	"errors"
	"time"
)

// Labels that Docker Compose puts on what it makes, and that make what promote
// deploys an ordinary Compose project for docker compose ps, logs and exec.
const (
	LabelProject    = "com.docker.compose.project"
	LabelService    = "com.docker.compose.service"
	LabelConfigHash = "com.docker.compose.config-hash"
	LabelNetwork    = "com.docker.compose.network"
	LabelVolume     = "com.docker.compose.volume"
)

// Labels of promote's own.
const (
	// LabelSequence is the sequence of the intended record that made a container.
	LabelSequence = "dev.promote.sequence"
	// LabelIdentity is a random word given to a volume at its creation, which
	// tells it from a later one of the same name.
	LabelIdentity = "dev.promote.identity"
	LabelDemo     = "dev.promote.demo"  // of everything that one demo made
	LabelSmoke    = "dev.promote.smoke" // of everything that one smoke run made
	// LabelOwner says which process made it and until when it is at work, so
	// that another one can tell what was left behind from what is in use.
	LabelOwner = "dev.promote.owner"
)

// ErrNotFound is in the chain of an engine's answer that an object does not
// exist; that is another thing than an engine that does not answer.
var ErrNotFound = errors.New("not found")

// EngineInfo is what a container engine says about itself.
type EngineInfo struct {
	Version       string    `json:"version"`
	APIVersion    string    `json:"apiVersion"`
	OS            string    `json:"os"`
	Architecture  string    `json:"architecture"`
	CgroupVersion string    `json:"cgroupVersion"` // "1" or "2"
	StorageDriver string    `json:"storageDriver"`
	Containerd    bool      `json:"containerd"` // the containerd image store is on
	MemoryLimit   bool      `json:"memoryLimit"`
	Time          time.Time `json:"time"`     // the engine's clock
	FreeDisk      int64     `json:"freeDisk"` // bytes under the engine's root where it is local, else 0
}

// Observed is what an engine runs for one project, and which volumes and
// networks of any project it has: a model may use ones that are external to it.
type Observed struct {
	Containers []Container      `json:"containers"` // of the project, stopped ones too
	Volumes    []ObservedVolume `json:"volumes"`
	Networks   []string         `json:"networks"` // full names
	// NetworkSpecs are the same networks, as they were made.
	NetworkSpecs []NetworkSpec `json:"networkSpecs,omitempty"`
}

// Volume gives a volume by its full name.
func (o Observed) Volume(name string) (ObservedVolume, bool) {
	for _, v := range o.Volumes {
		if v.Name == name {
			return v, true
		}
	}
	return ObservedVolume{}, false
}

// Container is one container as the engine reports it.
type Container struct {
	ID      string `json:"id"`
	Name    string `json:"name"` // without the leading slash
	Service string `json:"service"`
	// Image is the engine's id of the image: the config digest on the classic
	// image store, the manifest digest on the containerd store.
	Image      string    `json:"image"`
	Reference  string    `json:"reference"` // as given at creation: repository@sha256:…
	State      string    `json:"state"`     // created, running, paused, restarting, exited, dead
	ExitCode   int       `json:"exitCode"`
	Error      string    `json:"error,omitempty"`
	Health     string    `json:"health"` // healthy, unhealthy, starting, none
	HealthLog  string    `json:"healthLog,omitempty"`
	OOMKilled  bool      `json:"oomKilled"`
	Restarts   int       `json:"restarts"`
	PID        int       `json:"pid"`
	Started    time.Time `json:"started"`
	ConfigHash string    `json:"configHash"`
	// HealthTest is the health check's command as exec takes it; nil is none.
	HealthTest []string `json:"healthTest,omitempty"`
	User       string   `json:"user"`
	ReadOnly   bool     `json:"readOnly"`
	// NoNewPrivileges is what the container was created with.
	NoNewPrivileges bool              `json:"noNewPrivileges"`
	Privileged      bool              `json:"privileged"`
	Memory          int64             `json:"memory"`  // limit in bytes; 0 is none
	CPUs            float64           `json:"cpus"`    // limit; 0 is none
	PIDs            int64             `json:"pids"`    // limit; 0 is none
	Restart         string            `json:"restart"` // policy: no, always, on-failure, unless-stopped
	Mounts          []ObservedMount   `json:"mounts"`
	Networks        map[string]string `json:"networks"` // network name → IP address
	Ports           []Port            `json:"ports"`    // as bound now
	Labels          map[string]string `json:"labels"`
	// Made is how it was made; nil where that was not looked at. It may hold
	// secrets.
	Made *Made `json:"-"`
}

// ObservedMount is a mount of a container. Identity tells a volume from
// another one of the same name, as in ObservedVolume.
type ObservedMount struct {
	Type     string `json:"type"`
	Name     string `json:"name,omitempty"`
	Source   string `json:"source,omitempty"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly"`
	Identity string `json:"identity,omitempty"`
	// Options are a mount's further ones, sorted; a tmpfs has its size and mode
	// there. Empty is the engine's defaults.
	Options string `json:"options,omitempty"`
}

// ObservedVolume is a volume of an engine.
type ObservedVolume struct {
	Name   string `json:"name"`
	Driver string `json:"driver"`
	// Identity tells the volume from another one of the same name:
	// "<name>@<LabelIdentity>" for volumes that promote made, else
	// "<name>@<creation time>"; "<name>" alone where the engine does not know
	// when it was created.
	Identity string            `json:"identity"`
	Labels   map[string]string `json:"labels"`
	Options  map[string]string `json:"options,omitempty"` // of its driver
}

// ContainerEvent is a change of a container's state.
type ContainerEvent struct {
	Time      time.Time
	Container string // id
	Service   string
	Action    string // start, die, oom, health_status: healthy, …
	ExitCode  int
}

// Usage is one sample of a container's resources. Sizes in bytes.
type Usage struct {
	Time time.Time `json:"time"`
	// Memory is the working set: usage without Cache.
	Memory int64 `json:"memory"`
	// Anonymous is what only the program can give back: anonymous, shared and
	// swapped pages.
	Anonymous int64 `json:"anonymous"`
	Cache     int64 `json:"cache"` // file pages, which the kernel gives back on demand
	// HighWater is the most that has counted against the limit so far, Cache too.
	HighWater int64 `json:"highWater"`
	Limit     int64 `json:"limit"` // 0 is none
	// OOMKills counts processes that the kernel killed in the container's
	// cgroup, children too, where the engine or the kernel tells; -1 is unknown.
	OOMKills  int64 `json:"oomKills"`
	PIDs      int64 `json:"pids"`
	FDs       int64 `json:"fds"`       // open files of all processes; -1 is unknown
	Tasks     int64 `json:"tasks"`     // threads, as a limit of processes counts them
	TaskLimit int64 `json:"taskLimit"` // 0 is none
	// Periods counts the CPU's scheduling periods since the start in which the
	// container ran, Throttled those in which its CPU limit cut it short.
	Periods   int64 `json:"periods"`
	Throttled int64 `json:"throttled"`
	// Kernel says that this was read from the kernel, at the time it was asked
	// for, not from the engine's once-a-second statistics.
	Kernel bool `json:"kernel"`
}

// Process is one process of a container.
type Process struct {
	PID             int    `json:"pid"`     // as the engine's machine numbers it
	UID             int64  `json:"uid"`     // the effective one; -1 is unknown
	Name            string `json:"name"`    // of the program, at most 15 bytes
	Command         string `json:"command"` // with its arguments, clipped
	NoNewPrivileges bool   `json:"noNewPrivileges"`
}

// Confinement is how a running container is confined, and what it wrote to
// its own file system.
type Confinement struct {
	Processes []Process `json:"processes"`
	// RootReadOnly says that the root file system is mounted read-only.
	RootReadOnly bool `json:"rootReadOnly"`
	// Known says that the kernel said so; else it is as the container's
	// configuration declares it.
	Known bool `json:"known"`
	// Written are paths that were added, changed or deleted in the root file
	// system since the creation, without volumes; at most 100.
	Written []string `json:"written"`
}

// PlatformImage is one platform's image behind a subject, from bytes that were
// hashed on the way. For a subject that is a single manifest, Manifest is the
// subject's digest.
type PlatformImage struct {
	Platform    string   `json:"platform"` // linux/amd64
	Manifest    Digest   `json:"manifest"`
	Config      Digest   `json:"config"`
	User        string   `json:"user"` // the config's User; empty is root
	Healthcheck bool     `json:"healthcheck"`
	Volumes     []string `json:"volumes,omitempty"`
	Size        int64    `json:"size"` // compressed layers, bytes
	Layers      []Digest `json:"layers"`
	// Defaults are what the configuration says beyond that; nil where it was
	// not read.
	Defaults *ImageDefaults `json:"-"`
}

// LockNote is what a lock object on a target says about its holder.
type LockNote struct {
	Environment string `json:"environment"`
	Sequence    int64  `json:"sequence"` // of the intended record
	Release     Digest `json:"release"`
	Holder      string `json:"holder"`
}

// Labelled is every object of an engine that carries a label.
type Labelled struct {
	Containers []string `json:"containers"` // ids
	Networks   []string `json:"networks"`   // full names
	Volumes    []string `json:"volumes"`    // full names
	Images     []string `json:"images"`     // ids
}

// Count gives the number of objects.
func (l Labelled) Count() int {
	return len(l.Containers) + len(l.Networks) + len(l.Volumes) + len(l.Images)
}
