package enginetest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Observe reports a project's containers, and all volumes and networks.
func (f *Fake) Observe(ctx context.Context, project string) (seen release.Observed, err error) {
	err = f.call(ctx, "observe", project, func() error {
		seen.Networks = slices.Sorted(maps.Keys(f.networks))
		for _, name := range slices.Sorted(maps.Keys(f.volumes)) {
			seen.Volumes = append(seen.Volumes, f.volumes[name])
		}
		for _, c := range f.containers {
			if c.Labels[release.LabelProject] == project {
				seen.Containers = append(seen.Containers, f.report(c))
			}
		}
		slices.SortFunc(seen.Containers, func(a, b release.Container) int { return strings.Compare(a.Name, b.Name) })
		seen.TakeOver(project)
		return nil
	})
	return seen, err
}

// report copies a container for the outside.
func (f *Fake) report(c *fakeContainer) release.Container {
	out := c.Container
	out.Labels, out.Networks, out.Mounts = maps.Clone(c.Labels), maps.Clone(c.Networks), slices.Clone(c.Mounts)
	for i, m := range out.Mounts {
		out.Mounts[i].Identity = f.volumes[m.Name].Identity
	}
	return out
}

// Inspect reports one container by id or name.
func (f *Fake) Inspect(ctx context.Context, id string) (out release.Container, err error) {
	err = f.call(ctx, "inspect", id, func() error {
		c, err := f.find(id)
		if err == nil {
			out = f.report(c)
			for i := range out.Mounts {
				out.Mounts[i].Identity = ""
			}
		}
		return err
	})
	return out, err
}

// Volume reports one volume by name.
func (f *Fake) Volume(ctx context.Context, name string) (out release.ObservedVolume, err error) {
	err = f.call(ctx, "inspectVolume", name, func() error {
		v, ok := f.volumes[name]
		if !ok {
			return notFound("volume", name)
		}
		out = v
		return nil
	})
	return out, err
}

func (f *Fake) find(id string) (*fakeContainer, error) {
	if c, ok := f.containers[id]; ok {
		return c, nil
	}
	for _, c := range f.containers {
		if c.Name == id {
			return c, nil
		}
	}
	return nil, notFound("container", id)
}

// Create makes a container. As with the real engine, a named volume that is
// missing is made on the way, and so is one for each volume path of the image.
func (f *Fake) Create(ctx context.Context, project string, s release.ServiceSpec, name string, labels map[string]string) (id string, err error) {
	err = f.call(ctx, "create", name, func() error {
		id, err = f.create(project, s, name, labels)
		return err
	})
	if err != nil {
		return "", err
	}
	return id, nil
}

func (f *Fake) create(project string, s release.ServiceSpec, name string, labels map[string]string) (string, error) {
	image, present := f.imageID(s.Image)
	if !present {
		return "", notFound("image", s.Image.String())
	}
	if other, err := f.find(name); err == nil {
		return "", release.Unavailable("", "the name %s is in use by container %s", name, other.ID)
	}
	c := &fakeContainer{spec: s, Container: release.Container{
		ID: fmt.Sprintf("%064x", f.next()), Name: name, Service: s.Name, Image: image, Reference: s.Image.String(),
		State: "created", Health: "none", ConfigHash: s.ConfigHash, User: s.User, ReadOnly: s.ReadOnly, Memory: s.MemoryLimit,
		HealthTest: healthTest(s.Health), NoNewPrivileges: slices.Contains(s.SecurityOpt, "no-new-privileges:true"), Privileged: s.Privileged, CPUs: s.CPUs, PIDs: s.PIDs, Restart: s.Restart.Name,
		Networks: map[string]string{}, Labels: owned(project, imageLabels(f.registry[s.Image]), s.Labels, labels),
	}}
	c.Labels[release.LabelService], c.Labels[release.LabelConfigHash] = s.Name, s.ConfigHash
	c.Labels["com.docker.compose.depends_on"] = dependsOn(s.DependsOn)
	for _, a := range s.Networks {
		if _, ok := f.networks[a.Network]; !ok {
			return "", notFound("network", a.Network)
		}
		c.Networks[a.Network] = ""
	}
	c.Ports = slices.Clone(s.Ports)
	c.Made = &release.Made{Spec: f.made(s)}
	f.mount(c)
	f.containers[c.ID] = c
	return c.ID, nil
}

