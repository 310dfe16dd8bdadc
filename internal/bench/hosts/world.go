package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/promote-dev/promote/internal/bench"
	"github.com/promote-dev/promote/internal/hosts"
	"github.com/promote-dev/promote/pkg/engine"
	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

const registry = "registry.example.com/agent"

// services are those of the stack; the first two are built, all have a health
// check.
var services = []string{"planner", "executor", "store"}

// world is what is around the targets: registry, evidence and policy in memory,
// which answer at once. The pipeline, what deploys, the engine's client and the
// ledger are promote's own.
type world struct {
	mu          sync.Mutex
	revision    int
	documents   map[release.Subject]release.Document
	attachments map[release.Subject][]release.Attachment
	now         atomic.Int64 // targets that are being changed
	most        atomic.Int64 // at the same time
}

func newWorld() *world {
	return &world{documents: map[release.Subject]release.Document{}, attachments: map[release.Subject][]release.Attachment{}}
}

// pipeline is a project with a staging and a production of some targets.
func (w *world) pipeline(log pipeline.Ledger, staging, production []release.Target) *pipeline.Pipeline {
	trust := release.Trust{SingleKey: true}
	return &pipeline.Pipeline{
		Project: pipeline.Project{
			Name: "agent", Registry: registry, Models: map[string][]string{"smoke": {"smoke"}, "staging": {"staging"}, "production": {"production"}},
			Environments: []release.Environment{
				{Name: "staging", Registry: registry, Targets: staging, OnFailure: "rollback"},
				{Name: "production", After: "staging", Registry: "production.example.com/agent", Targets: production, OnFailure: "rollback",
					Strategy: release.Strategy{Parallel: len(production)}},
			},
			MaxAge: time.Hour, FailOn: "critical", Trust: trust, Lease: time.Minute, Actor: release.Actor{Name: "bench", User: "ci", Host: "runner"},
			Values: func(string) (map[string]string, error) { return nil, nil },
		},
		Source: w, Builder: w, Scanner: w, Smoker: w, Models: models{w}, Images: w, Attestations: w, Documents: w, Keys: keys{w}, Verifier: w, Judge: w,
		Ledger: log, Targets: w, Now: time.Now,
	}
}

// openLedger opens a ledger in a store.
func openLedger(ctx context.Context, store ledger.Store) (*ledger.Ledger, error) {
	return ledger.Open(ctx, ledger.Options{Store: store, Origin: "promote/bench", Sign: bench.Sign, Verify: bench.Verify,
		VerifyBy: func(release.Trust) (ledger.Check, error) { return bench.Verify, nil }})
}

// Open opens a target, and counts how many are changed at the same time.
func (w *world) Open(ctx context.Context, t release.Target) (pipeline.Host, error) {
	h, err := hosts.Targets{Options: engine.Options{}}.Open(ctx, t)
	if err != nil {
		return nil, err
	}
	return counted{h, w}, nil
}

type counted struct {
	pipeline.Host
	w *world
}

// Apply implements pipeline.Host.
func (c counted) Apply(ctx context.Context, d pipeline.Desired, guard pipeline.Guard) error {
	n := c.w.now.Add(1)
	defer c.w.now.Add(-1)
	for most := c.w.most.Load(); n > most && !c.w.most.CompareAndSwap(most, n); most = c.w.most.Load() {
	}
	return c.Host.Apply(ctx, d, guard)
}

func (w *world) Head(context.Context) (release.Head, error) {
	return release.Head{Revision: fmt.Sprintf("%040d", w.revision), Version: fmt.Sprintf("1.0.%d", w.revision), Time: time.Unix(int64(w.revision), 0)}, nil
}

func (w *world) Dimensions(context.Context, map[string][]string) (map[string]release.Digest, error) {
	return map[string]release.Digest{"code": release.DigestOf(fmt.Append(nil, w.revision))}, nil
}

func (w *world) Build(_ context.Context, r pipeline.BuildRequest) (release.Image, error) {
	return release.Image{Service: r.Service, Repository: r.Repository, Digest: release.DigestOf([]byte(r.Service + r.Head.Revision)), Provenance: json.RawMessage(`{}`)}, nil
}

func (w *world) Scan(_ context.Context, s release.Subject) (release.Scan, error) {
	now := time.Now()
	scan := release.Scan{Subject: s, Result: release.Passed, Findings: []release.Finding{}, Summary: map[string]int{},
		Database: release.Database{UpdatedAt: now}, SBOM: json.RawMessage(`{}`)}
	var err error
	scan.Predicate, err = release.ScanPredicate(scan, release.ScanRun{FailOn: "critical", Started: now, Finished: now})
	return scan, err
}

func (w *world) Smoke(_ context.Context, r pipeline.SmokeRequest) (release.Smoke, error) {
	now := time.Now()
	s := release.Smoke{Release: r.Release, Result: release.Passed, Started: now, Finished: now, Services: []release.SmokeService{}, Checks: []release.SmokeCheck{}}
	var err error
	s.Predicate, err = release.SmokePredicate(s, map[string]release.Digest{"release": r.Release})
	return s, err
}

