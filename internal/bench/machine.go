package bench

import (
	"bufio"
	"os"
	"runtime"
	"strings"
	"syscall"
)

// Machine is what a run ran on.
type Machine struct {
	CPU     string `json:"cpu"`
	Cores   int    `json:"cores"`
	Memory  string `json:"memory"`
	System  string `json:"system"`
	Go      string `json:"go"`
	Storage string `json:"storage"` // of the registries
}

// ThisMachine describes where we run, with the registries below a directory.
func ThisMachine(storage string) Machine {
	m := Machine{
		CPU:     field("/proc/cpuinfo", "model name"),
		Cores:   runtime.NumCPU(),
		Memory:  field("/proc/meminfo", "MemTotal"),
		System:  runtime.GOOS + "/" + runtime.GOARCH,
		Go:      runtime.Version(),
		Storage: "disk",
	}
	var s syscall.Statfs_t
	if err := syscall.Statfs(storage, &s); err == nil && s.Type == tmpfs {
		m.Storage = "memory (tmpfs)"
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.System += ", Linux " + strings.TrimSpace(string(release))
	}
	return m
}

const tmpfs = 0x01021994 // statfs(2)

// field reads the first value of a name in a file of /proc.
func field(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