func imageLabels(image release.PlatformImage) map[string]string {
	if image.Defaults == nil {
		return nil
	}
	return image.Defaults.Labels
}

// made is what the container of a service says about itself: the image's own
// defaults are worked in, as an engine does.
func (f *Fake) made(s release.ServiceSpec) release.ServiceSpec {
	s.Ports, s.Networks = slices.Clone(s.Ports), slices.Clone(s.Networks)
	s.Environment = maps.Clone(s.Environment)
	d := f.registry[s.Image].Defaults
	if d == nil {
		return s
	}
	for key, value := range d.Environment {
		if _, set := s.Environment[key]; !set {
			if s.Environment == nil {
				s.Environment = map[string]string{}
			}
			s.Environment[key] = value
		}
	}
	if len(s.Entrypoint) == 0 && len(s.Command) == 0 {
		s.Command = d.Command
	}
	if s.Entrypoint == nil {
		s.Entrypoint = d.Entrypoint
	}
	s.WorkingDir, s.StopSignal = cmp.Or(s.WorkingDir, d.WorkingDir), cmp.Or(s.StopSignal, d.StopSignal)
	if s.Health == nil {
		s.Health = d.Health
	}
	s.Expose = append(slices.Clone(s.Expose), d.Expose...)
	return s
}

func healthTest(h *release.Health) []string {
	if h == nil || len(h.Test) < 2 || h.Test[0] != "CMD" {
		return nil
	}
	return h.Test[1:]
}

func dependsOn(list []release.Dependency) string {
	var parts []string
	for _, d := range list {
		parts = append(parts, d.Service+":"+d.Condition+":false")
	}
	return strings.Join(parts, ",")
}

func (f *Fake) mount(c *fakeContainer) {
	targets := map[string]bool{}
	for _, m := range c.spec.Mounts {
		targets[m.Target] = true
		seen := release.ObservedMount{Type: m.Type, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly}
		if m.Type == "volume" {
			seen.Name = m.Source
			if _, ok := f.volumes[m.Source]; !ok {
				f.makeVolume(m.Source, nil)
			}
		}
		c.Mounts = append(c.Mounts, seen)
	}
	for _, target := range f.registry[c.spec.Image].Volumes {
		if targets[target] {
			continue
		}
		name := fmt.Sprintf("%064x", f.next())
		f.makeVolume(name, nil)
		c.anonymous = append(c.anonymous, name)
		c.Mounts = append(c.Mounts, release.ObservedMount{Type: "volume", Name: name, Target: target})
	}
	slices.SortFunc(c.Mounts, func(a, b release.ObservedMount) int { return strings.Compare(a.Target, b.Target) })
}

// Start starts a container; one that runs already is left alone.
func (f *Fake) Start(ctx context.Context, id string) error {
	return f.on(ctx, "start", id, func(c *fakeContainer) error {
		if c.State == "running" {
			return nil
		}
		if other := f.portTaken(c); other != "" {
			return release.Unavailable("", "starting %s: its port is taken by %s", c.Name, other)
		}
		f.start(c)
		return nil
	})
}

// portTaken names the running container that has published a port of c's.
func (f *Fake) portTaken(c *fakeContainer) string {
	for _, other := range f.containers {
		if other == c || other.State != "running" {
			continue
		}
		for _, p := range c.spec.Ports {
			for _, q := range other.spec.Ports {
				if p.Published != "" && p.Published == q.Published && p.Protocol == q.Protocol {
					return other.Name
				}
			}
		}
	}
	return ""
}

// on runs an effect on one container; the hooks hear its name.
func (f *Fake) on(ctx context.Context, op, id string, do func(*fakeContainer) error) error {
	f.mu.Lock()
	c, err := f.find(id)
	name := id
	if err == nil {
		name = c.Name
	}
	f.mu.Unlock()
	return f.call(ctx, op, name, func() error {
		c, err := f.find(id)
		if err != nil {
			return err
		}
		return do(c)
	})
}

