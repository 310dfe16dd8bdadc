package smoke

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// slack is added to what a run may take before others may call it dead.
const slack = 15 * time.Minute

// Owner names the process that runs o, for the label release.LabelOwner:
// machine, boot, process namespace, process, its start, and when the run must
// be over by the engine's clock, which shows now. From it others tell whether
// the run is still alive, see Sweep.
func Owner(o Options, now time.Time) string {
	return thisMachine().owner(os.Getpid(), now.Add(o.longest()))
}

// longest is how long a run can take.
func (o Options) longest() time.Duration {
	o = o.withDefaults()
	d := slack + 2*o.Timeout + o.Memory.Duration
	for _, c := range o.Checks {
		d += 2*max(c.Timeout, checkTimeout) + o.Timeout
	}
	return d + time.Duration(len(o.Workload.Services))*o.Timeout
}

// machine is where a process runs, and where to look whether it does.
type machine struct {
	id, boot, namespace string // empty is unknown
	proc                string
}

func thisMachine() machine { return machineAt("/etc/machine-id", "/proc") }

func machineAt(id, proc string) machine {
	m := machine{proc: proc}
	if raw, err := os.ReadFile(id); err == nil && len(strings.TrimSpace(string(raw))) > 0 {
		sum := sha256.Sum256([]byte(strings.TrimSpace(string(raw)))) // the id itself is nobody's business
		m.id = hex.EncodeToString(sum[:6])
	}
	if raw, err := os.ReadFile(filepath.Join(proc, "sys/kernel/random/boot_id")); err == nil && len(raw) >= 8 {
		m.boot = string(raw[:8])
	}
	if link, err := os.Readlink(filepath.Join(proc, "self/ns/pid")); err == nil {
		m.namespace = strings.Trim(strings.TrimPrefix(link, "pid:"), "[]")
	}
	return m
}

// owner writes the label's value. Fields that are unknown are "-".
func (m machine) owner(pid int, deadline time.Time) string {
	started, _ := m.started(pid)
	fields := []string{m.id, m.boot, m.namespace, strconv.Itoa(pid), started, strconv.FormatInt(deadline.Unix(), 10)}
	for i, f := range fields {
		if f == "" {
			fields[i] = "-"
		}
	}
	return strings.Join(fields, "/")
}

// started gives when a process began, in the kernel's own count; false if
// there is none or only its remains.
func (m machine) started(pid int) (string, bool) {
	raw, err := os.ReadFile(filepath.Join(m.proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", false
	}
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	const state, start = 0, 19 // of proc(5)'s fields from the third on
	if len(fields) <= start || fields[state] == "Z" || fields[state] == "X" {
		return "", false
	}
	return fields[start], true
}

// stale reports whether the run that an owner's label names is over: its
// process is gone where that can be seen from here, else its time is. now is
// the engine's clock. A label that cannot be read says nothing: the error.
func (m machine) stale(owner string, now time.Time) (bool, error) {
	f := strings.Split(owner, "/")
	if len(f) != 6 {
		return false, fmt.Errorf("no owner of a smoke run: %.100q", owner)
	}
	pid, err := strconv.Atoi(f[3])
	if err != nil {
		return false, fmt.Errorf("no owner of a smoke run: %.100q", owner)
	}
	unix, err := strconv.ParseInt(f[5], 10, 64)
	if err != nil {
		return false, fmt.Errorf("no owner of a smoke run: %.100q", owner)
	}
	switch {
	case m.id == "" || m.boot == "" || f[0] != m.id:
	case f[1] != m.boot:
		return true, nil // the machine was started anew since
	case m.namespace != "" && f[2] == m.namespace && f[4] != "-":
		started, alive := m.started(pid)
		return !alive || started != f[4], nil
	}
	return now.After(time.Unix(unix, 0)), nil
}
