// Package worker runs build, scan and smoke in child processes of the same
// binary, so that code which touches untrusted input never shares a process
// with a signing key. The child's environment is an allow-list: it holds no
// key, no passphrase, no CI token.
//
// The protocol: the parent writes one JSON request to the child's standard
// input and closes it; the child writes one JSON message a line to standard
// output, events as they happen and one result or fault at the end. Standard
// error is passed on as log lines.
package worker

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// Command is the hidden command under which the binary is a worker.
const Command = "__worker"

// live tells a child that somebody watches its events.
const live = "PROMOTE_LIVE"

// Bounds of the protocol.
const (
	maxMessage = 256 << 20 // a scan with its SBOM
	maxRequest = 64 << 20
	killAfter  = 10 * time.Second
)

// Handler does one kind of work: it decodes the request, works, and gives a
// result that encodes to JSON.
type Handler func(ctx context.Context, request json.RawMessage) (any, error)

type message struct {
	Event  *event.Event    `json:"event,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Fault  *fault          `json:"fault,omitempty"`
}

// fault is release.Fault on the wire.
type fault struct {
	Kind    release.Kind `json:"kind"`
	Message string       `json:"message"`
	Hint    string       `json:"hint,omitempty"`
	File    string       `json:"file,omitempty"`
	Line    int          `json:"line,omitempty"`
	Column  int          `json:"column,omitempty"`
}

// Parent starts workers.
type Parent struct {
	// Executable is the binary to run; empty is the running one.
	Executable string
	// Environ is the environment to choose from, in the form of os.Environ.
	Environ []string
	// Pass names further variables that the work needs, such as the
	// placeholders of a model. Signing variables are never passed, even if named.
	Pass []string
	// Grace is what a worker gets to clean up when the context ends; 0 is ten
	// seconds.
	Grace time.Duration
}

// Call runs one request in a child process and decodes its result. Events of
// the child reach the context's sink. When the context ends, the child gets
// SIGTERM and, after its grace, SIGKILL; it gets SIGTERM, too, when this process
// is killed. A child that dies without an answer is a KindUnavailable fault.
func (p Parent) Call(ctx context.Context, kind string, request, result any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encoding the %s request: %w", kind, err)
	}
	executable := p.Executable
	if executable == "" {
		if executable, err = os.Executable(); err != nil {
			return fmt.Errorf("finding the promote binary: %w", err)
		}
	}
	cmd := exec.CommandContext(ctx, executable, Command, kind)
	cmd.Env = Environment(p.Environ, p.Pass)
	if event.Live(ctx) {
		cmd.Env = append(cmd.Env, live+"=1")
	}
	cmd.Stdin = bytes.NewReader(body)
	// A group of its own: Ctrl-C in a terminal reaches promote, and promote
	// decides what its workers are told.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = cmp.Or(p.Grace, killAfter)
	// The kernel sends that signal when the thread ends, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var last tail
	cmd.Stderr = &last
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return release.Unavailable("the promote binary must stay where it was started from", "starting the %s process: %w", kind, err)
	}
	answer, readErr := read(ctx, fmt.Sprintf("%s-%d/", kind, cmd.Process.Pid), stdout)
	waitErr := cmd.Wait()
	switch {
	case answer != nil && answer.Fault != nil:
		return answer.Fault.toError()
	case answer != nil:
		return json.Unmarshal(answer.Result, result)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return release.Unavailable("run it again; with --debug the process's own output is shown",
		"the %s process ended without an answer (%w)%s", kind, errors.Join(waitErr, readErr), last.String())
}

// read passes events on until the answer comes or the stream ends. Steps are
// numbered by each process for itself, so they get a prefix.
func read(ctx context.Context, prefix string, r io.Reader) (*message, error) {
	var answer *message
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := readLine(lines, maxMessage)
		if len(line) > 0 {
			var m message
			if err := json.Unmarshal(line, &m); err != nil {
				// Drain, so that the child can end.
				_, _ = io.Copy(io.Discard, lines)
				return answer, fmt.Errorf("reading a message: %w", err)
			}
			if m.Event != nil {
				if m.Event.Step != "" {
					m.Event.Step = prefix + m.Event.Step
				}
				event.Emit(ctx, *m.Event)
			} else {
				answer = &m
			}
		}
		if errors.Is(err, io.EOF) {
			return answer, nil
		}
		if err != nil {
			_, _ = io.Copy(io.Discard, lines)
			return answer, err
		}
	}
}

func readLine(r *bufio.Reader, most int) ([]byte, error) {
	var line []byte
	for {
		chunk, err := r.ReadSlice('\n')
		line = append(line, chunk...)
		if len(line) > most {
			return nil, fmt.Errorf("a message is longer than %d bytes", most)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimRight(line, "\n"), err
		}
	}
}

// Serve is the child: it reads one request, runs the kind's handler and writes
// the answer. It gives the exit code: 0 when an answer was written.
func Serve(ctx context.Context, kind string, handlers map[string]Handler, in io.Reader, out io.Writer) int {
	// Whoever reads may be killed; what was begun is cleaned up all the same.
	// Not ignored: programs that are started would inherit that.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	defer signal.Stop(broken)
	// A second signal, such as that of a parent that is gone, must not cut short
	// what the first one began.
	defer context.AfterFunc(ctx, func() { signal.Notify(broken, syscall.SIGTERM, syscall.SIGINT) })()
	encoder := &lineWriter{w: out}
	handler, ok := handlers[kind]
	if !ok {
		return encoder.answer(nil, release.Misuse("", "no worker %q", kind))
	}
	request, err := io.ReadAll(io.LimitReader(in, maxRequest+1))
	if err != nil || len(request) > maxRequest {
		return encoder.answer(nil, fmt.Errorf("reading the request: %w", errors.Join(err, fmt.Errorf("%d bytes", len(request)))))
	}
	ctx = event.With(ctx, func(e event.Event) { encoder.write(message{Event: &e}) })
	if os.Getenv(live) != "" {
		ctx = event.WithLive(ctx)
	}
	result, err := handler(ctx, request)
	return encoder.answer(result, err)
}

// Typed makes a Handler of a function with a typed request.
func Typed[Request, Result any](f func(context.Context, Request) (Result, error)) Handler {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var request Request
		if err := json.Unmarshal(raw, &request); err != nil {
			return nil, fmt.Errorf("decoding the request: %w", err)
		}
		return f(ctx, request)
	}
}

func faultOf(err error) *fault {
	f := &fault{Kind: release.KindOf(err), Message: err.Error()}
	var inner *release.Fault
	if errors.As(err, &inner) {
		f.Hint, f.File, f.Line, f.Column = inner.Hint, inner.File, inner.Line, inner.Column
		if error(inner) == err { // the position is printed again at the other end
			plain := *inner
			plain.File = ""
			f.Message = plain.Error()
		}
	}
	return f
}

func (f *fault) toError() error {
	if f.Kind == release.KindInterrupted {
		return &release.Fault{Kind: f.Kind, Hint: f.Hint, Err: context.Canceled}
	}
	return &release.Fault{Kind: f.Kind, Hint: f.Hint, File: f.File, Line: f.Line, Column: f.Column, Err: errors.New(f.Message)}
}

// tail keeps the end of a child's standard error for its epitaph.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	const keep = 4 << 10
	t.b = append(t.b, p...)
	if len(t.b) > keep {
		t.b = append([]byte(nil), t.b[len(t.b)-keep:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	s := strings.TrimSpace(string(t.b))
	if s == "" {
		return ""
	}
	return "; it last said:\n" + s
}
