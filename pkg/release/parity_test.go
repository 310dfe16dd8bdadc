package release

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func parityWorkload(project string) Workload {
	return Workload{
		Project: project,
		Volumes: []VolumeSpec{{Key: "memory", Name: project + "_memory"}, {Key: "shared", Name: "shared", External: true}},
		Services: []ServiceSpec{{
			Name: "planner", ContainerName: project + "-planner-1", MemoryLimit: 512 << 20, MemorySwap: 512 << 20, PIDs: 64, CPUs: 0.5,
			User: "1000", ReadOnly: true, CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges:true"},
			Environment: map[string]string{"LOG_LEVEL": project, "LLM_URL": "http://" + project},
			Mounts: []Mount{{Type: "volume", Source: project + "_memory", Target: "/memory"}, {Type: "volume", Source: "shared", Target: "/shared", ReadOnly: true},
				{Type: "tmpfs", Target: "/tmp", Size: 64 << 20}, {Type: "bind", Source: "/srv/" + project, Target: "/run/secrets/key", ReadOnly: true}},
			Health: &Health{Test: []string{"CMD", "ok"}, Interval: time.Second}, Restart: Restart{Name: "unless-stopped"},
			Command: []string{"run"}, Ports: []Port{{Target: 8080, Published: project}}, LogDriver: project,
		}},
	}
}