func (f *Fake) start(c *fakeContainer) {
	c.State, c.ExitCode, c.Error, c.Started, c.PID = "running", 0, "", time.Now(), f.next()
	c.Health = "none"
	c.log = append(c.log, "running")
	if f.checked(c) {
		c.Health = "starting"
	}
	f.emit(c, "start", 0)
	if code, ended := f.ended(c); ended {
		f.end(c, code)
		return
	}
	if c.Health != "starting" {
		return
	}
	if f.HealthDelay == 0 {
		f.settle(c)
		return
	}
	started := c.Started
	time.AfterFunc(f.HealthDelay, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if c.State == "running" && c.Started.Equal(started) {
			f.settle(c)
		}
	})
}

func (f *Fake) checked(c *fakeContainer) bool {
	if h := c.spec.Health; h != nil && len(h.Test) > 0 {
		return h.Test[0] != "NONE"
	}
	return f.registry[c.spec.Image].Healthcheck
}

func (f *Fake) ended(c *fakeContainer) (int, bool) {
	if f.Exited != nil {
		return f.Exited(f.report(c))
	}
	cmd := c.spec.Command
	if len(cmd) == 3 && cmd[0] == "/probe" && cmd[1] == "exit" {
		code, _ := strconv.Atoi(cmd[2])
		return code, true
	}
	return 0, false
}

func (f *Fake) end(c *fakeContainer, code int) {
	c.State, c.ExitCode, c.PID = "exited", code, 0
	c.log = append(c.log, fmt.Sprintf("exiting with %d", code))
	f.emit(c, "die", code)
}

// settle gives a starting container its health.
func (f *Fake) settle(c *fakeContainer) {
	health := "healthy"
	switch {
	case f.Health != nil:
		health = f.Health(f.report(c))
	case c.spec.Health != nil && slices.Contains(c.spec.Health.Test, "fail"):
		health = "unhealthy"
	}
	c.Health = health
	if health == "unhealthy" {
		c.HealthLog = "exit code 1: not well"
	}
	if health != "starting" {
		f.emit(c, "health_status: "+health, 0)
	}
}

// Stop ends a running container with exit code 0.
func (f *Fake) Stop(ctx context.Context, id string, _ time.Duration) error {
	return f.on(ctx, "stop", id, func(c *fakeContainer) error {
		if c.State == "running" {
			f.emit(c, "kill", 0)
			f.end(c, 0)
		}
		return nil
	})
}

// Signal says that a service's containers were sent a signal, and does nothing
// else: for engines that take their time to stop one.
func (f *Fake) Signal(service string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.containers {
		if c.Service == service {
			f.emit(c, "kill", 0)
		}
	}
}

// Restart stops and starts a container.
func (f *Fake) Restart(ctx context.Context, id string, _ time.Duration) error {
	return f.on(ctx, "restart", id, func(c *fakeContainer) error {
		if c.State == "running" {
			f.end(c, 0)
		}
		f.start(c)
		return nil
	})
}

// Kill ends a container as the signal would.
func (f *Fake) Kill(ctx context.Context, id, signal string) error {
	return f.on(ctx, "kill", id, func(c *fakeContainer) error {
		if c.State != "running" {
			return release.Unavailable("", "container %s is not running", c.Name)
		}
		code := 137
		if strings.HasSuffix(signal, "TERM") {
			code = 0
		}
		f.end(c, code)
		return nil
	})
}

// Rename gives a container another, free name.
func (f *Fake) Rename(ctx context.Context, id, name string) error {
	return f.on(ctx, "rename", id, func(c *fakeContainer) error {
		if other, err := f.find(name); err == nil {
			return release.Unavailable("", "the name %s is in use by container %s", name, other.ID)
		}
		c.Name = name
		return nil
	})
}

// Remove removes a container and keeps its volumes.
func (f *Fake) Remove(ctx context.Context, id string) error {
	return f.call(ctx, "remove", f.nameOf(id), func() error { f.discard(id, false); return nil })
}

// Discard removes a container with the anonymous volumes that only it uses.
func (f *Fake) Discard(ctx context.Context, id string) error {
	return f.call(ctx, "discard", f.nameOf(id), func() error { f.discard(id, true); return nil })
}

func (f *Fake) nameOf(id string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, err := f.find(id); err == nil {
		return c.Name
	}
	return id
}

