package pipeline_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// teamTrust is a trust of roles: the key at hand promotes, the names own.
func teamTrust(threshold int, owners ...string) release.Trust {
	t := release.Trust{OwnerThreshold: threshold, Roles: map[release.Role][]release.Party{}}
	for _, role := range []release.Role{release.Builder, release.Scanner, release.Tester, release.Promoter} {
		t.Roles[role] = []release.Party{party("key")}
	}
	for _, name := range owners {
		t.Roles[release.Owner] = append(t.Roles[release.Owner], party(name))
	}
	return t
}

func (w *world) accept(p *pipeline.Pipeline, key string) (pipeline.AcceptResult, error) {
	w.key = key
	defer func() { w.key = "key" }()
	return p.TrustAccept(w.t.Context(), pipeline.AcceptOptions{Reason: "as agreed"})
}

func tryTo(t *testing.T, p *pipeline.Pipeline, environment string) error {
	t.Helper()
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: environment})
	return err
}

// owned gives a world whose ledger pins a trust.
func owned(t *testing.T, trust release.Trust) (*world, *pipeline.Pipeline) {
	w, p := fixture(t)
	w.t = t
	p.Project.Trust = trust
	to(t, p, "staging")
	if got := w.records[0].Record.Trust; got == nil || got.Digest() != trust.Digest() {
		t.Fatalf("the first record pins %v", got)
	}
	return w, p
}

// TestRulesOfOneOperatorAreRefused: whoever edits the rules gets nowhere with
// them until enough distinct owners of the pinned version agreed.
func TestRulesOfOneOperatorAreRefused(t *testing.T) {
	w, p := owned(t, teamTrust(2, "alice", "carol", "dave"))
	p.Project.Configuration = release.DigestOf([]byte("approvals lowered"))
	next(w, "v2")
	before := len(w.records)
	wantKind(t, tryTo(t, p, "staging"), release.KindDenied)
	_, err := p.Release(t.Context(), pipeline.ReleaseOptions{})
	wantKind(t, err, release.KindDenied)
	_, err = p.Plan(t.Context(), pipeline.PromoteOptions{Environment: "staging"})
	wantKind(t, err, release.KindDenied)
	_, err = w.accept(p, "key")
	wantKind(t, err, release.KindDenied)
	if len(w.records) != before {
		t.Fatalf("records %q", w.phases())
	}
	first, err := w.accept(p, "alice")
	if err != nil || first.InForce || fmt.Sprint(first.Agreed) != "[alice]" || first.Needed != 2 {
		t.Fatalf("%+v, %v", first, err)
	}
	again, err := w.accept(p, "alice")
	if err != nil || !again.Existing || again.InForce || len(w.records) != before+1 {
		t.Fatalf("agreeing twice: %+v, %v", again, err)
	}
	wantKind(t, tryTo(t, p, "staging"), release.KindDenied)
	second, err := w.accept(p, "carol")
	if err != nil || !second.InForce || fmt.Sprint(second.Agreed) != "[alice carol]" {
		t.Fatalf("two owners agreed: %+v, %v", second, err)
	}
	if err := tryTo(t, p, "staging"); err != nil {
		t.Error(err)
	}
	done, err := w.accept(p, "dave")
	if err != nil || !done.Existing || !done.InForce {
		t.Errorf("nothing to accept: %+v, %v", done, err)
	}
}

// TestAResumeFollowsTheRulesToo: rules that nobody accepted finish nothing.
func TestAResumeFollowsTheRulesToo(t *testing.T) {
	w, p := owned(t, teamTrust(1, "alice"))
	next(w, "v2")
	w.hosts["stage"].applyErr, w.hosts["stage"].undoErr = errBoom, errBoom
	wantKind(t, tryTo(t, p, "staging"), release.KindBroken)
	w.hosts["stage"].applyErr, w.hosts["stage"].undoErr = nil, nil
	agreed := p.Project.Configuration
	p.Project.Configuration = release.DigestOf([]byte("edited"))
	_, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "staging"})
	wantKind(t, err, release.KindDenied)
	p.Project.Configuration = agreed
	if _, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "staging"}); err != nil {
		t.Error(err)
	}
}

