package pipeline_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// gated is a policy that keeps what people said: nothing goes in that lacks
// approvals, into a frozen environment, or while windows are closed.
func gated(f release.Facts) []release.Verdict {
	v := release.Verdict{Gate: "people", Result: release.Passed}
	if f.Kind == release.KindPromote && (f.Approvals.Missing() > 0 || len(f.Freezes) > 0 || !f.Window.Open && !f.Resumed) {
		v.Result = release.Failed
		v.Reasons = append(v.Reasons, release.Reason{Rule: "people/no", Message: f.Approvals.String() + f.Window.Why})
	}
	return []release.Verdict{v}
}

// approvers gives a world with a release in staging, and production behind two
// approvals of three people.
func approvers(t *testing.T) (*world, *pipeline.Pipeline) {
	t.Helper()
	trust := teamTrust(1, "alice")
	for _, name := range []string{"alice", "bob", "carol"} {
		trust.Roles[release.Approver] = append(trust.Roles[release.Approver], party(name))
	}
	w, p := fixture(t)
	w.t, w.verdicts = t, gated
	p.Project.Trust = trust
	p.Project.Configuration = release.DigestOf([]byte("rules"))
	p.Project.Environments[1].Approvals = release.Approvals{Required: 2}
	to(t, p, "staging")
	return w, p
}

// as signs with somebody's key, in the roles that trust gives them.
func (w *world) as(key string, f func()) {
	before, roles := w.key, w.roles
	defer func() { w.key, w.roles = before, roles }()
	w.key, w.roles = key, []release.Role{release.Approver}
	if key == before {
		w.roles = roles
	}
	f()
}

func (w *world) approve(p *pipeline.Pipeline, key string, o pipeline.ApproveOptions) (out pipeline.ApproveResult, err error) {
	if o.Environment == "" {
		o.Environment, o.Release = "production", "v1"
	}
	w.as(key, func() { out, err = p.Approve(w.t.Context(), o) })
	return out, err
}

func TestTwoPeopleLetAReleaseIn(t *testing.T) {
	w, p := approvers(t)
	err := tryTo(t, p, "production")
	wantKind(t, err, release.KindDenied)
	first, err := w.approve(p, "alice", pipeline.ApproveOptions{})
	if err != nil || first.Approver != "alice" || first.Record == nil || first.Approvals.String() != "1 of 2 (alice)" {
		t.Fatalf("got %+v, %v", first, err)
	}
	if first.Decision == nil || first.Decision.Result != "deny" || len(first.RunsIn) != 1 || first.Running != nil || first.Version != "v1" {
		t.Errorf("it shows %+v", first)
	}
	record := w.records[first.Record.Sequence].Record
	if record.Phase != release.Approved || record.Environment != "production" || record.Release != first.Release || record.Configuration != p.Project.Configuration ||
		!record.Until.Equal(w.now.Add(release.DefaultApproval)) || record.Rules.IsZero() {
		t.Errorf("recorded %+v", record)
	}
	wantKind(t, tryTo(t, p, "production"), release.KindDenied)
	if _, err := w.approve(p, "bob", pipeline.ApproveOptions{Environment: "production", Release: first.Release.Hex()[:12]}); err != nil {
		t.Fatal(err)
	}
	status, err := p.Status(t.Context(), "production")
	if next := status.Environments[0].Next; err != nil || next == nil || next.Release != first.Release || next.Approvals.Missing() != 0 {
		t.Errorf("status %+v, %v", status.Environments[0], err)
	}
	out := to(t, p, "production")
	decided := w.records[out.Record.Sequence].Record.Decision
	if !slices.Contains(decided.Evidence, w.records[first.Record.Sequence].Digest) {
		t.Errorf("the decision does not name the approvals it rests on: %v", decided.Evidence)
	}
}

