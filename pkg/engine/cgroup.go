package engine

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/moby/client"
)

// cgroupRoot is where Linux shows its control groups.
const cgroupRoot = "/sys/fs/cgroup"

// oomKills counts the processes that the kernel killed in a container for
// want of memory. The engine tells only of the first process; children count
// in the cgroup's own files (memory.oom_control in cgroup v1, memory.events in
// v2). -1 is unknown.
func (h *Host) oomKills(ctx context.Context, id string) int64 {
	if file, ok := h.cgroups.Load(id); ok {
		if n, ok := countOOM(file.(string)); ok {
			return n
		}
		h.cgroups.Delete(id) // it was restarted, or is gone
	}
	result, err := h.client.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil || result.Container.State == nil || result.Container.State.Pid <= 0 {
		return -1
	}
	file, ok := oomFile("/proc", cgroupRoot, result.Container.State.Pid, result.Container.ID)
	if !ok {
		return -1
	}
	n, ok := countOOM(file)
	if !ok {
		return -1
	}
	h.cgroups.Store(id, file)
	return n
}

// oomFile finds the file of a process's memory cgroup. The cgroup's path must
// name the container: the engine may live in another process namespace, where
// the number means another process.
func oomFile(proc, root string, pid int, id string) (string, bool) {
	f, err := os.Open(filepath.Join(proc, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return "", false
	}
	defer f.Close()
	unified := ""
	lines := bufio.NewScanner(io.LimitReader(f, 64<<10))
	for lines.Scan() {
		parts := strings.SplitN(lines.Text(), ":", 3)
		if len(parts) != 3 || id == "" || !strings.Contains(parts[2], id) {
			continue
		}
		if parts[1] == "memory" {
			return filepath.Join(root, "memory", parts[2], "memory.oom_control"), true
		}
		if parts[0] == "0" {
			unified = parts[2]
		}
	}
	if unified == "" {
		return "", false
	}
	return filepath.Join(root, unified, "memory.events"), true
}

func countOOM(file string) (int64, bool) {
	f, err := os.Open(file)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, 64<<10))
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "oom_kill "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
