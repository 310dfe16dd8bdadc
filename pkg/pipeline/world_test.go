package pipeline_test

import (
	"cmp"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// world is everything around a pipeline, in memory. Its journal lists what
// was done, in order.
type world struct {
	mu          sync.Mutex
	journal     []string
	head        release.Head
	scan        release.Result
	smoke       release.Result
	smoked      pipeline.SmokeRequest // the last run's
	sources     []release.Source      // beside planner
	findings    []release.Reason
	attachments map[release.Subject][]release.Attachment
	documents   map[release.Subject]release.Document
	records     release.History
	beats       map[int64]int64
	hosts       map[string]*fakeHost
	verdicts    func(release.Facts) []release.Verdict
	workload    func(release.Workload) release.Workload // changes what the model says
	spoiled     string                                  // makes builds give other digests
	moveOnce    bool                                    // somebody else writes between reading and appending
	onSave      func(*fakeHost)                         // when a checkpoint is saved
	onRecord    func(release.Record)                    // when one was appended
	roles       []release.Role
	key         string // whose key signs
	t           *testing.T
	now         time.Time
}

func newWorld() *world {
	w := &world{
		head: release.Head{Revision: fmt.Sprintf("%040d", 1), Version: "v1", Time: time.Unix(1, 0)},
		scan: release.Passed, smoke: release.Passed,
		attachments: map[release.Subject][]release.Attachment{}, documents: map[release.Subject]release.Document{}, beats: map[int64]int64{},
		hosts: map[string]*fakeHost{}, now: time.Unix(1_700_000_000, 0).UTC(),
		key: "key", roles: []release.Role{release.Builder, release.Scanner, release.Tester, release.Promoter},
	}
	w.verdicts = signedOnly
	for _, name := range []string{"stage", "prod-1", "prod-2"} {
		w.hosts[name] = &fakeHost{w: w, name: name, running: map[string]release.Digest{}}
	}
	return w
}

// signedOnly is a policy: every image is signed, smoke has passed.
func signedOnly(f release.Facts) []release.Verdict {
	v := release.Verdict{Gate: "signed", Result: release.Passed}
	for _, s := range f.Services {
		if !s.Signature.Verified {
			v.Result = release.Failed
			v.Reasons = append(v.Reasons, release.Reason{Rule: "signed/image", Message: s.Name + " is not signed"})
		}
	}
	return []release.Verdict{v}
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.journal = append(w.journal, fmt.Sprintf(format, args...))
}

func (w *world) count(entry string) int {
	n := 0
	for _, j := range w.journal {
		if j == entry {
			n++
		}
	}
	return n
}

func (w *world) phases() []release.Phase {
	var list []release.Phase
	for _, e := range w.records {
		list = append(list, e.Record.Phase)
	}
	return list
}

const registry = "registry.example.com/agent"

// pipeline gives a pipeline over the world: staging on one host, production on
// two.
func (w *world) pipeline() *pipeline.Pipeline {
	return &pipeline.Pipeline{
		Project: pipeline.Project{
			Name: "agent", Registry: registry, Models: map[string][]string{"smoke": {"s"}, "staging": {"a"}, "production": {"b"}},
			Environments: []release.Environment{
				{Name: "staging", Registry: registry, Targets: []release.Target{{Name: "stage"}}, OnFailure: "rollback"},
				{Name: "production", After: "staging", Registry: "prod.example.com/agent", OnFailure: "rollback",
					Targets: []release.Target{{Name: "prod-1"}, {Name: "prod-2"}}},
			},
			MaxAge: time.Hour, FailOn: "critical", Trust: singleKey("key"), Lease: 200 * time.Millisecond,
			Values: func(string) (map[string]string, error) { return nil, nil },
		},
		Source: w, Builder: w, Scanner: w, Smoker: w, Models: models{w}, Images: w, Attestations: w, Documents: w, Keys: w, Verifier: w, Judge: w,
		Ledger: w, Targets: targets{w}, Now: func() time.Time { return w.now },
	}
}

func (w *world) Head(context.Context) (release.Head, error) { return w.head, nil }

func (w *world) Dimensions(context.Context, map[string][]string) (map[string]release.Digest, error) {
	return map[string]release.Digest{"code": release.DigestOf([]byte(w.head.Revision))}, nil
}

func (w *world) Build(_ context.Context, r pipeline.BuildRequest) (release.Image, error) {
	w.note("build %s", r.Service)
	return release.Image{Service: r.Service, Repository: r.Repository, Digest: release.DigestOf([]byte(r.Service + r.Head.Revision + w.spoiled)), Provenance: json.RawMessage(`{"a":1}`)}, nil
}

func (w *world) Scan(_ context.Context, s release.Subject) (release.Scan, error) {
	w.note("scan")
	scan := release.Scan{Subject: s, Result: w.scan, Findings: []release.Finding{}, Summary: map[string]int{},
		Database: release.Database{UpdatedAt: w.now}, SBOM: json.RawMessage(`{"a":1}`)}
	if w.scan == release.Failed {
		scan.Findings = []release.Finding{{ID: "CVE-1", Severity: "critical", Class: "vulnerability", Package: "p", Version: "1", FixedIn: "2"}}
	}
	var err error
	scan.Predicate, err = release.ScanPredicate(scan, release.ScanRun{FailOn: "critical", Started: w.now, Finished: w.now})
	return scan, err
}

func (w *world) Smoke(_ context.Context, r pipeline.SmokeRequest) (release.Smoke, error) {
	w.note("smoke")
	w.smoked = r
	s := release.Smoke{Release: r.Release, Result: w.smoke, Started: w.now, Finished: w.now, Services: []release.SmokeService{{Name: "planner", Healthy: true}},
		Checks: []release.SmokeCheck{{Name: "memory", Result: w.smoke, Detail: "executor leaks"}}}
	var err error
	s.Predicate, err = release.SmokePredicate(s, map[string]release.Digest{"release": r.Release})
	return s, err
}

func (w *world) Load(_ context.Context, files []string) (pipeline.Composition, error) {
	return pipeline.Composition{
		Model:   fmt.Appendf(nil, `{"name":"agent-%s"}`, files[0]),
		Sources: append([]release.Source{{Service: "planner", Build: &release.BuildSpec{}}}, w.sources...), Findings: w.findings,
		Requirements: release.Requirements{Environment: []release.Variable{{Name: "KEY_" + strings.ToUpper(files[0])}}},
	}, nil
}

func (w *world) Resolve2(model []byte, images map[string]release.Subject) release.Workload {
	var m struct{ Name string }
	_ = json.Unmarshal(model, &m)
	return release.Workload{Project: m.Name, Services: []release.ServiceSpec{{Name: "planner", Image: images["planner"]}}}
}

// images and models both have a Resolve; models get a type of their own.
type models struct{ *world }

func (m models) Resolve(model []byte, _ map[string]string, images map[string]release.Subject) (release.Workload, error) {
	if m.workload != nil {
		return m.workload(m.Resolve2(model, images)), nil
	}
	return m.Resolve2(model, images), nil
}

func (w *world) Resolve(_ context.Context, reference string) (release.Subject, error) {
	return release.ParseSubject(reference)
}

func (w *world) Platform(_ context.Context, s release.Subject, platform string) (release.PlatformImage, error) {
	return release.PlatformImage{Platform: platform, Manifest: s.Digest, Config: s.Digest, User: "1000"}, nil
}

func (w *world) Copy(_ context.Context, s release.Subject, repository string, _ bool) error {
	w.note("copy")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attachments[s.In(repository)] = w.attachments[s]
	if d, ok := w.documents[s]; ok {
		w.documents[s.In(repository)] = d
	}
	return nil
}

func (w *world) Tag(context.Context, release.Subject, string) error { w.note("tag"); return nil }

func (w *world) Attach(_ context.Context, s release.Subject, a release.Attachment) error {
	w.note("attach %s", a.PredicateType)
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
	w.note("push release")
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
		return d, release.Unavailable("", "no release %s", s)
	}
	return d, nil
}

