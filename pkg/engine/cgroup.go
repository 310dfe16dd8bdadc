package engine

import (
	"bufio"
	"context"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
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

// localUsage samples a container whose cgroup was found before.
func (h *Host) localUsage(id string) (release.Usage, bool) {
	file, known := h.cgroups.Load(id)
	total := h.memory.Load()
	if !known || total == 0 {
		return release.Usage{}, false
	}
	u, ok := readUsage(file.(string))
	if !ok { // it was restarted, or is gone: the engine knows
		h.cgroups.Delete(id)
		return release.Usage{}, false
	}
	if u.Limit >= total {
		u.Limit = 0
	}
	return u, true
}

// readUsage reads a memory cgroup, version 1 or 2, that the file of its OOM
// kills stands in. A limit of "max" is as large as can be.
func readUsage(file string) (release.Usage, bool) {
	dir := filepath.Dir(file)
	usage, limit, inactive := "memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file "
	if filepath.Base(file) == "memory.events" {
		usage, limit, inactive = "memory.current", "memory.max", "inactive_file "
	}
	kills, ok := countOOM(file)
	used, ok1 := readNumber(filepath.Join(dir, usage))
	most, ok2 := readNumber(filepath.Join(dir, limit))
	cache, ok3 := readField(filepath.Join(dir, "memory.stat"), inactive)
	tasks, ok4 := countLines(filepath.Join(dir, "cgroup.procs"))
	if !ok || !ok1 || !ok2 || !ok3 || !ok4 || tasks == 0 {
		return release.Usage{}, false
	}
	return release.Usage{Time: time.Now(), Memory: max(0, used-min(used, cache)), Limit: most, OOMKills: kills, PIDs: tasks}, true
}

func readNumber(file string) (int64, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	word := strings.TrimSpace(string(text))
	if word == "max" {
		return math.MaxInt64, true
	}
	n, err := strconv.ParseInt(word, 10, 64)
	return n, err == nil
}

func countLines(file string) (int64, bool) {
	text, err := os.ReadFile(file)
	return int64(strings.Count(string(text), "\n")), err == nil
}

func countOOM(file string) (int64, bool) { return readField(file, "oom_kill ") }

// readField finds a line by what it begins with, and reads the number behind.
func readField(file, prefix string) (int64, bool) {
	f, err := os.Open(file)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, 64<<10))
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), prefix); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
