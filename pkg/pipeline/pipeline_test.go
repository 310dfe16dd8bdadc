package pipeline_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

func wantKind(t *testing.T, err error, want release.Kind) {
	t.Helper()
	if got := release.KindOf(err); got != want {
		t.Fatalf("got %q (%v), want %q", got, err, want)
	}
}

func to(t *testing.T, p *pipeline.Pipeline, env string) pipeline.Promotion {
	t.Helper()
	out, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: env})
	if err != nil {
		t.Fatalf("to %s: %v", env, err)
	}
	return out
}

func next(w *world, version string) {
	w.head.Version, w.head.Revision = version, strings.Repeat(version[1:], 40)
}

func TestReleaseOpensTheKeyAfterEverythingUntrusted(t *testing.T) {
	w, p := fixture(t)
	out, err := p.Release(t.Context(), pipeline.ReleaseOptions{})
	if err != nil || out.Release.IsZero() || out.Record == nil {
		t.Fatalf("got %+v, %v", out, err)
	}
	key := slices.Index(w.journal, "open key")
	for _, untrusted := range []string{"build planner", "scan", "smoke"} {
		if at := slices.Index(w.journal, untrusted); at < 0 || at > key {
			t.Errorf("%q is not before the key is opened: %q", untrusted, w.journal)
		}
	}
	if last := slices.Index(w.journal, "record released"); last != len(w.journal)-1 {
		t.Errorf("something happens after the released record: %q", w.journal)
	}
	if first := slices.Index(w.journal, "tag"); first < slices.Index(w.journal, "push release") {
		t.Errorf("a tag is set before the release is there: %q", w.journal)
	}
}