func (w *world) Open(context.Context) (pipeline.Signer, error) { w.note("open key"); return w, nil }
func (w *world) Ready(context.Context)                         { w.note("get key ready") }

// Party is whose key is at hand; every key is named after its party.
func (w *world) Party() release.Signer {
	return release.Signer{Name: w.key, Roles: w.roles, ID: party(w.key).Fingerprint()}
}

// party is a holder of a role with a public key that nobody has the other half of.
func party(name string) release.Party {
	block := pem.Block{Type: "PUBLIC KEY", Bytes: []byte(name)}
	return release.Party{Name: name, PublicKey: string(pem.EncodeToMemory(&block))}
}

// singleKey is the trust of a project with one key.
func singleKey(name string) release.Trust {
	t := release.Trust{SingleKey: true, Roles: map[release.Role][]release.Party{}}
	for _, role := range []release.Role{release.Builder, release.Scanner, release.Tester, release.Promoter, release.Owner} {
		t.Roles[role] = []release.Party{party(name)}
	}
	return t
}

func (w *world) Sign(_ context.Context, st release.Statement) (release.Attachment, error) {
	raw, err := json.Marshal(st)
	return release.Attachment{Digest: release.DigestOf(raw), PredicateType: st.PredicateType, Bundle: raw}, err
}

