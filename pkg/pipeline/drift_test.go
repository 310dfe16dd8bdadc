package pipeline_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// bothDeployed has staging and production run the same release.
func bothDeployed(t *testing.T) (*world, *pipeline.Pipeline) {
	t.Helper()
	w, p := fixture(t)
	to(t, p, "staging")
	to(t, p, "production")
	return w, p
}

func report(service, field string) pipeline.DriftReport {
	return pipeline.DriftReport{Differences: []release.Deviation{{Service: service, Field: field, Recorded: "a", Running: "b"}}}
}

func TestDriftLooksAtEveryTarget(t *testing.T) {
	w, p := bothDeployed(t)
	got, err := p.Drift(t.Context(), pipeline.DriftOptions{})
	if err != nil || len(got.Targets) != 3 {
		t.Fatalf("got %+v, %v", got, err)
	}
	w.hosts["prod-2"].drift = report("planner", "capAdd")
	records := len(w.records)
	got, err = p.Drift(t.Context(), pipeline.DriftOptions{})
	wantKind(t, err, release.KindChanged)
	if len(w.records) != records {
		t.Error("looking wrote a record")
	}
	for _, target := range got.Targets {
		if (len(target.Differences) > 0) != (target.Name == "prod-2") || target.Error != "" {
			t.Errorf("target %+v", target)
		}
	}
	q := w.hosts["prod-2"].asked[1]
	if q.Project == "" || q.Recorded == nil || q.Recorded.Name != "prod-2" || q.Workload == nil || !q.Built["planner"] ||
		!strings.HasPrefix(q.Subjects["planner"].Repository, "prod.example.com/") || q.Key == "" {
		t.Errorf("asked %+v", q)
	}
}

