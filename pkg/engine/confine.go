package engine

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
)

const (
	mostWritten = 100
	mostCommand = 300     // bytes of a command that are kept
	mostMounts  = 4 << 20 // bytes of a list of mounts; its lines may be long
)

// Confinement tells how a running container is confined and what it wrote to
// its own file system. On an engine of this machine the kernel says so for each
// process; elsewhere the engine lists the processes, and the rest is as the
// container was declared.
func (h *Host) Confinement(ctx context.Context, id string) (release.Confinement, error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	result, err := h.client.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return release.Confinement{}, h.fault("inspecting container", id, err)
	}
	raw := result.Container
	c := convert(raw)
	if c.State != "running" {
		return release.Confinement{}, release.Unavailable("", "looking at the processes of %s: it is %s", c.Name, c.State)
	}
	seen, known := release.Confinement{}, false
	if g, ok := h.cgroupOf(ctx, id); ok {
		seen, known = g.confinement(procRoot, c.PID)
	}
	if !known {
		if seen, err = h.declared(ctx, c); err != nil {
			return release.Confinement{}, err
		}
	}
	if c.ReadOnly && seen.Known && seen.RootReadOnly {
		return seen, nil // nothing can have been written, and looking costs the engine a walk over all files
	}
	changes, err := h.client.ContainerDiff(ctx, id, client.ContainerDiffOptions{})
	if tooLong(err) {
		seen.Written = []string{"/ (the names alone take more than 32 MiB)"}
		return seen, nil
	}
	if err != nil {
		return release.Confinement{}, h.fault("listing what was written by container", id, err)
	}
	seen.Written = written(changes.Changes, mountTargets(raw))
	return seen, nil
}

// Processes lists a running container's processes: as the kernel of this machine
// names them, or as the engine elsewhere does, then with NoNewPrivileges false.
// It costs the engine nothing, or one request.
func (h *Host) Processes(ctx context.Context, id string) ([]release.Process, error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	if g, ok := h.cgroupOf(ctx, id); ok {
		if pids, ok := g.processes(); ok && len(pids) > 0 {
			return processesOf(procRoot, pids), nil
		}
	}
	return h.top(ctx, release.Container{ID: id})
}

// confinement asks the kernel about every process of a cgroup, and about the
// root file system of the first one.
func (g *cgroup) confinement(proc string, first int) (release.Confinement, bool) {
	pids, ok := g.processes()
	if !ok || len(pids) == 0 {
		return release.Confinement{}, false
	}
	readOnly, ok := rootReadOnly(filepath.Join(proc, strconv.Itoa(first), "mountinfo"))
	if !ok {
		return release.Confinement{}, false
	}
	seen := release.Confinement{RootReadOnly: readOnly, Known: true, Processes: processesOf(proc, pids)}
	return seen, len(seen.Processes) > 0
}

// processesOf reads what the kernel says about those processes that are still
// there.
func processesOf(proc string, pids []int) (list []release.Process) {
	for _, pid := range pids[:min(len(pids), maxProcesses)] {
		if p, ok := readProcess(proc, pid); ok {
			list = append(list, p)
		}
	}
	return list
}

// readProcess reads what the kernel says about a process.
func readProcess(proc string, pid int) (release.Process, bool) {
	dir := filepath.Join(proc, strconv.Itoa(pid))
	status, err := readSmall(filepath.Join(dir, "status"))
	if err != nil {
		return release.Process{}, false
	}
	p := release.Process{PID: pid, UID: -1}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "Name":
			p.Name = value
		case "Uid": // real, effective, saved, of file systems
			if fields := strings.Fields(value); len(fields) == 4 {
				if uid, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
					p.UID = uid
				}
			}
		case "NoNewPrivs":
			p.NoNewPrivileges = value == "1"
		}
	}
	command, _ := readSmall(filepath.Join(dir, "cmdline"))
	p.Command = clip(strings.ToValidUTF8(string(bytes.TrimSpace(bytes.ReplaceAll(command, []byte{0}, []byte{' '}))), "?"), mostCommand)
	return p, p.UID >= 0
}

// rootReadOnly reads how the root of a process's mount namespace is mounted.
// The last line for it counts: it lies on top.
func rootReadOnly(mountinfo string) (readOnly, ok bool) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return false, false
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, mostMounts))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || fields[4] != "/" {
			continue
		}
		readOnly, ok = slices.Contains(strings.Split(fields[5], ","), "ro"), true
	}
	return readOnly, ok && lines.Err() == nil
}

// declared gives what an engine elsewhere can say.
func (h *Host) declared(ctx context.Context, c release.Container) (release.Confinement, error) {
	processes, err := h.top(ctx, c)
	return release.Confinement{RootReadOnly: c.ReadOnly, Processes: processes}, err
}

// top has the engine list a container's processes, with the privileges that it
// declares.
func (h *Host) top(ctx context.Context, c release.Container) (list []release.Process, err error) {
	top, err := h.client.ContainerTop(ctx, c.ID, client.ContainerTopOptions{Arguments: []string{"-eo", "pid,uid,comm,args"}})
	if err != nil {
		return nil, h.fault("listing the processes of container", c.ID, err)
	}
	for _, row := range top.Processes[:min(len(top.Processes), maxProcesses)] {
		if len(row) < 3 {
			continue
		}
		p := release.Process{UID: -1, Name: row[2], Command: clip(strings.Join(row[3:], " "), mostCommand), NoNewPrivileges: c.NoNewPrivileges}
		p.PID, _ = strconv.Atoi(row[0])
		if uid, err := strconv.ParseInt(row[1], 10, 64); err == nil {
			p.UID = uid
		}
		list = append(list, p)
	}
	return list, nil
}

// mountTargets gives where something is mounted in a container.
func mountTargets(r container.InspectResponse) []string {
	var targets []string
	for _, m := range r.Mounts {
		targets = append(targets, m.Destination)
	}
	if r.HostConfig != nil {
		for target := range r.HostConfig.Tmpfs {
			targets = append(targets, target)
		}
		for _, m := range r.HostConfig.Mounts {
			targets = append(targets, m.Target)
		}
	}
	return targets
}

// written gives the paths that a container changed itself. Engines list the
// directories above a change, too, and the places that they made to mount
// things on.
func written(changes []container.FilesystemChange, mounts []string) []string {
	parents := map[string]bool{}
	for _, change := range changes {
		for dir := filepath.Dir(change.Path); dir != "/" && dir != "." && !parents[dir]; dir = filepath.Dir(dir) {
			parents[dir] = true
		}
	}
	var list []string
	for _, change := range changes {
		if change.Path == "" || parents[change.Path] || mountPlace(change.Path, mounts) {
			continue
		}
		list = append(list, change.Path)
	}
	slices.Sort(list)
	return list[:min(len(list), mostWritten)]
}

func mountPlace(path string, mounts []string) bool {
	return slices.ContainsFunc(mounts, func(m string) bool {
		m = strings.TrimSuffix(m, "/")
		return m == path || strings.HasPrefix(m, path+"/")
	})
}