func TestApprovingTwiceIsOnce(t *testing.T) {
	w, p := approvers(t)
	first, err := w.approve(p, "alice", pipeline.ApproveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	held := len(w.records)
	w.now = w.now.Add(time.Hour)
	again, err := w.approve(p, "alice", pipeline.ApproveOptions{})
	if err != nil || !again.Existing || again.Record != nil || len(w.records) != held || !again.Until.Equal(*first.Until) {
		t.Errorf("again: %+v, %v", again, err)
	}
	shorter, err := w.approve(p, "alice", pipeline.ApproveOptions{Environment: "production", Release: "v1", Expires: time.Hour})
	if err != nil || !shorter.Existing {
		t.Errorf("for less: %+v, %v", shorter, err)
	}
	longer, err := w.approve(p, "alice", pipeline.ApproveOptions{Environment: "production", Release: "v1", Expires: 20 * 24 * time.Hour})
	if err != nil || longer.Existing || longer.Approvals.String() != "1 of 2 (alice)" {
		t.Errorf("for longer: %+v, %v", longer, err)
	}
	w.now = w.now.Add(21 * 24 * time.Hour)
	if over, err := w.approve(p, "alice", pipeline.ApproveOptions{}); err != nil || over.Existing {
		t.Errorf("once it is over: %+v, %v", over, err)
	}
}

func TestWhoMayNotApprove(t *testing.T) {
	w, p := approvers(t)
	held := len(w.records)
	for key, want := range map[string]string{
		"key":     "key is no approver; those are alice, bob, carol",
		"mallory": "no approver",
	} {
		w.as(key, func() {
			if key == "mallory" {
				w.roles = nil
			}
			_, err := p.Approve(t.Context(), pipeline.ApproveOptions{Environment: "production", Release: "v1"})
			wantKind(t, err, release.KindDenied)
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", key, err)
			}
		})
	}
	p.Project.Trust.Roles[release.Approver] = nil
	_, err := w.approve(p, "key", pipeline.ApproveOptions{})
	wantKind(t, err, release.KindDenied)
	if len(w.records) != held {
		t.Errorf("records %q", w.phases())
	}
}

