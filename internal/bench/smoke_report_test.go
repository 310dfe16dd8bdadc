package bench

import (
	"strings"
	"testing"
)

func TestSmokeReportComparesLikeWithLike(t *testing.T) {
	result := func(name string, ours, whole bool, ms float64) SmokeResult {
		return SmokeResult{Depth: 2, Health: Quick, Tool: SmokeTool{Name: name, Ours: ours, Whole: whole}, Milliseconds: Times{Runs: 3, Median: ms, P95: ms}}
	}
	r := &SmokeReport{Results: []SmokeResult{
		result("library", true, true, 1000), result("command", true, true, 2000), result("start", true, false, 500),
		result("up and down", false, true, 3000), result("up", false, false, 400),
	}}
	r.Compare()
	if got := r.Results[3].Ratio; got != 1.5 {
		t.Errorf("whole: %g, want 1.5: beside the slowest of ours", got)
	}
	if got := r.Results[4].Ratio; got != 0.8 {
		t.Errorf("start: %g, want 0.8", got)
	}
	if r.Results[0].Ratio != 0 {
		t.Error("ours was compared with itself")
	}
	text := string(r.Markdown())
	for _, want := range []string{"| 2 | whole | up and down | 3 | 3.0 | 3.0 | 1.5 | yes |", "| 2 | start | up | 3 | 0.4 | 0.4 | 0.8 | **no** |"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

func TestSmokeReportKeepsOtherChains(t *testing.T) {
	dir := t.TempDir()
	first := &SmokeReport{Results: []SmokeResult{{Depth: 1, Health: Quick, Tool: SmokeTool{Name: "old"}}, {Depth: 2, Health: Quick, Tool: SmokeTool{Name: "kept"}}, {Depth: 2, Health: Quick, Tool: SmokeTool{Name: "kept, too"}}}}
	if err := first.KeepOthers(dir); err != nil || len(first.Results) != 3 {
		t.Fatalf("%v, %d results", err, len(first.Results))
	}
	if err := first.Write(dir); err != nil {
		t.Fatal(err)
	}
	next := &SmokeReport{Results: []SmokeResult{{Depth: 1, Health: Quick, Tool: SmokeTool{Name: "new"}}}}
	if err := next.KeepOthers(dir); err != nil {
		t.Fatal(err)
	}
	if len(next.Results) != 3 || next.Results[0].Tool.Name != "new" || next.Results[1].Tool.Name != "kept" {
		t.Errorf("%+v", next.Results)
	}
}
