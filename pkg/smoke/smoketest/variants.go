package smoketest

import (
	"slices"
	"time"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/smoke"
)

// Variant is one way to misbehave, or to look as if, and what the gate must
// say of it. It may shorten what an ordinary configuration may set; thresholds
// it leaves as they are.
type Variant struct {
	Name string
	Mode string // of the program
	// Change adapts what is run; nil leaves Workload and a short memory test.
	Change func(*smoke.Options)
	Result release.Result // of Check
	Check  string
	Words  []string // that the check's detail must hold
	// Also are further checks that may fail, because they see the same thing.
	Also []string
}

// Options gives what to run for a variant.
func (v Variant) Options(image release.Subject) smoke.Options {
	o := smoke.Options{Workload: Workload(image, v.Mode), Memory: Memory(14 * time.Second), Timeout: time.Minute,
		ImageUsers: map[string]string{Service: "65532"}}
	if v.Change != nil {
		v.Change(&o)
	}
	return o
}

func first(o *smoke.Options) *release.ServiceSpec { return &o.Workload.Services[0] }

func lasting(d time.Duration) func(*smoke.Options) {
	return func(o *smoke.Options) { o.Memory.Duration = d }
}

// unmeasured leaves the memory test out: it is not what the variant is about.
func unmeasured(o *smoke.Options) { o.Memory = smoke.MemoryTest{} }

const (
	memoryCheck = "memory/" + Service
	growthCheck = "growth/" + Service
	healthCheck = "healthy/" + Service
	parityCheck = "parity/production/" + Service
)

// keeps writes a word through the service and asks for it again after a
// recreate.
var keeps = smoke.Check{
	Name: "keeps", Service: Service, Survives: smoke.Recreate,
	Write: &smoke.Ask{HTTP: &smoke.HTTP{Path: "/learn", Method: "POST", Body: `{"key":"smoke","value":"{{token}}"}`}},
	HTTP:  &smoke.HTTP{Path: "/recall/smoke", JSON: map[string]string{"value": "{{token}}"}},
}

// Variants is the table.
func Variants() []Variant {
	return []Variant{
		{Name: "healthy", Change: func(o *smoke.Options) { o.Checks = []smoke.Check{keeps} }, Result: release.Passed, Check: growthCheck},
		{Name: "leak of 1 MB/s under 128 MB", Mode: "leak 65536 64ms", Change: lasting(16 * time.Second),
			Result: release.Failed, Check: growthCheck, Words: []string{"it would reach its limit of 128.0 MiB in"}},
		{Name: "slow leak of 64 KB/s under 128 MB", Mode: "leak 65536 1s", Change: lasting(75 * time.Second),
			Result: release.Failed, Check: growthCheck, Words: []string{"it would reach its limit of 128.0 MiB in"}},
		{Name: "one spike of 200 MB", Mode: "spike 209715200 6s 500ms", Change: func(o *smoke.Options) {
			first(o).MemoryLimit, first(o).MemorySwap = 220<<20, 220<<20
		}, Result: release.Failed, Check: memoryCheck, Words: []string{"peak 2", "of 220.0 MiB", "want at most 90 %"}},
		{Name: "child killed for memory, parent lives", Mode: "child 209715200 5s", Change: func(o *smoke.Options) {
			first(o).MemoryLimit, first(o).MemorySwap = 64<<20, 64<<20
		}, Result: release.Failed, Check: memoryCheck, Words: []string{"a child process was killed"}, Also: []string{healthCheck}},
		{Name: "sawtooth of 10 to 60 MB each 3 s", Mode: "sawtooth 10485760 62914560 3s", Change: lasting(30 * time.Second),
			Result: release.Passed, Check: growthCheck},
		{Name: "sawtooth of 10 to 60 MB each 9 s", Mode: "sawtooth 10485760 62914560 9s", Change: lasting(96 * time.Second),
			Result: release.Passed, Check: growthCheck},
		{Name: "cache of files grows to 300 MB under 128 MB", Mode: "cache 314572800 /data/cache", Change: lasting(33 * time.Second),
			Result: release.Passed, Check: memoryCheck},
		{Name: "starts before its bus", Mode: "dial bus:8080", Change: beforeItsBus,
			Result: release.Failed, Check: healthCheck, Words: []string{"restarted", "connecting to the bus"}, Also: []string{"start"}},
		{Name: "writes to its root, which is read-only", Mode: "write /srv/cache.db", Change: unmeasured,
			Result: release.Failed, Check: "start", Words: []string{"/srv/cache.db: read-only file system"}, Also: []string{healthCheck}},
		{Name: "writes to its root, read-only in production only", Mode: "write /srv/cache.db", Change: func(o *smoke.Options) {
			unmeasured(o)
			there := o.Workload
			there.Services = slices.Clone(there.Services)
			first(o).ReadOnly = false
			o.Environments, o.Parity = []string{"production"}, release.Differences("production", o.Workload, there)
		}, Result: release.Failed, Check: "writes/" + Service, Words: []string{"/srv/cache.db", "a later environment lets it write nothing"}, Also: []string{parityCheck}},
		{Name: "root user where the image has another", Change: func(o *smoke.Options) { unmeasured(o); first(o).User = "0" },
			Result: release.Failed, Check: "unprivileged/" + Service, Words: []string{"runs as root, and its image is made for user 65532"}},
		{Name: "installs at start-up", Mode: "pip", Change: func(o *smoke.Options) { unmeasured(o); first(o).ReadOnly = false },
			Result: release.Failed, Check: "installs/" + Service, Words: []string{"it installs at start-up"}},
		{Name: "phones home, without a way out", Mode: "phone 198.51.100.1:443", Change: func(o *smoke.Options) {
			offline(o)
			first(o).Health = patient(first(o).Health)
		}, Result: release.Failed, Check: healthCheck, Words: []string{"phoning home: dial tcp 198.51.100.1:443"}, Also: []string{"start"}},
		{Name: "healthy, without a way out", Change: offline,
			Result: release.Passed, Check: "offline/" + Service},
		{Name: "keeps opening files", Mode: "handles 50ms", Change: lasting(25 * time.Second), Result: release.Warned, Check: "handles/" + Service, Words: []string{"open files"}},
		{Name: "unhealthy after 20 s", Mode: "unhealthy 20s", Change: lasting(30 * time.Second),
			Result: release.Failed, Check: healthCheck, Words: []string{"unhealthy", "its log ends", "the model does not answer"}},
		{Name: "volume renamed in production's model", Change: renamed,
			Result: release.Failed, Check: parityCheck, Words: []string{"/data", "memory"}},
		{Name: "volume mounted elsewhere than where the service writes", Change: misplaced,
			Result: release.Failed, Check: "keeps", Words: []string{"before recreate it passed, after it"}},
		{Name: "loses the requests under way at SIGTERM", Mode: "loses", Change: func(o *smoke.Options) {
			unmeasured(o)
			o.Stop = smoke.StopTest{Ask: smoke.Ask{HTTP: &smoke.HTTP{Path: "/task", Method: "POST", Body: `{"text":"x"}`}}, Service: Service}
		}, Result: release.Failed, Check: "drains/" + Service, Words: []string{"4 of 4 requests under way at SIGTERM were lost"}},
		{Name: "answers after 700 ms, 500 are wanted", Mode: "slow 700ms", Change: func(o *smoke.Options) {
			unmeasured(o)
			o.Checks = []smoke.Check{{Name: "quick", Service: Service, HTTP: &smoke.HTTP{Path: "/health", Within: 500 * time.Millisecond}}}
		}, Result: release.Failed, Check: "quick", Words: []string{"want within 500ms"}},
		{Name: "ignores SIGTERM", Mode: "deaf", Change: func(o *smoke.Options) { unmeasured(o); first(o).StopGrace = 3 * time.Second },
			Result: release.Failed, Check: "stops/" + Service, Words: []string{"had not ended 3s after SIGTERM and was killed"}},
		{Name: "restart loop", Mode: "loop 1s", Change: unmeasured,
			Result: release.Failed, Check: "start", Words: []string{"service " + Service + " was restarted", "no configuration: giving up"}, Also: []string{healthCheck}},
	}
}

