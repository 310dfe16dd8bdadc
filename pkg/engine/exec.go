package engine

import (
	"context"
	"io"
	"strconv"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
)

// mostOutput bounds what is kept of a command's output or a container's log.
const mostOutput = 1 << 20

// Exec runs a command in a container and gives its exit code and what it wrote
// to stdout and stderr, the first MiB of it. When the context ends, Exec
// returns; the engine has no way to end the command.
func (h *Host) Exec(ctx context.Context, id string, cmd []string) (exit int, output []byte, err error) {
	return h.exec(ctx, id, client.ExecCreateOptions{Cmd: cmd})
}

// RunHook is Exec for a hook, with the user, directory and variables that it
// names.
func (h *Host) RunHook(ctx context.Context, id string, hook release.Hook) (exit int, output []byte, err error) {
	return h.exec(ctx, id, client.ExecCreateOptions{Cmd: hook.Command, User: hook.User, WorkingDir: hook.WorkingDir, Env: environment(hook.Environment)})
}

func (h *Host) exec(ctx context.Context, id string, options client.ExecCreateOptions) (exit int, output []byte, err error) {
	options.AttachStdout, options.AttachStderr = true, true
	created, err := h.client.ExecCreate(ctx, id, options)
	if err != nil {
		return -1, nil, h.fault("running a command in container", id, err)
	}
	attached, err := h.client.ExecAttach(ctx, created.ID, client.ExecAttachOptions{})
	if err != nil {
		return -1, nil, h.fault("running a command in container", id, err)
	}
	defer attached.Close()
	defer context.AfterFunc(ctx, attached.Close)() // reading knows no context
	head := &head{most: mostOutput}
	_, err = stdcopy.StdCopy(head, head, attached.Reader)
	if ctx.Err() != nil {
		return -1, head.bytes, h.fault("running a command in container", id, ctx.Err())
	}
	if err != nil {
		return -1, head.bytes, h.fault("running a command in container", id, err)
	}
	exit, err = h.execResult(ctx, created.ID)
	return exit, head.bytes, err
}

// execResult waits for the engine to notice that the command ended, which it
// may do a moment after the output did.
func (h *Host) execResult(ctx context.Context, id string) (int, error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	for {
		result, err := h.client.ExecInspect(ctx, id, client.ExecInspectOptions{})
		if err != nil {
			return -1, h.fault("asking how a command ended", id, err)
		}
		if !result.Running {
			return result.ExitCode, nil
		}
		select {
		case <-ctx.Done():
			return -1, h.fault("asking how a command ended", id, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Logs gives the last lines of a container's log, stdout and stderr together,
// the last MiB of them.
func (h *Host) Logs(ctx context.Context, id string, lines int) ([]byte, error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	inspected, err := h.client.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return nil, h.fault("reading the log of container", id, err)
	}
	stream, err := h.client.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: strconv.Itoa(max(lines, 0))})
	if err != nil {
		return nil, h.fault("reading the log of container", id, err)
	}
	defer stream.Close()
	last := &tail{most: mostOutput}
	// A terminal's stream is not multiplexed. Reading stops at 16 times what is
	// kept: lines have no length limit.
	bounded := io.LimitReader(stream, 16*mostOutput)
	if inspected.Container.Config != nil && inspected.Container.Config.Tty {
		_, err = io.Copy(last, bounded)
	} else {
		_, err = stdcopy.StdCopy(last, last, bounded)
	}
	if err != nil {
		return last.Bytes(), h.fault("reading the log of container", id, err)
	}
	return last.Bytes(), nil
}

// head keeps the first bytes written to it and swallows the rest.
type head struct {
	most  int
	bytes []byte
}

func (h *head) Write(p []byte) (int, error) {
	h.bytes = append(h.bytes, p[:min(len(p), h.most-len(h.bytes))]...)
	return len(p), nil
}
