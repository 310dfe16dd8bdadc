package pipeline_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// frozen gives a world in which staging and production run v1, staging v2, and
// somebody froze production for a day.
func frozen(t *testing.T) (*world, *pipeline.Pipeline) {
	t.Helper()
	w, p := approvers(t)
	p.Project.Environments[1].Approvals = release.Approvals{}
	to(t, p, "production")
	next(w, "v2")
	to(t, p, "staging")
	w.freeze(p, 24*time.Hour)
	return w, p
}

func (w *world) freeze(p *pipeline.Pipeline, d time.Duration) pipeline.FreezeResult {
	w.t.Helper()
	out, err := p.Freeze(w.t.Context(), pipeline.FreezeOptions{Environment: "production", Until: w.now.Add(d), Reason: "new year"})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func TestAFreezeKeepsPromotionsOut(t *testing.T) {
	w, p := frozen(t)
	record := w.records[len(w.records)-1].Record
	if record.Phase != release.Frozen || record.Environment != "production" || record.Reason != "new year" || !record.Until.Equal(w.now.Add(24*time.Hour)) {
		t.Errorf("recorded %+v", record)
	}
	wantKind(t, tryTo(t, p, "production"), release.KindDenied)
	status, err := p.Status(t.Context(), "")
	if got := status.Environments[1].Freezes; err != nil || len(got) != 1 || got[0].By != "key" || len(status.Environments[0].Freezes) != 0 {
		t.Errorf("status %+v, %v", status, err)
	}
	next(w, "v3")
	to(t, p, "staging") // another environment is not held up
	w.now = w.now.Add(24*time.Hour - time.Second)
	wantKind(t, tryTo(t, p, "production"), release.KindDenied)
	w.now = w.now.Add(time.Second)
	to(t, p, "production") // it is over
}

func TestARollbackGoesThroughAFreeze(t *testing.T) {
	w, p := frozen(t)
	w.now = w.now.Add(25 * time.Hour)
	to(t, p, "production")
	w.freeze(p, time.Hour)
	out, err := p.Rollback(t.Context(), pipeline.PromoteOptions{Environment: "production", Reason: "it misbehaves"})
	if err != nil || out.Version != "v1" {
		t.Fatalf("got %+v, %v", out, err)
	}
}

// What began before the freeze finishes; interrupted, it is undone.
func TestAFreezeWhileSomethingIsUnderWay(t *testing.T) {
	for _, interrupted := range []bool{false, true} {
		w, p := frozen(t)
		w.now = w.now.Add(25 * time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		w.hosts["prod-2"].during = func(context.Context) {
			w.hosts["prod-2"].during = nil
			if out := w.freeze(p, time.Hour); out.Open == nil || out.Open.Record.Version != "v2" {
				t.Errorf("the freeze does not name what goes on: %+v", out)
			}
			if interrupted {
				cancel()
			}
		}
		_, err := p.To(ctx, pipeline.PromoteOptions{Environment: "production"})
		cancel()
		want := release.Deployed
		if interrupted {
			wantKind(t, err, release.KindInterrupted)
			want = release.RolledBack
			if _, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "production"}); err != nil {
				t.Fatal(err)
			}
		} else if err != nil {
			t.Fatal(err)
		}
		if last := w.phases()[len(w.records)-1]; last != want {
			t.Errorf("interrupted %v: last record %q", interrupted, last)
		}
	}
}

// Whoever would wait minutes for a release to be made is told first.
func TestAFreezeIsToldBeforeAReleaseIsMade(t *testing.T) {
	w, p := approvers(t)
	if _, err := p.Freeze(t.Context(), pipeline.FreezeOptions{Environment: "staging", Until: w.now.Add(time.Hour), Reason: "audit"}); err != nil {
		t.Fatal(err)
	}
	next(w, "v2")
	built := w.count("build planner")
	told := ""
	ctx := event.With(t.Context(), func(e event.Event) {
		if e.Type == event.Warning && w.count("build planner") == built {
			told = e.Message
		}
	})
	_, err := p.To(ctx, pipeline.PromoteOptions{Environment: "staging"})
	wantKind(t, err, release.KindDenied)
	if !strings.Contains(told, "staging is frozen until 2023-11-14T23:13:20Z by key: the release is made, and not let in") {
		t.Errorf("told %q", told)
	}
	if _, ok := w.records.Released(w.records[len(w.records)-1].Record.Release); !ok {
		t.Errorf("records %q", w.phases())
	}
}