// Whoever made or promoted it, by name and whatever the key, is told at once
// that theirs would not count.
func TestNobodyApprovesTheirOwn(t *testing.T) {
	w, p := approvers(t)
	w.records[0].Signer.Name = "alice"
	_, err := w.approve(p, "alice", pipeline.ApproveOptions{})
	wantKind(t, err, release.KindDenied)
	if !strings.Contains(err.Error(), "alice made the release (record 0)") || !strings.Contains(hintOf(err), "bob, carol") {
		t.Errorf("%v: %s", err, hintOf(err))
	}
	if _, err := w.approve(p, "bob", pipeline.ApproveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.approve(p, "carol", pipeline.ApproveOptions{}); err != nil {
		t.Fatal(err)
	}
	// bob promotes: his approval does not count any more.
	w.as("bob", func() {
		w.roles = append(w.roles, release.Promoter, release.Builder, release.Scanner, release.Tester)
		_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
		wantKind(t, err, release.KindDenied)
		if !strings.Contains(err.Error(), "1 of 2 (carol)") {
			t.Error(err)
		}
	})
	to(t, p, "production")
}

func hintOf(err error) string {
	var f *release.Fault
	if errors.As(err, &f) {
		return f.Hint
	}
	return ""
}

func TestTheReleasedRecordSaysWhoActed(t *testing.T) {
	w, p := approvers(t)
	p.Project.Environments[1].Approvals.NotBy = []release.Role{release.Tester}
	acted := w.records[0].Record.Acted
	for _, role := range []release.Role{release.Builder, release.Scanner, release.Tester} {
		if !slices.Equal(acted[role], []string{"key"}) {
			t.Errorf("as %s acted %v", role, acted[role])
		}
	}
	w.records[0].Record.Acted[release.Tester] = []string{"bob"}
	_, err := w.approve(p, "bob", pipeline.ApproveOptions{})
	wantKind(t, err, release.KindDenied)
}

func TestAnApprovalIsForOneConfiguration(t *testing.T) {
	w, p := approvers(t)
	for _, name := range []string{"alice", "bob"} {
		if _, err := w.approve(p, name, pipeline.ApproveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	p.Project.Configuration = release.DigestOf([]byte("other rules"))
	_, err := w.approve(p, "carol", pipeline.ApproveOptions{}) // nobody accepted them
	wantKind(t, err, release.KindDenied)
	w.as("alice", func() {
		w.roles = []release.Role{release.Owner}
		if _, err := p.TrustAccept(t.Context(), pipeline.AcceptOptions{}); err != nil {
			t.Fatal(err)
		}
	})
	err = tryTo(t, p, "production")
	wantKind(t, err, release.KindDenied)
	if !strings.Contains(err.Error(), "0 of 2") {
		t.Error(err)
	}
}

func TestApprovalsThatMeanNothing(t *testing.T) {
	w, p := approvers(t)
	held := len(w.records)
	for name, o := range map[string]pipeline.ApproveOptions{
		"no such environment": {Environment: "prodution", Release: "v1"}, "no such release": {Environment: "production", Release: "v9"},
		"for ever": {Environment: "production", Release: "v1", Expires: 31 * 24 * time.Hour}, "for no time": {Environment: "production", Release: "v1", Expires: time.Second},
		"for less than none": {Environment: "production", Release: "v1", Expires: -time.Hour}, "no release": {Environment: "production"},
		"a long reason": {Environment: "production", Release: "v1", Reason: strings.Repeat("x", 3000)},
	} {
		_, err := w.approve(p, "alice", o)
		if release.KindOf(err) != release.KindUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(w.records) != held {
		t.Errorf("records %q", w.phases())
	}
	if _, err := p.Project.Environment("prodution"); hintOf(err) != "did you mean production?" {
		t.Errorf("hint %q", hintOf(err))
	}
}

// What is signed is shown first, with what differs from what runs.
func TestApprovingShowsWhatItIs(t *testing.T) {
	w, p := approvers(t)
	for _, name := range []string{"alice", "bob"} {
		if _, err := w.approve(p, name, pipeline.ApproveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	to(t, p, "production")
	next(w, "v2")
	to(t, p, "staging")
	held := len(w.records)
	var shown pipeline.ApproveResult
	no := errors.New("no")
	_, err := w.approve(p, "alice", pipeline.ApproveOptions{Environment: "production", Release: "v2", Confirm: func(a pipeline.ApproveResult) error { shown = a; return no }})
	if !errors.Is(err, no) || len(w.records) != held {
		t.Fatalf("declined: %v, %q", err, w.phases())
	}
	if shown.Running == nil || shown.Running.Version != "v1" || !shown.Compared || len(shown.Changes) != 2 ||
		!strings.HasPrefix(shown.Changes[0], "service planner: ") || !strings.HasPrefix(shown.Changes[1], "dimension code: ") {
		t.Errorf("shown %+v", shown)
	}
	dry, err := w.approve(p, "alice", pipeline.ApproveOptions{Environment: "production", Release: "v2", DryRun: true, Confirm: func(pipeline.ApproveResult) error { return no }})
	if err != nil || dry.Record != nil || dry.Until == nil || len(w.records) != held {
		t.Errorf("dry: %+v, %v", dry, err)
	}
	// A registry that does not answer keeps nobody from approving.
	clear(w.documents)
	blind, err := w.approve(p, "alice", pipeline.ApproveOptions{Environment: "production", Release: "v2"})
	if err != nil || blind.Compared || blind.Record == nil {
		t.Errorf("blind: %+v, %v", blind, err)
	}
}

// Whoever resumes takes over what somebody else was let in with.
func TestAnApproverMayResume(t *testing.T) {
	w, p := approvers(t)
	for _, name := range []string{"alice", "bob"} {
		if _, err := w.approve(p, name, pipeline.ApproveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	w.hosts["prod-2"].applyErr = errBoom
	p.Project.Environments[1].OnFailure = "stop"
	wantKind(t, tryTo(t, p, "production"), release.KindBroken)
	for _, key := range []string{"bob", "key"} { // it fails for bob, too
		if key == "key" {
			w.hosts["prod-2"].applyErr = nil
		}
		w.as(key, func() {
			w.roles = append(w.roles, release.Promoter)
			_, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "production"})
			if (err == nil) != (key == "key") {
				t.Fatalf("%s: %v", key, err)
			}
		})
	}
	if last := w.phases()[len(w.records)-1]; last != release.Deployed {
		t.Errorf("last record %q", last)
	}
}

func TestAClosedWindowKeepsPromotionsOut(t *testing.T) {
	w, p := approvers(t)
	p.Project.Environments[1].Approvals = release.Approvals{}
	window, err := release.NewWindow(false, "Mon-Thu 09:00-16:00", "Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	p.Project.Environments[1].Windows = []release.Window{window}
	w.now = time.Date(2023, 11, 17, 12, 0, 0, 0, time.UTC) // a Friday
	wantKind(t, tryTo(t, p, "production"), release.KindDenied)
	status, err := p.Status(t.Context(), "production")
	if got := status.Environments[0].Window; err != nil || got.Open || got.Changes != "Mon 2023-11-20 09:00 CET" {
		t.Errorf("status %+v, %v", got, err)
	}
	w.now = time.Date(2023, 11, 20, 8, 0, 0, 0, time.UTC)
	to(t, p, "production")
}
