package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

var production = pipeline.WatchOptions{Environment: "production"}

func (w *world) looks(t *testing.T, p *pipeline.Pipeline, result string, kind release.Kind) pipeline.WatchResult {
	t.Helper()
	got, err := p.Watch(t.Context(), production)
	if got.Result != result || release.KindOf(err) != kind {
		t.Fatalf("got %s, %v, want %s and kind %q: %+v", got.Result, err, result, kind, got)
	}
	return got
}

// What changed is recorded and told, what stays is recorded once a day.
func TestWatchRecordsWhatChanged(t *testing.T) {
	w, p := bothDeployed(t)
	heard := &listener{w: w, durable: true}
	p.Notifier = heard
	watched := func(want int) {
		t.Helper()
		if n := w.count("record watched"); n != want || len(heard.told) != want {
			t.Fatalf("%d watched records, told %q, want %d", n, heard.told, want)
		}
	}
	got := w.looks(t, p, release.WatchFine, "")
	if watched(1); !got.Changed || got.Before != nil || got.Record == nil || got.Version != "v1" || len(got.Targets) != 2 || got.Dimensions["code"].IsZero() {
		t.Errorf("got %+v", got)
	}
	if got = w.looks(t, p, release.WatchFine, ""); got.Changed || got.Record != nil {
		t.Errorf("got %+v", got)
	}
	watched(1)
	w.hosts["prod-2"].drift = report("planner", "memory")
	got = w.looks(t, p, release.WatchDrifted, release.KindChanged)
	want := []release.WatchFinding{{Target: "prod-2", Service: "planner", Kind: release.FoundDrift, Name: "memory"}}
	if watched(2); !got.Changed || !slices.Equal(got.Appeared, want) || len(got.Gone) != 0 || got.Before.Result != release.WatchFine {
		t.Errorf("got %+v", got)
	}
	r := w.lastRecord()
	if r.Phase != release.Watched || r.Environment != "production" || r.Watched == nil || r.Watched.Result != release.WatchDrifted || !slices.Equal(r.Watched.Findings, want) ||
		r.Reason != "drifted: prod-2 planner: drift memory" || r.Release != got.Release || r.Version != "v1" || r.Intent != nil {
		t.Errorf("recorded %+v", r)
	}
	w.now = w.now.Add(23 * time.Hour)
	w.looks(t, p, release.WatchDrifted, release.KindChanged)
	watched(2)
	w.now = w.now.Add(time.Hour)
	if got = w.looks(t, p, release.WatchDrifted, release.KindChanged); got.Changed || got.Record == nil {
		t.Errorf("got %+v", got)
	}
	watched(3)
	w.hosts["prod-2"].drift = pipeline.DriftReport{}
	if got = w.looks(t, p, release.WatchFine, ""); !got.Changed || !slices.Equal(got.Gone, want) || len(got.Appeared) != 0 {
		t.Errorf("got %+v", got)
	}
	watched(4)
}

// Texts differ at each look where fingerprints have keys of their own: they are
// no part of the outcome, and never in the ledger.
func TestWatchComparesNamesOnly(t *testing.T) {
	w, p := bothDeployed(t)
	for _, text := range []string{"hmac-sha256:1", "hmac-sha256:2"} {
		w.hosts["prod-1"].drift = pipeline.DriftReport{Differences: []release.Deviation{{Service: "planner", Field: "environment KEY", Recorded: "x" + text, Running: text}}}
		w.hosts["prod-1"].checks = []release.WatchedCheck{{Name: "answers", Service: "planner", Result: "failed", Detail: text}}
		w.looks(t, p, release.WatchFailing, release.KindDenied)
	}
	if w.count("record watched") != 1 || strings.Contains(fmt.Sprintf("%+v", *w.lastRecord().Watched), "hmac") || strings.Contains(w.lastRecord().Reason, "hmac") {
		t.Errorf("recorded %+v", w.lastRecord())
	}
}

