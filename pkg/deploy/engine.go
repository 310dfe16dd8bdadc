package deploy

import (
	"context"
	"io"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Observer tells what an engine runs.
type Observer interface {
	// Observe reports a project's containers, stopped ones too, and the
	// engine's volumes and networks.
	Observe(ctx context.Context, project string) (release.Observed, error)
	// Inspect reports one container by id or name, without the identities of its
	// volumes; release.ErrNotFound is in the chain of the error if there is none.
	Inspect(ctx context.Context, id string) (release.Container, error)
	// Volume reports one volume by name; errors are as Inspect's.
	Volume(ctx context.Context, name string) (release.ObservedVolume, error)
	// Events subscribes to a project's containers. Nothing that happens after
	// it returned is missed; the channel closes when the context or the
	// connection ends.
	Events(ctx context.Context, project string) (<-chan release.ContainerEvent, error)
}

// Images holds the images of a target.
type Images interface {
	ImageID(ctx context.Context, s release.Subject) (id string, present bool, err error)
	Pull(ctx context.Context, s release.Subject) error
}

// Containers makes and moves containers. Starting a running container,
// stopping a stopped one and removing one that is not there are no errors.
type Containers interface {
	Create(ctx context.Context, project string, s release.ServiceSpec, name string, labels map[string]string) (id string, err error)
	Start(ctx context.Context, id string) error
	Stop(ctx context.Context, id string, grace time.Duration) error // 0: the container's own grace
	Rename(ctx context.Context, id, name string) error
	Remove(ctx context.Context, id string) error  // volumes stay
	Discard(ctx context.Context, id string) error // its own anonymous volumes go
	Logs(ctx context.Context, id string, lines int) ([]byte, error)
	// RunHook runs a command in a running container and gives its exit code and
	// the beginning of what it wrote.
	RunHook(ctx context.Context, id string, h release.Hook) (exit int, output []byte, err error)
}

// Surroundings are the networks and volumes of a project. Creating what is
// there and removing what is not are no errors.
type Surroundings interface {
	CreateNetwork(ctx context.Context, project string, n release.NetworkSpec, labels map[string]string) error
	RemoveNetwork(ctx context.Context, name string) error
	CreateVolume(ctx context.Context, project string, v release.VolumeSpec, labels map[string]string) error
	RemoveVolume(ctx context.Context, name string) error
	ListLabelled(ctx context.Context, label string) (release.Labelled, error)
}

// Engine is what deploying needs of a target's engine.
type Engine interface {
	Observer
	Images
	Containers
	Surroundings
	Archives
}

// guarded asks the guard before every effect, and remembers whether there was
// one. When the guard says no, nothing more may be done, not even undoing.
type guarded struct {
	Engine
	guard   func(context.Context) error
	touched bool
	lost    error // what the guard said
}

func (g *guarded) allow(ctx context.Context) error {
	if g.guard != nil {
		if err := g.guard(ctx); err != nil {
			g.lost = err
			return err
		}
	}
	g.touched = true
	return nil
}

func (g *guarded) Create(ctx context.Context, project string, s release.ServiceSpec, name string, labels map[string]string) (string, error) {
	if err := g.allow(ctx); err != nil {
		return "", err
	}
	return g.Engine.Create(ctx, project, s, name, labels)
}

func (g *guarded) Start(ctx context.Context, id string) error {
	if err := g.allow(ctx); err != nil {
		return err
	}
	return g.Engine.Start(ctx, id)
}

func (g *guarded) Stop(ctx context.Context, id string, grace time.Duration) error {
	if err := g.allow(ctx); err != nil {
		return err
	}
	return g.Engine.Stop(ctx, id, grace)
}

func (g *guarded) Rename(ctx context.Context, id, name string) error {
	if err := g.allow(ctx); err != nil {
		return err
	}
	return g.Engine.Rename(ctx, id, name)
}

func (g *guarded) Remove(ctx context.Context, id string) error {
	if err := g.allow(ctx); err != nil {
		return err
	}
	return g.Engine.Remove(ctx, id)
}

func (g *guarded) Discard(ctx context.Context, id string) error {
	if err := g.allow(ctx); err != nil {
		return err
	}
	return g.Engine.Discard(ctx, id)
}

func (g *guarded) CreateNetwork(ctx context.Context, project string, n release.NetworkSpec, labels map[string]string) error {
	if err := g.allow(ctx); err != nil {
		return err
	}
	return g.Engine.CreateNetwork(ctx, project, n, labels)
}

func (g *guarded) RemoveNetwork(ctx context.Context, name string) error {
	if err := g.allow(ctx); err != nil {
		return err
	}
	return g.Engine.RemoveNetwork(ctx, name)
}

func (g *guarded) CreateVolume(ctx context.Context, project string, v release.VolumeSpec, labels map[string]string) error {
	if err := g.allow(ctx); err != nil {
		return err
	}
	return g.Engine.CreateVolume(ctx, project, v, labels)
}

func (g *guarded) RunHook(ctx context.Context, id string, h release.Hook) (int, []byte, error) {
	if err := g.allow(ctx); err != nil {
		return -1, nil, err
	}
	return g.Engine.RunHook(ctx, id, h)
}

func (g *guarded) RemoveVolume(ctx context.Context, name string) error {
	if err := g.allow(ctx); err != nil {
		return err
	}
	return g.Engine.RemoveVolume(ctx, name)
}

func (g *guarded) FillVolume(ctx context.Context, project, volume string, content io.Reader) error {
	if err := g.allow(ctx); err != nil {
		return err
	}
	return g.Engine.FillVolume(ctx, project, volume, content)
}

func (g *guarded) ClearVolume(ctx context.Context, project, volume string) error {
	if err := g.allow(ctx); err != nil {
		return err
	}
	return g.Engine.ClearVolume(ctx, project, volume)
}

// Pull is guarded, and changes nothing that runs.
func (g *guarded) Pull(ctx context.Context, s release.Subject) error {
	touched := g.touched
	err := g.allow(ctx)
	g.touched = touched
	if err != nil {
		return err
	}
	return g.Engine.Pull(ctx, s)
}
