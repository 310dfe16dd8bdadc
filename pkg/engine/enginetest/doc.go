// Package enginetest holds what tests of engines need: the contract that every
// engine keeps (Run), an in-memory Fake that keeps it too, with hooks that make
// things go wrong, and a tiny registry that serves one image to a real engine.
package enginetest

import (
	"context"
	"io"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Engine is all that an engine does for us; *engine.Host and *Fake are ones.
// Consumers declare the few methods that they need.
type Engine interface {
	Name() string
	Info(ctx context.Context) (release.EngineInfo, error)
	Observe(ctx context.Context, project string) (release.Observed, error)
	Inspect(ctx context.Context, id string) (release.Container, error)
	Volume(ctx context.Context, name string) (release.ObservedVolume, error)
	Events(ctx context.Context, project string) (<-chan release.ContainerEvent, error)

	ImageID(ctx context.Context, s release.Subject) (id string, present bool, err error)
	Pull(ctx context.Context, s release.Subject) error
	RemoveImage(ctx context.Context, s release.Subject) error
	RemoveUnused(ctx context.Context, prefix string, digests []release.Digest, guard func(context.Context) error) ([]string, error)

	CreateNetwork(ctx context.Context, project string, n release.NetworkSpec, labels map[string]string) error
	RemoveNetwork(ctx context.Context, name string) error
	CreateVolume(ctx context.Context, project string, v release.VolumeSpec, labels map[string]string) error
	RemoveVolume(ctx context.Context, name string) error
	ReadVolume(ctx context.Context, project, volume string) (io.ReadCloser, error)
	FillVolume(ctx context.Context, project, volume string, content io.Reader) error
	ClearVolume(ctx context.Context, project, volume string) error

	Create(ctx context.Context, project string, s release.ServiceSpec, name string, labels map[string]string) (id string, err error)
	Start(ctx context.Context, id string) error
	Stop(ctx context.Context, id string, grace time.Duration) error
	Restart(ctx context.Context, id string, grace time.Duration) error
	Kill(ctx context.Context, id, signal string) error
	Rename(ctx context.Context, id, name string) error
	Remove(ctx context.Context, id string) error
	Discard(ctx context.Context, id string) error

	Confinement(ctx context.Context, id string) (release.Confinement, error)
	Processes(ctx context.Context, id string) ([]release.Process, error)
	Entries(ctx context.Context, volume string) (int, error)
	Owned(ctx context.Context, label string) (map[string]string, error)

	Usage(ctx context.Context, id string) (release.Usage, error)
	Exec(ctx context.Context, id string, cmd []string) (exit int, output []byte, err error)
	Logs(ctx context.Context, id string, lines int) ([]byte, error)

	Lock(ctx context.Context, name string, note release.LockNote) error
	ReadLock(ctx context.Context, name string) (release.LockNote, bool, error)
	Unlock(ctx context.Context, name string, sequence int64) error
	SaveCheckpoint(ctx context.Context, name, text string) error
	ReadCheckpoint(ctx context.Context, name string) (string, error)

	ListLabelled(ctx context.Context, label string) (release.Labelled, error)
	RemoveLabelled(ctx context.Context, label string) (release.Labelled, error)
}
