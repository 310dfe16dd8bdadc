package pipeline_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// saved plans for production, and gives the plan as a file brings it back.
func saved(t *testing.T, p *pipeline.Pipeline, o pipeline.PromoteOptions) *pipeline.SavedPlan {
	t.Helper()
	o.Environment = "production"
	planned, err := p.Plan(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	text, err := planned.Save()
	if err != nil {
		t.Fatal(err)
	}
	plan, err := pipeline.ParsePlan(text)
	if err != nil {
		t.Fatal(err)
	}
	return &plan
}

// runPlan promotes what a plan says to production.
func runPlan(ctx context.Context, p *pipeline.Pipeline, plan *pipeline.SavedPlan) (pipeline.Promotion, error) {
	return p.To(ctx, pipeline.PromoteOptions{Environment: "production", Plan: plan})
}

// The plan's release is promoted, not whichever staging runs by now.
func TestASavedPlanIsCarriedOut(t *testing.T) {
	w, p := fleet(t, 2, release.Strategy{})
	plan := saved(t, p, pipeline.PromoteOptions{})
	next(w, "v3")
	to(t, p, "staging")
	out, err := runPlan(t.Context(), p, plan)
	if err != nil || out.Release != plan.Release || out.Version != "v2" || w.hosts["h2"].running["planner"] != w.version(t, "v2") {
		t.Errorf("got %+v, %v", out, err)
	}
}

func TestASavedPlanIsExactlyThatOrNothing(t *testing.T) {
	for name, c := range map[string]struct {
		move func(*testing.T, *world, *pipeline.Pipeline)
		says []string
	}{
		"nothing moved": {func(*testing.T, *world, *pipeline.Pipeline) {}, nil},
		"another step": {func(t *testing.T, w *world, _ *pipeline.Pipeline) {
			w.hosts["h2"].running["planner"] = w.version(t, "v2")
		}, []string{"h2: step for planner: planned recreate, now nothing"}},
		"a container was replaced": {func(_ *testing.T, w *world, _ *pipeline.Pipeline) {
			w.hosts["h1"].seen = map[string]string{"container agent-planner-1": "another"}
		}, []string{"h1: container agent-planner-1: planned nothing, now another"}},
		"somebody else promoted": {func(t *testing.T, _ *world, p *pipeline.Pipeline) { to(t, p, "production") },
			[]string{"the last deployment: planned record ", "h1: step for planner: planned recreate, now nothing"}},
		"a target was added": {func(_ *testing.T, w *world, p *pipeline.Pipeline) {
			w.add(&p.Project.Environments[1], "h3")
		}, []string{"h3: the target: planned nothing, now is one of production"}},
		"a target was taken away": {func(_ *testing.T, _ *world, p *pipeline.Pipeline) {
			p.Project.Environments[1].Targets = p.Project.Environments[1].Targets[:1]
		}, []string{"h2: the target: planned is one of production, now nothing"}},
		"a gate says something else": {func(_ *testing.T, w *world, _ *pipeline.Pipeline) {
			w.verdicts = func(f release.Facts) []release.Verdict {
				return append(signedOnly(f), release.Verdict{Gate: "scan", Result: release.Warned, Reasons: []release.Reason{{Rule: "scan/match", Message: "CVE"}}})
			}
		}, []string{"gate scan: planned nothing, now warned scan/match"}},
		"the policies changed": {func(_ *testing.T, w *world, p *pipeline.Pipeline) { p.Judge = otherJudge{w} }, []string{"policy: planned sha256:"}},
	} {
		for _, dry := range []bool{false, true} {
			w, p := fleet(t, 2, release.Strategy{})
			plan := saved(t, p, pipeline.PromoteOptions{})
			c.move(t, w, p)
			w.journal = nil
			records := len(w.records)
			out, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production", Plan: plan, DryRun: dry})
			if c.says == nil {
				if err != nil || len(out.Moved) != 0 || !dry && w.hosts["h1"].running["planner"] != w.version(t, "v2") {
					t.Errorf("%s: %+v, %v", name, out, err)
				}
				continue
			}
			wantKind(t, err, release.KindUnavailable)
			for _, says := range c.says {
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("%s: %v does not say %q", name, err, says)
				}
			}
			if len(out.Moved) < len(c.says) || len(w.records) != records || len(w.does("runs", "fetches", "copy")) != 0 {
				t.Errorf("%s: %+v, journal %q", name, out, w.journal)
			}
		}
	}
}

// otherJudge has policies of another digest.
type otherJudge struct{ *world }

func (otherJudge) Digest() release.Digest { return release.DigestOf([]byte("other")) }

