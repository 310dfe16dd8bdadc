package smoketest_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/smoke/smoketest"
)

// A variant that loosened or tightened a threshold would prove nothing about
// the ones that people have.
func TestVariantsKeepTheThresholds(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range smoketest.Variants() {
		if seen[v.Name] {
			t.Errorf("two variants are named %q", v.Name)
		}
		seen[v.Name] = true
		o := v.Options(release.Subject{})
		if o.Memory.MaxPercentOfLimit != 0 || o.Memory.Horizon != 0 || o.Interval != 0 {
			t.Errorf("%s sets a threshold: %+v", v.Name, o.Memory)
		}
		if v.Result == release.Failed && len(v.Words) == 0 {
			t.Errorf("%s names no reason", v.Name)
		}
	}
}

func TestJudge(t *testing.T) {
	v := smoketest.Variant{Result: release.Failed, Check: "growth/unruly", Words: []string{"would reach"}, Also: []string{"load"}}
	check := func(name string, r release.Result, detail string) release.SmokeCheck {
		return release.SmokeCheck{Name: name, Result: r, Detail: detail}
	}
	right := check("growth/unruly", release.Failed, "it would reach its limit")
	for _, c := range []struct {
		name   string
		result release.Result
		checks []release.SmokeCheck
		right  bool
	}{
		{"right", release.Failed, []release.SmokeCheck{right, check("load", release.Failed, "slow")}, true},
		{"wrong verdict", release.Passed, []release.SmokeCheck{right}, false},
		{"no such check", release.Failed, nil, false},
		{"another result", release.Failed, []release.SmokeCheck{check("growth/unruly", release.Warned, "it would reach")}, false},
		{"another reason", release.Failed, []release.SmokeCheck{check("growth/unruly", release.Failed, "something")}, false},
		{"something else failed, too", release.Failed, []release.SmokeCheck{right, check("start", release.Failed, "x")}, false},
	} {
		if err := v.Judge(release.Smoke{Result: c.result, Checks: c.checks}); (err == nil) != c.right {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestUpdateKeepsTheRowsOfOthers(t *testing.T) {
	names := smoketest.Variants()
	document := "before\n" + smoketest.Begin + "\n| variant |\n|---|\n| " + names[0].Name + " | old |\n| gone | old |\n" + smoketest.End + "\nafter\n"
	got, err := smoketest.Update([]byte(document), map[string]smoketest.Row{names[1].Name: {Right: 3, Runs: 4, Median: 2 * time.Second, Said: "a|b"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"before\n", "| " + names[0].Name + " | old |", "| 3 / 4 | 2 s | a¦b |", "\nafter\n"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.Contains(string(got), "gone") {
		t.Errorf("a variant that is gone stays:\n%s", got)
	}
	if _, err := smoketest.Update([]byte("no table"), nil); err == nil {
		t.Error("a document without a table was taken")
	}
}

// The published table is about the variants that there are.
func TestPublishedTableNamesTheVariants(t *testing.T) {
	text, err := os.ReadFile("../../../docs/smoke.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), smoketest.Begin)
	table, _, _ := strings.Cut(rest, smoketest.End)
	lines := smoketest.Lines([]byte(table))
	for _, v := range append(smoketest.Variants(), smoketest.Examples()...) {
		if _, ok := lines[v.Name]; !ok {
			t.Errorf("docs/smoke.md says nothing of %q: run make smoke-variants", v.Name)
		}
	}
}
