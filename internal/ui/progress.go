// Package ui renders events and results for people and for CI: one
// BuildKit-style display for all steps on a terminal, the same line by line
// without one, JSON for machines.
package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/containerd/console"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/opencontainers/go-digest"

	"github.com/promote-dev/promote/pkg/event"
)

// Modes are the values of --progress.
var Modes = []string{"auto", "tty", "plain", "rawjson", "quiet"}

// Progress shows events until it is closed.
type Progress struct {
	mu     sync.Mutex
	closed bool
	status chan *client.SolveStatus
	done   chan struct{}
	raw    *json.Encoder // rawjson
	steps  map[string]*client.Vertex
	plain  io.Writer // where notices go when no display runs
	quiet  bool
	live   bool
}

// NewProgress starts showing events on out in one of Modes. "auto" is tty on a
// terminal and plain elsewhere.
func NewProgress(out *os.File, mode string) (*Progress, error) {
	p := &Progress{steps: map[string]*client.Vertex{}, done: make(chan struct{}), plain: out}
	switch mode {
	case "rawjson":
		p.raw = json.NewEncoder(out)
		close(p.done)
		return p, nil
	case "quiet":
		p.quiet = true
		close(p.done)
		return p, nil
	case "auto", "":
		mode = "plain"
		if _, err := console.ConsoleFromFile(out); err == nil && os.Getenv("CI") == "" {
			mode = "tty"
		}
	}
	p.live = mode == "tty"
	display, err := progressui.NewDisplay(out, progressui.DisplayMode(mode), progressui.WithPhase("promote"))
	if err != nil {
		return nil, fmt.Errorf("showing progress as %s: %w", mode, err)
	}
	// A buffer, because a sink must not block the work; a full one drops
	// nothing, it waits.
	p.status = make(chan *client.SolveStatus, 1024)
	go func() {
		defer close(p.done)
		_, _ = display.UpdateFrom(context.Background(), p.status)
	}()
	return p, nil
}

// Live reports whether events are shown on a screen that changes.
func (p *Progress) Live() bool { return p.live }

// Sink gives the function that takes events.
func (p *Progress) Sink() event.Sink { return p.take }

// Close ends the display, leaving what it showed on the screen. Steps that are
// still open end with it.
func (p *Progress) Close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		if p.status != nil {
			p.endOpenSteps()
			close(p.status)
		}
	}
	p.mu.Unlock()
	<-p.done
}

func (p *Progress) endOpenSteps() {
	now := time.Now()
	for _, v := range p.steps {
		if v.Completed == nil {
			v.Completed, v.Error = &now, "interrupted"
			copied := *v
			p.status <- &client.SolveStatus{Vertexes: []*client.Vertex{&copied}}
		}
	}
}

func (p *Progress) take(e event.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.raw != nil:
		_ = p.raw.Encode(e)
	case p.quiet || p.closed:
		if e.Type == event.Warning {
			fmt.Fprintf(p.plain, "warning: %s\n", e.Message)
		}
	default:
		p.status <- p.translate(e)
	}
}

// translate turns an event into what BuildKit's display takes: a step is a
// vertex, its parts are statuses, its output is logs.
func (p *Progress) translate(e event.Event) *client.SolveStatus {
	at := e.Time
	switch e.Type {
	case event.Notice, event.Warning:
		name := e.Message
		if e.Type == event.Warning {
			name = "warning: " + name
		}
		v := &client.Vertex{Digest: digest.FromString(fmt.Sprint("notice", at.UnixNano(), name)), Name: name, Started: &at, Completed: &at}
		return &client.SolveStatus{Vertexes: []*client.Vertex{v}}
	case event.Progress:
		v := p.vertex(e)
		s := &client.VertexStatus{ID: e.Part, Vertex: v.Digest, Name: e.Part, Timestamp: at, Started: v.Started}
		if e.Unit == "bytes" {
			s.Current, s.Total = e.Current, e.Total
		} else { // the display knows bytes only
			s.ID = fmt.Sprintf("%d of %d %s", e.Current, e.Total, e.Part)
		}
		if e.Total > 0 && e.Current >= e.Total {
			s.Completed = &at
		}
		return &client.SolveStatus{Statuses: []*client.VertexStatus{s}}
	case event.Log:
		v := p.vertex(e)
		return &client.SolveStatus{Logs: []*client.VertexLog{{Vertex: v.Digest, Stream: 1, Data: []byte(e.Message + "\n"), Timestamp: at}}}
	}
	v := p.vertex(e)
	if e.Type == event.Done {
		v.Completed, v.Cached, v.Error = &at, e.Cached, e.Error
	}
	copied := *v // the display keeps what it gets
	return &client.SolveStatus{Vertexes: []*client.Vertex{&copied}}
}

func (p *Progress) vertex(e event.Event) *client.Vertex {
	v, ok := p.steps[e.Step]
	if !ok {
		at := e.Time
		v = &client.Vertex{Digest: digest.FromString(e.Step), Name: e.Name, Started: &at}
		p.steps[e.Step] = v
	}
	return v
}

// IsTerminal reports whether a person may be asked something there: a terminal,
// and no CI run.
func IsTerminal(f *os.File) bool {
	if f == nil || os.Getenv("CI") != "" {
		return false
	}
	_, err := console.ConsoleFromFile(f)
	return err == nil
}
