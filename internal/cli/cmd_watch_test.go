package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

type judge = pipeline.Judge // the field's name must not be the method's

// ran is an environment that was deployed to: one target, no services.
type ran struct {
	pipeline.Ledger
	pipeline.Documents
	pipeline.Models
	judge
	pipeline.Host
	looks  atomic.Int64
	on     func(n int64) // the n-th look
	checks []release.WatchedCheck
	fails  error
}

func (r *ran) Read(context.Context) (release.History, release.Checkpoint, error) {
	if r.fails != nil {
		return nil, release.Checkpoint{}, r.fails
	}
	return release.History{{Record: release.Record{Phase: release.Deployed, Environment: "staging", Release: release.DigestOf(nil), Version: "v1"}}}, release.Checkpoint{TreeSize: 1}, nil
}

func (r *ran) PullRelease(context.Context, release.Subject) (release.Document, error) {
	return release.Document{Models: map[string][]byte{"staging": []byte(`{"name":"agent"}`)}}, nil
}

func (r *ran) Resolve([]byte, map[string]string, map[string]release.Subject) (release.Workload, error) {
	return release.Workload{Project: "agent"}, nil
}

func (r *ran) Digest() release.Digest { return release.Digest{} }

func (r *ran) Open(context.Context, release.Target) (pipeline.Host, error) { return r, nil }
func (r *ran) Close() error                                                { return nil }
func (r *ran) Info(context.Context) (release.EngineInfo, error)            { return release.EngineInfo{}, nil }

func (r *ran) Drift(context.Context, pipeline.DriftQuery) (pipeline.DriftReport, error) {
	return pipeline.DriftReport{}, nil
}

func (r *ran) Look(context.Context, pipeline.LookQuery) ([]release.WatchedService, []release.WatchedCheck, error) {
	if n := r.looks.Add(1); r.on != nil {
		r.on(n)
	}
	return nil, r.checks, nil
}

func (r *ran) wiring() Wiring {
	return Wiring{Pipeline: func(context.Context, *config.Config, PipelineOptions) (*pipeline.Pipeline, func(), error) {
		return &pipeline.Pipeline{Project: pipeline.Project{Name: "agent", Trust: release.Trust{SingleKey: true},
			Environments: []release.Environment{{Name: "staging", Targets: []release.Target{{Name: "stage"}}}},
			Values:       func(string) (map[string]string, error) { return nil, nil }},
			Ledger: r, Documents: r, Models: r, Judge: r, Targets: r, Now: time.Now}, func() {}, nil
	}}
}

func TestWatchOnceGivesTheOutcomesCode(t *testing.T) {
	world := &ran{}
	file := filepath.Join(t.TempDir(), "promote.prom")
	watch := func(words ...string) (int, string, string) {
		r, errOut := testRun(t, world.wiring())
		code := r.main(context.Background(), append([]string{"watch", "staging", "--no-record", "--progress", "quiet"}, words...))
		return code, read(t, r.std.Out), errOut()
	}
	if code, out, said := watch("--metrics", file); code != 0 || !strings.Contains(out, "staging v1: fine") {
		t.Errorf("exit %d: %s%s", code, out, said)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), `promote_watch_success{environment="staging"} 1`) {
		t.Errorf("%s, %v", text, err)
	}
	world.checks = []release.WatchedCheck{{Name: "answers", Service: "planner", Result: "failed", Detail: "no"}}
	code, out, said := watch("-o", "json", "--dry-run", "--metrics", file)
	var got pipeline.WatchResult
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 3 || got.Result != release.WatchFailing || !strings.Contains(said, `"denied"`) {
		t.Errorf("exit %d: %s%s, %v", code, out, said, err)
	}
	if text, _ := os.ReadFile(file); !strings.Contains(string(text), `promote_watch_success{environment="staging"} 1`) {
		t.Error("a dry run wrote metrics")
	}
	world.fails = release.Unavailable("", "no ledger here")
	if code, out, _ := watch("--metrics", file); code != 1 || out != "" {
		t.Errorf("exit %d: %s", code, out)
	}
	if text, _ := os.ReadFile(file); !strings.Contains(string(text), `promote_watch_success{environment="staging"} 0`) {
		t.Errorf("old metrics say that all is well:\n%s", text)
	}
}

// Looks follow one another, each result on a line, until a signal ends it well.
func TestWatchEveryEndsWell(t *testing.T) {
	world := &ran{}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	world.on = func(n int64) {
		switch n {
		case 2:
			world.checks = []release.WatchedCheck{{Name: "answers", Result: "failed"}}
		case 3:
			cancel()
		}
	}
	r, errOut := testRun(t, world.wiring())
	begin := time.Now()
	if code := r.main(ctx, []string{"watch", "staging", "--every", "1s", "--no-record", "-o", "json", "--progress", "quiet"}); code != 0 || time.Since(begin) > 20*time.Second {
		t.Fatalf("exit %d: %s", code, errOut())
	}
	lines := strings.Split(strings.TrimSpace(read(t, r.std.Out)), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	for i, want := range []string{release.WatchFine, release.WatchFailing} {
		var got pipeline.WatchResult
		if err := json.Unmarshal([]byte(lines[i]), &got); err != nil || got.Result != want {
			t.Errorf("line %d: %s, %v", i, lines[i], err)
		}
	}
	if !strings.Contains(errOut(), "denied") {
		t.Errorf("it said %s", errOut())
	}
}

func TestWatchRefusesWhatCannotWork(t *testing.T) {
	dir := t.TempDir()
	for _, words := range [][]string{
		{"watch"}, {"watch", "staging", "--every", "0s"}, {"watch", "staging", "--every", "1ms"}, {"watch", "staging", "--every", "often"},
		{"watch", "staging", "--metrics", dir}, {"watch", "staging", "--metrics", filepath.Join(dir, "none", "x.prom")},
		{"watch", "stagin"}, {"watch", "stagin", "--every", "1h"},
	} {
		r, errOut := testRun(t, (&ran{}).wiring())
		if code := r.main(context.Background(), append(words, "--no-record", "--progress", "quiet")); code != 2 {
			t.Errorf("%q: exit %d, %s", fmt.Sprint(words), code, errOut())
		}
	}
}