func (w *world) Verify(_ context.Context, s release.Subject, list []release.Attachment) []release.Evidence {
	var out []release.Evidence
	for _, a := range list {
		var st release.Statement
		err := json.Unmarshal(a.Bundle, &st)
		e := release.Evidence{Subject: s, PredicateType: st.PredicateType, Predicate: st.Predicate, Digest: a.Digest, Signer: w.Party()}
		e.Role, _ = release.RoleOf(st.PredicateType)
		e.Verified = err == nil && st.About(s.Digest)
		out = append(out, e)
	}
	return out
}

func (w *world) Judge(_ context.Context, f release.Facts) ([]release.Verdict, error) {
	return w.verdicts(f), nil
}

func (w *world) Digest() release.Digest { return release.DigestOf([]byte("policy")) }

func (w *world) Read(context.Context) (release.History, release.Checkpoint, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.records), release.Checkpoint{TreeSize: int64(len(w.records)), Envelope: fmt.Appendf(nil, "%d", len(w.records))}, nil
}

func (w *world) Append(_ context.Context, r release.Record, size int64) (release.Entry, release.Checkpoint, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.moveOnce && r.Phase == release.Intended {
		w.moveOnce = false
		w.records = append(w.records, release.Entry{Record: release.Record{Phase: release.Watched, Sequence: int64(len(w.records)), Rules: w.records[0].Record.Rules}})
	}
	if size != int64(len(w.records)) {
		return release.Entry{}, release.Checkpoint{}, release.ErrMoved
	}
	r.Sequence = size
	raw, _ := json.Marshal(r)
	e := release.Entry{Record: r, Digest: release.DigestOf(raw), Signer: w.Party()}
	if r.Phase == release.TrustChanged { // a real ledger would not take it from anybody else
		e.Signer.Roles = append(slices.Clone(e.Signer.Roles), release.Owner)
	}
	w.records = append(w.records, e)
	w.journal = append(w.journal, "record "+string(r.Phase))
	if w.onRecord != nil {
		w.onRecord(r)
	}
	return e, release.Checkpoint{TreeSize: size + 1, Envelope: fmt.Appendf(nil, "%d", size+1)}, nil
}

func (w *world) Settle(context.Context) (bool, error) { return false, nil }

func (w *world) Heartbeat(_ context.Context, intent int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.beats[intent]++
	return nil
}

func (w *world) Rest(_ context.Context, intent int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.beats, intent)
	return nil
}

func (w *world) Stale(ctx context.Context, intent int64, lease time.Duration) (bool, error) {
	count := func() int64 {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.beats[intent]
	}
	over := time.After(lease)
	for before := count(); ; {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-over:
			return count() == before, nil
		case <-time.After(time.Millisecond):
			if count() != before {
				return false, nil
			}
		}
	}
}

func (w *world) Contains(_ context.Context, envelope []byte) error {
	var size int
	if _, err := fmt.Sscan(string(envelope), &size); err != nil || size > len(w.records) {
		return release.Faultf(release.KindIntegrity, "", "the ledger is an old copy")
	}
	return nil
}

