package engine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/moby/api/types/container"
)

func TestOOMFile(t *testing.T) {
	const id = "0123456789abcdef"
	cases := map[string]struct {
		cgroup, want string
	}{
		"v1": {"12:cpu,cpuacct:/docker/" + id + "\n7:memory:/docker/" + id + "\n0::/system.slice/x\n", "memory/docker/" + id + "/memory.oom_control"},
		"v2": {"0::/system.slice/docker-" + id + ".scope\n", "system.slice/docker-" + id + ".scope/memory.events"},
		// The engine lives in another process namespace: that number is another
		// process here.
		"another process": {"0::/user.slice/somebody\n", ""},
		"nonsense":        {"x\n::\n", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			proc := t.TempDir()
			if err := os.MkdirAll(filepath.Join(proc, "42"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(proc, "42", "cgroup"), []byte(c.cgroup), 0o600); err != nil {
				t.Fatal(err)
			}
			file, ok := oomFile(proc, "/sys/fs/cgroup", 42, id)
			if c.want == "" {
				if ok {
					t.Errorf("found %s", file)
				}
				return
			}
			if want := "/sys/fs/cgroup/" + c.want; !ok || file != want {
				t.Errorf("%s %t, want %s", file, ok, want)
			}
		})
	}
	if _, ok := oomFile(t.TempDir(), "/sys/fs/cgroup", 42, id); ok {
		t.Error("found a process that is not there")
	}
}

func TestCountOOM(t *testing.T) {
	for content, want := range map[string]int64{
		"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n":                3,
		"low 0\nhigh 0\nmax 12\noom 4\noom_kill 2\noom_group_kill 0\n": 2,
		"oom_kill_disable 0\nunder_oom 0\n":                            -1,
		"oom_kill many\n":                                              -1,
		"":                                                             -1,
		"low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\nsome 1\n": 0,
	} {
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		n, ok := countOOM(file)
		if ok != (want >= 0) || ok && n != want {
			t.Errorf("%q: %d %t, want %d", content, n, ok, want)
		}
	}
}

func TestWorkingSet(t *testing.T) {
	for name, c := range map[string]struct {
		stats container.MemoryStats
		want  int64
	}{
		"v1":                   {container.MemoryStats{Usage: 100, Stats: map[string]uint64{"total_inactive_file": 30, "inactive_file": 10}}, 70},
		"v2":                   {container.MemoryStats{Usage: 100, Stats: map[string]uint64{"inactive_file": 10}}, 90},
		"more than everything": {container.MemoryStats{Usage: 100, Stats: map[string]uint64{"inactive_file": 200}}, 100},
		"stopped":              {container.MemoryStats{}, 0},
	} {
		if got := workingSet(c.stats); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
