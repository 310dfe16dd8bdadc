//go:build engine

package wire

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/internal/hosts"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/engine"
	"github.com/promote-dev/promote/pkg/engine/enginetest"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// standing is a project that runs on a real engine, and a ledger in memory that
// knows of it.
type standing struct {
	host     pipeline.Host
	desired  pipeline.Desired
	document release.Document
	image    release.PlatformImage
	records  release.History
}

// Each port is a part of it; the rest of the port is not asked.
type (
	standingLedger struct {
		pipeline.Ledger
		s *standing
	}
	standingDocuments struct {
		pipeline.Documents
		s *standing
	}
	standingModels struct {
		pipeline.Models
		s *standing
	}
	standingImages struct {
		pipeline.Images
		s *standing
	}
	standingPolicy = pipeline.Judge // a field of that name would hide the method
	standingJudge  struct{ standingPolicy }
	noAttestations struct{ pipeline.Attestations }
	noEvidence     struct{}
)

func (l standingLedger) Read(context.Context) (release.History, release.Checkpoint, error) {
	return l.s.records, release.Checkpoint{TreeSize: int64(len(l.s.records))}, nil
}

func (l standingLedger) Append(_ context.Context, r release.Record, size int64) (release.Entry, release.Checkpoint, error) {
	r.Sequence = size
	l.s.records = append(l.s.records, release.Entry{Record: r, Digest: release.DigestOf(fmt.Append(nil, size))})
	return l.s.records[size], release.Checkpoint{TreeSize: size + 1}, nil
}

func (d standingDocuments) PullRelease(context.Context, release.Subject) (release.Document, error) {
	return d.s.document, nil
}

func (m standingModels) Resolve([]byte, map[string]string, map[string]release.Subject) (release.Workload, error) {
	return m.s.desired.Workload, nil
}

func (i standingImages) Platform(context.Context, release.Subject, string) (release.PlatformImage, error) {
	return i.s.image, nil
}

func (standingJudge) Digest() release.Digest { return release.DigestOf(nil) }

func (noAttestations) Attachments(context.Context, release.Subject) ([]release.Attachment, error) {
	return nil, nil
}

func (noEvidence) Verify(context.Context, release.Subject, []release.Attachment) []release.Evidence {
	return nil
}

// stand gives one service with a volume and a limit, which begin starts.
func stand(t *testing.T, c *config.Config, begin func(*standing)) (*standing, *pipeline.Pipeline) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	project := fmt.Sprintf("promote-%s-%d", strings.ToLower(t.Name()), os.Getpid())
	all := hosts.Targets{Look: lookAt(c), Probe: askHealth}
	h, err := all.Open(ctx, release.Target{Name: "here"})
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("no engine: %v", err)
	}
	registry := enginetest.NewRegistry(t)
	subject, image := registry.Push(t, project, enginetest.Image{Version: project, Healthcheck: true})
	repository, path, _ := strings.Cut(subject.Repository, "/")
	s := &standing{host: h, image: image, document: release.Document{
		Release: release.Release{Name: "agent", Version: "v1", Services: map[string]release.Service{"planner": {Path: path, Digest: subject.Digest, Origin: release.Built}},
			Dimensions: map[string]release.Digest{"prompts": subject.Digest}},
		Models: map[string][]byte{"production": fmt.Appendf(nil, `{"name":%q}`, project)},
	}}
	s.desired = pipeline.Desired{
		Workload: release.Workload{Project: project, Volumes: []release.VolumeSpec{{Key: "memory", Name: project + "_memory"}},
			Networks: []release.NetworkSpec{{Key: "default", Name: project + "_default"}},
			Services: []release.ServiceSpec{{Name: "planner", Image: subject, ConfigHash: "hash", Command: []string{"/probe", "run", ":8080"}, MemoryLimit: 64 << 20,
				Ports:    []release.Port{{HostIP: "127.0.0.1", Target: 8080, Protocol: "tcp"}},
				Networks: []release.Attach{{Network: project + "_default"}}, Restart: release.Restart{Name: "unless-stopped"},
				Mounts: []release.Mount{{Type: "volume", Source: project + "_memory", Target: "/data"}}}}},
		Images: map[string]release.PlatformImage{"planner": image}, Attempt: pipeline.Attempt{Sequence: 1},
	}
	t.Cleanup(func() {
		ctx := context.Background()
		_ = h.Close()
		e, err := engine.Open(ctx, release.Target{}, engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if err := errors.Join((sweeper{e}).Down(ctx, project), e.RemoveImage(ctx, subject)); err != nil {
			t.Error(err)
		}
	})
	begin(s)
	return s, &pipeline.Pipeline{
		Project: pipeline.Project{Name: "agent", Registry: repository, Trust: release.Trust{SingleKey: true}, MemoryPercent: 90,
			Environments: []release.Environment{{Name: "production", Registry: repository, Targets: []release.Target{{Name: "here"}}}},
			Values:       func(string) (map[string]string, error) { return nil, nil }},
		Ledger: standingLedger{nil, s}, Documents: standingDocuments{nil, s}, Models: standingModels{nil, s}, Images: standingImages{nil, s},
		Judge: standingJudge{}, Attestations: noAttestations{}, Verifier: noEvidence{}, Targets: all, Now: time.Now,
	}
}

