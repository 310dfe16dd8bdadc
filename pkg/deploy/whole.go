package deploy

import (
	"context"

	"github.com/promote-dev/promote/pkg/release"
)

// whole is an engine whose creations are waited for even when they are not
// wanted any more: an engine goes on with a request that was given up, and
// what it makes then comes too late for Down.
type whole struct{ Engine }

// begun gives a creation the time that the engine's own bounds give it, unless
// it has not begun.
func begun(ctx context.Context) (context.Context, error) {
	return context.WithoutCancel(ctx), ctx.Err()
}

func (w whole) CreateNetwork(ctx context.Context, project string, n release.NetworkSpec, labels map[string]string) error {
	ctx, err := begun(ctx)
	if err != nil {
		return err
	}
	return w.Engine.CreateNetwork(ctx, project, n, labels)
}

func (w whole) CreateVolume(ctx context.Context, project string, v release.VolumeSpec, labels map[string]string) error {
	ctx, err := begun(ctx)
	if err != nil {
		return err
	}
	return w.Engine.CreateVolume(ctx, project, v, labels)
}

func (w whole) Create(ctx context.Context, project string, s release.ServiceSpec, name string, labels map[string]string) (id string, err error) {
	ctx, err = begun(ctx)
	if err != nil {
		return "", err
	}
	return w.Engine.Create(ctx, project, s, name, labels)
}
