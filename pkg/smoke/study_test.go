package smoke

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

var (
	studySeeds  = flag.Int("seeds", 20, "series of each shape in the study of errors")
	studyUpdate = flag.Bool("study", false, "write the study's table to docs/smoke.md")
)

const (
	studyFile  = "../../docs/smoke.md"
	studyBegin = "<!-- error-rates -->"
	studyEnd   = "<!-- /error-rates -->"
)

// rates is how often a shape was judged how.
type rates struct {
	runs, failed, warned int
	errors               []float64 // of the slope, in per cent of a leak's
}

func (r rates) share(n int) float64 { return float64(n) / float64(r.runs) }

// study judges series of a shape with the options that a run has by default.
func study(s shape, window float64, seeds int) rates {
	q := question{limit: studyLimit, horizon: defaultHorizon, percent: defaultPercent, least: minWindow}
	r := rates{runs: seeds}
	for seed := range seeds {
		j, ok := q.judge(s.measured(rand.New(rand.NewPCG(uint64(seed), 11)), window))
		if !ok {
			continue
		}
		switch j.verdict {
		case grows:
			r.failed++
		case suspect:
			r.warned++
		}
		if s.leak > 0 {
			r.errors = append(r.errors, 100*math.Abs(j.trend.slope/1024-s.leak)/s.leak)
		}
	}
	return r
}

// What the gate promises: it fails healthy services in at most 5 % of runs, and
// leaks that a minute can show in at least 95 %.
func TestErrorRates(t *testing.T) {
	windows := []float64{17, 50}
	if *studyUpdate {
		windows = append(windows, 110)
	}
	found := make(map[string]map[float64]rates)
	var mu sync.Mutex
	t.Run("series", func(t *testing.T) {
		for _, s := range shapes {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				mine := map[float64]rates{}
				for _, w := range windows {
					mine[w] = study(s, w, *studySeeds)
				}
				mu.Lock()
				found[s.name] = mine
				mu.Unlock()
			})
		}
	})
	var runs, failed int
	for _, s := range shapes {
		for _, w := range windows {
			r := found[s.name][w]
			switch {
			case s.leak > 0 && certain(s, w) && r.share(r.failed) < 0.95:
				t.Errorf("%s over %g s: %d of %d failed", s.name, w, r.failed, r.runs)
			case s.leak == 0 && !s.short:
				runs, failed = runs+r.runs, failed+r.failed
				if r.failed > max(1, r.runs/10) {
					t.Errorf("%s over %g s: %d of %d failed, it is healthy", s.name, w, r.failed, r.runs)
				}
			}
		}
	}
	if share := float64(failed) / float64(runs); share > 0.05 {
		t.Errorf("%.1f %% of healthy series failed", 100*share)
	}
	if *studyUpdate {
		writeTable(t, windows, found)
	}
}

// certain says that a window shows a leak whatever else happens.
func certain(s shape, window float64) bool {
	switch s.name {
	case "leak of 1 MiB/s", "leak of 256 KiB/s", "leak of 1 MiB/s, wandering 0.5 MiB", "leak of 1 MiB/s, collector of 10 periods":
		return true
	case "leak of 64 KiB/s", "leak of 256 KiB/s, wandering 0.5 MiB", "leak of 256 KiB/s, collector of 10 periods",
		"leak of 64 KiB/s, collector of 10 periods", "leak of 256 KiB/s, irregular collector of 10 periods":
		return window >= 50
	}
	return false
}

