package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

func smoked() release.Smoke {
	return release.Smoke{
		Result: release.Failed,
		Services: []release.SmokeService{
			{Name: "planner", Memory: release.Memory{Limit: 128 << 20, Peak: 61 << 20, Samples: 3, SlopePerSecond: 1.2e6,
				Series: []release.Point{{Seconds: 0, High: 1 << 20}, {Seconds: 1, High: 61 << 20}, {Seconds: 2, High: 127 << 20}}}},
			{Name: "bus", Healthy: true, Memory: release.Memory{Peak: 5 << 20, Samples: 3}},
			{Name: "job", Healthy: true},
		},
		Checks: []release.SmokeCheck{{Name: "growth/planner", Result: release.Failed, Detail: "it would reach its limit"}},
	}
}

func TestSmokeSummaryDrawsMemory(t *testing.T) {
	var b bytes.Buffer
	if err := printSmoke(&b, smoked()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"release  none: a working tree's images", "result   failed", "61.0 MiB of 128.0 MiB (48 %), +1.1 MiB/s", "▁▄█",
		"5.0 MiB, no limit", "not measured", "it would reach its limit"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}

// One run is written in as many forms as are asked for, and its JSON is the
// result itself.
func TestSmokeIsWrittenInEveryForm(t *testing.T) {
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	r := &run{std: Streams{Out: out, Err: out}}
	path := func(name string) string { return filepath.Join(dir, name) }
	if r.outputs, err = parseOutputs([]string{"json=" + path("json"), "junit=" + path("junit"), "html=" + path("html")}, []string{"junit", "html"}); err != nil {
		t.Fatal(err)
	}
	if err := r.emitWith(release.Denied("", "no"), smokeResult{smoked()}, nil); release.KindOf(err) != release.KindDenied {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"json": `"name": "growth/planner"`, "junit": `<testsuite name="smoke planner"`, "html": "<svg"} {
		text, err := os.ReadFile(path(name))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s does not hold %q: %v\n%s", name, want, err, text)
		}
	}
	text, _ := os.ReadFile(path("json"))
	var again release.Smoke
	if err := json.Unmarshal(text, &again); err != nil || len(again.Services) != 3 || again.Services[0].Memory.Peak != 61<<20 {
		t.Errorf("%v: %+v", err, again)
	}
	valid(t, "smoke", text)
	if _, err := parseOutputs([]string{"html"}, nil); err == nil {
		t.Error("every command offers html")
	}
}

// treeModels and treeSmoker are the two ports that the inner loop needs.
type (
	treeModels struct{ pipeline.Models }
	treeSmoker struct{ asked *pipeline.SmokeRequest }
)

func (treeModels) Load(context.Context, []string) (pipeline.Composition, error) {
	return pipeline.Composition{Model: []byte(`{"name":"agent"}`), Sources: []release.Source{{Service: "planner"}}}, nil
}

func (s treeSmoker) Smoke(_ context.Context, r pipeline.SmokeRequest) (release.Smoke, error) {
	*s.asked = r
	return smoked(), nil
}

func TestSmokeOfTheTreeOpensNothingElse(t *testing.T) {
	var asked pipeline.SmokeRequest
	var with PipelineOptions
	r, _ := testRun(t, Wiring{Pipeline: func(_ context.Context, c *config.Config, o PipelineOptions) (*pipeline.Pipeline, func(), error) {
		with = o
		return &pipeline.Pipeline{Project: pipeline.Project{Models: c.Models()}, Models: treeModels{}, Smoker: treeSmoker{&asked}}, func() {}, nil
	}})
	if code := r.main(t.Context(), []string{"smoke", "--compose"}); code != 3 { // the run failed
		t.Errorf("exit code %d, want 3", code)
	}
	if !with.Tree || asked.Local["planner"] != "agent-planner" || !asked.Release.IsZero() {
		t.Errorf("opened with %+v, asked for %+v", with, asked)
	}
	r, errOut := testRun(t, Wiring{})
	if code := r.main(t.Context(), []string{"smoke", "--compose", "v1"}); code != 2 {
		t.Errorf("with a release: exit code %d, want 2\n%s", code, errOut())
	}
}
