package pipeline_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// script is a project's hooks.
type script struct {
	w     *world
	told  []pipeline.HookRequest
	fails string // the one that fails
}

func (s *script) RunHook(_ context.Context, r pipeline.HookRequest) error {
	s.w.note("hook %s", r.Hook)
	s.told = append(s.told, r)
	if r.Hook == s.fails {
		return release.Unavailable("look at it", "the hook %s gave exit code 1", r.Hook)
	}
	return nil
}

func TestHooksRunAroundTheDeployment(t *testing.T) {
	w, p := fixture(t)
	hooks := &script{w: w}
	p.Hooks = hooks
	to(t, p, "staging")
	out := to(t, p, "production")
	if len(hooks.told) != 4 {
		t.Fatalf("told %+v", hooks.told)
	}
	pre, post := hooks.told[2], hooks.told[3]
	if pre.Hook != pipeline.PreDeploy || post.Hook != pipeline.PostDeploy || pre.Environment != "production" || pre.Project != "agent" ||
		!slices.Equal(pre.Targets, []string{"prod-1", "prod-2"}) || pre.Version != "v1" || pre.Release != out.Release || pre.Kind != release.KindPromote {
		t.Errorf("told %+v", pre)
	}
	if w.records[pre.Record].Record.Phase != release.Intended || w.records[post.Record].Record.Phase != release.Deployed || post.Record != out.Record.Sequence {
		t.Errorf("records %d and %d", pre.Record, post.Record)
	}
	var order []string
	for _, done := range []string{"record intended", "hook pre-deploy", "stage runs planner", "record deployed", "hook post-deploy"} {
		order = append(order, fmt.Sprintf("%03d", slices.Index(w.journal, done)))
	}
	if !slices.IsSorted(order) || order[0] == "-01" {
		t.Errorf("out of order: %q", w.journal)
	}
	if to(t, p, "production"); len(hooks.told) != 4 {
		t.Error("hooks ran though there was nothing to do")
	}
}

func TestAHookThatFailsBeforeLeavesEverythingAsItWas(t *testing.T) {
	w, p := fixture(t)
	p.Hooks = &script{w: w, fails: pipeline.PreDeploy}
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "staging"})
	if release.KindOf(err) != release.KindUnavailable || !strings.Contains(err.Error(), "gave exit code 1") {
		t.Fatalf("got %v", err)
	}
	if slices.ContainsFunc(w.journal, func(s string) bool { return strings.Contains(s, " runs ") }) {
		t.Errorf("a target was changed: %q", w.journal)
	}
	last := w.records[len(w.records)-1].Record
	if last.Phase != release.RolledBack || !strings.Contains(last.Reason, "before any target was touched: the hook pre-deploy") {
		t.Errorf("recorded %s: %s", last.Phase, last.Reason)
	}
	if _, open := w.records.Open("staging"); open {
		t.Error("the record is open")
	}
}

func TestAHookThatFailsAfterwardsIsAWarning(t *testing.T) {
	w, p := fixture(t)
	p.Hooks = &script{w: w, fails: pipeline.PostDeploy}
	var warned string
	ctx := event.With(t.Context(), func(e event.Event) {
		if e.Type == event.Warning {
			warned += e.Message
		}
	})
	if _, err := p.To(ctx, pipeline.PromoteOptions{Environment: "staging"}); err != nil {
		t.Fatal(err)
	}
	if last := w.records[len(w.records)-1].Record; last.Phase != release.Deployed || !strings.Contains(warned, "v1 is deployed; the hook post-deploy gave exit code 1") {
		t.Errorf("recorded %s, warned %q", last.Phase, warned)
	}
}

// What is resumed runs its hooks again; one that fails then undoes it.
func TestHooksWhenResuming(t *testing.T) {
	w, p := fixture(t)
	hooks := &script{w: w}
	p.Hooks = hooks
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.hosts["stage"].during = func(context.Context) { cancel() }
	if _, err := p.To(ctx, pipeline.PromoteOptions{Environment: "staging"}); release.KindOf(err) != release.KindInterrupted {
		t.Fatalf("got %v", err)
	}
	w.hosts["stage"].during = nil
	hooks.fails = pipeline.PreDeploy
	_, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "staging"})
	if release.KindOf(err) != release.KindRolledBack || len(hooks.told) != 2 {
		t.Errorf("got %v; told %+v", err, hooks.told)
	}
}