func writeTable(t *testing.T, windows []float64, found map[string]map[float64]rates) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%d series of each kind and window, limit %s, horizon %s.\n\n", *studySeeds, release.FormatSize(studyLimit), span(defaultHorizon))
	b.WriteString("| series | window | failed | warned | right | median error of the slope |\n|---|---|---|---|---|---|\n")
	for _, s := range shapes {
		for _, w := range windows {
			r := found[s.name][w]
			right, off := r.runs-r.failed, "–"
			if s.leak > 0 {
				right, off = r.failed, fmt.Sprintf("%.1f %%", median(r.errors))
			}
			fmt.Fprintf(&b, "| %s | %g s | %s | %s | %s | %s |\n", s.label(), w, r.wilson(r.failed), r.wilson(r.warned), r.wilson(right), off)
		}
	}
	raw, err := os.ReadFile(studyFile)
	if err != nil {
		t.Fatal(err)
	}
	before, _, ok := strings.Cut(string(raw), studyBegin)
	_, after, ok2 := strings.Cut(string(raw), studyEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", studyFile)
	}
	if err := os.WriteFile(studyFile, []byte(before+studyBegin+"\n"+b.String()+studyEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (s shape) label() string {
	switch {
	case s.short:
		return s.name + " (cannot be told)"
	case s.leak > 0:
		return "**" + s.name + "**"
	}
	return s.name
}

// wilson writes a rate with its 95 % interval after E. B. Wilson, "Probable
// inference, the law of succession, and statistical inference", 1927.
func (r rates) wilson(n int) string {
	const z = 1.96
	runs, p := float64(r.runs), r.share(n)
	middle := p + z*z/(2*runs)
	width := z * math.Sqrt(p*(1-p)/runs+z*z/(4*runs*runs))
	whole := 1 + z*z/runs
	return fmt.Sprintf("%.1f %% (%.1f–%.1f)", 100*p, 100*max(0, (middle-width)/whole), 100*min(1, (middle+width)/whole))
}

// The table in the documentation is of these series.
func TestStudyIsPublished(t *testing.T) {
	raw, err := os.ReadFile(studyFile)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), studyBegin)
	table, _, ok := strings.Cut(rest, studyEnd)
	if !ok {
		t.Fatalf("%s has no table of error rates", studyFile)
	}
	var rows []string
	for line := range strings.Lines(table) {
		if name, window, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | "); strings.Contains(window, " s | ") {
			rows = append(rows, name)
		}
	}
	var want []string
	for _, s := range shapes {
		for range 3 {
			want = append(want, s.label())
		}
	}
	if strings.Join(rows, "\n") != strings.Join(want, "\n") {
		t.Errorf("docs/smoke.md is of other series: make study\n%s", strings.Join(rows, "\n"))
	}
}

func TestWilson(t *testing.T) {
	if got := (rates{runs: 1000}).wilson(0); got != "0.0 % (0.0–0.4)" {
		t.Error(got)
	}
	if got := (rates{runs: 100}).wilson(50); got != "50.0 % (40.4–59.6)" {
		t.Error(got)
	}
}

// What a judgement rests on is told, because people have to act on it.
func TestBasisOfAJudgement(t *testing.T) {
	q := question{limit: studyLimit, horizon: 24 * time.Hour, percent: 90, least: minWindow}
	for name, c := range map[string]struct {
		shape   shape
		verdict verdict
		basis   basis
	}{
		"leak":                   {shape{leak: 256, make: noise(0.1)}, grows, byPoints},
		"leak below a collector": {shape{leak: 256, make: collector(0.1, 20)}, grows, byFloors},
		"collector":              {shape{make: collector(0.1, 30)}, steady, byFloors},
		"given back once":        {shape{leak: 512, make: givenBackOnce}, suspect, fewFloors},
		"filling":                {shape{make: filling(0.333)}, suspect, levelsOff},
		"filling for ever":       {shape{make: filling(3)}, grows, byPoints},
		"steady":                 {shape{make: noise(0.2)}, steady, byPoints},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(10) {
				j, ok := q.judge(c.shape.measured(rand.New(rand.NewPCG(seed, 3)), 50))
				if !ok || j.verdict != c.verdict || j.basis != c.basis {
					t.Errorf("seed %d: verdict %v by %v, want %v by %v", seed, j.verdict, j.basis, c.verdict, c.basis)
				}
				if c.basis == levelsOff && (j.levels < 55*mib || j.levels > 65*mib) {
					t.Errorf("levels off near %s, want 60 MiB", release.FormatSize(j.levels))
				}
			}
		})
	}
}

