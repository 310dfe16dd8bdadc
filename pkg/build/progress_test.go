package build

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/promote-dev/promote/pkg/event"
)

// follow plays reports to a tracker, a second apart for those that are after a
// pause, and gives the events.
func follow(t *testing.T, reports []*client.SolveStatus, err error) (*tracker, []event.Event) {
	t.Helper()
	var events []event.Event
	ctx := event.With(t.Context(), func(e event.Event) { events = append(events, e) })
	tr := newTracker(ctx, "ref", "planner", newRedactor(map[string]string{"API_TOKEN": "hunter2hunter2"}))
	now := time.Now()
	for _, s := range reports {
		now = now.Add(time.Millisecond)
		tr.update(s, now)
	}
	tr.settle(now.Add(time.Minute))
	tr.close(err)
	return tr, events
}

// recordedStatus is the progress of a real build of two stages, the context of
// which is 30 MB.
func recordedStatus(t *testing.T) []*client.SolveStatus {
	t.Helper()
	f, err := os.Open("testdata/status.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []*client.SolveStatus
	for scan := bufio.NewScanner(f); scan.Scan(); {
		var s client.SolveStatus
		if err := json.Unmarshal(scan.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		list = append(list, &s)
	}
	return list
}

func TestTrackerOnRecordedBuild(t *testing.T) {
	tr, events := follow(t, recordedStatus(t), nil)
	open, names := map[string]string{}, map[string]int{}
	var bytesMoved int64
	var logs []string
	for _, e := range events {
		switch e.Type {
		case event.Started:
			open[e.Step] = e.Name
			names[e.Name]++
		case event.Done:
			if open[e.Step] == "" || e.Error != "" {
				t.Errorf("unexpected end %+v", e)
			}
			delete(open, e.Step)
		case event.Progress:
			if e.Part == "transferring context" {
				bytesMoved = max(bytesMoved, e.Total)
			}
		case event.Log:
			if strings.Contains(e.Name, "RUN") {
				logs = append(logs, e.Message)
			}
		}
		if e.Step != "" && open[e.Step] == "" && e.Type != event.Done {
			t.Errorf("event of a step that is not open: %+v", e)
		}
	}
	if len(open) > 0 {
		t.Errorf("left open: %v", open)
	}
	for _, want := range []string{"[planner internal] load build context", "[planner stage-1 3/4] COPY agent /agent", "[planner] exporting to image"} {
		if names[want] != 1 {
			t.Errorf("%q was started %d times of %v", want, names[want], names)
		}
	}
	if bytesMoved < 30<<20 {
		t.Errorf("context of %d bytes", bytesMoved)
	}
	if got := strings.Join(logs, "|"); got != "hello|100%|oops|no end" {
		t.Errorf("output %q", got)
	}
	if tr.cached() {
		t.Error("a build that ran its steps counts as cached")
	}
}

func report(vertices ...*client.Vertex) *client.SolveStatus {
	return &client.SolveStatus{Vertexes: vertices}
}

func vertexOf(name string, cached bool, problem string) *client.Vertex {
	now := time.Now()
	v := &client.Vertex{Digest: digestFor(name), Name: name, Started: &now, Completed: &now, Cached: cached, Error: problem}
	return v
}

func digestFor(name string) digest.Digest { return digest.FromString(name) }

func TestTrackerCached(t *testing.T) {
	from, run := vertexOf("[1/2] FROM python", false, ""), vertexOf("[2/2] RUN x", true, "")
	probe := vertexOf("[2/2] RUN x", false, "")
	probe.Completed = nil
	tr, events := follow(t, []*client.SolveStatus{report(from, vertexOf("[internal] load", false, "")), report(probe), report(run)}, nil)
	if !tr.cached() {
		t.Error("nothing was executed, but the build does not count as cached")
	}
	if last := events[len(events)-1]; last.Name != "[planner 2/2] RUN x" || !last.Cached {
		t.Errorf("got %+v", last)
	}
	tr, _ = follow(t, []*client.SolveStatus{report(run, vertexOf("[linux/arm64 deps 3/4] COPY a b", false, ""))}, nil)
	if tr.cached() {
		t.Error("an executed COPY was overlooked")
	}
}

// A vertex that goes on after it looked in the cache is one step.
func TestTrackerRestart(t *testing.T) {
	var events []event.Event
	tr := newTracker(event.With(t.Context(), func(e event.Event) { events = append(events, e) }), "ref", "planner", redactor{})
	probed := vertexOf("[internal] load build context", false, "")
	working := *probed
	working.Completed = nil
	now := time.Now()
	tr.update(report(probed), now)
	tr.update(report(&working), now.Add(10*time.Millisecond))
	tr.settle(now.Add(time.Second))
	if len(events) != 1 {
		t.Fatalf("ended while it was working: %+v", events)
	}
	tr.update(report(probed), now.Add(2*time.Second))
	tr.settle(now.Add(3 * time.Second))
	if len(events) != 2 || events[1].Type != event.Done || !events[1].Time.Equal(now.Add(2*time.Second)) {
		t.Errorf("got %+v", events)
	}
}

func TestTrackerBoundsALine(t *testing.T) {
	v := vertexOf("[2/2] RUN x", false, "")
	v.Completed = nil
	tr := newTracker(t.Context(), "ref", "planner", redactor{})
	tr.update(report(v), time.Now())
	for range 100 {
		s := report()
		s.Logs = []*client.VertexLog{{Vertex: v.Digest, Data: bytes.Repeat([]byte("x"), maxLine/4)}}
		tr.update(s, time.Now())
	}
	if n := tr.vertices[v.Digest].lines[0].Len(); n > maxLine {
		t.Errorf("%d bytes are kept of a line without an end", n)
	}
}

func TestTrackerFailure(t *testing.T) {
	failing := vertexOf("[2/2] RUN fetch", false, "process did not complete: hunter2hunter2")
	begun := *failing
	begun.Completed, begun.Error = nil, ""
	var out bytes.Buffer
	for i := range 30 {
		fmt.Fprintf(&out, "line %d\n", i)
	}
	logs := report()
	logs.Logs = []*client.VertexLog{
		{Vertex: failing.Digest, Data: out.Bytes()},
		{Vertex: failing.Digest, Data: []byte("token hunter2")},
		{Vertex: failing.Digest, Data: []byte("hunter2 \x1b[31mred\x1b[0m \x1b]0;title\x07\xff\n")},
	}
	hanging := vertexOf("[other 1/2] RUN sleep", false, "")
	hanging.Completed = nil
	tr, events := follow(t, []*client.SolveStatus{report(&begun, hanging), logs, report(failing)}, errors.New("gone: hunter2hunter2"))
	if tail := tr.output(); len(tail) != tailLines || tail[tailLines-1] != "token [redacted] red \ufffd" || tail[0] != "line 11" {
		t.Errorf("output %q", tail)
	}
	ends := map[string]string{}
	for _, e := range events {
		if e.Type == event.Done {
			ends[e.Name] = e.Error
		}
		if strings.Contains(fmt.Sprintf("%+v", e), "hunter2") {
			t.Errorf("a secret is left in %+v", e)
		}
	}
	if ends["[planner 2/2] RUN fetch"] != "process did not complete: [redacted]" || ends["[planner other 1/2] RUN sleep"] != "gone: [redacted]" {
		t.Errorf("ends %v", ends)
	}
}

func TestTrackerSurvivesWhatItDoesNotKnow(t *testing.T) {
	odd := &client.SolveStatus{
		Statuses: []*client.VertexStatus{{ID: "x", Vertex: digestFor("unknown"), Current: 1}},
		Logs:     []*client.VertexLog{{Vertex: digestFor("unknown"), Data: []byte("x\n")}},
		Warnings: []*client.VertexWarning{{Short: []byte("w")}, {Short: []byte("w")}, {Short: []byte("minor"), Level: 2}},
	}
	long := vertexOf("[2/2] RUN x", false, "")
	noise := report(long)
	noise.Logs = []*client.VertexLog{{Vertex: long.Digest, Data: bytes.Repeat([]byte("x"), 3*maxLine)}}
	_, events := follow(t, []*client.SolveStatus{odd, noise}, nil)
	warnings := 0
	for _, e := range events {
		if e.Type == event.Warning {
			warnings++
		}
		if len(e.Message) > maxLine {
			t.Errorf("a line of %d bytes", len(e.Message))
		}
	}
	if warnings != 1 {
		t.Errorf("%d warnings", warnings)
	}
}