// A plan that was let in is no permission: today's decision counts.
func TestASavedPlanDecidesNothing(t *testing.T) {
	w, p := fleet(t, 1, release.Strategy{})
	plan := saved(t, p, pipeline.PromoteOptions{})
	w.verdicts = func(release.Facts) []release.Verdict {
		return []release.Verdict{{Gate: "signed", Result: release.Failed, Reasons: []release.Reason{{Rule: "scan/critical", Message: "CVE"}}}}
	}
	_, err := runPlan(t.Context(), p, plan)
	wantKind(t, err, release.KindDenied)
	planned, err := p.Plan(t.Context(), pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindDenied)
	if _, err := planned.Save(); err == nil {
		t.Error("what would be denied was saved")
	}
}

// A ledger that is not the one of the plan, or an old copy of it, is refused.
func TestASavedPlanBelongsToItsLedger(t *testing.T) {
	_, p := fleet(t, 1, release.Strategy{})
	plan := saved(t, p, pipeline.PromoteOptions{})
	plan.Checkpoint = "99999"
	_, err := runPlan(t.Context(), p, plan)
	wantKind(t, err, release.KindIntegrity)
}

// While it waits for another promotion the world may move.
func TestASavedPlanIsHeldAgainstTheWorldAgain(t *testing.T) {
	w, p := fleet(t, 1, release.Strategy{})
	plan := saved(t, p, pipeline.PromoteOptions{})
	w.moveOnce = true // another environment's record: judged again, and fine
	if _, err := runPlan(t.Context(), p, plan); err != nil {
		t.Error(err)
	}
	if _, err := runPlan(t.Context(), p, plan); release.KindOf(err) != release.KindUnavailable { // it is done
		t.Error(err)
	}
}

func TestASavedPlanSaysWhatIsDone(t *testing.T) {
	w, p := fleet(t, 1, release.Strategy{})
	w.hosts["h1"].blocking = []release.Reason{{Rule: "state/volume-new", Message: "new"}}
	plan := saved(t, p, pipeline.PromoteOptions{StateChanges: []string{"memory"}})
	_, err := runPlan(t.Context(), p, plan)
	wantKind(t, err, release.KindUsage) // why?
	if _, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production", Plan: plan, Reason: "moved"}); err != nil {
		t.Error(err)
	}
	if !slices.Equal(w.lastRecord().StateChanges, []string{"memory"}) {
		t.Errorf("record %+v", w.lastRecord())
	}
	for _, o := range []pipeline.PromoteOptions{{Release: "v2"}, {Redeploy: true}, {Adopt: true}, {AllowDirty: true}, {StateChanges: []string{"x"}}} {
		o.Environment, o.Plan, o.Reason = "production", plan, "why"
		_, err := p.To(t.Context(), o)
		wantKind(t, err, release.KindUsage)
	}
	_, err = p.To(t.Context(), pipeline.PromoteOptions{Environment: "staging", Plan: plan})
	wantKind(t, err, release.KindUsage)
	p.Project.Name = "another"
	if _, err = runPlan(t.Context(), p, plan); release.KindOf(err) != release.KindUsage || !strings.Contains(err.Error(), `of project "agent"`) {
		t.Errorf("another project: %v", err)
	}
}

// What was cut off, edited or made by another version is told apart from a
// world that moved.
func TestAPlanFileThatIsNotAsItWasSaved(t *testing.T) {
	_, p := fleet(t, 1, release.Strategy{})
	text, err := saved(t, p, pipeline.PromoteOptions{}).Encode()
	if err != nil || text[len(text)-1] != '\n' {
		t.Fatalf("%s, %v", text, err)
	}
	again, err := saved(t, p, pipeline.PromoteOptions{}).Encode()
	if err != nil || !bytes.Equal(text, again) {
		t.Errorf("the same plan twice: %s and %s, %v", text, again, err)
	}
	edit := func(old, new string) []byte {
		if !bytes.Contains(text, []byte(old)) {
			t.Fatalf("no %s in %s", old, text)
		}
		return bytes.Replace(text, []byte(old), []byte(new), 1)
	}
	for name, c := range map[string]struct {
		text []byte
		says string
	}{
		"empty":           {nil, "no saved plan"},
		"cut off":         {text[:len(text)/2], "no saved plan"},
		"another step":    {edit(`"action":"recreate"`, `"action":"create"`), "its digest says sha256:"},
		"another release": {edit(`"version":"v2"`, `"version":"v3"`), "its digest says sha256:"},
		"no digest":       {edit(`"digest":"sha256:`, `"digest":"","x":"`), "no saved plan"},
		"further field":   {edit(`"adopt":false`, `"adopt":false,"force":true`), "unknown field"},
		"twice":           {edit(`"adopt":false`, `"adopt":false,"adopt":true`), "no saved plan"},
		"foreign version": {edit(`"schemaVersion":1`, `"schemaVersion":2`), "version 2 of its form"},
		"no version":      {[]byte(`{"digest":"","plan":{}}`), "schemaVersion"},
		"something else":  {[]byte(`[1,2]`), "no saved plan"},
		"too large":       {bytes.Repeat([]byte(" "), pipeline.MostPlan+1), "more than"},
	} {
		_, err := pipeline.ParsePlan(c.text)
		if release.KindOf(err) != release.KindUsage || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}
