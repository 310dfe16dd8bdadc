package pipeline_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// keeps configures snapshots for staging, and has its host take one with each
// Apply, as the real one does.
func keeps(w *world, p *pipeline.Pipeline) *fakeHost {
	p.Project.Environments[0].Snapshots = release.Snapshots{Volumes: []string{"memory"}, Recipient: "age1…", Keep: 5}
	w.workload = func(work release.Workload) release.Workload {
		work.Volumes = []release.VolumeSpec{{Key: "memory", Name: "agent_memory"}}
		return work
	}
	h := w.hosts["stage"]
	h.after = func(_ context.Context, _ pipeline.Guard) error {
		a := h.wanted.Attempt
		label := strings.Join([]string{"n", a.Record.Short()}, "-")
		s := release.Snapshot{Name: "agent_promote-snapshot-" + label, Sequence: a.Sequence, Attempt: label, Key: "memory", Volume: "agent_memory@1",
			Release: h.wanted.Before, Digest: release.DigestOf([]byte(label)), Sealed: release.DigestOf([]byte("sealed " + label))}
		if !slices.ContainsFunc(h.snapshots, func(have release.Snapshot) bool { return have.Name == s.Name }) {
			h.snapshots = append(h.snapshots, s)
		}
		return nil
	}
	return h
}

// twice is an environment that went from v1 to v2, with a snapshot of before.
func twice(t *testing.T) (*world, *pipeline.Pipeline, *fakeHost, release.Entry) {
	t.Helper()
	w, p := fixture(t)
	h := keeps(w, p)
	to(t, p, "staging")
	next(w, "v2")
	to(t, p, "staging")
	last, _ := w.records.Deployed("staging")
	return w, p, h, last
}

func TestSnapshotsAreRecorded(t *testing.T) {
	w, p, h, last := twice(t)
	var mine []release.Snapshot
	for _, target := range last.Record.Targets {
		mine = append(mine, target.Snapshots...)
	}
	if len(mine) != 1 || mine[0].Sequence != *last.Record.Intent || mine[0].Release != last.Record.From || mine[0].Release.IsZero() {
		t.Errorf("recorded %+v", mine)
	}
	if d := h.wanted; d.Snapshots.Keep != 5 || len(d.Needed) != 1 || d.Needed[0] != last.Record.From {
		t.Errorf("wanted %+v", d)
	}
	// One that failed says what it kept, too.
	next(w, "v3")
	h.applyErr = errBoom
	after := h.after
	h.during = func(ctx context.Context) {
		h.during = nil
		_ = after(ctx, nil)
	}
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "staging"})
	wantKind(t, err, release.KindRolledBack)
	if r := w.records[len(w.records)-1].Record; len(r.Targets[0].Snapshots) != 1 || r.Targets[0].Snapshots[0].Sequence != *r.Intent {
		t.Errorf("recorded %+v", r.Targets)
	}
}

func TestRollbackRestores(t *testing.T) {
	w, p, h, last := twice(t)
	first := last.Record.From
	back := pipeline.PromoteOptions{Environment: "staging", Reason: "back", Restore: last.Record.Intent, Identity: "AGE-SECRET-KEY-1"}

	without := back
	without.Identity = ""
	_, err := p.Rollback(t.Context(), without)
	wantKind(t, err, release.KindUsage)

	unknown := back
	unknown.Restore = new(int64)
	_, err = p.Rollback(t.Context(), unknown)
	wantKind(t, err, release.KindUsage)

	size := len(w.records)
	h.checkErr = release.Misuse("", "no key fits")
	_, err = p.Rollback(t.Context(), back)
	wantKind(t, err, release.KindUsage)
	h.checkErr = nil
	was := h.snapshots[1].Digest
	h.snapshots[1].Digest = release.DigestOf([]byte("another"))
	_, err = p.Rollback(t.Context(), back)
	wantKind(t, err, release.KindIntegrity)
	h.snapshots[1].Digest = was
	gone := h.snapshots
	h.snapshots = gone[:1]
	_, err = p.Rollback(t.Context(), back)
	wantKind(t, err, release.KindUnavailable)
	h.snapshots = gone
	if len(w.records) != size {
		t.Errorf("what was refused is recorded: %q", w.phases()[size:])
	}

	dry := back
	dry.DryRun = true
	h.checked = nil
	out, err := p.Rollback(t.Context(), dry)
	if err != nil || len(h.checked) != 1 || !strings.HasSuffix(h.checked[0], " AGE-SECRET-KEY-1") || !slices.ContainsFunc(out.Plan.Steps, func(s release.Step) bool { return s.Action == "restore" }) {
		t.Errorf("dry run: checked %q, plan %+v, %v", h.checked, out.Plan, err)
	}

	out, err = p.Rollback(t.Context(), back)
	if err != nil || out.Release != first {
		t.Fatalf("release %s, %v", out.Release, err)
	}
	if d := h.wanted; len(d.Restore) != 1 || d.Restore[0].Sequence != *last.Record.Intent || d.Identity != back.Identity {
		t.Errorf("wanted %+v", d.Restore)
	}
	for _, e := range w.records {
		if raw := string(predicateOf(t, e.Record)); strings.Contains(raw, "AGE-SECRET-KEY") {
			t.Errorf("the private key is in record %d", e.Record.Sequence)
		}
	}
	if r := w.records[len(w.records)-1].Record; r.Restore == nil || *r.Restore != *last.Record.Intent {
		t.Errorf("recorded %+v", r.Restore)
	}
}