func TestWhatAWatchFinds(t *testing.T) {
	full, some := int64(95), int64(89)
	for name, c := range map[string]struct {
		host   func(*fakeHost)
		world  func(*world)
		result string
		kind   release.Kind
		found  string
	}{
		"a check fails": {host: func(h *fakeHost) {
			h.checks = []release.WatchedCheck{{Name: "answers", Service: "planner", Result: "failed"}, {Name: "other", Service: "planner", Result: "skipped"}}
		}, result: release.WatchFailing, kind: release.KindDenied, found: "prod-1 planner: check answers"},
		"a check cannot be asked": {host: func(h *fakeHost) {
			h.checks = []release.WatchedCheck{{Name: "answers", Service: "planner", Result: "unknown"}}
		},
			result: release.WatchUnknown, kind: release.KindUnavailable, found: "prod-1 planner: unknown check answers"},
		"memory near the limit": {host: func(h *fakeHost) { h.services = []release.WatchedService{{Name: "planner", Memory: &full, Limit: 100}} },
			result: release.WatchFailing, kind: release.KindDenied, found: "prod-1 planner: memory"},
		"memory below it": {host: func(h *fakeHost) {
			h.services = []release.WatchedService{{Name: "planner", Memory: &some, Limit: 100}, {Name: "b", Memory: &full}, {Name: "c", Limit: 1}}
		}, result: release.WatchFine},
		"it is not measured": {host: func(h *fakeHost) { h.lookErr = errBoom }, result: release.WatchUnknown, kind: release.KindUnavailable, found: "prod-1: unknown"},
		"a host is down":     {host: func(h *fakeHost) { h.down = errBoom }, result: release.WatchUnknown, kind: release.KindUnavailable, found: "prod-1: unknown"},
		"today's database":   {world: func(w *world) { w.scan = release.Failed }, result: release.WatchFailing, kind: release.KindDenied, found: "planner: vulnerability CVE-1"},
		"a check before the rest": {host: func(h *fakeHost) {
			h.drift = report("planner", "memory")
			h.checks = []release.WatchedCheck{{Name: "answers", Service: "planner", Result: "failed"}}
			h.lookErr = errBoom
		}, result: release.WatchFailing, kind: release.KindDenied, found: "prod-1 planner: check answers; prod-1: unknown; prod-1 planner: drift memory"},
		"unknown before drift": {host: func(h *fakeHost) { h.drift, h.lookErr = report("planner", "memory"), errBoom },
			result: release.WatchUnknown, kind: release.KindUnavailable, found: "prod-1: unknown; prod-1 planner: drift memory"},
	} {
		t.Run(name, func(t *testing.T) {
			w, p := bothDeployed(t)
			p.Project.MemoryPercent = 90
			if c.host != nil {
				c.host(w.hosts["prod-1"])
			}
			if c.world != nil {
				c.world(w)
			}
			got := w.looks(t, p, c.result, c.kind)
			if want := strings.TrimSuffix(c.result+": "+c.found, ": "); got.Summary() != want {
				t.Errorf("got %q, want %q", got.Summary(), want)
			}
		})
	}
}