// fakeHost is one target. What it runs changes service by service.
type fakeHost struct {
	w          *world
	name       string
	running    map[string]release.Digest
	replaced   map[string]release.Digest
	attempt    pipeline.Attempt // that replaced it
	committed  bool
	commitErr  error
	lock       *release.LockNote
	checkpoint string
	blocking   []release.Reason
	applyErr   error // after the first effect
	pullErr    error // before it
	undoErr    error
	attempts   []pipeline.Attempt                                    // of Undo
	during     func(ctx context.Context)                             // runs in the middle of Apply
	after      func(ctx context.Context, guard pipeline.Guard) error // an effect of Apply
	down       error                                                 // of every call, once it is set
	uptime     time.Duration
	holding    func(ctx context.Context, length time.Duration) error
	drift      pipeline.DriftReport
	driftErr   error
	asked      []pipeline.DriftQuery
	redone     map[string]bool // what was to be recreated
	known      []string
	services   []release.WatchedService
	checks     []release.WatchedCheck
	lookErr    error
	looking    func()           // in the middle of Look
	adopts     bool             // the last Apply was to adopt
	images     []release.Digest // that were to be pruned
	pruneErr   error
	snapshots  []release.Snapshot
	checked    []string // the snapshots that were decrypted
	swept      []string // projects
	checkErr   error
	wanted     pipeline.Desired  // of the last Apply
	accepted   []string          // the changes of state at the last Undo
	seen       map[string]string // by Plan
}

type targets struct{ *world }

func (t targets) Open(_ context.Context, target release.Target) (pipeline.Host, error) {
	h, ok := t.hosts[target.Name]
	if !ok {
		return nil, release.Unavailable("", "no host %s", target.Name)
	}
	return h, h.down
}

func (h *fakeHost) Close() error { return nil }

func (h *fakeHost) Info(context.Context) (release.EngineInfo, error) {
	return release.EngineInfo{OS: "linux", Architecture: "amd64", MemoryLimit: true}, nil
}

func (h *fakeHost) Plan(_ context.Context, d pipeline.Desired) (release.Plan, error) {
	p := release.Plan{Blocking: h.blocking, Seen: h.seen}
	if len(d.StateChanges) > 0 {
		p.Blocking, p.Accepted = nil, h.blocking
	}
	h.known = d.KnownChanges
	for _, s := range d.Workload.Services {
		if h.running[s.Name] != s.Image.Digest || d.Recreate[s.Name] {
			p.Steps = append(p.Steps, release.Step{Target: h.name, Service: s.Name, Action: "recreate"})
		}
	}
	for _, s := range d.Restore {
		p.Steps = append(p.Steps, release.Step{Target: h.name, Action: "restore", From: s.Name})
	}
	return p, nil
}

func (h *fakeHost) Snapshots(context.Context, string) ([]release.Snapshot, error) {
	return slices.Clone(h.snapshots), nil
}

func (h *fakeHost) Sweep(_ context.Context, project string) error {
	h.swept = append(h.swept, project)
	return nil
}

func (h *fakeHost) CheckSnapshot(_ context.Context, d pipeline.Desired, s release.Snapshot) error {
	h.checked = append(h.checked, s.Name+" "+d.Identity)
	return h.checkErr
}

func (h *fakeHost) Fetch(ctx context.Context, _ pipeline.Desired, guard pipeline.Guard) error {
	if err := guard(ctx); err != nil {
		return err
	}
	h.w.note("%s fetches", h.name)
	return h.pullErr
}

func (h *fakeHost) Hold(ctx context.Context, _ pipeline.Desired, length time.Duration) error {
	h.w.note("%s held for %s", h.name, length)
	if h.holding != nil {
		return h.holding(ctx, length)
	}
	return ctx.Err()
}

func (h *fakeHost) Uptime(context.Context, pipeline.Desired) (time.Duration, error) {
	return h.uptime, nil
}

