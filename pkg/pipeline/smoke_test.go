package pipeline_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

func TestSmokeIsGivenTheModelsItIsComparedWith(t *testing.T) {
	w, p := fixture(t)
	if _, err := p.Release(t.Context(), pipeline.ReleaseOptions{}); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		if names := slices.Sorted(maps.Keys(w.smoked.Environments)); !slices.Equal(names, []string{"production", "staging"}) || string(w.smoked.Environments["production"]) != `{"name":"agent-b"}` {
			t.Errorf("compared with %q", w.smoked.Environments)
		}
		if string(w.smoked.Model) != `{"name":"agent-s"}` || len(w.smoked.Local) > 0 || w.smoked.Images["planner"].IsZero() || !slices.Equal(w.smoked.Variables, []string{"KEY_S"}) {
			t.Errorf("request %+v", w.smoked)
		}
	}
	check()
	w.smoked = pipeline.SmokeRequest{}
	if _, err := p.Smoke(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	check()
}

func TestATreeIsTestedWithoutLedgerRegistryAndKey(t *testing.T) {
	w, p := fixture(t)
	p.Ledger, p.Documents, p.Images, p.Keys, p.Verifier, p.Source = nil, nil, nil, nil, nil, nil
	w.sources = []release.Source{{Service: "bus", Image: "redis:7"}, {Service: "executor", Tag: "acme/executor:dev", Build: &release.BuildSpec{}}}
	w.findings = []release.Reason{{Rule: "user", Message: "planner runs as root"}}
	var said []string
	ctx := event.With(t.Context(), func(e event.Event) { said = append(said, e.Message) })
	result, err := p.SmokeTree(ctx)
	if err != nil || result.Result != release.Passed || len(result.Predicate) > 0 || !result.Release.IsZero() {
		t.Fatalf("%+v %v", result, err)
	}
	want := map[string]string{"planner": "agent-s-planner", "bus": "redis:7", "executor": "acme/executor:dev"}
	if !maps.Equal(w.smoked.Local, want) || len(w.smoked.Images) > 0 || len(w.smoked.Environments) != 2 || !slices.Equal(w.smoked.Variables, []string{"KEY_S"}) {
		t.Errorf("request %+v", w.smoked)
	}
	if all := strings.Join(said, "\n"); !strings.Contains(all, "no evidence") || !strings.Contains(all, "planner runs as root") {
		t.Errorf("said %q", said)
	}
	w.smoke = release.Failed
	result, err = p.SmokeTree(t.Context())
	wantKind(t, err, release.KindDenied)
	if result.Result != release.Failed {
		t.Errorf("result %s", result.Result)
	}
}
