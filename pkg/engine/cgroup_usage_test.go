package engine

import (
	"os"
	"path/filepath"
	"testing"
)

// The files are as Linux 6.1 shows them for a container.
func TestUsageFromTheKernel(t *testing.T) {
	for name, c := range map[string]struct {
		events string
		files  map[string]string
		limit  int64
	}{
		"cgroup v1": {"memory.oom_control", map[string]string{
			"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", "memory.usage_in_bytes": "1000\n",
			"memory.limit_in_bytes": "134217728\n", "memory.stat": "cache 400\ninactive_file 1\ntotal_inactive_file 300\n", "cgroup.procs": "7\n8\n",
		}, 134217728},
		"cgroup v2": {"memory.events", map[string]string{
			"memory.events": "low 0\noom 3\noom_kill 2\n", "memory.current": "1000\n", "memory.max": "max\n",
			"memory.stat": "anon 600\ninactive_anon 5\ninactive_file 300\n", "cgroup.procs": "7\n8\n",
		}, 1<<63 - 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range c.files {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			u, ok := readUsage(filepath.Join(dir, c.events))
			if !ok || u.Memory != 700 || u.Limit != c.limit || u.OOMKills != 2 || u.PIDs != 2 {
				t.Errorf("got %+v, %v", u, ok)
			}
			for file := range c.files {
				if err := os.Rename(filepath.Join(dir, file), filepath.Join(dir, "gone")); err != nil {
					t.Fatal(err)
				}
				if u, ok := readUsage(filepath.Join(dir, c.events)); ok {
					t.Errorf("without %s it reads %+v", file, u)
				}
				if err := os.Rename(filepath.Join(dir, "gone"), filepath.Join(dir, file)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