func TestTheSameCommitIsReleasedOnce(t *testing.T) {
	w, p := fixture(t)
	first, err := p.Release(t.Context(), pipeline.ReleaseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := p.Release(t.Context(), pipeline.ReleaseOptions{})
	if err != nil || second.Release != first.Release || !second.Existing {
		t.Fatalf("got %+v, %v", second, err)
	}
	if n := w.count("build planner"); n != 1 {
		t.Errorf("built %d times", n)
	}
}

// What somebody stripped, or what grew too old, is made again about the same
// digests; the release stays the one it was.
func TestEvidenceIsMadeAgain(t *testing.T) {
	w, p := fixture(t)
	first := to(t, p, "staging")
	held := len(w.records)
	for name, spoil := range map[string]func(){
		"stripped": func() { clear(w.attachments) },
		"too old":  func() { w.now = w.now.Add(2 * p.Project.MaxAge) },
	} {
		t.Run(name, func(t *testing.T) {
			spoil()
			again, err := p.Release(t.Context(), pipeline.ReleaseOptions{})
			if err != nil || again.Release != first.Release || len(w.records) != held {
				t.Fatalf("got %+v, %v", again, err)
			}
			to(t, p, "production")
			held = len(w.records)
			before := w.count("open key")
			if _, err := p.Release(t.Context(), pipeline.ReleaseOptions{}); err != nil || w.count("open key") != before {
				t.Errorf("with everything there a key was opened, %v", err)
			}
		})
	}
}

func TestAPlanDoesNotDenyWhatWouldBeMade(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	var producible bool
	w.verdicts = func(f release.Facts) []release.Verdict {
		producible = f.Producible
		return []release.Verdict{{Gate: "evidence", Result: release.Unknown}}
	}
	_, err := p.Plan(t.Context(), pipeline.PromoteOptions{Environment: "staging"})
	wantKind(t, err, release.KindUnavailable)
	if !producible {
		t.Error("the facts do not say that evidence would be made")
	}
	_, err = p.Plan(t.Context(), pipeline.PromoteOptions{Environment: "production"})
	if producible || err == nil {
		t.Errorf("a later environment makes nothing: %v", err)
	}
}

func TestLostProvenanceComesBackOnlyWithTheSameDigest(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	clear(w.attachments)
	w.spoiled = "another base"
	_, err := p.Release(t.Context(), pipeline.ReleaseOptions{})
	wantKind(t, err, release.KindDenied)
}

func TestADirtyTreeNeedsASayingSo(t *testing.T) {
	w, p := fixture(t)
	w.head.Dirty = true
	_, err := p.Release(t.Context(), pipeline.ReleaseOptions{})
	wantKind(t, err, release.KindUsage)
	out, err := p.Release(t.Context(), pipeline.ReleaseOptions{AllowDirty: true})
	if err != nil || out.Version != "v1-dirty" {
		t.Errorf("got %q, %v", out.Version, err)
	}
}

func TestWhatFailsIsNotReleased(t *testing.T) {
	for name, fail := range map[string]func(*world){
		"scan":  func(w *world) { w.scan = release.Failed },
		"smoke": func(w *world) { w.smoke = release.Failed },
		"none":  func(w *world) { w.smoke = release.Unknown },
	} {
		t.Run(name, func(t *testing.T) {
			w, p := fixture(t)
			fail(w)
			_, err := p.Release(t.Context(), pipeline.ReleaseOptions{})
			wantKind(t, err, release.KindDenied)
			if len(w.records) != 0 || w.count("push release") != 0 || w.count("open key") != 0 {
				t.Errorf("journal %q", w.journal)
			}
		})
	}
	w, p := fixture(t)
	w.scan = release.Failed
	_, err := p.Release(t.Context(), pipeline.ReleaseOptions{})
	if err == nil || !strings.Contains(err.Error(), "CVE-1") {
		t.Errorf("the denial does not name the finding: %v", err)
	}
}

func TestEvidenceNeedsItsRole(t *testing.T) {
	w, p := fixture(t)
	w.roles = []release.Role{release.Builder, release.Promoter}
	_, err := p.Release(t.Context(), pipeline.ReleaseOptions{})
	wantKind(t, err, release.KindDenied)
	if !strings.Contains(err.Error(), "scanner") {
		t.Errorf("the missing role is not named: %v", err)
	}
}

func TestPromotionGoesAllTheWay(t *testing.T) {
	w, p := fixture(t)
	staged := to(t, p, "staging") // makes the release first
	promoted := to(t, p, "production")
	if staged.Release != promoted.Release {
		t.Errorf("staging %s, production %s", staged.Release, promoted.Release)
	}
	want := []release.Phase{release.Released, release.Intended, release.Deployed, release.Intended, release.Deployed}
	if !slices.Equal(w.phases(), want) {
		t.Errorf("records %q, want %q", w.phases(), want)
	}
	first := slices.Index(w.journal, "stage runs planner")
	if intended := slices.Index(w.journal, "record intended"); intended < 0 || intended > first {
		t.Errorf("an effect comes before its intent: %q", w.journal)
	}
	digest := w.documents[release.Subject{Repository: registry + "/agent", Digest: staged.Release}].Release.Services["planner"].Digest
	for name, h := range w.hosts {
		if h.running["planner"] != digest {
			t.Errorf("%s runs %s, want %s", name, h.running["planner"], digest)
		}
		if h.lock != nil {
			t.Errorf("%s is still locked", name)
		}
		if h.checkpoint == "" {
			t.Errorf("%s keeps no checkpoint", name)
		}
	}
}

func TestNothingToDoLeavesNoRecord(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	before := len(w.records)
	out := to(t, p, "staging")
	if !out.Unchanged || len(w.records) != before || out.Record != nil {
		t.Errorf("got %+v, %d new records", out, len(w.records)-before)
	}
}

func TestALaterEnvironmentTakesOnlyWhatIsSettled(t *testing.T) {
	w, p := fixture(t)
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindDenied)
	to(t, p, "staging")
	w.hosts["stage"].running["planner"] = release.DigestOf([]byte("by hand"))
	for _, named := range []string{"", "v1"} {
		_, err = p.To(t.Context(), pipeline.PromoteOptions{Environment: "production", Release: named})
		wantKind(t, err, release.KindDenied)
	}
	if len(w.hosts["prod-1"].running) != 0 {
		t.Error("production was touched")
	}
}

