package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
)

const (
	probeImage = "promote.invalid/probe:1" // ".invalid" can never be pulled
	labelProbe = "dev.promote.probe"
	probeTime  = 20 * time.Second
	probeBase  = 64 // the exit code for an empty directory
	// MostEntries is where Entries stops counting.
	MostEntries = 100
)

// Entries counts the entries of a volume's top directory, at most MostEntries.
// A container of our own looks, which has the volume read-only, no network, a
// read-only root and no capability but that of reading what belongs to others;
// its exit code is the answer. Nothing is copied out of any container.
// errors.ErrUnsupported is in the chain where the probe does not run on the
// engine's kind of machine.
func (h *Host) Entries(ctx context.Context, volume string) (int, error) {
	info, err := h.Info(ctx)
	if err != nil {
		return 0, err
	}
	if info.OS != "linux" || info.Architecture != "amd64" {
		return 0, fmt.Errorf("looking into volume %s on %s/%s: %w", volume, info.OS, info.Architecture, errors.ErrUnsupported)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, probeTime, fmt.Errorf("no answer within %s", probeTime))
	defer cancel()
	labels, err := h.probeLabels(ctx, volume)
	if err != nil {
		return 0, err
	}
	if err := h.ensureProbe(ctx); err != nil {
		return 0, err
	}
	created, err := h.client.ContainerCreate(ctx, probeContainer(volume, labels))
	if err != nil {
		return 0, h.fault("looking into volume", volume, err)
	}
	defer func() { _ = h.Discard(context.WithoutCancel(ctx), created.ID) }()
	code, err := h.runToEnd(ctx, created.ID)
	if err != nil {
		return 0, h.fault("looking into volume", volume, err)
	}
	if code < probeBase || code > probeBase+MostEntries {
		return 0, release.Unavailable("the engine's storage may be broken: docker volume inspect "+volume,
			"looking into volume %s: it cannot be read (exit code %d of the probe)", volume, code)
	}
	return int(code - probeBase), nil
}

// probeLabels makes the probe part of what the volume belongs to, so that it is
// removed with it should we not get to do so. A volume that is not there must
// not be made by looking.
func (h *Host) probeLabels(ctx context.Context, volume string) (map[string]string, error) {
	result, err := h.client.VolumeInspect(ctx, volume, client.VolumeInspectOptions{})
	if err != nil {
		return nil, h.fault("looking into volume", volume, err)
	}
	labels := map[string]string{labelProbe: volume}
	for _, label := range []string{release.LabelProject, release.LabelSmoke, release.LabelOwner} {
		if value := result.Volume.Labels[label]; value != "" {
			labels[label] = value
		}
	}
	return labels, nil
}

func probeContainer(volume string, labels map[string]string) client.ContainerCreateOptions {
	const target = "/v"
	tasks := int64(8)
	return client.ContainerCreateOptions{
		Config: &container.Config{
			Image: probeImage, Cmd: []string{"/probe", target}, NetworkDisabled: true, Labels: labels,
			Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
		},
		HostConfig: &container.HostConfig{
			NetworkMode: "none", ReadonlyRootfs: true, CapDrop: []string{"ALL"}, CapAdd: []string{"DAC_READ_SEARCH"},
			SecurityOpt: []string{"no-new-privileges"}, LogConfig: container.LogConfig{Type: "none"},
			Resources: container.Resources{Memory: 16 << 20, PidsLimit: &tasks},
			Mounts: []mount.Mount{{Type: mount.TypeVolume, Source: volume, Target: target, ReadOnly: true,
				VolumeOptions: &mount.VolumeOptions{NoCopy: true}}},
		},
	}
}

// runToEnd starts a container and gives its exit code.
func (h *Host) runToEnd(ctx context.Context, id string) (int64, error) {
	wait := h.client.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	if _, err := h.client.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
		return 0, err
	}
	select {
	case end := <-wait.Result:
		if end.Error != nil {
			return 0, errors.New(clip(end.Error.Message, 300))
		}
		return end.StatusCode, nil
	case err := <-wait.Error:
		return 0, err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// ensureProbe makes the image that holds the probe and a place for the volume.
func (h *Host) ensureProbe(ctx context.Context) error {
	image, err := probeTar()
	if err != nil {
		return err
	}
	return h.ensureImage(ctx, probeImage, image, "counts the entries of volumes for promote", "LABEL "+labelProbe+"=image")
}

// probeTar is the probe's image: the same bytes every time.
func probeTar() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	headers := []*tar.Header{
		{Typeflag: tar.TypeReg, Name: "probe", Mode: 0o755, Size: int64(len(probeAMD64)), Format: tar.FormatUSTAR},
		{Typeflag: tar.TypeDir, Name: "v/", Mode: 0o755, Format: tar.FormatUSTAR},
	}
	for _, header := range headers {
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if _, err := w.Write(probeAMD64); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}
