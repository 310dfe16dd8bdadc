package engine

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
)

const (
	archivePlace = "state"         // where a reading container has the volume
	archiveStall = 2 * time.Minute // how long a stream may stand still
)

// ReadVolume gives what a volume holds as a tar stream, names relative to its
// top directory, "./" first, in the engine's fixed order. A container of our own
// has the volume meanwhile, which never starts. What the engine cannot read it
// leaves out; sockets are among that. Close ends the stream and removes the
// container.
func (h *Host) ReadVolume(ctx context.Context, project, volume string) (io.ReadCloser, error) {
	id, err := h.archiver(ctx, project, volume, true)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stalled := watchStall(cancel)
	result, err := h.client.CopyFromContainer(ctx, id, client.CopyFromContainerOptions{SourcePath: "/" + archivePlace + "/."})
	if err != nil {
		stalled.Stop()
		cancel(nil)
		return nil, errors.Join(h.fault("reading volume", volume, err), h.Discard(context.WithoutCancel(ctx), id))
	}
	return &archive{ReadCloser: result.Content, stalled: stalled, closing: func() error {
		cancel(nil)
		return h.Discard(context.WithoutCancel(ctx), id)
	}}, nil
}

// FillVolume puts the entries of a tar stream, with names as in ReadVolume, into
// a volume, over what is there.
func (h *Host) FillVolume(ctx context.Context, project, volume string, content io.Reader) error {
	return h.extract(ctx, project, volume, content, nil)
}

// ClearVolume removes everything that a volume holds. The engine does it while
// it makes room for a file in the place where the volume is mounted, and then
// refuses to remove the mount itself: that refusal is the success. No program
// runs on the target.
func (h *Host) ClearVolume(ctx context.Context, project, volume string) error {
	return h.extract(ctx, project, volume, nil, func(err error) error {
		if err != nil && strings.Contains(err.Error(), "device or resource busy") {
			return nil
		}
		if err == nil {
			err = errors.New("the engine put a file over the volume")
		}
		return err
	})
}

// extract has the engine unpack a stream into a volume; without a stream, the
// file that clears it, and judge says what the engine's answer means.
func (h *Host) extract(ctx context.Context, project, volume string, content io.Reader, judge func(error) error) error {
	id, err := h.archiver(ctx, project, volume, false)
	if err != nil {
		return err
	}
	defer func() { _ = h.Discard(context.WithoutCancel(ctx), id) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := watchStall(cancel)
	defer stalled.Stop()
	out, in := io.Pipe()
	moved := make(chan error, 1)
	go func() {
		w := tar.NewWriter(in)
		var err error
		if content == nil {
			err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: archivePlace, Mode: 0o600})
		} else {
			err = move(w, tar.NewReader(content), stalled)
		}
		if err == nil {
			err = w.Close()
		}
		_ = in.CloseWithError(err)
		moved <- err
	}()
	_, err = h.client.CopyToContainer(ctx, id, client.CopyToContainerOptions{DestinationPath: "/", Content: out, AllowOverwriteDirWithFile: content == nil})
	_ = out.CloseWithError(errors.New("the engine takes no more"))
	if judge != nil {
		err = judge(err)
		<-moved
	} else if cause := <-moved; cause != nil && (err == nil || !errors.Is(cause, context.Canceled)) {
		err = cause
	}
	if stall := context.Cause(ctx); err != nil && errors.Is(stall, errStalled) {
		err = stall
	}
	return h.fault("writing volume", volume, err)
}

// move copies entries, relative to a volume's top, to where the container has it.
func move(w *tar.Writer, r *tar.Reader, stalled *time.Timer) error {
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Name, err = within(header.Name); err != nil {
			return err
		}
		if header.Typeflag == tar.TypeLink {
			if header.Linkname, err = within(header.Linkname); err != nil {
				return err
			}
		}
		if header.Typeflag == tar.TypeDir {
			header.Name += "/"
		}
		header.Format = tar.FormatPAX
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.Copy(&ticking{w, stalled}, r); err != nil {
			return err
		}
	}
}

// within places a name of a volume's archive under the mount.
func within(name string) (string, error) {
	clean := path.Clean(name)
	if path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") {
		return "", release.Faultf(release.KindIntegrity, "", "an archive of a volume names %.200q, which is outside of it", name)
	}
	return path.Join(archivePlace, clean), nil
}

// archiver makes the container through which a volume is read or filled. It has
// a name of its own for each volume, and takes the place of one that a kill left
// behind. A volume that is not there must not be made by looking.
func (h *Host) archiver(ctx context.Context, project, volume string, readOnly bool) (string, error) {
	if err := h.ensureLockImage(ctx); err != nil {
		return "", err
	}
	ctx, cancel := h.short(ctx)
	defer cancel()
	if _, err := h.client.VolumeInspect(ctx, volume, client.VolumeInspectOptions{}); err != nil {
		return "", h.fault("opening volume", volume, err)
	}
	options := client.ContainerCreateOptions{
		Name: "promote-archive-" + volume,
		Config: &container.Config{
			Image: lockImage, Cmd: []string{"/never-started"}, NetworkDisabled: true,
			Labels: map[string]string{release.LabelArchive: project},
		},
		HostConfig: &container.HostConfig{NetworkMode: "none", Mounts: []mount.Mount{{
			Type: mount.TypeVolume, Source: volume, Target: "/" + archivePlace, ReadOnly: readOnly,
			VolumeOptions: &mount.VolumeOptions{NoCopy: true},
		}}},
	}
	created, err := h.client.ContainerCreate(ctx, options)
	if errdefs.IsConflict(err) {
		if err = h.Discard(ctx, options.Name); err == nil {
			created, err = h.client.ContainerCreate(ctx, options)
		}
	}
	return created.ID, h.fault("opening volume", volume, err)
}

// archive is a stream with what has to be put away behind it.
type archive struct {
	io.ReadCloser
	stalled *time.Timer
	closing func() error
}

func (a *archive) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if n > 0 {
		a.stalled.Reset(archiveStall)
	}
	return n, err
}

func (a *archive) Close() error {
	a.stalled.Stop()
	return errors.Join(a.closing(), a.ReadCloser.Close())
}

// ticking puts off the end of a stream that moves.
type ticking struct {
	io.Writer
	stalled *time.Timer
}

func (t *ticking) Write(p []byte) (int, error) {
	n, err := t.Writer.Write(p)
	t.stalled.Reset(archiveStall)
	return n, err
}

var errStalled = fmt.Errorf("nothing moved for %s", archiveStall)

func watchStall(cancel context.CancelCauseFunc) *time.Timer {
	return time.AfterFunc(archiveStall, func() { cancel(errStalled) })
}
