package bench

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
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
		Memory:  gigabytes(field("/proc/meminfo", "MemTotal")),
		System:  runtime.GOOS + "/" + runtime.GOARCH,
		Go:      runtime.Version(),
		Storage: "on disk",
	}
	var s syscall.Statfs_t
	if err := syscall.Statfs(storage, &s); err == nil && s.Type == tmpfs {
		m.Storage = "in memory (tmpfs)"
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		version, _, _ := strings.Cut(strings.TrimSpace(string(release)), "-")
		m.System += ", Linux " + version
	}
	return m
}

const tmpfs = 0x01021994 // statfs(2)

// gigabytes rounds what /proc says in kB.
func gigabytes(kilobytes string) string {
	n, err := strconv.ParseInt(strings.TrimSuffix(kilobytes, " kB"), 10, 64)
	if err != nil {
		return kilobytes
	}
	return fmt.Sprintf("%.0f GB", float64(n)*kib/gib)
}

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
