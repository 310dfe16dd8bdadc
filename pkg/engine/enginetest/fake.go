package enginetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// Fake is an engine in memory. It keeps the contract of Run, and lets a test
// decide what goes wrong. Set its fields before use; it is safe for concurrent
// use afterwards.
//
// Containers run the probe: the command "/probe exit N" ends at its start, any
// other runs until it is stopped; a health check whose command is "/probe fail"
// is unhealthy, any other healthy.
type Fake struct {
	// Before is called before each call with the method's name in camelCase and
	// what it is about; an error fails the call without any effect. See Effect.
	Before func(op, subject string) error
	// After is called when the effect of a call is done; an error is returned
	// to the caller all the same, as when the answer is lost on the way.
	After func(op, subject string) error
	// Health decides what becomes of a started container that has a health
	// check: healthy, unhealthy or starting (for ever). Nil goes by the check.
	Health func(c release.Container) string
	// Exited decides whether a started container ends at once, and how. Nil
	// goes by the command.
	Exited func(c release.Container) (code int, ended bool)
	// HealthDelay is how long a started container stays "starting".
	HealthDelay time.Duration
	// OnExec answers Exec; nil says exit code 0 and nothing.
	OnExec func(c release.Container, cmd []string) (exit int, output []byte, err error)
	// OnHook answers RunHook; nil says exit code 0 and nothing.
	OnHook func(ctx context.Context, c release.Container, h release.Hook) (exit int, output []byte, err error)
	// OnUsage answers Usage; nil says 1 MiB.
	OnUsage func(c release.Container) release.Usage
	// OnConfinement answers Confinement; nil says one process with the declared
	// user that wrote nothing.
	OnConfinement func(c release.Container) release.Confinement
	// OnEntries answers Entries; nil says one.
	OnEntries func(v release.ObservedVolume) (int, error)
	// CutArchives has ReadVolume end before the end of the archive.
	CutArchives bool
	// Containerd makes images known by their manifest's digest.
	Containerd bool

	name string

	mu          sync.Mutex
	counter     int
	calls       []string
	registry    map[release.Subject]release.PlatformImage
	images      map[release.Subject]bool
	containers  map[string]*fakeContainer
	networks    map[string]fakeNetwork
	volumes     map[string]release.ObservedVolume
	contents    map[string]map[string]fakeEntry // of volumes, by name; "." is the top directory
	locks       map[string]release.LockNote
	checkpoints map[string]string
	watchers    map[*watcher]bool
}

type fakeContainer struct {
	release.Container
	spec      release.ServiceSpec
	anonymous []string // volumes made for this container
	log       []string
}

type fakeNetwork struct {
	spec   release.NetworkSpec
	labels map[string]string
}

type watcher struct {
	project string
	events  chan release.ContainerEvent
}

// NewFake makes an engine without images, containers, networks and volumes.
func NewFake(name string) *Fake {
	return &Fake{
		name:        name,
		registry:    map[release.Subject]release.PlatformImage{},
		images:      map[release.Subject]bool{},
		containers:  map[string]*fakeContainer{},
		networks:    map[string]fakeNetwork{},
		volumes:     map[string]release.ObservedVolume{},
		contents:    map[string]map[string]fakeEntry{},
		locks:       map[string]release.LockNote{},
		checkpoints: map[string]string{},
		watchers:    map[*watcher]bool{},
	}
}

// Effect reports whether a call changes something on the engine.
func Effect(op string) bool {
	switch op {
	case "readVolume", "info", "observe", "inspect", "inspectVolume", "events", "imageID", "usage", "logs", "confinement", "entries", "owned", "localImage", "readLock", "readCheckpoint", "listLabelled":
		return false
	}
	return true
}

// Offer puts an image into the registry that the engine pulls from.
func (f *Fake) Offer(s release.Subject, p release.PlatformImage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.registry[s] = p
}

// Calls gives the effects so far, "method subject" each.
func (f *Fake) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// call runs one method between its hooks.
func (f *Fake) call(ctx context.Context, op, subject string, do func() error) error {
	if err := ctx.Err(); err != nil {
		return &release.Fault{Op: op, Subject: subject, Err: err}
	}
	if f.Before != nil {
		if err := f.Before(op, subject); err != nil {
			return err
		}
	}
	f.mu.Lock()
	if Effect(op) {
		f.calls = append(f.calls, op+" "+subject)
	}
	err := do()
	f.mu.Unlock()
	if err == nil && f.After != nil && Effect(op) {
		err = f.After(op, subject)
	}
	return err
}

