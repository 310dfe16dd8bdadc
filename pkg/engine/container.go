package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/moby/moby/client"
)

// stopMargin is what the engine may need beyond a container's grace period.
const stopMargin = 30 * time.Second

// Start starts a container.
func (h *Host) Start(ctx context.Context, id string) error {
	ctx, cancel := h.short(ctx)
	defer cancel()
	_, err := h.client.ContainerStart(ctx, id, client.ContainerStartOptions{})
	return h.fault("starting container", id, err)
}

// Stop sends the container's stop signal and kills it when the grace period is
// over; 0 is the container's own. A stopped container stays stopped, also when
// its restart policy is always.
func (h *Host) Stop(ctx context.Context, id string, grace time.Duration) error {
	ctx, cancel := stopContext(ctx, grace)
	defer cancel()
	_, err := h.client.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: seconds(grace)})
	return h.fault("stopping container", id, err)
}

// Restart stops a container as Stop does and starts it again.
func (h *Host) Restart(ctx context.Context, id string, grace time.Duration) error {
	ctx, cancel := stopContext(ctx, grace)
	defer cancel()
	_, err := h.client.ContainerRestart(ctx, id, client.ContainerRestartOptions{Timeout: seconds(grace)})
	return h.fault("restarting container", id, err)
}

// stopContext bounds a call that waits for a container to end. With the
// container's own grace, which we don't know, it may take ten minutes.
func stopContext(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	if grace <= 0 {
		grace = 10 * time.Minute
	}
	return context.WithTimeoutCause(ctx, grace+stopMargin, fmt.Errorf("still running %s after it should have been killed", stopMargin))
}

// Kill sends a signal to a container's first process; empty is SIGKILL.
func (h *Host) Kill(ctx context.Context, id, signal string) error {
	ctx, cancel := h.short(ctx)
	defer cancel()
	_, err := h.client.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: signal})
	return h.fault("killing container", id, err)
}

// Rename gives a container another name, running or not.
func (h *Host) Rename(ctx context.Context, id, name string) error {
	ctx, cancel := h.short(ctx)
	defer cancel()
	_, err := h.client.ContainerRename(ctx, id, client.ContainerRenameOptions{NewName: name})
	return h.fault("renaming container", id, err)
}

// Remove kills a container if it runs and removes it. Its volumes stay, also
// the anonymous ones: there may be state in them. One that is not there is no
// error.
func (h *Host) Remove(ctx context.Context, id string) error { return h.remove(ctx, id, false) }

// Discard is Remove with the anonymous volumes that the engine made for this
// container and that no other container uses. Named volumes stay.
func (h *Host) Discard(ctx context.Context, id string) error { return h.remove(ctx, id, true) }

func (h *Host) remove(ctx context.Context, id string, anonymous bool) error {
	ctx, cancel := h.short(ctx)
	defer cancel()
	_, err := h.client.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: anonymous})
	if absent(err) {
		return nil
	}
	return h.fault("removing container", id, err)
}
