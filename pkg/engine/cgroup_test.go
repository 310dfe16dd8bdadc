package engine

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

func TestFindCgroup(t *testing.T) {
	const id = "0123456789abcdef"
	cases := map[string]struct {
		lines             string
		memory, cpu, pids string
		unified           bool
	}{
		"v1": {"12:cpu,cpuacct:/docker/" + id + "\n9:pids:/docker/" + id + "\n7:memory:/docker/" + id + "\n0::/system.slice/x\n",
			"memory/docker/" + id, "cpu/docker/" + id, "pids/docker/" + id, false},
		// The unified tree of a hybrid system has no controllers.
		"hybrid":              {"0::/docker/" + id + "\n7:memory:/docker/" + id + "\n", "memory/docker/" + id, "", "", false},
		"hybrid, other order": {"7:memory:/docker/" + id + "\n0::/docker/" + id + "\n", "memory/docker/" + id, "", "", false},
		"v2": {"0::/system.slice/docker-" + id + ".scope\n", "system.slice/docker-" + id + ".scope",
			"system.slice/docker-" + id + ".scope", "system.slice/docker-" + id + ".scope", true},
		// The engine lives in another process namespace: that number is another
		// process here.
		"another process": {lines: "0::/user.slice/somebody\n7:memory:/user.slice\n"},
		"nonsense":        {lines: "x\n::\n"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			proc := t.TempDir()
			write(t, filepath.Join(proc, "42", "cgroup"), c.lines)
			g, ok := findCgroup(proc, "/sys/fs/cgroup", 42, id)
			if c.memory == "" {
				if ok {
					t.Errorf("found %+v", g)
				}
				return
			}
			in := func(dir string) string {
				if dir == "" {
					return ""
				}
				return "/sys/fs/cgroup/" + dir
			}
			if !ok || g.memory != in(c.memory) || g.cpu != in(c.cpu) || g.pids != in(c.pids) || g.unified != c.unified {
				t.Errorf("%t %+v", ok, g)
			}
		})
	}
	if g, ok := findCgroup(t.TempDir(), "/sys/fs/cgroup", 42, id); ok {
		t.Errorf("found a process that is not there: %+v", g)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The files of version 1 are recorded: Linux 6.18 shows them for a shell that
// wrote 40 MiB, read them three times and then used up its share of the CPU.
// Those of version 2 have the form of the kernel's documentation (Admin Guide,
// Control Group v2), with the numbers of such a container and a child that was
// killed.
func TestUsageFromTheKernel(t *testing.T) {
	now := time.Now()
	for dir, want := range map[string]release.Usage{
		"cgroup1": {Memory: 44027904 - 102400 - 41947136, Anonymous: 245760, Cache: 102400 + 41947136, HighWater: 44793856, Limit: 64 << 20,
			OOMKills: 0, PIDs: 2, FDs: 3, Tasks: 2, TaskLimit: 64, Periods: 17, Throttled: 14},
		"cgroup2": {Memory: 44318720 - 2510848 - 38907904 - 311296, Anonymous: 1572864 + 524288 + 1048576, Cache: 2510848 + 38907904 + 311296,
			HighWater: 45060096, Limit: 64 << 20, OOMKills: 1, PIDs: 2, FDs: 3, Tasks: 9, TaskLimit: 0, Periods: 120, Throttled: 48},
	} {
		t.Run(dir, func(t *testing.T) {
			want.Time, want.Kernel = now, true
			g := fixture(t, dir)
			if got, ok := g.read(processes(t), now); !ok || got != want {
				t.Errorf("got  %+v %t\nwant %+v", got, ok, want)
			}
		})
	}
}

// fixture copies recorded files of a container's cgroup.
func fixture(t *testing.T, dir string) *cgroup {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(filepath.Join("testdata", dir))); err != nil {
		t.Fatal(err)
	}
	return &cgroup{unified: dir == "cgroup2", memory: to, cpu: to, pids: to}
}

// processes makes the files of the recorded cgroups' processes, of which the
// second one has ended.
func processes(t *testing.T) string {
	t.Helper()
	proc := t.TempDir()
	for fd := range 3 {
		write(t, filepath.Join(proc, "26902", "fd", strconv.Itoa(fd)), "")
	}
	return proc
}

