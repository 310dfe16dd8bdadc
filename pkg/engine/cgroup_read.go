package engine

import (
	"bufio"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// The names of what is read, by cgroup version. Version 1 counts what children
// of a cgroup use under names of their own.
type memoryNames struct {
	usage, limit, peak, kills string // files
	anonymous, cache          []string
	swap, swapFile            string
}

var (
	memoryV1 = memoryNames{
		usage: "memory.usage_in_bytes", limit: "memory.limit_in_bytes", peak: "memory.max_usage_in_bytes", kills: "memory.oom_control",
		anonymous: []string{"total_rss", "total_shmem"}, cache: []string{"total_inactive_file", "total_active_file"}, swap: "total_swap",
	}
	memoryV2 = memoryNames{
		usage: "memory.current", limit: "memory.max", peak: "memory.peak", kills: "memory.events",
		anonymous: []string{"anon", "shmem"}, cache: []string{"inactive_file", "active_file", "slab_reclaimable"}, swapFile: "memory.swap.current",
	}
)

func (g *cgroup) names() memoryNames {
	if g.unified {
		return memoryV2
	}
	return memoryV1
}

// read samples the cgroup; ok is false when it is gone or has no process.
func (g *cgroup) read(proc string, now time.Time) (u release.Usage, ok bool) {
	names := g.names()
	kills, ok := g.oomKills()
	usage, ok1 := readNumber(filepath.Join(g.memory, names.usage))
	limit, ok2 := readNumber(filepath.Join(g.memory, names.limit))
	stat, ok3 := readFields(filepath.Join(g.memory, "memory.stat"))
	processes, ok4 := g.processes()
	if !ok || !ok1 || !ok2 || !ok3 || !ok4 || len(processes) == 0 {
		return release.Usage{}, false
	}
	u = release.Usage{Time: now, Limit: limit, OOMKills: kills, PIDs: int64(len(processes)), Kernel: true}
	swap := stat[names.swap]
	if names.swapFile != "" {
		swap, _ = readNumber(filepath.Join(g.memory, names.swapFile)) // not there without swap
	}
	if !split(&u, usage, swap, stat, names) {
		return release.Usage{}, false
	}
	peak, _ := readNumber(filepath.Join(g.memory, names.peak)) // Linux 5.19 and later for version 2
	u.HighWater = max(peak, usage)
	g.readTasks(&u)
	if stat, ok := readFields(filepath.Join(g.cpu, "cpu.stat")); ok && g.cpu != "" {
		u.Periods, u.Throttled = stat["nr_periods"], stat["nr_throttled"]
	}
	u.FDs = g.openFiles(proc, processes, now)
	return u, true
}

// split divides what counts against the limit. The kernel gives cache back
// before it kills anybody: file pages, active ones too (a file that is read
// twice makes those), and in version 2 the objects it keeps about files. What
// remains is the working set. It is false when the statistics lack a field,
// because what is not known is not zero.
func split(u *release.Usage, usage, swap int64, stat map[string]int64, names memoryNames) bool {
	if cache, v1 := stat["total_cache"]; v1 { // old kernels and engines count shared memory as cache only
		if _, there := stat["total_shmem"]; !there {
			stat["total_shmem"] = max(0, cache-stat["total_inactive_file"]-stat["total_active_file"])
		}
	}
	var sums [2]int64
	for i, list := range [][]string{names.anonymous, names.cache} {
		for _, field := range list {
			n, ok := stat[field]
			if !ok {
				return false
			}
			sums[i] += n
		}
	}
	u.Cache = min(sums[1], usage)
	u.Memory = usage - u.Cache
	u.Anonymous = sums[0] + swap
	return true
}

func (g *cgroup) readTasks(u *release.Usage) {
	u.Tasks = u.PIDs
	if g.pids == "" {
		return
	}
	if n, ok := readNumber(filepath.Join(g.pids, "pids.current")); ok {
		u.Tasks = n
	}
	if n, ok := readNumber(filepath.Join(g.pids, "pids.max")); ok && n != math.MaxInt64 {
		u.TaskLimit = n
	}
}

// oomKills counts the processes that the kernel killed for want of memory. The
// engine tells only of the first process; children count here.
func (g *cgroup) oomKills() (int64, bool) {
	stat, ok := readFields(filepath.Join(g.memory, g.names().kills))
	n, there := stat["oom_kill"]
	return n, ok && there
}

// maxProcesses bounds what is looked at one by one.
const maxProcesses = 512

// processes lists the cgroup's processes, as this process namespace numbers them.
func (g *cgroup) processes() ([]int, bool) {
	f, err := os.Open(filepath.Join(g.memory, "cgroup.procs"))
	if err != nil {
		return nil, false
	}
	defer f.Close()
	var list []int
	lines := bufio.NewScanner(io.LimitReader(f, 1<<20))
	for lines.Scan() {
		if pid, err := strconv.Atoi(strings.TrimSpace(lines.Text())); err == nil {
			list = append(list, pid)
		}
	}
	return list, lines.Err() == nil
}

// openFiles is a count of open files and when it was made: counting costs more
// than the rest, and hurries nobody.
type openFiles struct {
	count int64
	when  time.Time
}

// openFiles counts the open files of all processes once a second; -1 is
// unknown: only root may look at other users' processes.
func (g *cgroup) openFiles(proc string, processes []int, now time.Time) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.files.when.IsZero() && now.Sub(g.files.when) < time.Second {
		return g.files.count
	}
	g.files = openFiles{count: 0, when: now}
	if len(processes) > maxProcesses {
		g.files.count = -1
		return -1
	}
	for _, pid := range processes {
		n, err := countEntries(filepath.Join(proc, strconv.Itoa(pid), "fd"))
		switch {
		case os.IsNotExist(err): // it ended
		case err != nil:
			g.files.count = -1
			return -1
		default:
			g.files.count += n
		}
	}
	return g.files.count
}

// mostFiles bounds the entries that are counted of one process.
const mostFiles = 1 << 20

func countEntries(dir string) (n int64, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for n < mostFiles {
		names, err := f.Readdirnames(4096)
		n += int64(len(names))
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// readNumber reads a file that holds one number; "max" is as large as can be.
func readNumber(file string) (int64, bool) {
	text, err := readSmall(file)
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

// readFields reads a file of lines "name number".
func readFields(file string) (map[string]int64, bool) {
	text, err := readSmall(file)
	if err != nil {
		return nil, false
	}
	fields := map[string]int64{}
	for line := range strings.Lines(string(text)) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseInt(number, 10, 64); err == nil {
			fields[name] = n
		}
	}
	return fields, true
}

func readSmall(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<10))
}