func TestDenialTouchesNothingAndIsRecorded(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	for s := range w.attachments {
		w.attachments[s] = nil // somebody stripped the evidence
	}
	out, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindDenied)
	if !strings.Contains(err.Error(), "signed/image") || out.Decision == nil || out.Decision.Result != "deny" {
		t.Errorf("got %+v, %v", out.Decision, err)
	}
	if last := w.phases()[len(w.records)-1]; last != release.DeniedPhase {
		t.Errorf("last record %q", last)
	}
	if len(w.hosts["prod-1"].running) != 0 || w.count("copy") != 0 {
		t.Error("something was touched")
	}
}

func TestAFailureIsUndoneOnEveryHost(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	to(t, p, "production")
	old := w.hosts["prod-1"].running["planner"]
	next(w, "v2")
	to(t, p, "staging")
	w.hosts["prod-2"].applyErr = errBoom
	out, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindRolledBack)
	if !errors.Is(err, errBoom) {
		t.Errorf("the cause is lost: %v", err)
	}
	for _, name := range []string{"prod-1", "prod-2"} {
		if w.hosts[name].running["planner"] != old {
			t.Errorf("%s does not run what it ran before", name)
		}
	}
	if _, open := w.records.Open("production"); open || out.Record == nil {
		t.Errorf("the record is open: %q", w.phases())
	}
	// The environment still takes the release once the host is well.
	w.hosts["prod-2"].applyErr = nil
	to(t, p, "production")
}

// One host was cleaned up already when the other one's clean-up fails: the way
// back is a deployment of the release before.
func TestAFailureAfterTheCommitIsUndone(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	to(t, p, "production")
	old := w.hosts["prod-1"].running["planner"]
	next(w, "v2")
	to(t, p, "staging")
	w.hosts["prod-2"].commitErr = errBoom
	first := w.records[0].Record.Release
	delete(w.documents, release.Subject{Repository: registry + "/agent", Digest: first}) // production's own registry has it
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindRolledBack)
	for _, name := range []string{"prod-1", "prod-2"} {
		if w.hosts[name].running["planner"] != old {
			t.Errorf("%s does not run what it ran before", name)
		}
	}
	// What was deployed again is not of the attempt that was undone.
	if h := w.hosts["prod-1"]; len(h.attempts) != 1 || h.wanted.Attempt.Record.IsZero() || h.wanted.Attempt == h.attempts[0] {
		t.Errorf("undone %+v, deployed again as %+v", h.attempts, h.wanted.Attempt)
	}
}

func TestAFailureBeforeTheFirstEffectKeepsItsKind(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	w.hosts["prod-1"].pullErr = release.Unavailable("", "the registry does not answer")
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindUnavailable)
	if _, open := w.records.Open("production"); open || w.hosts["prod-1"].lock != nil {
		t.Error("the environment stays held")
	}
}

func TestWhatIsNotUndoneStaysOpenAndResumes(t *testing.T) {
	for name, breakIt := range map[string]func(*world, *pipeline.Pipeline){
		"stop":       func(_ *world, p *pipeline.Pipeline) { p.Project.Environments[1].OnFailure = "stop" },
		"undo fails": func(w *world, _ *pipeline.Pipeline) { w.hosts["prod-1"].undoErr = errBoom },
	} {
		t.Run(name, func(t *testing.T) {
			w, p := fixture(t)
			to(t, p, "staging")
			breakIt(w, p)
			w.hosts["prod-2"].applyErr = errBoom
			_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
			wantKind(t, err, release.KindBroken)
			_, err = p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
			wantKind(t, err, release.KindHeld)
			w.hosts["prod-2"].applyErr = nil
			out, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "production"})
			if err != nil || out.Record == nil {
				t.Fatalf("resume: %v", err)
			}
			if _, open := w.records.Open("production"); open || w.phases()[len(w.records)-1] != release.Deployed {
				t.Errorf("records %q", w.phases())
			}
		})
	}
}

