package pipeline_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// A change of state is denied until somebody names the volume and says why; the
// record and the next promotion know of it.
func TestStateChange(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	next(w, "v2")
	w.hosts["stage"].blocking = []release.Reason{{Rule: "state/volume-renamed", Message: "agent_memory is gone", Fix: "--state-change"}}
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "staging"})
	wantKind(t, err, release.KindDenied)

	named := pipeline.PromoteOptions{Environment: "staging", StateChanges: []string{"agent_store"}}
	_, err = p.To(t.Context(), named)
	wantKind(t, err, release.KindUsage)
	plan, err := p.Plan(t.Context(), named)
	if err != nil || plan.Decision == nil {
		t.Fatalf("plan %+v, %v", plan, err)
	}
	shown := false
	for _, v := range plan.Decision.Verdicts {
		shown = shown || v.Gate == "state" && v.Result == release.Warned && strings.HasPrefix(v.Reasons[0].Message, "stage: agent_memory")
	}
	if !shown {
		t.Errorf("the plan does not show what was accepted: %+v", plan.Decision)
	}

	named.Reason = "the memory moved"
	if _, err := p.To(t.Context(), named); err != nil {
		t.Fatal(err)
	}
	last := w.records[len(w.records)-1].Record
	if last.Phase != release.Deployed || !slices.Equal(last.StateChanges, named.StateChanges) || last.Reason != named.Reason {
		t.Errorf("record %+v", last)
	}
	w.hosts["stage"].blocking = nil
	next(w, "v3")
	to(t, p, "staging")
	if !slices.Equal(w.hosts["stage"].known, named.StateChanges) {
		t.Errorf("known %q", w.hosts["stage"].known)
	}
	if now := w.records[len(w.records)-1].Record; len(now.StateChanges) != 0 {
		t.Errorf("accepted once, it is accepted for ever: %+v", now)
	}
}

func TestRollbackTakesAStateChange(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	next(w, "v2")
	to(t, p, "staging")
	w.hosts["stage"].blocking = []release.Reason{{Rule: "state/volume-renamed", Message: "agent_memory is gone"}}
	_, err := p.Rollback(t.Context(), pipeline.PromoteOptions{Environment: "staging", Reason: "back"})
	wantKind(t, err, release.KindDenied)
	if _, err := p.Rollback(t.Context(), pipeline.PromoteOptions{Environment: "staging", Reason: "back", StateChanges: []string{"agent_memory"}}); err != nil {
		t.Error(err)
	}
}

// What could not be undone because of its state can be, once a person says which
// change of state is meant: the undoing knows of it, and so does the record.
func TestResumeTakesAStateChange(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	next(w, "v2")
	w.hosts["stage"].applyErr, w.hosts["stage"].undoErr = errBoom, release.Denied("", "state/schema: the new container ran")
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "staging", StateChanges: []string{"agent_bus"}, Reason: "the bus is new"})
	wantKind(t, err, release.KindBroken)

	o := pipeline.ResumeOptions{Environment: "staging", StateChanges: []string{"agent_memory", "agent_bus"}}
	_, err = p.Resume(t.Context(), o)
	wantKind(t, err, release.KindUsage)
	w.hosts["stage"].undoErr = nil
	o.Reason = "restored by hand"
	_, err = p.Resume(t.Context(), o)
	wantKind(t, err, release.KindRolledBack)
	for _, e := range w.records[len(w.records)-2:] {
		r := e.Record
		if !slices.Equal(r.StateChanges, []string{"agent_bus", "agent_memory"}) || !strings.Contains(r.Reason, o.Reason) {
			t.Errorf("%s: state changes %q, reason %q", r.Phase, r.StateChanges, r.Reason)
		}
	}
	if got := w.hosts["stage"].accepted; !slices.Equal(got, []string{"agent_bus", "agent_memory"}) {
		t.Errorf("undone with %q", got)
	}
}
