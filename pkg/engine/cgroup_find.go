package engine

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/moby/client"
)

// Where Linux shows its control groups and processes.
const (
	cgroupRoot = "/sys/fs/cgroup"
	procRoot   = "/proc"
)

// cgroup is where the kernel shows a container's resources: one directory in
// cgroup v2, one for each controller in v1. A controller that is not there is
// empty.
type cgroup struct {
	unified           bool
	memory, cpu, pids string

	mu    sync.Mutex // guards files
	files openFiles
}

// cgroupOf finds a container's cgroup, if the engine shares this machine. It is
// known from the first sample on, so that what a service does at its start is
// seen, too.
func (h *Host) cgroupOf(ctx context.Context, id string) (*cgroup, bool) {
	if !h.local() {
		return nil, false
	}
	if known, ok := h.cgroups.Load(id); ok {
		return known.(*cgroup), true
	}
	ctx, cancel := h.short(ctx)
	defer cancel()
	result, err := h.client.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil || result.Container.State == nil || result.Container.State.Pid <= 0 {
		return nil, false
	}
	g, ok := findCgroup(procRoot, cgroupRoot, result.Container.State.Pid, result.Container.ID)
	if !ok {
		return nil, false
	}
	h.cgroups.Store(id, g)
	return g, true
}

// findCgroup finds the cgroup of a process. Its path must name the container:
// the engine may live in another process namespace, where the number means
// another process. A line for the memory controller is cgroup v1; the unified
// line counts only where there is none, because hybrid systems have both.
func findCgroup(proc, root string, pid int, id string) (*cgroup, bool) {
	f, err := os.Open(filepath.Join(proc, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return nil, false
	}
	defer f.Close()
	g, unified := &cgroup{}, ""
	lines := bufio.NewScanner(io.LimitReader(f, 64<<10))
	for lines.Scan() {
		parts := strings.SplitN(lines.Text(), ":", 3)
		if len(parts) != 3 || id == "" || !strings.Contains(parts[2], id) {
			continue
		}
		if parts[0] == "0" {
			unified = parts[2]
		}
		for _, controller := range strings.Split(parts[1], ",") {
			switch controller {
			case "memory":
				g.memory = filepath.Join(root, controller, parts[2])
			case "cpu":
				g.cpu = filepath.Join(root, controller, parts[2])
			case "pids":
				g.pids = filepath.Join(root, controller, parts[2])
			}
		}
	}
	if g.memory == "" && unified != "" {
		dir := filepath.Join(root, unified)
		g.unified, g.memory, g.cpu, g.pids = true, dir, dir, dir
	}
	return g, g.memory != ""
}