func TestFreezesThatMeanNothing(t *testing.T) {
	w, p := approvers(t)
	held := len(w.records)
	for name, o := range map[string]pipeline.FreezeOptions{
		"over already": {Environment: "production", Until: w.now, Reason: "why"}, "yesterday": {Environment: "production", Until: w.now.Add(-24 * time.Hour), Reason: "why"},
		"for ever": {Environment: "production", Until: w.now.AddDate(2, 0, 0), Reason: "why"}, "no end": {Environment: "production", Reason: "why"},
		"no reason": {Environment: "production", Until: w.now.Add(time.Hour)}, "blanks": {Environment: "production", Until: w.now.Add(time.Hour), Reason: " \n"},
		"no such environment": {Environment: "prod", Until: w.now.Add(time.Hour), Reason: "why"},
	} {
		if _, err := p.Freeze(t.Context(), o); release.KindOf(err) != release.KindUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
	out, err := p.Freeze(t.Context(), pipeline.FreezeOptions{Environment: "production", Until: w.now.Add(time.Hour), Reason: "why", DryRun: true})
	if err != nil || out.Record != nil || out.By != "key" {
		t.Errorf("dry: %+v, %v", out, err)
	}
	w.as("alice", func() { // an approver is no promoter
		_, err := p.Freeze(t.Context(), pipeline.FreezeOptions{Environment: "production", Until: w.now.Add(time.Hour), Reason: "why"})
		wantKind(t, err, release.KindDenied)
	})
	if len(w.records) != held {
		t.Errorf("records %q", w.phases())
	}
}

func TestUnfreezing(t *testing.T) {
	w, p := frozen(t)
	unfreeze := func(key, environment string, roles ...release.Role) (out pipeline.UnfreezeResult, err error) {
		w.as(key, func() {
			if roles != nil {
				w.roles = roles
			}
			out, err = p.Unfreeze(t.Context(), pipeline.UnfreezeOptions{Environment: environment, Reason: "it is over"})
		})
		return out, err
	}
	_, err := unfreeze("alice", "staging")
	wantKind(t, err, release.KindUsage)
	if hintOf(err) != "frozen: production" {
		t.Errorf("hint %q", hintOf(err))
	}
	_, err = unfreeze("deputy", "production", release.Promoter)
	wantKind(t, err, release.KindDenied)
	if !strings.Contains(err.Error(), "deputy may not lift the freeze of production by key (record") || !strings.Contains(hintOf(err), "alice, bob, carol") {
		t.Errorf("%v: %s", err, hintOf(err))
	}
	w.freeze(p, time.Hour)
	w.records[len(w.records)-1].Signer.Name = "deputy"
	own, err := unfreeze("deputy", "production", release.Promoter)
	if err != nil || len(own.Lifted) != 1 || own.Lifted[0].By != "deputy" || len(own.Freezes) != 1 || own.Freezes[0].By != "key" {
		t.Fatalf("one's own: %+v, %v", own, err)
	}
	wantKind(t, tryTo(t, p, "production"), release.KindDenied)
	all, err := unfreeze("alice", "production")
	if err != nil || len(all.Lifted) != 1 || len(all.Freezes) != 0 || all.Record == nil {
		t.Fatalf("an approver: %+v, %v", all, err)
	}
	to(t, p, "production")
	w.freeze(p, time.Hour)
	w.now = w.now.Add(2 * time.Hour)
	_, err = unfreeze("alice", "production")
	wantKind(t, err, release.KindUsage)
	if !strings.Contains(err.Error(), "ended at") {
		t.Error(err)
	}
}
