// Package event says what happened, for whoever shows it. Libraries emit
// events; renderers (internal/ui) live at the front door. A sink travels in
// the context, so that code that emits needs no further parameter and code
// without a sink stays silent.
package event

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Type says what an event reports.
type Type string

// The types of events.
const (
	Started  Type = "started"  // a step began
	Progress Type = "progress" // Current of Total units of a named part of a step
	Log      Type = "log"      // a line of output of a step
	Done     Type = "done"     // a step ended; Error is set if it failed
	Notice   Type = "notice"   // a message for the person, outside any step
	Warning  Type = "warning"  // a message that asks for attention
)

// Event is one thing that happened. Its JSON form travels between promote and
// its child processes and is what --progress rawjson prints, one object a line.
type Event struct {
	Type    Type      `json:"type"`
	Time    time.Time `json:"time"`
	Step    string    `json:"step,omitempty"`    // identifies the step within the run
	Name    string    `json:"name,omitempty"`    // what people read: "[scan] planner"
	Part    string    `json:"part,omitempty"`    // Progress: the named part, a layer for example
	Message string    `json:"message,omitempty"` // Log, Notice, Warning
	Current int64     `json:"current,omitempty"` // Progress, in Unit
	Total   int64     `json:"total,omitempty"`   // Progress, in Unit; 0 is unknown
	Unit    string    `json:"unit,omitempty"`    // "bytes" or empty for a plain count
	Cached  bool      `json:"cached,omitempty"`  // Done: nothing had to be done
	Error   string    `json:"error,omitempty"`   // Done: why it failed
}

// Sink takes events. It is called from several goroutines and must not block
// for long.
type Sink func(Event)

type sinkKey struct{}

// With gives a context whose events go to sink.
func With(ctx context.Context, sink Sink) context.Context {
	return context.WithValue(ctx, sinkKey{}, sink)
}

type liveKey struct{}

// WithLive gives a context whose events are shown on a screen that changes, so
// that a line may follow the one before it soon.
func WithLive(ctx context.Context) context.Context { return context.WithValue(ctx, liveKey{}, true) }

// Live reports whether somebody is watching; else the lines are kept, and
// should be few.
func Live(ctx context.Context) bool { return ctx.Value(liveKey{}) != nil }

// Emit sends an event to the context's sink, if there is one, stamping its time.
func Emit(ctx context.Context, e Event) {
	sink, ok := ctx.Value(sinkKey{}).(Sink)
	if !ok || sink == nil {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	sink(e)
}

// Noticef tells the person something.
func Noticef(ctx context.Context, format string, args ...any) {
	Emit(ctx, Event{Type: Notice, Message: fmt.Sprintf(format, args...)})
}

// Warnf tells the person something that asks for attention.
func Warnf(ctx context.Context, format string, args ...any) {
	Emit(ctx, Event{Type: Warning, Message: fmt.Sprintf(format, args...)})
}

var steps atomic.Int64

// Step is one unit of work that a person follows. Start one with Start and end
// it with Done exactly once:
//
//	step := event.Start(ctx, "[scan] %s", service)
//	defer func() { step.Done(err) }()
type Step struct {
	ctx  context.Context
	id   string
	name string
}

// Start reports that a step began.
func Start(ctx context.Context, format string, args ...any) *Step {
	s := &Step{ctx: ctx, id: fmt.Sprintf("s%d", steps.Add(1)), name: fmt.Sprintf(format, args...)}
	Emit(ctx, Event{Type: Started, Step: s.id, Name: s.name})
	return s
}

// Logf reports a line of the step's output.
func (s *Step) Logf(format string, args ...any) {
	Emit(s.ctx, Event{Type: Log, Step: s.id, Name: s.name, Message: fmt.Sprintf(format, args...)})
}

// Bytes reports that current of total bytes of a part are done; total 0 is unknown.
func (s *Step) Bytes(part string, current, total int64) {
	Emit(s.ctx, Event{Type: Progress, Step: s.id, Name: s.name, Part: part, Current: current, Total: total, Unit: "bytes"})
}

// Count reports that current of total items of a part are done; total 0 is unknown.
func (s *Step) Count(part string, current, total int64) {
	Emit(s.ctx, Event{Type: Progress, Step: s.id, Name: s.name, Part: part, Current: current, Total: total})
}

// Done reports the end of the step; err is why it failed, or nil.
func (s *Step) Done(err error) { s.end(err, false) }

// Cached reports that the step had nothing to do.
func (s *Step) Cached() { s.end(nil, true) }

func (s *Step) end(err error, cached bool) {
	e := Event{Type: Done, Step: s.id, Name: s.name, Cached: cached}
	if err != nil {
		e.Error = err.Error()
	}
	Emit(s.ctx, e)
}