func (w *world) Load(_ context.Context, files []string) (pipeline.Composition, error) {
	c := pipeline.Composition{Model: fmt.Appendf(nil, `{"name":"agent-%s"}`, files[0])}
	for _, name := range services {
		c.Sources = append(c.Sources, release.Source{Service: name, Build: &release.BuildSpec{}})
	}
	return c, nil
}

// models is the world's Models: Images have a Resolve, too.
type models struct{ *world }

// Resolve gives the stack: services that wait for each other, a network, a
// volume.
func (models) Resolve(model []byte, _ map[string]string, images map[string]release.Subject) (release.Workload, error) {
	var m struct{ Name string }
	if err := json.Unmarshal(model, &m); err != nil {
		return release.Workload{}, err
	}
	out := release.Workload{Project: m.Name,
		Networks: []release.NetworkSpec{{Key: "default", Name: m.Name + "_default", Driver: "bridge"}},
		Volumes:  []release.VolumeSpec{{Key: "memory", Name: m.Name + "_memory"}},
	}
	for i, name := range slices.Backward(services) {
		s := release.ServiceSpec{Name: name, Image: images[name], ConfigHash: release.DigestOf([]byte(name + images[name].String())).Hex(), User: "1000",
			MemoryLimit: 128 << 20, Networks: []release.Attach{{Network: m.Name + "_default"}}, Restart: release.Restart{Name: "unless-stopped"},
			Health: &release.Health{Test: []string{"CMD", "true"}, Interval: time.Second, Timeout: time.Second, Retries: 3},
		}
		if i == len(services)-1 {
			s.Mounts = []release.Mount{{Type: "volume", Source: m.Name + "_memory", Target: "/data"}}
		} else {
			s.DependsOn = []release.Dependency{{Service: services[i+1], Condition: "service_healthy"}}
		}
		out.Services = append(out.Services, s)
	}
	return out, nil
}

func (w *world) Resolve(_ context.Context, reference string) (release.Subject, error) {
	return release.ParseSubject(reference)
}

func (w *world) Platform(_ context.Context, s release.Subject, platform string) (release.PlatformImage, error) {
	return release.PlatformImage{Platform: platform, Manifest: s.Digest, Config: s.Digest, User: "1000"}, nil
}

func (w *world) Copy(_ context.Context, s release.Subject, repository string, _ bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attachments[s.In(repository)] = w.attachments[s]
	if d, ok := w.documents[s]; ok {
		w.documents[s.In(repository)] = d
	}
	return nil
}

func (w *world) Tag(context.Context, release.Subject, string) error { return nil }

func (w *world) Attach(_ context.Context, s release.Subject, a release.Attachment) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attachments[s] = append(w.attachments[s], a)
	return nil
}

func (w *world) Attachments(_ context.Context, s release.Subject) ([]release.Attachment, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.attachments[s]), nil
}

func (w *world) PushRelease(_ context.Context, repository string, d release.Document, _ []string) (release.Subject, error) {
	id, err := d.Identity()
	s := release.Subject{Repository: repository, Digest: id}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.documents[s] = d
	return s, err
}

func (w *world) PullRelease(_ context.Context, s release.Subject) (release.Document, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, ok := w.documents[s]
	if !ok {
		return d, release.Unavailable("", "no release %s among %d: %w", s, len(w.documents), release.ErrNotFound)
	}
	return d, nil
}

// keys is the world's Keys: Targets have an Open, too.
type keys struct{ *world }

// Open implements pipeline.Keys.
func (k keys) Open(context.Context) (pipeline.Signer, error) { return k.world, nil }
func (k keys) Ready(context.Context)                         {}

func (w *world) Party() release.Signer { return bench.Party }

func (w *world) Sign(_ context.Context, st release.Statement) (release.Attachment, error) {
	raw, err := json.Marshal(st)
	return release.Attachment{Digest: release.DigestOf(raw), PredicateType: st.PredicateType, Bundle: raw}, err
}

func (w *world) Verify(_ context.Context, s release.Subject, list []release.Attachment) []release.Evidence {
	var out []release.Evidence
	for _, a := range list {
		var st release.Statement
		err := json.Unmarshal(a.Bundle, &st)
		e := release.Evidence{Subject: s, PredicateType: st.PredicateType, Predicate: st.Predicate, Digest: a.Digest, Signer: bench.Party}
		e.Role, _ = release.RoleOf(st.PredicateType)
		e.Verified = err == nil && st.About(s.Digest)
		out = append(out, e)
	}
	return out
}

func (w *world) Judge(context.Context, release.Facts) ([]release.Verdict, error) {
	return []release.Verdict{{Gate: "all", Result: release.Passed, Reasons: []release.Reason{}}}, nil
}

func (w *world) Digest() release.Digest { return release.DigestOf([]byte("policy")) }