// A scan that cannot be made now is no finding; how old the last one is, is said.
func TestWatchTellsTheAgeOfTheScan(t *testing.T) {
	w, p := bothDeployed(t)
	w.now = w.now.Add(50 * time.Hour)
	p.Scanner = noScanner{}
	got := w.looks(t, p, release.WatchFine, "")
	if s := got.Scans; len(s) != 1 || s[0].AgeSeconds == nil || *s[0].AgeSeconds != 50*3600 || s[0].Matched || !slices.Equal(s[0].Services, []string{"planner"}) || !strings.Contains(s[0].Message, "boom") {
		t.Errorf("got %+v", s)
	}
	p.Scanner = w
	if s := w.looks(t, p, release.WatchFine, "").Scans; !s[0].Matched || s[0].Message != "" || s[0].Database == nil {
		t.Errorf("got %+v", s)
	}
	if got, err := p.Watch(t.Context(), pipeline.WatchOptions{Environment: "production", NoMatch: true}); err != nil || got.Scans[0].Matched {
		t.Errorf("got %+v, %v", got, err)
	}
	before, memory := w.count("scan"), &pipeline.WatchMemory{}
	for range 3 {
		if _, err := p.Watch(t.Context(), pipeline.WatchOptions{Environment: "production", Memory: memory}); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.count("scan") - before; n != 1 {
		t.Errorf("scanned %d times within the hour", n)
	}
}

type noScanner struct{}

func (noScanner) Scan(context.Context, release.Subject) (release.Scan, error) {
	return release.Scan{}, errBoom
}

// An environment that is being promoted to is left alone; one that was left open
// is not fine.
func TestWatchLeavesAPromotionAlone(t *testing.T) {
	w, p := bothDeployed(t)
	open := release.Record{Phase: release.Intended, Environment: "production", Sequence: int64(len(w.records)), Rules: w.records[0].Record.Rules}
	w.records = append(w.records, release.Entry{Record: open})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		for ctx.Err() == nil {
			_ = w.Heartbeat(ctx, open.Sequence)
			time.Sleep(time.Millisecond)
		}
	}()
	got := w.looks(t, p, release.WatchSkipped, "")
	if got.Message == "" || w.count("prod-1 is looked at") != 0 || w.count("record watched") != 0 {
		t.Errorf("got %+v; %q", got, w.journal)
	}
	cancel()
	<-beating
	got = w.looks(t, p, release.WatchUnknown, release.KindUnavailable)
	if w.count("prod-1 is looked at") != 0 || w.count("record watched") != 1 || got.Findings[0].Kind != release.FoundOpen {
		t.Errorf("got %+v; %q", got, w.journal)
	}
}

func TestAPromotionThatBeginsMeanwhile(t *testing.T) {
	w, p := bothDeployed(t)
	w.hosts["prod-1"].looking = func() {
		w.records = append(w.records, release.Entry{Record: release.Record{Phase: release.Intended, Environment: "production", Sequence: int64(len(w.records)), Rules: w.records[0].Record.Rules}})
	}
	w.hosts["prod-1"].drift = report("planner", "image")
	if got := w.looks(t, p, release.WatchSkipped, ""); len(got.Findings) != 0 || w.count("record watched") != 0 {
		t.Errorf("got %+v", got)
	}
}

// A look takes no lock, and without --no-record's promise no key beyond the
// record's.
func TestWatchOnlyReads(t *testing.T) {
	w, p := bothDeployed(t)
	w.journal = nil
	got, err := p.Watch(t.Context(), pipeline.WatchOptions{Environment: "production", NoRecord: true, NoMatch: true})
	if err != nil || !got.Changed || got.Record != nil {
		t.Fatalf("got %+v, %v", got, err)
	}
	slices.Sort(w.journal)
	if want := []string{"prod-1 is looked at", "prod-2 is looked at"}; !slices.Equal(w.journal, want) {
		t.Errorf("it did %q", w.journal)
	}
	p.Ledger = full{w, release.Watched}
	if got, err = p.Watch(t.Context(), production); release.KindOf(err) != release.KindUnavailable || got.Result != release.WatchFine || !strings.Contains(err.Error(), "no space") {
		t.Errorf("got %+v, %v", got, err)
	}
	w.hosts["prod-1"].drift = report("planner", "image")
	if _, err = p.Watch(t.Context(), production); release.KindOf(err) != release.KindChanged {
		t.Errorf("got %v", err)
	}
}

func TestWatchNeedsADeployment(t *testing.T) {
	_, p := fixture(t)
	for environment, want := range map[string]release.Kind{"production": release.KindUsage, "producton": release.KindUsage, "": release.KindUsage} {
		if _, err := p.Watch(t.Context(), pipeline.WatchOptions{Environment: environment}); release.KindOf(err) != want {
			t.Errorf("%q: %v", environment, err)
		}
	}
	w, p := bothDeployed(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.hosts["prod-1"].looking = cancel
	if _, err := p.Watch(ctx, production); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// The first look at another release is recorded, whatever it finds.
func TestWatchOfTheNextRelease(t *testing.T) {
	w, p := bothDeployed(t)
	w.looks(t, p, release.WatchFine, "")
	next(w, "v2")
	to(t, p, "staging")
	to(t, p, "production")
	if got := w.looks(t, p, release.WatchFine, ""); !got.Changed || got.Record == nil || got.Version != "v2" {
		t.Errorf("got %+v", got)
	}
}