// A host that is down hides nothing about the others, and is not as recorded.
func TestDriftOfAHostThatIsDown(t *testing.T) {
	w, p := bothDeployed(t)
	w.hosts["prod-1"].driftErr = release.Unavailable("", "no route to host")
	w.hosts["prod-2"].drift = report("planner", "memory")
	got, err := p.Drift(t.Context(), pipeline.DriftOptions{Environment: "production"})
	wantKind(t, err, release.KindUnavailable)
	if len(got.Targets) != 2 || got.Targets[0].Error == "" || len(got.Targets[1].Differences) != 1 || !strings.Contains(err.Error(), "prod-1") {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestDriftWithoutTheValues(t *testing.T) {
	w, p := bothDeployed(t)
	p.Project.Values = func(string) (map[string]string, error) { return nil, errors.New("no envFile here") }
	if _, err := p.Drift(t.Context(), pipeline.DriftOptions{}); err != nil {
		t.Error(err)
	}
	if q := w.hosts["stage"].asked[0]; q.Workload != nil {
		t.Errorf("asked %+v", q)
	}
	w.hosts["stage"].drift = pipeline.DriftReport{Unknown: []string{"planner"}}
	got, err := p.Drift(t.Context(), pipeline.DriftOptions{Environment: "staging"})
	wantKind(t, err, release.KindUnavailable)
	if !strings.Contains(got.Targets[0].Error, "no envFile here") {
		t.Errorf("got %+v", got)
	}
	w.hosts["stage"].drift = pipeline.DriftReport{Unknown: []string{"planner"}, Differences: report("planner", "origin").Differences}
	_, err = p.Drift(t.Context(), pipeline.DriftOptions{Environment: "staging"})
	wantKind(t, err, release.KindChanged)
}

func TestDriftHostAgainstHost(t *testing.T) {
	w, p := bothDeployed(t)
	texts := func(driver string) map[string]map[string]string {
		return map[string]map[string]string{"planner": {"logDriver": driver, "memory": "1"}}
	}
	w.hosts["prod-1"].drift, w.hosts["prod-2"].drift = pipeline.DriftReport{Texts: texts("journald")}, pipeline.DriftReport{Texts: texts("local")}
	got, err := p.Drift(t.Context(), pipeline.DriftOptions{Environment: "production"})
	wantKind(t, err, release.KindChanged)
	want := []release.Deviation{{Service: "planner", Field: "logDriver", Recorded: "journald on prod-1", Running: "local"}}
	if len(got.Targets[0].Differences) != 0 || !slices.Equal(got.Targets[1].Differences, want) {
		t.Errorf("got %+v", got)
	}
	w.hosts["prod-2"].drift.Untold = []string{"logDriver"}
	if _, err := p.Drift(t.Context(), pipeline.DriftOptions{Environment: "production"}); err != nil {
		t.Error(err)
	}
}

func TestDriftFixIsAPromotionOfTheRecordedRelease(t *testing.T) {
	w, p := bothDeployed(t)
	ran := w.records[len(w.records)-1].Record.Release
	next(w, "v2") // HEAD went on, and staging too
	to(t, p, "staging")
	w.hosts["prod-2"].drift = report("planner", "capAdd")
	got, err := p.Drift(t.Context(), pipeline.DriftOptions{Environment: "production", Fix: true, DryRun: true})
	wantKind(t, err, release.KindChanged)
	if len(got.Fixes) != 1 || got.Fixes[0].Plan == nil || len(got.Fixes[0].Plan.Steps) != 1 || w.hosts["prod-2"].redone["planner"] {
		t.Errorf("dry run: %+v", got)
	}
	got, err = p.Drift(t.Context(), pipeline.DriftOptions{Environment: "production", Fix: true, Reason: "somebody was here"})
	if err != nil || len(got.Fixes) != 1 || got.Fixes[0].Release != ran {
		t.Fatalf("got %+v, %v", got, err)
	}
	last := w.records[len(w.records)-1].Record
	if last.Phase != release.Deployed || last.Kind != release.KindFix || last.Release != ran || last.Reason != "somebody was here" {
		t.Errorf("record %+v", last)
	}
	if !w.hosts["prod-2"].redone["planner"] || w.hosts["prod-1"].redone["planner"] {
		t.Errorf("recreated %v and %v", w.hosts["prod-1"].redone, w.hosts["prod-2"].redone)
	}
}

// A promotion does not touch what is outside the project; that is said.
func TestDriftFixSaysWhatIsLeft(t *testing.T) {
	w, p := bothDeployed(t)
	w.hosts["stage"].drift = report("planner", "twin x")
	got, err := p.Drift(t.Context(), pipeline.DriftOptions{Environment: "staging", Fix: true})
	wantKind(t, err, release.KindChanged)
	if len(got.Left) != 1 || len(got.Left[0].Differences) != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestDriftOfWhatWasNeverDeployed(t *testing.T) {
	_, p := fixture(t)
	_, err := p.Drift(t.Context(), pipeline.DriftOptions{Environment: "staging"})
	wantKind(t, err, release.KindUsage)
	got, err := p.Drift(t.Context(), pipeline.DriftOptions{})
	if raw, _ := json.Marshal(got.Targets); err != nil || string(raw) != "[]" {
		t.Errorf("got %s, %v", raw, err)
	}
}

// A promotion that was undone may have had to make containers again: they are
// what was recorded, too.
func TestDriftAfterAnUndoneDeployment(t *testing.T) {
	w, p := bothDeployed(t)
	last := w.records[len(w.records)-1].Record
	service := last.Targets[0].Running[0]
	service.Container, service.Desired = "second", release.DigestOf([]byte("second"))
	other := service
	other.Digest, other.Container, other.Desired = release.DigestOf([]byte("other release")), "third", release.DigestOf([]byte("third"))
	for _, now := range []release.Running{service, other} {
		w.records = append(w.records, release.Entry{Record: release.Record{Phase: release.RolledBack, Environment: "production",
			Targets: []release.TargetStatus{{Name: "prod-1", Status: "rolledBack", Running: []release.Running{now}}}}})
	}
	if _, err := p.Drift(t.Context(), pipeline.DriftOptions{Environment: "production"}); err != nil {
		t.Fatal(err)
	}
	asked := w.hosts["prod-1"].asked[0].Recorded.Running
	if len(asked) != 1 || asked[0].Container != "second" || asked[0].Desired != service.Desired {
		t.Errorf("asked %+v", asked)
	}
}