func TestAnInterruptionResumes(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	ctx, cancel := context.WithCancel(t.Context())
	w.hosts["prod-2"].during = func(context.Context) { cancel() }
	_, err := p.To(ctx, pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindInterrupted)
	if _, open := w.records.Open("production"); !open {
		t.Fatal("the record is closed")
	}
	if w.hosts["prod-2"].running["planner"] != (release.Digest{}) {
		t.Error("an effect came after the interruption")
	}
	w.hosts["prod-2"].during = nil
	if _, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "production"}); err != nil {
		t.Fatal(err)
	}
	if w.hosts["prod-2"].running["planner"] != w.hosts["prod-1"].running["planner"] {
		t.Error("the hosts differ after the resume")
	}
}

func TestResumeUndoesWhatIsNotLetInAnyMore(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	ctx, cancel := context.WithCancel(t.Context())
	w.hosts["prod-2"].during = func(context.Context) { cancel() }
	_, err := p.To(ctx, pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindInterrupted)
	w.verdicts = func(release.Facts) []release.Verdict { return []release.Verdict{{Gate: "new", Result: release.Failed}} }
	if _, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "production"}); err != nil {
		t.Fatal(err)
	}
	if last := w.phases()[len(w.records)-1]; last != release.RolledBack {
		t.Errorf("last record %q", last)
	}
	if got := w.hosts["prod-1"].running["planner"]; got != (release.Digest{}) {
		t.Errorf("prod-1 still runs %s", got)
	}
	first := slices.IndexFunc(w.records, func(e release.Entry) bool { return e.Record.Environment == "production" })
	for _, a := range w.hosts["prod-1"].attempts {
		if a.Sequence != int64(first) {
			t.Errorf("undid attempt %d, the interrupted one is %d", a.Sequence, first)
		}
	}
}

func TestALivingHolderIsNotTakenOver(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	var resumed error
	w.hosts["prod-1"].during = func(ctx context.Context) {
		_, resumed = p.Resume(context.WithoutCancel(ctx), pipeline.ResumeOptions{Environment: "production"})
	}
	to(t, p, "production")
	wantKind(t, resumed, release.KindHeld)
}

// The holder is paused past its lease; another one resumes; the first one
// finds out before its next effect.
func TestAPausedHolderIsFencedOff(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	w.hosts["prod-1"].during = func(ctx context.Context) {
		w.hosts["prod-1"].during = nil
		w.hosts["prod-1"].lock = nil
		mine := w.records[len(w.records)-1]
		if _, _, err := w.Append(ctx, release.Record{Phase: release.Intended, Environment: "production", Release: mine.Record.Release}, int64(len(w.records))); err != nil {
			t.Error(err)
		}
	}
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindHeld)
	if len(w.hosts["prod-1"].running)+len(w.hosts["prod-2"].running) != 0 {
		t.Error("a fenced holder had an effect")
	}
	if last := w.phases()[len(w.records)-1]; last != release.Intended {
		t.Errorf("a fenced holder wrote %q", last)
	}
}

func TestALostLockObjectStopsTheHolder(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	w.hosts["prod-1"].during = func(context.Context) { w.hosts["prod-1"].lock = nil }
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindHeld)
}

func TestNewerRecordsMeanJudgingAgain(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	judged := 0
	w.verdicts = func(f release.Facts) []release.Verdict { judged++; return signedOnly(f) }
	w.moveOnce = true
	to(t, p, "production")
	if judged != 2 {
		t.Errorf("judged %d times", judged)
	}
	var decided int64
	for _, e := range w.records {
		if e.Record.Phase == release.Intended && e.Record.Environment == "production" {
			decided = e.Record.Decision.TreeSize - e.Record.Sequence
		}
	}
	if decided != 0 {
		t.Error("the decision is about an older ledger than its record follows")
	}
}