func TestDifferencesFindsNoneInWhatIsMeantToDiffer(t *testing.T) {
	if found := Differences("production", parityWorkload("agent"), parityWorkload("agent-production")); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

func TestDifferences(t *testing.T) {
	set := func(f func(*ServiceSpec)) func(*Workload) { return func(w *Workload) { f(&w.Services[0]) } }
	for name, c := range map[string]struct {
		tested, there func(*Workload)
		want          string
		grave         bool
	}{
		"a limit that was not tested": {set(func(s *ServiceSpec) { s.MemoryLimit, s.MemorySwap = 0, 0 }), nil, "planner: memory: production has 512.0 MiB, the tested model none", true},
		"less memory":                 {nil, set(func(s *ServiceSpec) { s.MemoryLimit = 256 << 20 }), "memory: production has 256.0 MiB, the tested model 512.0 MiB", true},
		"more memory":                 {nil, set(func(s *ServiceSpec) { s.MemoryLimit = 1 << 30 }), "memory: production has 1.0 GiB", false},
		"no memory limit":             {nil, set(func(s *ServiceSpec) { s.MemoryLimit = 0 }), "memory: production has none, the tested model 512.0 MiB", false},
		"less swap":                   {set(func(s *ServiceSpec) { s.MemorySwap = 0 }), nil, "memorySwap: production has 512.0 MiB, the tested model 1.0 GiB", true},
		"unlimited swap tested":       {set(func(s *ServiceSpec) { s.MemorySwap = -1 }), nil, "memorySwap: production has 512.0 MiB, the tested model none", true},
		"fewer processes":             {nil, set(func(s *ServiceSpec) { s.PIDs = 10 }), "pids: production has 10, the tested model 64", true},
		"more processes":              {nil, set(func(s *ServiceSpec) { s.PIDs = -1 }), "pids: production has none", false},
		"less of a processor":         {nil, set(func(s *ServiceSpec) { s.CPUs = 0.25 }), "cpus: production has 0.25, the tested model 0.5", false},
		"shorter grace":               {nil, set(func(s *ServiceSpec) { s.StopGrace = 3 * time.Second }), "stopGracePeriod: production has 3 s, the tested model 10 s", false},
		"ulimit":                      {nil, set(func(s *ServiceSpec) { s.Ulimits = []Ulimit{{Name: "nofile", Soft: 10}} }), "ulimits: production has [{nofile 10 0}], the tested model none", false},
		"read-only there only":        {set(func(s *ServiceSpec) { s.ReadOnly = false }), nil, "readOnly: production has a read-only root, the tested model a writable root", true},
		"read-only tested only":       {nil, set(func(s *ServiceSpec) { s.ReadOnly = false }), "readOnly: production has a writable root", false},
		"no new privileges there":     {set(func(s *ServiceSpec) { s.SecurityOpt = []string{"no-new-privileges=false"} }), nil, "noNewPrivileges: production has no new privileges", true},
		"no new privileges tested":    {nil, set(func(s *ServiceSpec) { s.SecurityOpt = nil }), "noNewPrivileges: production has new privileges allowed", false},
		"a profile there":             {nil, set(func(s *ServiceSpec) { s.SecurityOpt = append(s.SecurityOpt, "apparmor=acme") }), "securityOpt: production has apparmor:acme, the tested model none", true},
		"privileged when tested":      {set(func(s *ServiceSpec) { s.Privileged = true }), nil, "privileged: production has no privileges", true},
		"drops more":                  {set(func(s *ServiceSpec) { s.CapDrop = []string{"CAP_NET_RAW"} }), nil, "capDrop: production has ALL, the tested model NET_RAW", true},
		"drops less":                  {nil, set(func(s *ServiceSpec) { s.CapDrop = []string{"net_raw"} }), "capDrop: production has NET_RAW, the tested model ALL", false},
		"adds less":                   {set(func(s *ServiceSpec) { s.CapAdd = []string{"NET_ADMIN"} }), nil, "capAdd: production has none, the tested model NET_ADMIN", true},
		"adds more":                   {nil, set(func(s *ServiceSpec) { s.CapAdd = []string{"NET_ADMIN"} }), "capAdd: production has NET_ADMIN", false},
		"another user":                {nil, set(func(s *ServiceSpec) { s.User = "1001" }), "user: production has 1001, the tested model 1000", true},
		"the image's user":            {nil, set(func(s *ServiceSpec) { s.User = "" }), "user: production has the image's", true},
		"root there":                  {nil, set(func(s *ServiceSpec) { s.User = "0:0" }), "user: production has 0:0", false},
		"a group fewer":               {set(func(s *ServiceSpec) { s.GroupAdd = []string{"audio"} }), nil, "groupAdd: production has none, the tested model audio", true},
		"another health check":        {nil, set(func(s *ServiceSpec) { s.Health = &Health{Test: []string{"NONE"}} }), "healthcheck: production has NONE, the tested model CMD ok every 1s", false},
		"another policy":              {nil, set(func(s *ServiceSpec) { s.Restart = Restart{Name: "on-failure", Max: 3} }), "restart: production has on-failure:3, the tested model unless-stopped", false},
		"another command":             {nil, set(func(s *ServiceSpec) { s.Command = nil }), "command: production has none, the tested model [run]", false},
		"another entrypoint":          {nil, set(func(s *ServiceSpec) { s.Entrypoint = []string{"sh"} }), "entrypoint: production has [sh]", false},
		"another signal":              {nil, set(func(s *ServiceSpec) { s.StopSignal = "SIGINT" }), "stopSignal: production has SIGINT, the tested model none", false},
		"a variable fewer":            {nil, set(func(s *ServiceSpec) { delete(s.Environment, "LLM_URL") }), "environment: production has no LLM_URL, the tested model it", true},
		"a variable more":             {nil, set(func(s *ServiceSpec) { s.Environment["SENTRY_DSN"] = "x" }), "environment: production has SENTRY_DSN, the tested model not", false},
		"another volume":              {nil, func(w *Workload) { w.Volumes[0] = VolumeSpec{Key: "notes", Name: "agent-production_memory"} }, "mounts: production has volume agent-production_memory at /memory, the tested model volume memory", true},
		"another key": {nil, func(w *Workload) {
			w.Volumes[0] = VolumeSpec{Key: "notes", Name: "agent-production_notes"}
			w.Services[0].Mounts[0].Source = "agent-production_notes"
		}, "mounts: production has volume notes at /memory, the tested model volume memory", true},
		"an external volume": {nil, func(w *Workload) { w.Volumes[0].External = true }, "mounts: production has volume agent-production_memory at /memory", true},
		"a file mounted":     {nil, set(func(s *ServiceSpec) { s.Mounts[0] = Mount{Type: "bind", Source: "/x", Target: "/memory"} }), "mounts: production has bind at /memory", true},
		"a mount fewer":      {nil, set(func(s *ServiceSpec) { s.Mounts = s.Mounts[1:] }), "mounts: production has nothing at /memory, the tested model volume memory at /memory", true},
		"a mount more":       {set(func(s *ServiceSpec) { s.Mounts = s.Mounts[1:] }), nil, "mounts: production has volume memory at /memory, the tested model nothing", true},
		"writable":           {nil, set(func(s *ServiceSpec) { s.Mounts[1].ReadOnly = false }), "mounts: production has volume shared at /shared, the tested model volume shared (read-only)", true},
		"a smaller tmpfs":    {nil, set(func(s *ServiceSpec) { s.Mounts[2].Size = 1 << 20 }), "tmpfs of 1.0 MiB at /tmp, the tested model tmpfs of 64.0 MiB", true},
		"a service fewer":    {nil, func(w *Workload) { w.Services = nil }, "planner: service: production has no such service", true},
		"a service more":     {func(w *Workload) { w.Services = nil }, nil, "planner: service: production has it, the tested model no such service", true},
	} {
		t.Run(name, func(t *testing.T) {
			tested, there := parityWorkload("agent"), parityWorkload("agent-production")
			if c.tested != nil {
				c.tested(&tested)
			}
			if c.there != nil {
				c.there(&there)
			}
			found := Differences("production", tested, there)
			if len(found) != 1 {
				t.Fatalf("want one difference, got %v", found)
			}
			if !strings.Contains(found[0].String(), c.want) || found[0].Grave != c.grave {
				t.Errorf("got %s, grave %v\nwant %s, grave %v", found[0], found[0].Grave, c.want, c.grave)
			}
		})
	}
}

func TestDifferencesAreSortedAndHoldNoValues(t *testing.T) {
	tested, there := parityWorkload("agent"), parityWorkload("agent-production")
	there.Services[0].PIDs, there.Services[0].MemoryLimit, there.Services[0].MemorySwap, there.Services[0].CPUs = 1, 1<<20, 1<<20, 0.1
	tested.Services[0].Environment["TOKEN"], there.Services[0].Environment["KEY"] = "canary", "canary"
	var fields []string
	for _, d := range Differences("production", tested, there) {
		fields = append(fields, d.Field)
		if strings.Contains(d.String(), "canary") {
			t.Errorf("shows a value: %s", d)
		}
	}
	if want := []string{"cpus", "environment", "environment", "memory", "pids"}; !slices.Equal(fields, want) {
		t.Errorf("fields %q, want %q", fields, want)
	}
	if text := (Difference{Environment: "production", Field: "model", Tested: "one that can be filled in", There: "none"}).String(); !strings.HasPrefix(text, "model: ") {
		t.Errorf("text %s", text)
	}
}