// TestLeavingTheTrustSectionIsAChangeToo: a project whose ledger pins roles
// does not become single-key by an edit, even by the key of an owner.
func TestLeavingTheTrustSectionIsAChangeToo(t *testing.T) {
	w, p := owned(t, teamTrust(2, "key", "alice"))
	p.Project.Trust = singleKey("key")
	next(w, "v2")
	wantKind(t, tryTo(t, p, "staging"), release.KindDenied)
	if slices.Contains(w.phases(), release.TrustChanged) {
		t.Error("the change was recorded on the way")
	}
}

// TestASingleKeyIsExchangedByBoth: the former one agrees, the new one confirms.
func TestASingleKeyIsExchangedByBoth(t *testing.T) {
	w, p := owned(t, singleKey("key"))
	p.Project.Trust = singleKey("new")
	w.key = "new"
	next(w, "v2")
	wantKind(t, tryTo(t, p, "staging"), release.KindDenied)
	_, err := w.accept(p, "new")
	wantKind(t, err, release.KindDenied)
	old, err := w.accept(p, "key")
	if err != nil || old.InForce || len(old.Agreed) != 1 {
		t.Fatalf("%+v, %v", old, err)
	}
	w.key = "new"
	if err = tryTo(t, p, "staging"); err == nil || !strings.Contains(err.Error(), "nobody of the new version yet") {
		t.Errorf("before the new key confirmed: %v", err)
	}
	if _, err = w.accept(p, "stranger"); release.KindOf(err) != release.KindDenied {
		t.Errorf("a stranger confirms: %v", err)
	}
	if done, err := w.accept(p, "new"); err != nil || !done.InForce {
		t.Fatalf("%+v, %v", done, err)
	}
	w.key = "new"
	if err := tryTo(t, p, "staging"); err != nil {
		t.Error(err)
	}
}

// TestAnotherTrustWithTheSameRulesIsRefused: the digest of the rules in a
// record is what its writer claims.
func TestAnotherTrustWithTheSameRulesIsRefused(t *testing.T) {
	for _, mine := range []release.Trust{singleKey("key"), teamTrust(1, "alice")} {
		w, p := owned(t, mine)
		theirs := singleKey("mallory")
		w.records[0].Record.Trust = &theirs
		next(w, "v2")
		wantKind(t, tryTo(t, p, "staging"), release.KindDenied)
		warned := ""
		ctx := event.With(t.Context(), func(e event.Event) { warned += e.Message })
		if _, err := p.Status(ctx, ""); err != nil || !strings.Contains(warned, "the ledger pins another trust") {
			t.Errorf("whoever only looks is told %q, %v", warned, err)
		}
	}
}

// TestAnOlderLedgerGetsItsTrustPinned: accepting is enough, nothing else has to change.
func TestAnOlderLedgerGetsItsTrustPinned(t *testing.T) {
	w, p := owned(t, teamTrust(1, "alice"))
	w.records[0].Record.Trust = nil
	next(w, "v2")
	to(t, p, "staging")
	out, err := w.accept(p, "alice")
	if err != nil || !out.InForce || out.Existing {
		t.Fatalf("%+v, %v", out, err)
	}
	if pin, inForce, err := p.Pinned(t.Context()); err != nil || !inForce || pin.Trust == nil {
		t.Errorf("pin %+v, %v, %v", pin, inForce, err)
	}
}

func TestAcceptDryRunOnlySays(t *testing.T) {
	w, p := owned(t, teamTrust(1, "alice"))
	p.Project.Trust = teamTrust(1, "alice", "bob")
	w.key = "alice"
	before := len(w.records)
	out, err := p.TrustAccept(t.Context(), pipeline.AcceptOptions{DryRun: true})
	if err != nil || out.InForce || len(w.records) != before || len(out.Changes) != 1 || !strings.HasPrefix(out.Changes[0], `+ owner: "bob", key sha256:`) {
		t.Errorf("%+v, %v", out, err)
	}
}