// givenBackOnce falls by 7 MiB in the middle of the window.
func givenBackOnce(r *rand.Rand, window float64) func(float64) float64 {
	return func(s float64) float64 {
		if s > 0.48*window {
			return base - 7 + 0.1*r.NormFloat64()
		}
		return base + 0.1*r.NormFloat64()
	}
}

// A cache that would only stop above what a service may use is no excuse.
func TestFillingBeyondTheLimit(t *testing.T) {
	samples := shape{make: filling(0.333)}.measured(rand.New(rand.NewPCG(1, 3)), 50)
	q := question{limit: 64 * mib, horizon: 24 * time.Hour, percent: 90, least: minWindow}
	if j, _ := q.judge(samples); j.verdict != grows {
		t.Errorf("verdict %v by %v: 60 MiB are too much of 64", j.verdict, j.basis)
	}
}

// What the kernel holds for a service is no leak of its own, but worth a word.
func TestGrowthOfOtherMemory(t *testing.T) {
	q := question{limit: studyLimit, horizon: 24 * time.Hour, percent: 90, least: minWindow}
	samples := shape{make: noise(0.1)}.measured(rand.New(rand.NewPCG(1, 3)), 50)
	if j, _ := q.judge(samples); j.verdict != steady {
		t.Fatalf("%v", j.verdict)
	}
	for i := range samples {
		samples[i].other = int64(i) * 5 << 10 // 2.5 MiB, as for many cached files
	}
	if j, _ := q.judge(samples); j.verdict != steady {
		t.Errorf("verdict %v by %v for little", j.verdict, j.basis)
	}
	for i := range samples {
		samples[i].other = int64(i) * 20 << 10
	}
	if j, _ := q.judge(samples); j.verdict != suspect || j.basis != byKernel {
		t.Errorf("verdict %v by %v", j.verdict, j.basis)
	}
}

// The time to the limit counts all that counts against it.
func TestLevelHoldsOtherMemory(t *testing.T) {
	samples := series(50, func(s float64) float64 { return 40 + 0.1*s })
	for i := range samples {
		samples[i].other = 30 * mib
	}
	q := question{limit: 128 * mib, horizon: 24 * time.Hour, percent: 90, least: minWindow}
	j, _ := q.judge(samples) // 53 MiB left at 0.1 a second
	if after, ok := j.trend.reaches(128*mib, j.trend.slope); !ok || after < 520*time.Second || after > 540*time.Second {
		t.Errorf("reaches the limit after %s", after)
	}
}

// Five floors in order are in order by chance once in 120 times: enough.
func TestFewFloorsAreCompared(t *testing.T) {
	q := question{limit: 128 * mib, horizon: 24 * time.Hour, percent: 90, least: minWindow}
	tooth := func(s float64) float64 { return 20 * math.Mod(s, 8) / 8 }
	samples := series(50, func(s float64) float64 { return 40 + 0.1*s + tooth(s) })
	for i := range samples {
		samples[i].other = 10 * mib
	}
	j, _ := q.judge(samples)
	if j.verdict != grows || j.basis != byFloors || j.falls != 5 && j.falls != 6 {
		t.Errorf("verdict %v by %v after %d falls", j.verdict, j.basis, j.falls)
	}
	if want := 54.8 * mib; math.Abs(j.trend.level-want) > mib { // 40 and 10, and 48 s of leak
		t.Errorf("level %s, want %s", release.FormatSize(int64(j.trend.level)), release.FormatSize(int64(want)))
	}
	if j, _ = q.judge(series(50, func(s float64) float64 { return 40 + tooth(s) })); j.verdict != steady || j.basis != byFloors {
		t.Errorf("without a leak: verdict %v by %v", j.verdict, j.basis)
	}
	swinging := func(s float64) float64 { return 40 + 0.1*s + tooth(s) - 2*math.Mod(math.Floor(s/8), 2) }
	if j, _ = q.judge(series(50, swinging)); j.verdict == grows {
		t.Errorf("floors out of order: verdict %v", j.verdict)
	}
}
