package smoketest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/smoke"
)

// What the unruly program's image must be made of.
const (
	Path    = "/unruly"      // where the program lies
	Link    = "/usr/bin/pip" // a link to it, which plays a package manager
	Service = "unruly"       // its name in workloads
	limit   = 128 << 20
)

// Directories are those of the image that anybody may write.
var Directories = []string{"/srv", "/var/other", "/usr/lib/python3/site-packages"}

// Dir is where the program's source lies.
func Dir() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "testdata", "unruly")
}

// HealthTest is the program's own health check.
var HealthTest = []string{"CMD", Path, "health"}

// Project is what workloads are named after: this process's own, so that what is
// left of it can be told from what others run.
var Project = fmt.Sprintf("promote-unruly-%d", os.Getpid())

// Workload is one unruly service, confined as a production service should be,
// with 128 MiB, a volume at /data and a published port.
func Workload(image release.Subject, mode string) release.Workload {
	project := Project
	return release.Workload{
		Project:  project,
		Networks: []release.NetworkSpec{{Key: "default", Name: project + "_default"}},
		Volumes:  []release.VolumeSpec{{Key: "state", Name: project + "_state"}},
		Services: []release.ServiceSpec{{
			Name: Service, ContainerName: project + "-" + Service + "-1", Image: image,
			Command: []string{Path, "serve"}, Environment: map[string]string{"MODE": mode},
			User: "65532:65532", ReadOnly: true, CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges:true"},
			MemoryLimit: limit, MemorySwap: limit,
			Mounts:   []release.Mount{{Type: "volume", Source: project + "_state", Target: "/data"}},
			Ports:    []release.Port{{Target: 8080, Published: "8080", Protocol: "tcp"}},
			Networks: []release.Attach{{Network: project + "_default", Aliases: []string{Service}}},
			Health:   &release.Health{Test: HealthTest, Interval: 2 * time.Second, Timeout: 5 * time.Second, Retries: 2},
			Restart:  release.Restart{Name: "unless-stopped"}, StopGrace: 5 * time.Second,
		}},
	}
}

// Memory is a memory test of the given length under tasks for the service; the
// first three seconds are its warm-up.
func Memory(duration time.Duration) smoke.MemoryTest {
	return smoke.MemoryTest{Duration: duration, Warmup: 3 * time.Second,
		Load: smoke.Load{Service: Service, HTTP: &smoke.HTTP{Path: "/task", Method: "POST", Body: `{"text":"x"}`}, Rate: 20}}
}