// The same release, with the state of before: there is something to do.
func TestRollbackRestoresUnderTheSameRelease(t *testing.T) {
	_, p, h, last := twice(t)
	h.wanted = pipeline.Desired{}
	h.running = map[string]release.Digest{}
	out, err := p.Rollback(t.Context(), pipeline.PromoteOptions{Environment: "staging", Reason: "forget", Release: last.Record.Release.String(), Restore: last.Record.Intent, Identity: "k"})
	if err != nil || out.Unchanged || len(h.wanted.Restore) != 1 {
		t.Errorf("%+v, %v", out, err)
	}
}

// A restore that was interrupted goes on with the private key only.
func TestResumeOfARestore(t *testing.T) {
	w, p, h, last := twice(t)
	ctx, cancel := context.WithCancel(t.Context())
	h.during = func(context.Context) { cancel() }
	_, err := p.Rollback(ctx, pipeline.PromoteOptions{Environment: "staging", Reason: "back", Restore: last.Record.Intent, Identity: "k"})
	wantKind(t, err, release.KindInterrupted)
	h.during = nil
	size := len(w.records)
	_, err = p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "staging"})
	wantKind(t, err, release.KindUsage)
	if len(w.records) != size {
		t.Errorf("recorded %q", w.phases()[size:])
	}
	h.wanted = pipeline.Desired{}
	if _, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "staging", Identity: "k"}); err != nil {
		t.Fatal(err)
	}
	if len(h.wanted.Restore) != 1 || h.wanted.Identity != "k" {
		t.Errorf("wanted %+v", h.wanted.Restore)
	}
}

// Once what ran before is gone, a restore is not undone by deploying that again: it
// would start over state that is not its own. It can be finished.
func TestARestoreThatIsDoneIsNotUndone(t *testing.T) {
	w, p, h, last := twice(t)
	after := h.after
	h.after = func(ctx context.Context, guard pipeline.Guard) error {
		h.committed = true
		return after(ctx, guard)
	}
	h.commitErr = errBoom
	_, err := p.Rollback(t.Context(), pipeline.PromoteOptions{Environment: "staging", Reason: "back", Restore: last.Record.Intent, Identity: "k"})
	wantKind(t, err, release.KindBroken)
	if _, open := w.records.Open("staging"); !open || len(h.wanted.Restore) != 1 {
		t.Errorf("open %t; deployed last: %+v", open, h.wanted)
	}
	h.commitErr, h.after = nil, after
	if out, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "staging", Identity: "k"}); err != nil || out.Release != last.Record.From {
		t.Errorf("%s, %v", out.Release, err)
	}
}

// Where what ran before is gone, a resume that undoes deploys it again, and what
// that keeps is on record, too.
func TestWhatAResumeKeepsIsRecorded(t *testing.T) {
	w, p, h, last := twice(t)
	next(w, "v3")
	to := func(ctx context.Context) error {
		_, err := p.To(ctx, pipeline.PromoteOptions{Environment: "staging"})
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	after := h.after
	h.after = func(ctx context.Context, guard pipeline.Guard) error {
		h.committed = true
		cancel()
		return after(ctx, guard)
	}
	h.commitErr = errBoom
	wantKind(t, to(ctx), release.KindInterrupted)
	h.commitErr, h.after = nil, after
	p.Hooks = &script{w: w, fails: pipeline.PreDeploy}
	_, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "staging"})
	wantKind(t, err, release.KindRolledBack)
	named := map[string]bool{}
	for _, target := range w.records[len(w.records)-1].Record.Targets {
		for _, s := range target.Snapshots {
			named[s.Name] = true
		}
	}
	for _, s := range h.snapshots {
		if s.Sequence > last.Record.Sequence && !named[s.Name] {
			t.Errorf("no record names %s", s.Name)
		}
	}
	if len(named) != 2 {
		t.Errorf("recorded %v", named)
	}
}

// Killed while it looked at snapshots, before it began, a restore leaves the
// container through which it read; resume removes it where nothing is open.
func TestResumeSweepsWhatReadSnapshots(t *testing.T) {
	_, p, h, _ := twice(t)
	if _, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "staging", DryRun: true}); err != nil || len(h.swept) > 0 {
		t.Errorf("a dry run swept %q, %v", h.swept, err)
	}
	if _, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "staging"}); err != nil || !slices.Equal(h.swept, []string{"agent"}) {
		t.Errorf("swept %q, %v", h.swept, err)
	}
}

// A volume that the model does not have would never be kept: that is an error of
// the configuration, but no reason not to go back.
func TestAVolumeToKeepThatIsNotThere(t *testing.T) {
	w, p, _, _ := twice(t)
	p.Project.Environments[0].Snapshots.Volumes = []string{"memroy"}
	next(w, "v3")
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "staging"})
	wantKind(t, err, release.KindConfig)
	if err == nil || !strings.Contains(err.Error(), "memroy") {
		t.Errorf("%v", err)
	}
	if _, err := p.Rollback(t.Context(), pipeline.PromoteOptions{Environment: "staging", Reason: "back"}); err != nil {
		t.Error(err)
	}
}

// Without snapshots configured nothing that is there could be kept first.
func TestRestoreNeedsAConfiguration(t *testing.T) {
	_, p, _, last := twice(t)
	p.Project.Environments[0].Snapshots = release.Snapshots{}
	_, err := p.Rollback(t.Context(), pipeline.PromoteOptions{Environment: "staging", Reason: "back", Restore: last.Record.Intent, Identity: "k"})
	wantKind(t, err, release.KindConfig)
}

func predicateOf(t *testing.T, r release.Record) []byte {
	t.Helper()
	raw, err := release.Canonical(r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