// deploy makes the engine run what is desired, and records what it runs.
func (s *standing) deploy(t *testing.T) {
	t.Helper()
	if err := s.host.Apply(t.Context(), s.desired, nil); err != nil {
		t.Fatal(err)
	}
	running, reasons, err := s.host.ReadBack(t.Context(), s.desired)
	if err != nil || len(reasons) > 0 {
		t.Fatalf("%v, %v", reasons, err)
	}
	s.records = release.History{{Record: release.Record{Phase: release.Deployed, Environment: "production", Release: s.document.Release.Services["planner"].Digest, Version: "v1",
		Targets: []release.TargetStatus{{Name: "here", Status: "deployed", Running: running}}}}}
}

// On a real engine: fine, then changed by hand, then mended; looking changes
// nothing.
func TestWatchOnARealEngine(t *testing.T) {
	c := &config.Config{File: config.File{Smoke: config.Smoke{Checks: []config.Check{
		{Name: "answers", Service: "planner", HTTP: &config.CheckHTTP{HTTP: config.HTTP{Path: "/health", Status: 200}}, Timeout: 5 * time.Second},
		{Name: "connects", Service: "planner", TCP: 8080, Timeout: 5 * time.Second},
		{Name: "remembers", Service: "planner", Exec: []string{"/probe", "exec", "0"}, Survives: "recreate", Timeout: 5 * time.Second},
		{Name: "ran", Service: "planner", Log: "^running$"},
		{Name: "calm", Service: "planner", LogNot: "panic"},
		{Name: "learns", Service: "planner", HTTP: &config.CheckHTTP{HTTP: config.HTTP{Path: "/learn", Method: "POST"}}},
	}}}}
	s, p := stand(t, c, func(s *standing) { s.deploy(t) })
	container := s.desired.Workload.Project + "-planner-1"
	state := func() string {
		return docker(t, "inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.RestartCount}}", container)
	}
	look := func(result string, kind release.Kind) pipeline.WatchResult {
		t.Helper()
		got, err := p.Watch(t.Context(), pipeline.WatchOptions{Environment: "production", NoMatch: true})
		if got.Result != result || release.KindOf(err) != kind {
			t.Fatalf("got %s, %v, want %s: %+v", got.Result, err, result, got)
		}
		return got
	}
	before := state()
	got := look(release.WatchFine, "")
	planner := got.Targets[0].Services[0]
	if !planner.Healthy || planner.Memory == nil || *planner.Memory <= 0 || planner.Limit != 64<<20 || planner.Digest != s.image.Manifest {
		t.Errorf("got %+v", planner)
	}
	results := map[string]string{}
	for _, check := range got.Targets[0].Checks {
		results[check.Name] = check.Result
	}
	if want := fmt.Sprint(map[string]string{"answers": "passed", "connects": "passed", "remembers": "passed", "ran": "passed", "calm": "passed", "learns": "skipped"}); fmt.Sprint(results) != want {
		t.Errorf("got %v, want %s: %+v", results, want, got.Targets[0].Checks)
	}
	docker(t, "update", "--memory=100m", container)
	got = look(release.WatchDrifted, release.KindChanged)
	if !strings.Contains(got.Summary(), "here planner: drift memory") || !got.Changed {
		t.Errorf("got %s", got.Summary())
	}
	docker(t, "update", "--memory=64m", container)
	if got = look(release.WatchFine, ""); !got.Changed || len(got.Gone) == 0 {
		t.Errorf("got %+v", got)
	}
	if now := state(); now != before {
		t.Errorf("the container was %s, is %s", before, now)
	}
	docker(t, "stop", "-t", "1", container)
	if got = look(release.WatchFailing, release.KindDenied); got.Targets[0].Services[0].Healthy {
		t.Errorf("got %+v", got)
	}
	docker(t, "start", container)
	for range 100 { // its health check
		if got, _ = p.Watch(t.Context(), pipeline.WatchOptions{Environment: "production", NoMatch: true, NoRecord: true}); got.Result == release.WatchFine {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	look(release.WatchFine, "")
	var phases []string
	for _, e := range s.records {
		if e.Record.Watched != nil { // what pins the rules is none
			phases = append(phases, e.Record.Watched.Result)
		}
	}
	if fmt.Sprint(phases) != "[fine drifted fine failing fine]" {
		t.Errorf("recorded %q", phases)
	}
}

// An engine that asks every five minutes has not found out yet that what was
// deployed is healthy; nobody waits for it, and nothing is amiss.
func TestTheEnginesIntervalIsNotWaitedFor(t *testing.T) {
	s, p := stand(t, &config.Config{}, func(s *standing) {
		s.desired.Workload.Services[0].Health = &release.Health{Test: []string{"CMD", "/probe", "health"}, Interval: 5 * time.Minute}
		s.deploy(t)
	})
	if got := s.records[0].Record.Targets[0].Running[0].Health; got != "healthy" {
		t.Errorf("recorded %s", got)
	}
	got, err := p.Watch(t.Context(), pipeline.WatchOptions{Environment: "production", NoMatch: true})
	if err != nil || got.Result != release.WatchFine {
		t.Errorf("%v: %+v", err, got)
	}
	container := s.desired.Workload.Project + "-planner-1"
	if health := strings.TrimSpace(docker(t, "inspect", "--format", "{{.State.Health.Status}}", container)); health != "starting" {
		t.Errorf("the engine says %s", health)
	}
}