func (h *fakeHost) Apply(ctx context.Context, d pipeline.Desired, guard pipeline.Guard) error {
	h.redone, h.adopts, h.wanted = d.Recreate, d.Adopt, d
	if len(d.Recreate) > 0 {
		h.drift = pipeline.DriftReport{}
	}
	if h.down != nil {
		return h.down
	}
	if h.replaced == nil || h.attempt != d.Attempt {
		h.replaced, h.committed, h.attempt = map[string]release.Digest{}, false, d.Attempt
	}
	for _, s := range d.Workload.Services {
		if h.running[s.Name] == s.Image.Digest {
			continue
		}
		if h.during != nil {
			h.during(ctx)
		}
		if err := guard(ctx); err != nil {
			return err
		}
		if h.applyErr != nil {
			return release.Faultf(release.KindBroken, "", "applying: %w", h.applyErr)
		}
		h.replaced[s.Name] = h.running[s.Name]
		h.running[s.Name] = s.Image.Digest
		h.w.note("%s runs %s", h.name, s.Name)
		if h.after != nil {
			if err := h.after(ctx, guard); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *fakeHost) Commit(context.Context, pipeline.Desired, pipeline.Guard) error {
	if h.commitErr != nil {
		return h.commitErr
	}
	h.committed, h.replaced = true, nil
	return nil
}

func (h *fakeHost) Prune(ctx context.Context, registry string, images []release.Digest, guard pipeline.Guard) ([]string, error) {
	h.w.note("%s prunes %d", h.name, len(images))
	if err := cmp.Or(guard(ctx), h.pruneErr); err != nil {
		return nil, err
	}
	h.images = images
	var names []string
	for _, d := range images {
		names = append(names, registry+"/planner@"+d.String())
	}
	return names, nil
}

func (h *fakeHost) ReadBack(ctx context.Context, d pipeline.Desired) ([]release.Running, []release.Reason, error) {
	return h.Running(ctx, d.Workload.Project, d.Images)
}

func (h *fakeHost) Undo(_ context.Context, d pipeline.Desired, _ pipeline.Guard) error {
	h.attempts, h.accepted = append(h.attempts, d.Attempt), d.StateChanges
	if err := cmp.Or(h.down, h.undoErr); err != nil {
		return err
	}
	if h.committed {
		return fmt.Errorf("undoing: %w", pipeline.ErrCommitted)
	}
	for name, d := range h.replaced {
		h.running[name] = d
	}
	h.replaced = nil
	h.w.note("%s undone", h.name)
	return nil
}

func (h *fakeHost) Running(_ context.Context, _ string, images map[string]release.PlatformImage) ([]release.Running, []release.Reason, error) {
	var list []release.Running
	var reasons []release.Reason
	if h.down != nil {
		return nil, nil, h.down
	}
	for name, image := range images {
		switch h.running[name] {
		case release.Digest{}:
		case image.Config:
			list = append(list, release.Running{Service: name, Digest: image.Manifest})
		default:
			list = append(list, release.Running{Service: name})
		}
		if h.running[name] != image.Config {
			reasons = append(reasons, release.Reason{Rule: "drift/image", Message: name + " runs another image"})
		}
	}
	return list, reasons, nil
}

func (h *fakeHost) Drift(_ context.Context, q pipeline.DriftQuery) (pipeline.DriftReport, error) {
	h.asked = append(h.asked, q)
	if h.driftErr != nil {
		return pipeline.DriftReport{}, h.driftErr
	}
	return h.drift, nil
}

func (h *fakeHost) Look(_ context.Context, q pipeline.LookQuery) ([]release.WatchedService, []release.WatchedCheck, error) {
	h.w.note("%s is looked at", h.name)
	if h.looking != nil {
		h.looking()
	}
	return h.services, h.checks, h.lookErr
}

func (h *fakeHost) Lock(_ context.Context, _ string, note release.LockNote) error {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.lock != nil {
		return release.Faultf(release.KindHeld, "", "locked by %s", h.lock.Holder)
	}
	h.lock = &note
	return nil
}

func (h *fakeHost) ReadLock(context.Context, string) (release.LockNote, bool, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.lock == nil {
		return release.LockNote{}, false, nil
	}
	return *h.lock, true, nil
}

func (h *fakeHost) Unlock(_ context.Context, _ string, sequence int64) error {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.lock != nil && h.lock.Sequence == sequence {
		h.lock = nil
	}
	return nil
}

func (h *fakeHost) SaveCheckpoint(_ context.Context, _, text string) error {
	h.w.mu.Lock()
	h.checkpoint = text
	h.w.mu.Unlock()
	if h.w.onSave != nil {
		h.w.onSave(h)
	}
	return nil
}

func (h *fakeHost) ReadCheckpoint(context.Context, string) (string, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return h.checkpoint, nil
}

// fixture gives a world and a pipeline over it.
func fixture(t *testing.T) (*world, *pipeline.Pipeline) {
	t.Helper()
	w := newWorld()
	return w, w.pipeline()
}

var errBoom = errors.New("boom")