func (f *Fake) next() int { f.counter++; return f.counter }

func notFound(what, name string) error {
	return release.Unavailable("", "%s %s: %w", what, name, release.ErrNotFound)
}

// Name gives the target's name.
func (f *Fake) Name() string { return f.name }

// Info describes a small engine.
func (f *Fake) Info(ctx context.Context) (info release.EngineInfo, err error) {
	err = f.call(ctx, "info", f.name, func() error {
		info = release.EngineInfo{
			Version: "fake", APIVersion: "1.41", OS: "linux", Architecture: "amd64", CgroupVersion: "2",
			StorageDriver: "memory", Containerd: f.Containerd, MemoryLimit: true, Time: time.Now(),
		}
		return nil
	})
	return info, err
}

// ImageID gives a pulled image's config digest, or its manifest's with Containerd.
func (f *Fake) ImageID(ctx context.Context, s release.Subject) (id string, present bool, err error) {
	err = f.call(ctx, "imageID", s.String(), func() error {
		id, present = f.imageID(s)
		return nil
	})
	return id, present, err
}

func (f *Fake) imageID(s release.Subject) (string, bool) {
	if !f.images[s] {
		return "", false
	}
	p := f.registry[s]
	if f.Containerd {
		return p.Manifest.String(), true
	}
	return p.Config.String(), true
}

// Pull takes an offered image.
func (f *Fake) Pull(ctx context.Context, s release.Subject) (err error) {
	step := event.Start(ctx, "[%s] pull %s", f.name, s)
	defer func() { step.Done(err) }()
	return f.call(ctx, "pull", s.String(), func() error {
		if _, ok := f.registry[s]; !ok {
			return notFound("image", s.String())
		}
		f.images[s] = true
		return nil
	})
}

// RemoveImage forgets a pulled image that no container uses.
func (f *Fake) RemoveImage(ctx context.Context, s release.Subject) error {
	return f.call(ctx, "removeImage", s.String(), func() error {
		for _, c := range f.containers {
			if c.Reference == s.String() {
				return release.Unavailable("", "image %s is in use by %s", s, c.Name)
			}
		}
		delete(f.images, s)
		return nil
	})
}

// RemoveUnused forgets pulled images that no container uses.
func (f *Fake) RemoveUnused(ctx context.Context, prefix string, digests []release.Digest, guard func(context.Context) error) (removed []string, err error) {
	for _, s := range f.unused(prefix, digests) {
		if err := guard(ctx); err != nil {
			return removed, err
		}
		err := f.call(ctx, "removeImage", s.String(), func() error {
			delete(f.images, s)
			return nil
		})
		if err != nil {
			return removed, err
		}
		removed = append(removed, s.String())
	}
	return removed, nil
}

func (f *Fake) unused(prefix string, digests []release.Digest) (list []release.Subject) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.images {
		used := false
		for _, c := range f.containers {
			used = used || c.Reference == s.String()
		}
		if !used && strings.HasPrefix(s.Repository, prefix) && slices.Contains(digests, s.Digest) {
			list = append(list, s)
		}
	}
	return list
}

// CreateNetwork makes a network unless it is there.
func (f *Fake) CreateNetwork(ctx context.Context, project string, n release.NetworkSpec, labels map[string]string) error {
	return f.call(ctx, "createNetwork", n.Name, func() error {
		if have, ok := f.networks[n.Name]; ok {
			if !n.External && have.spec.Internal != n.Internal {
				return release.Faultf(release.KindConfig, "", "network %s is of another kind", n.Name)
			}
			return nil
		}
		if n.External {
			return release.Faultf(release.KindConfig, "", "network %s is external and missing", n.Name)
		}
		f.networks[n.Name] = fakeNetwork{n, owned(project, labels, n.Labels)}
		return nil
	})
}

func owned(project string, more ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range more {
		maps.Copy(all, m)
	}
	all[release.LabelProject] = project
	return all
}

// RemoveNetwork removes a network that no container has joined.
func (f *Fake) RemoveNetwork(ctx context.Context, name string) error {
	return f.call(ctx, "removeNetwork", name, func() error { return f.removeNetwork(name) })
}

func (f *Fake) removeNetwork(name string) error {
	for _, c := range f.containers {
		if _, joined := c.Networks[name]; joined {
			return release.Unavailable("", "network %s is in use by %s", name, c.Name)
		}
	}
	delete(f.networks, name)
	return nil
}

