package bench

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAPartialRunKeepsTheOthers(t *testing.T) {
	dir := t.TempDir()
	result := func(name string, delay int, median float64) Result {
		return Result{Case: name, Work: "work", Spec: Spec{Layers: 4, Bytes: 1}, Delay: delay, Tool: &Tool{Name: "x"}, Milliseconds: Times{Runs: 3, Median: median}}
	}
	first := NewReport(Options{Runs: 3, Delays: []int{0, 80}}, dir, []Result{result("B16", 0, 1), result("B2", 0, 2), result("B2", 80, 3)})
	if err := first.KeepOthers(dir); err != nil {
		t.Fatal(err)
	}
	if err := first.Write(dir); err != nil {
		t.Fatal(err)
	}
	second := NewReport(Options{Runs: 2, Delays: []int{0}}, dir, []Result{result("B2", 0, 9), result("B1", 0, 4)})
	if err := second.KeepOthers(dir); err != nil {
		t.Fatal(err)
	}
	var got []float64
	for _, r := range second.Results {
		got = append(got, r.Milliseconds.Median)
	}
	if want := []float64{4, 9, 3, 1}; len(got) != 4 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || got[3] != want[3] {
		t.Errorf("got %v, want %v: B1, B2 measured again, B2 at 80 ms, B16", got, want)
	}
	if second.Results[1].Tool != second.Results[2].Tool {
		t.Error("one tool is two in the report")
	}
	if len(second.Delays) != 2 || second.Runs != 3 {
		t.Errorf("delays %v, runs %d", second.Delays, second.Runs)
	}
	if err := os.WriteFile(filepath.Join(dir, "registry.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if second.KeepOthers(dir) == nil {
		t.Error("a damaged report is overwritten without a word")
	}
}