func (f *Fake) discard(id string, anonymous bool) {
	c, err := f.find(id)
	if err != nil {
		return
	}
	if c.State == "running" {
		f.end(c, 137)
	}
	delete(f.containers, c.ID)
	f.emit(c, "destroy", 0)
	if anonymous {
		for _, name := range c.anonymous {
			_ = f.removeVolume(name) // another container may use it
		}
	}
}

// Change rewrites what a container reports, as docker update on the host might.
func (f *Fake) Change(id string, change func(*release.Container)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, err := f.find(id); err == nil {
		change(&c.Container)
	}
}

// Die ends a running container from within.
func (f *Fake) Die(id string, code int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, err := f.find(id); err == nil && c.State == "running" {
		f.end(c, code)
	}
}

// OOM ends a running container for want of memory.
func (f *Fake) OOM(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, err := f.find(id); err == nil && c.State == "running" {
		c.OOMKilled = true
		f.emit(c, "oom", 0)
		f.end(c, 137)
	}
}

// SetHealth changes the health of a running container.
func (f *Fake) SetHealth(id, health string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, err := f.find(id); err == nil && c.State == "running" {
		c.Health = health
		f.emit(c, "health_status: "+health, 0)
	}
}

// Events subscribes to a project's containers.
func (f *Fake) Events(ctx context.Context, project string) (<-chan release.ContainerEvent, error) {
	// A test's whole story fits; a reader that does not read must not block us.
	w := &watcher{project: project, events: make(chan release.ContainerEvent, 4096)}
	err := f.call(ctx, "events", project, func() error {
		f.watchers[w] = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, w)
		close(w.events)
	})
	return w.events, nil
}

func (f *Fake) emit(c *fakeContainer, action string, code int) {
	for w := range f.watchers {
		if w.project != c.Labels[release.LabelProject] {
			continue
		}
		select {
		case w.events <- release.ContainerEvent{Time: time.Now(), Container: c.ID, Service: c.Service, Action: action, ExitCode: code}:
		default:
		}
	}
}

// Usage samples a container.
func (f *Fake) Usage(ctx context.Context, id string) (u release.Usage, err error) {
	var c release.Container
	err = f.call(ctx, "usage", id, func() error {
		found, err := f.find(id)
		if err == nil {
			c = f.report(found)
		}
		return err
	})
	if err != nil {
		return release.Usage{}, err
	}
	if f.OnUsage != nil {
		return f.OnUsage(c), nil
	}
	return release.Usage{Time: time.Now(), Memory: 1 << 20, Anonymous: 1 << 20, Limit: c.Memory, PIDs: 1, FDs: -1, Tasks: 1}, nil
}

// Exec answers by OnExec.
func (f *Fake) Exec(ctx context.Context, id string, cmd []string) (exit int, output []byte, err error) {
	var c release.Container
	err = f.on(ctx, "exec", id, func(found *fakeContainer) error {
		if found.State != "running" {
			return release.Unavailable("", "container %s is not running", found.Name)
		}
		c = f.report(found)
		return nil
	})
	if err != nil || f.OnExec == nil {
		return 0, nil, err
	}
	return f.OnExec(c, cmd)
}

// RunHook answers with OnHook.
func (f *Fake) RunHook(ctx context.Context, id string, h release.Hook) (exit int, output []byte, err error) {
	var c release.Container
	err = f.on(ctx, "hook", id, func(found *fakeContainer) error {
		if found.State != "running" {
			return release.Unavailable("", "container %s is not running", found.Name)
		}
		c = f.report(found)
		return nil
	})
	if err != nil || f.OnHook == nil {
		return 0, nil, err
	}
	return f.OnHook(ctx, c, h)
}

// Logs gives the last lines of what the fake probe said.
func (f *Fake) Logs(ctx context.Context, id string, lines int) (log []byte, err error) {
	err = f.call(ctx, "logs", id, func() error {
		c, err := f.find(id)
		if err != nil {
			return err
		}
		for _, line := range c.log[max(0, len(c.log)-lines):] {
			log = append(log, line+"\n"...)
		}
		return nil
	})
	return log, err
}

var _ Engine = (*Fake)(nil)