// CreateVolume makes a volume unless it is there.
func (f *Fake) CreateVolume(ctx context.Context, project string, v release.VolumeSpec, labels map[string]string) error {
	return f.call(ctx, "createVolume", v.Name, func() error {
		if _, ok := f.volumes[v.Name]; ok {
			return nil
		}
		if v.External {
			return release.Faultf(release.KindConfig, "", "volume %s is external and missing", v.Name)
		}
		f.makeVolume(v.Name, owned(project, labels, v.Labels))
		return nil
	})
}

func (f *Fake) makeVolume(name string, labels map[string]string) {
	f.volumes[name] = release.ObservedVolume{
		Name: name, Driver: "local", Identity: fmt.Sprintf("%s@%d", name, f.next()), Labels: labels,
	}
	f.contents[name] = emptyVolume()
}

// RemoveVolume removes a volume that no container mounts.
func (f *Fake) RemoveVolume(ctx context.Context, name string) error {
	return f.call(ctx, "removeVolume", name, func() error { return f.removeVolume(name) })
}

func (f *Fake) removeVolume(name string) error {
	for _, c := range f.containers {
		for _, m := range c.Mounts {
			if m.Name == name {
				return release.Unavailable("", "volume %s is in use by %s", name, c.Name)
			}
		}
	}
	delete(f.volumes, name)
	return nil
}

// ReplaceVolume swaps a volume for an empty one of the same name, as somebody
// with a shell on the host might.
func (f *Fake) ReplaceVolume(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.makeVolume(name, f.volumes[name].Labels)
}

// Lock takes a lock.
func (f *Fake) Lock(ctx context.Context, name string, note release.LockNote) error {
	return f.call(ctx, "lock", name, func() error {
		if held, ok := f.locks[name]; ok {
			return release.Faultf(release.KindHeld, "wait", "locking %s: held by %s", name, held.Holder)
		}
		f.locks[name] = note
		return nil
	})
}

// ReadLock reads a lock.
func (f *Fake) ReadLock(ctx context.Context, name string) (note release.LockNote, held bool, err error) {
	err = f.call(ctx, "readLock", name, func() error {
		note, held = f.locks[name]
		return nil
	})
	return note, held, err
}

// Unlock gives a lock back.
func (f *Fake) Unlock(ctx context.Context, name string, sequence int64) error {
	return f.call(ctx, "unlock", name, func() error {
		if f.locks[name].Sequence == sequence {
			delete(f.locks, name)
		}
		return nil
	})
}

// SaveCheckpoint keeps a text.
func (f *Fake) SaveCheckpoint(ctx context.Context, name, text string) error {
	return f.call(ctx, "saveCheckpoint", name, func() error {
		f.checkpoints[name] = text
		return nil
	})
}

// ReadCheckpoint gives a kept text.
func (f *Fake) ReadCheckpoint(ctx context.Context, name string) (text string, err error) {
	err = f.call(ctx, "readCheckpoint", name, func() error {
		text = f.checkpoints[name]
		return nil
	})
	return text, err
}

// ListLabelled lists what carries a label.
func (f *Fake) ListLabelled(ctx context.Context, label string) (found release.Labelled, err error) {
	err = f.call(ctx, "listLabelled", label, func() error {
		found = f.labelled(label)
		return nil
	})
	return found, err
}

func (f *Fake) labelled(label string) release.Labelled {
	var found release.Labelled
	for _, id := range slices.Sorted(maps.Keys(f.containers)) {
		if carries(f.containers[id].Labels, label) {
			found.Containers = append(found.Containers, id)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.networks)) {
		if carries(f.networks[name].labels, label) {
			found.Networks = append(found.Networks, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.volumes)) {
		if carries(f.volumes[name].Labels, label) {
			found.Volumes = append(found.Volumes, name)
		}
	}
	return found
}

func carries(labels map[string]string, label string) bool {
	key, value, exact := strings.Cut(label, "=")
	have, ok := labels[key]
	return ok && (!exact || have == value)
}

// RemoveLabelled removes what carries a label.
func (f *Fake) RemoveLabelled(ctx context.Context, label string) (found release.Labelled, err error) {
	err = f.call(ctx, "removeLabelled", label, func() error {
		found = f.labelled(label)
		for _, id := range found.Containers {
			f.discard(id, true)
		}
		for _, name := range found.Networks {
			if err := f.removeNetwork(name); err != nil {
				return err
			}
		}
		for _, name := range found.Volumes {
			if err := f.removeVolume(name); err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}
