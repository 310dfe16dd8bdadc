package build

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/promote-dev/promote/pkg/event"
)

// tracker turns BuildKit's progress into events: each vertex that starts is a
// step, named after the service, with its output and the bytes it moves.
//
// BuildKit completes and restarts a vertex as it goes from looking in the cache
// to doing the work, so a step ends only when its vertex has been quiet for a
// moment.
type tracker struct {
	ctx      context.Context
	id       string // makes step ids unique
	service  string
	redact   redactor
	steps    int
	vertices map[digest.Digest]*vertex
	order    []*vertex
	warned   map[string]bool
	executed bool // a step of the Dockerfile was not cached
}

type vertex struct {
	name        string
	instruction bool   // executes an instruction of the Dockerfile
	step        string // id of the step that is open; "" if none is
	ended       time.Time
	cached      bool // as of the last completion
	failed      bool
	parts       map[string]bool       // that were reported
	lines       map[int]*bytes.Buffer // by stream: what has no line end yet
	tail        []string
}

const (
	maxVertices = 10_000
	maxLine     = 8 << 10
	tailLines   = 20
	quiet       = 250 * time.Millisecond
)

func newTracker(ctx context.Context, id, service string, r redactor) *tracker {
	return &tracker{ctx: ctx, id: id, service: service, redact: r, vertices: map[digest.Digest]*vertex{}, warned: map[string]bool{}}
}

// run takes reports until the channel is closed.
func (t *tracker) run(status <-chan *client.SolveStatus) {
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	for {
		select {
		case s, ok := <-status:
			if !ok {
				return
			}
			t.update(s, time.Now())
		case now := <-tick.C:
			t.settle(now.Add(-quiet))
		}
	}
}

// update takes one report, received at now.
func (t *tracker) update(s *client.SolveStatus, now time.Time) {
	for _, v := range s.Vertexes {
		t.started(v)
	}
	for _, p := range s.Statuses {
		if v := t.vertices[p.Vertex]; v != nil && v.step != "" {
			t.progress(v, p)
		}
	}
	for _, l := range s.Logs {
		if v := t.vertices[l.Vertex]; v != nil {
			t.log(v, l)
		}
	}
	for _, w := range s.Warnings {
		t.warn(w)
	}
	for _, v := range s.Vertexes {
		t.completed(v, now)
	}
}

func (t *tracker) emit(v *vertex, e event.Event) {
	e.Step, e.Name = v.step, v.name
	event.Emit(t.ctx, e)
}

func (t *tracker) started(v *client.Vertex) {
	known := t.vertices[v.Digest]
	if known == nil {
		if len(t.vertices) >= maxVertices {
			return
		}
		name := t.redact.text(clean([]byte(v.Name)))
		known = &vertex{name: short(stepName(t.service, name)), instruction: isInstruction(name),
			parts: map[string]bool{}, lines: map[int]*bytes.Buffer{}}
		t.vertices[v.Digest] = known
		t.order = append(t.order, known)
	}
	if v.Started == nil {
		return
	}
	known.ended = time.Time{}
	if known.step == "" {
		t.steps++
		known.step = fmt.Sprintf("build-%s-%d", t.id, t.steps)
		t.emit(known, event.Event{Type: event.Started})
	}
}

func (t *tracker) completed(v *client.Vertex, now time.Time) {
	known := t.vertices[v.Digest]
	if known == nil || known.step == "" || v.Completed == nil {
		return
	}
	known.ended, known.cached = now, v.Cached
	if v.Error != "" {
		known.failed = true
		t.end(known, t.redact.text(clean([]byte(v.Error))))
	}
}

// settle ends the steps whose vertices were completed before a time.
func (t *tracker) settle(before time.Time) {
	for _, v := range t.order {
		if v.step != "" && !v.ended.IsZero() && v.ended.Before(before) {
			t.end(v, "")
		}
	}
}

// end ends a vertex's step; problem says why it failed.
func (t *tracker) end(v *vertex, problem string) {
	t.flush(v)
	done := event.Event{Type: event.Done, Time: v.ended, Error: problem, Cached: v.cached && problem == ""}
	t.emit(v, done)
	if v.instruction && !done.Cached {
		t.executed = true
	}
	v.step = ""
}

// close ends what is open when the build has ended; err is why it failed.
func (t *tracker) close(err error) {
	for _, v := range t.order {
		switch {
		case v.step == "":
		case v.ended.IsZero() && err != nil:
			t.end(v, t.redact.text(clip(err.Error())))
		default:
			t.end(v, "")
		}
	}
}

