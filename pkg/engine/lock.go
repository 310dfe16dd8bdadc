package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
)

const (
	lockImage = "promote.invalid/lock:1" // ".invalid" can never be pulled
	labelLock = "dev.promote.lock"       // holds the note, as JSON
)

// Lock makes the lock object of a name: a container that is created and never
// started. The engine makes one container of a name, so one of two wins; the
// other gets KindHeld, which names the holder.
func (h *Host) Lock(ctx context.Context, name string, note release.LockNote) error {
	text, err := json.Marshal(note)
	if err != nil {
		return err
	}
	if err := h.ensureLockImage(ctx); err != nil {
		return err
	}
	ctx, cancel := h.short(ctx)
	defer cancel()
	_, err = h.client.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: name,
		Config: &container.Config{
			Image: lockImage, Cmd: []string{"/never-started"}, NetworkDisabled: true,
			Labels: map[string]string{labelLock: string(text), release.LabelSequence: strconv.FormatInt(note.Sequence, 10)},
		},
		HostConfig: &container.HostConfig{NetworkMode: "none"},
	})
	if errdefs.IsConflict(err) {
		return h.held(ctx, name)
	}
	return h.fault("locking", name, err)
}

// held says who holds a lock. The engine reserves the name a moment before the
// container can be read.
func (h *Host) held(ctx context.Context, name string) error {
	const hint = "wait for it to end; if nobody is at work any more, promote resume finishes or undoes what was begun"
	note, there, err := h.ReadLock(ctx, name)
	for tries := 0; err == nil && !there && tries < 20; tries++ {
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(50 * time.Millisecond):
			note, there, err = h.ReadLock(ctx, name)
		}
	}
	switch {
	case err != nil:
		return release.Faultf(release.KindHeld, hint, "locking %s on %s: somebody holds it, and who cannot be read: %w", name, h.Name(), err)
	case !there:
		return release.Unavailable("try again", "locking %s on %s: the lock was given back at this moment", name, h.Name())
	}
	return release.Faultf(release.KindHeld, hint, "locking %s on %s: held by %s for %s, record %d, release %s",
		name, h.Name(), note.Holder, note.Environment, note.Sequence, note.Release.Short())
}

// ReadLock reads who holds a lock; false means that nobody does.
func (h *Host) ReadLock(ctx context.Context, name string) (release.LockNote, bool, error) {
	id, note, err := h.findLock(ctx, name)
	return note, id != "", err
}

// findLock gives the lock object's id, empty where there is none, and its note.
func (h *Host) findLock(ctx context.Context, name string) (id string, note release.LockNote, err error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	result, err := h.client.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	if absent(err) {
		return "", release.LockNote{}, nil
	}
	if err != nil {
		return "", release.LockNote{}, h.fault("reading lock", name, err)
	}
	text := ""
	if result.Container.Config != nil {
		text = result.Container.Config.Labels[labelLock]
	}
	if err := json.Unmarshal([]byte(text), &note); err != nil {
		return "", release.LockNote{}, release.Faultf(release.KindIntegrity, "look at it with docker inspect "+name+"; remove it if it is not promote's",
			"reading lock %s on %s: there is a container of that name that is no lock", name, h.Name())
	}
	return result.Container.ID, note, nil
}

// Unlock removes the lock object that carries a record's sequence. Somebody
// else's lock of the same name stays, as does a container that is no lock; a
// lock that is not there is no error.
func (h *Host) Unlock(ctx context.Context, name string, sequence int64) error {
	id, note, err := h.findLock(ctx, name)
	if err != nil || id == "" || note.Sequence != sequence {
		return err
	}
	return h.Discard(ctx, id) // by its id: another one may have the name by now
}

// ensureLockImage makes the empty image that lock objects are created from.
func (h *Host) ensureLockImage(ctx context.Context) error {
	var empty bytes.Buffer
	if err := tar.NewWriter(&empty).Close(); err != nil {
		return err
	}
	return h.ensureImage(ctx, lockImage, empty.Bytes(), "empty, for promote's lock objects", "LABEL "+labelLock+"=image")
}

// ensureImage makes an image of one layer unless there is one of that name.
func (h *Host) ensureImage(ctx context.Context, name string, layer []byte, message string, changes ...string) error {
	ctx, cancel := h.short(ctx)
	defer cancel()
	_, err := h.client.ImageInspect(ctx, name)
	if err == nil {
		return nil
	}
	if !absent(err) {
		return h.fault("inspecting image", name, err)
	}
	stream, err := h.client.ImageImport(ctx, client.ImageImportSource{Source: bytes.NewReader(layer), SourceName: "-"}, name, client.ImageImportOptions{
		Message: message, Changes: changes,
	})
	if err != nil {
		return h.fault("making image", name, err)
	}
	said, err := io.ReadAll(io.LimitReader(stream, 64<<10))
	if err = errors.Join(err, stream.Close()); err != nil {
		return h.fault("making image", name, err)
	}
	if strings.Contains(string(said), `"errorDetail"`) {
		return h.fault("making image", name, errors.New(clip(string(said), 500)))
	}
	return nil
}