func TestAnOldCopyOfTheLedgerIsRefused(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	w.records = w.records[:1]
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "staging"})
	wantKind(t, err, release.KindIntegrity)
}

func TestGoingBackNeedsRollback(t *testing.T) {
	w, p := fixture(t)
	first := to(t, p, "staging")
	next(w, "v2")
	second := to(t, p, "staging")
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "staging", Release: "v1"})
	wantKind(t, err, release.KindDenied)
	_, err = p.Rollback(t.Context(), pipeline.PromoteOptions{Environment: "staging"})
	wantKind(t, err, release.KindUsage)
	out, err := p.Rollback(t.Context(), pipeline.PromoteOptions{Environment: "staging", Reason: "it misbehaves"})
	if err != nil || out.Release != first.Release || first.Release == second.Release {
		t.Fatalf("got %s, %v", out.Release, err)
	}
	last := w.records[len(w.records)-1].Record
	if last.Phase != release.Deployed || last.Kind != release.KindRollback || last.Reason != "it misbehaves" {
		t.Errorf("record %+v", last)
	}
}

func TestALostVolumeBlocks(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	next(w, "v2")
	w.hosts["stage"].blocking = []release.Reason{{Rule: "state/volume-missing", Message: "agent_memory is gone"}}
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "staging"})
	wantKind(t, err, release.KindDenied)
	if !strings.Contains(err.Error(), "agent_memory") {
		t.Errorf("got %v", err)
	}
}

func TestPlanOnlyReads(t *testing.T) {
	w, p := fixture(t)
	_, err := p.Plan(t.Context(), pipeline.PromoteOptions{Environment: "staging"})
	wantKind(t, err, release.KindUnavailable) // evidence would have to be made
	to(t, p, "staging")
	before, records := len(w.journal), len(w.records)
	plan, err := p.Plan(t.Context(), pipeline.PromoteOptions{Environment: "production"})
	if err != nil || !plan.Changes || len(plan.Steps) != 2 {
		t.Fatalf("got %+v, %v", plan, err)
	}
	for _, did := range w.journal[before:] {
		if did != "scan" {
			t.Errorf("a plan did %q", did)
		}
	}
	if len(w.records) != records {
		t.Error("a plan left a record")
	}
	to(t, p, "production")
	if plan, err = p.Plan(t.Context(), pipeline.PromoteOptions{Environment: "production"}); err != nil || plan.Changes {
		t.Errorf("after the promotion: %+v, %v", plan, err)
	}
}

func TestReleaseArguments(t *testing.T) {
	_, p := fixture(t)
	made := to(t, p, "staging")
	for _, good := range []string{made.Release.String(), made.Release.Hex()[:12], made.Release.Hex()[:20], "v1"} {
		if _, err := p.Plan(t.Context(), pipeline.PromoteOptions{Environment: "staging", Release: good}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{made.Release.Hex()[:11], "v2", release.DigestOf([]byte("x")).String(), strings.ToUpper(made.Release.Hex()[:12]), "sha256:"} {
		_, err := p.Plan(t.Context(), pipeline.PromoteOptions{Environment: "staging", Release: bad})
		wantKind(t, err, release.KindUsage)
	}
}

func TestChangedRulesAreRecordedOrRefused(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	p.Project.Configuration = release.DigestOf([]byte("changed"))
	next(w, "v2")
	to(t, p, "staging")
	if n := len(w.records); !slices.Contains(w.phases(), release.TrustChanged) {
		t.Errorf("%d records, none says that the rules changed: %q", n, w.phases())
	}
	p.Project.Trust.SingleKey = false
	p.Project.Configuration = release.DigestOf([]byte("changed again"))
	next(w, "v3")
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "staging"})
	wantKind(t, err, release.KindDenied)
}

func TestUnknownEnvironment(t *testing.T) {
	_, p := fixture(t)
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "prodution"})
	wantKind(t, err, release.KindUsage)
}