func (t *tracker) warn(w *client.VertexWarning) {
	text := t.redact.text(clean(w.Short))
	if w.Level > 1 || t.warned[text] || len(t.warned) >= maxVertices {
		return
	}
	t.warned[text] = true
	event.Warnf(t.ctx, "[%s] %s", t.service, text)
}

// progress reports a part of a vertex: bytes where they are counted, else that
// it began.
func (t *tracker) progress(v *vertex, p *client.VertexStatus) {
	part := partName(clean([]byte(p.ID)))
	if p.Current == 0 && p.Total == 0 {
		if !v.parts[part] && len(v.parts) < maxVertices && p.Completed == nil {
			v.parts[part] = true
			t.emit(v, event.Event{Type: event.Log, Message: part})
		}
		return
	}
	total := p.Total
	if total == 0 && p.Completed != nil {
		total = p.Current
	}
	t.emit(v, event.Event{Type: event.Progress, Part: part, Current: p.Current, Total: total, Unit: "bytes"})
}

// partName shortens digests.
func partName(id string) string {
	return longDigest.ReplaceAllString(strings.TrimSuffix(id, ":"), "$1")
}

var longDigest = regexp.MustCompile(`(sha256:[0-9a-f]{12})[0-9a-f]{52}`)

// log cuts output into lines; BuildKit sends it as it comes.
func (t *tracker) log(v *vertex, l *client.VertexLog) {
	b := v.lines[l.Stream]
	if b == nil {
		b = &bytes.Buffer{}
		v.lines[l.Stream] = b
	}
	data := l.Data
	for len(data) > 0 {
		line, rest, ended := bytes.Cut(data, []byte("\n"))
		b.Write(line)
		if ended || b.Len() > maxLine {
			t.line(v, b)
		}
		data = rest
	}
}

func (t *tracker) flush(v *vertex) {
	for _, b := range v.lines {
		if b.Len() > 0 {
			t.line(v, b)
		}
	}
}

func (t *tracker) line(v *vertex, b *bytes.Buffer) {
	text := t.redact.text(clean(b.Bytes()))
	b.Reset()
	if v.tail = append(v.tail, text); len(v.tail) > tailLines {
		v.tail = v.tail[1:]
	}
	if v.step != "" {
		t.emit(v, event.Event{Type: event.Log, Message: text})
	}
}

// cached reports whether no step of the Dockerfile was executed.
func (t *tracker) cached() bool { return !t.executed }

// output gives the last lines that the failed steps wrote.
func (t *tracker) output() []string {
	var lines []string
	for _, v := range t.order {
		if v.failed {
			lines = append(lines, v.tail...)
		}
	}
	return lines
}

var (
	bracketed = regexp.MustCompile(`^\[([^\]]+)\]\s*(.*)$`)
	// "[2/4] RUN …" and "[deps 2/4] COPY …", but not the FROM that only
	// fetches; with several platforms "[linux/arm64 deps 2/4] …".
	instruction = regexp.MustCompile(`^\[(?:[^\]]+ )?\d+/\d+\] ([A-Za-z]+)`)
)

// isInstruction reports whether a vertex executes an instruction of the
// Dockerfile.
func isInstruction(name string) bool {
	m := instruction.FindStringSubmatch(name)
	return m != nil && !strings.EqualFold(m[1], "FROM")
}

// stepName puts the service into a vertex's name: "[deps 2/4] RUN x" becomes
// "[planner deps 2/4] RUN x".
func stepName(service, name string) string {
	if m := bracketed.FindStringSubmatch(name); m != nil {
		return "[" + service + " " + m[1] + "] " + m[2]
	}
	return "[" + service + "] " + name
}

// short cuts a name that holds a whole script: every event repeats it.
func short(name string) string {
	const most = 200
	if len(name) <= most {
		return name
	}
	return strings.ToValidUTF8(name[:most], "") + "…"
}

// clean makes output of a build fit for a terminal: valid text on one line
// without control characters, and of a progress bar's rewrites only the last.
func clean(b []byte) string {
	b = bytes.TrimRight(b, "\r\n")
	if i := bytes.LastIndexByte(b, '\r'); i >= 0 {
		b = b[i+1:]
	}
	if len(b) > maxLine {
		b = b[:maxLine]
	}
	s := escapes.ReplaceAllString(strings.ToValidUTF8(string(b), string(utf8.RuneError)), "")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t', r == '\n':
			return ' '
		case r < 0x20 || r >= 0x7f && r < 0xa0:
			return -1
		}
		return r
	}, s)
}

// Terminal control sequences: colours, cursor movement, titles.
var escapes = regexp.MustCompile(`\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])`)