// What cannot be read is asked of the engine, never taken for zero.
func TestUsageWithoutAFile(t *testing.T) {
	needed := map[string][]string{
		"cgroup1": {"memory.usage_in_bytes", "memory.limit_in_bytes", "memory.stat", "memory.oom_control", "cgroup.procs"},
		"cgroup2": {"memory.current", "memory.max", "memory.stat", "memory.events", "cgroup.procs"},
	}
	for dir, files := range needed {
		for _, file := range files {
			g := fixture(t, dir)
			if err := os.Remove(filepath.Join(g.memory, file)); err != nil {
				t.Fatal(err)
			}
			if u, ok := g.read(processes(t), time.Now()); ok {
				t.Errorf("%s without %s reads %+v", dir, file, u)
			}
		}
		for _, other := range []string{"memory.peak", "memory.max_usage_in_bytes", "memory.swap.current", "pids.current", "pids.max", "cpu.stat"} {
			g := fixture(t, dir)
			_ = os.Remove(filepath.Join(g.memory, other))
			if u, ok := g.read(processes(t), time.Now()); !ok || u.HighWater < u.Memory+u.Cache || u.Tasks < 2 {
				t.Errorf("%s without %s: %+v %t", dir, other, u, ok)
			}
		}
	}
}

func TestUsageWithoutAField(t *testing.T) {
	for dir, fields := range map[string][]string{
		"cgroup1": {"total_rss", "total_inactive_file", "total_active_file"},
		"cgroup2": {"anon", "shmem", "inactive_file", "active_file", "slab_reclaimable"},
	} {
		for _, field := range fields {
			g := fixture(t, dir)
			file := filepath.Join(g.memory, "memory.stat")
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			write(t, file, strings.Replace("\n"+string(text), "\n"+field+" ", "\nother ", 1))
			if u, ok := g.read(processes(t), time.Now()); ok {
				t.Errorf("%s without %s reads %+v", dir, field, u)
			}
		}
	}
}

// Shared memory is what a file in /dev/shm takes; no kernel gives it back.
func TestSharedMemoryIsNoCache(t *testing.T) {
	g := fixture(t, "cgroup1")
	write(t, filepath.Join(g.memory, "memory.stat"), "total_cache 9000\ntotal_rss 100\ntotal_inactive_file 1000\ntotal_active_file 3000\n")
	write(t, filepath.Join(g.memory, "memory.usage_in_bytes"), "9500\n")
	u, ok := g.read(processes(t), time.Now())
	if !ok || u.Memory != 5500 || u.Anonymous != 5100 || u.Cache != 4000 {
		t.Errorf("%+v %t", u, ok)
	}
}

// An empty cgroup is one whose container has ended.
func TestNoProcessNoUsage(t *testing.T) {
	g := fixture(t, "cgroup2")
	write(t, filepath.Join(g.memory, "cgroup.procs"), "")
	if u, ok := g.read(processes(t), time.Now()); ok {
		t.Errorf("%+v", u)
	}
}

func TestOpenFilesAreCountedOnceASecond(t *testing.T) {
	g, proc, now := fixture(t, "cgroup2"), processes(t), time.Now()
	files := func(at time.Time) int64 {
		u, ok := g.read(proc, at)
		if !ok {
			t.Fatal("cannot be read")
		}
		return u.FDs
	}
	if n := files(now); n != 3 {
		t.Fatal(n)
	}
	write(t, filepath.Join(proc, "26915", "fd", "0"), "")
	if n := files(now.Add(900 * time.Millisecond)); n != 3 {
		t.Errorf("%d within a second", n)
	}
	if n := files(now.Add(time.Second)); n != 4 {
		t.Errorf("%d after a second", n)
	}
	// A file in place of the directory is one that cannot be listed.
	write(t, filepath.Join(proc, "26902", "x"), "")
	if err := os.RemoveAll(filepath.Join(proc, "26902", "fd")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(proc, "26902", "fd"), "")
	if n := files(now.Add(3 * time.Second)); n != -1 {
		t.Errorf("%d although not all can be seen", n)
	}
}