func offline(o *smoke.Options) {
	unmeasured(o)
	o.DenyEgress = true
}

// patient is a health check that says nothing for the first while.
func patient(h *release.Health) *release.Health {
	out := *h
	out.StartPeriod = 20 * time.Second
	return &out
}

// renamed compares with a production model that is the same but for the volume
// at /data.
func renamed(o *smoke.Options) {
	unmeasured(o)
	name := Project + "_memory"
	there := o.Workload
	there.Volumes = []release.VolumeSpec{{Key: "memory", Name: name}}
	there.Services = slices.Clone(there.Services)
	there.Services[0].Mounts = []release.Mount{{Type: "volume", Source: name, Target: "/data"}}
	o.Environments, o.Parity = []string{"production"}, release.Differences("production", o.Workload, there)
}

// misplaced mounts the volume where the service does not write, and what it
// writes to is gone with the container.
func misplaced(o *smoke.Options) {
	unmeasured(o)
	first(o).Mounts[0].Target = "/var/other"
	first(o).Mounts = append(first(o).Mounts, release.Mount{Type: "tmpfs", Target: "/data", Mode: 0o1777})
	o.Checks = []smoke.Check{keeps}
}

// beforeItsBus adds a bus that listens after eight seconds and that nobody
// waits for. A restart policy may heal it in time; that is no start in order.
func beforeItsBus(o *smoke.Options) {
	unmeasured(o)
	bus := o.Workload.Services[0]
	bus.Name, bus.ContainerName, bus.Mounts, bus.Ports = "bus", Project+"-bus-1", nil, nil
	bus.Environment = map[string]string{"MODE": "late 8s"}
	bus.Health = patient(bus.Health)
	bus.Networks = []release.Attach{{Network: bus.Networks[0].Network, Aliases: []string{"bus"}}}
	o.Workload.Services = append(o.Workload.Services, bus)
}

// Examples are runs of the example stack, which are made from end to end: as it
// is, and with the demo's leak.
func Examples() []Variant {
	return []Variant{
		{Name: "the example stack", Result: release.Passed, Check: "growth/planner"},
		{Name: "the example stack with the demo's leak", Result: release.Failed, Check: "growth/executor", Also: []string{"memory/executor", "healthy/executor"},
			Words: []string{"it would reach its limit of 128.0 MiB in"}},
	}
}
