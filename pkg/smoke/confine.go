package smoke

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// confinements is what was seen of how services are confined.
type confinements struct {
	mu   sync.Mutex
	seen map[string]release.Confinement
	// installing is the first sign of each service that it installs something.
	installing map[string]string
}

// The pause between two looks at the processes: while services start, and after.
const (
	starting = 250 * time.Millisecond
	steadily = time.Second
)

// sniff looks for package managers among the services' processes until ctx
// ends: often until up is closed.
func (r *run) sniff(ctx context.Context, up <-chan struct{}) {
	pause := time.NewTicker(starting)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-up:
			pause.Reset(steadily)
			up = nil
		case <-pause.C:
		}
		for _, s := range r.workload.Services {
			if id := r.monitor.id(s.Name); id != "" {
				if list, err := r.Engine.Processes(ctx, id); err == nil {
					r.confined.sign(s.Name, installerAmong(list))
				}
			}
		}
	}
}

func (c *confinements) sign(service, sign string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.installing == nil {
		c.installing = map[string]string{}
	}
	if sign != "" && c.installing[service] == "" {
		c.installing[service] = sign
	}
}

// confine asks how each running service is confined, and what it has written.
func (r *run) confine(ctx context.Context) error {
	for _, s := range r.workload.Services {
		l := r.monitor.get(s.Name)
		if s.OneShot || l.last.State != "running" {
			continue
		}
		c, err := r.Engine.Confinement(ctx, l.id)
		if err != nil {
			if err := r.alive(ctx, err); err != nil {
				return err
			}
			continue // it has just ended, which others judge
		}
		c.Written = slices.DeleteFunc(c.Written, func(p string) bool { return mountPoint(s, p) })
		r.confined.sign(s.Name, installerAmong(c.Processes))
		r.confined.sign(s.Name, installedFile(c.Written))
		r.confined.merge(s.Name, c)
	}
	return nil
}

// merge keeps what was written and who ran at an earlier look.
func (c *confinements) merge(service string, now release.Confinement) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[string]release.Confinement{}
	}
	if before, ok := c.seen[service]; ok {
		now.Processes = append(slices.Clone(before.Processes), now.Processes...)
		now.Written = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(before.Written), now.Written...))))
		now.RootReadOnly = before.RootReadOnly && now.RootReadOnly
	}
	c.seen[service] = now
}

func (c *confinements) of(service string) (seen release.Confinement, asked bool, installing string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen, asked = c.seen[service]
	return seen, asked, c.installing[service]
}

// mountPoint reports whether a path is one that the engine made to mount
// something there.
func mountPoint(s release.ServiceSpec, file string) bool {
	return slices.ContainsFunc(s.Mounts, func(m release.Mount) bool {
		return m.Target == file || strings.HasPrefix(m.Target, strings.TrimSuffix(file, "/")+"/")
	})
}

// judgeConfinement: what the model promises, held against what the kernel says
// of the processes and the root file system.
func (r *run) judgeConfinement(l life, s release.ServiceSpec) {
	seen, asked, installing := r.confined.of(l.name)
	declared := "" // for what could only be read from the configuration
	if !asked || !seen.Known {
		declared = ", as declared"
	}
	r.judgeUser(l, seen, declared)
	switch {
	case !l.last.ReadOnly:
		r.add("readonly/"+l.name, release.Warned, "its root file system can be written")
	case asked && seen.Known && !seen.RootReadOnly:
		r.add("readonly/"+l.name, release.Failed, "its root file system is to be read-only, and can be written")
	default:
		r.add("readonly/"+l.name, release.Passed, "its root file system is read-only%s", declared)
	}
	r.judgePrivileges(l, seen, declared)
	if asked && !l.last.ReadOnly {
		r.judgeWrites(l, seen.Written)
	}
	if installing != "" {
		r.add("installs/"+l.name, release.Failed, "it installs at start-up: %s; what runs then is not what was scanned", installing)
	} else {
		r.add("installs/"+l.name, release.Passed, "no package manager was seen at work")
	}
	if r.DenyEgress {
		r.add("offline/"+l.name, release.Passed, "started without a way out")
	}
}

func (r *run) judgeUser(l life, seen release.Confinement, declared string) {
	name := "unprivileged/" + l.name
	image := r.ImageUsers[l.name]
	switch i := slices.IndexFunc(seen.Processes, func(p release.Process) bool { return p.UID == 0 }); {
	case isRoot(l.last.User) && image != "" && !isRoot(image):
		r.add(name, release.Failed, "runs as root, and its image is made for user %s", image)
	case isRoot(l.last.User):
		r.add(name, release.Warned, "runs as root")
	case i >= 0:
		r.add(name, release.Failed, "its process %s runs as root, declared is user %s", seen.Processes[i].Name, l.last.User)
	default:
		r.add(name, release.Passed, "runs as user %s%s", l.last.User, declared)
	}
}

// isRoot reports whether a user, as images and models name one, is root.
func isRoot(user string) bool {
	name, _, _ := strings.Cut(user, ":")
	return name == "root" || strings.Trim(name, "0") == ""
}

func (r *run) judgePrivileges(l life, seen release.Confinement, declared string) {
	name := "newprivileges/" + l.name
	i := slices.IndexFunc(seen.Processes, func(p release.Process) bool { return !p.NoNewPrivileges })
	switch {
	case !l.last.NoNewPrivileges:
		r.add(name, release.Warned, "its processes may gain privileges; security_opt: [\"no-new-privileges:true\"] forbids it")
	case seen.Known && i >= 0:
		r.add(name, release.Failed, "its process %s may gain privileges, which is declared to be forbidden", seen.Processes[i].Name)
	default:
		r.add(name, release.Passed, "no process may gain privileges%s", declared)
	}
}

// judgeWrites: what lies in the root layer is gone at the next deployment, and
// cannot be written where the root is read-only.
func (r *run) judgeWrites(l life, written []string) {
	name := "writes/" + l.name
	if len(written) == 0 {
		r.add(name, release.Passed, "nothing was written outside its volumes")
		return
	}
	text := strings.Join(written[:min(3, len(written))], ", ")
	if n := len(written) - 3; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	if r.readOnlyLater(l.name) {
		r.add(name, release.Failed, "wrote %s outside its volumes, where a later environment lets it write nothing", text)
		return
	}
	r.add(name, release.Warned, "wrote %s outside its volumes: gone at the next deployment", text)
}

// mostSaid is how many of a log's first lines are searched for an installation.
const mostSaid = 200

// sayings looks for installations in what services said while they started.
func (r *run) sayings(ctx context.Context) {
	for _, s := range r.workload.Services {
		id := r.monitor.id(s.Name)
		if id == "" {
			continue
		}
		raw, err := r.Engine.Logs(ctx, id, logLines)
		if err != nil {
			continue
		}
		lines := strings.SplitN(string(raw), "\n", mostSaid+1)
		for _, line := range lines[:min(len(lines), mostSaid)] {
			if installLine.MatchString(line) {
				r.confined.sign(s.Name, "its log says "+oneLine(line))
				break
			}
		}
	}
}

// installedFile finds a file that only a package manager writes.
func installedFile(written []string) string {
	for _, file := range written {
		for _, place := range installPlaces {
			if strings.Contains(path.Clean(file)+"/", place) {
				return "it wrote " + file
			}
		}
	}
	return ""
}
