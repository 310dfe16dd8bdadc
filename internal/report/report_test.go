package report

import (
	"bytes"
	"encoding/xml"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

var update = flag.Bool("update", false, "write the golden files anew")

const attack = `"><script>alert(1)</script>`

// sample is a run in which two services did most of what can happen.
func sample() release.Smoke {
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	low, high, left := 1_000_000.0, 1_200_000.0, 55.0
	leaky := release.SmokeService{
		Name: "planner", Restarts: 1, OOMKilled: true, OOMKills: 2, Throttled: 0.3, FDs: 20, Tasks: 9,
		Memory: release.Memory{Limit: 128 << 20, Peak: 120 << 20, PercentOfLimit: 93.75, SlopePerSecond: 1_100_000, SlopeLow: &low, SlopeHigh: &high,
			SecondsToLimit: &left, HighWater: 128 << 20, Samples: 300},
		Marks: []release.Mark{
			{Seconds: 5, Kind: release.MarkLoad}, {Seconds: 6, Kind: release.MarkSteady},
			{Seconds: 28, Kind: release.MarkOOM, Text: "a child " + attack}, {Seconds: 29, Kind: release.MarkRestart},
		},
		Log: []string{"ready", "\x1b[31mTraceback\x1b[0m " + attack, "]]>"},
	}
	for i := range 30 {
		leaky.Memory.Series = append(leaky.Memory.Series, release.Point{Seconds: float64(i), Low: int64(i) << 22, High: int64(i)<<22 + 1<<20})
	}
	return release.Smoke{
		Project: "agent-smoke-1", Started: started, Finished: started.Add(32 * time.Second), Result: release.Failed,
		Services: []release.SmokeService{leaky, {Name: "bus", Healthy: true, OOMKills: -1, FDs: -1, Tasks: -1}},
		Checks: []release.SmokeCheck{
			{Name: "start", Result: release.Passed, Detail: "all services were well after 3s", Seconds: 3},
			{Name: "answers", Service: "planner", Result: release.Failed, Detail: "answered 500: " + attack, Seconds: 1.5},
			{Name: "growth/planner", Result: release.Failed, Detail: "it would reach its limit"},
			{Name: "unprivileged/bus", Result: release.Warned, Detail: "runs as root"},
			{Name: "parity/production/planner", Result: release.Passed, Detail: "the same"},
		},
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from what is written; -update writes it anew, then look at it\n%s", name, got)
	}
}

func TestJUnit(t *testing.T) {
	var b bytes.Buffer
	if err := JUnit(&b, sample()); err != nil {
		t.Fatal(err)
	}
	golden(t, "junit.xml", b.Bytes())
	if strings.Contains(b.String(), "Traceback") {
		t.Error("the file holds what a service logged")
	}
	var all testSuites
	if err := xml.Unmarshal(b.Bytes(), &all); err != nil {
		t.Fatal(err)
	}
	if all.Tests != 5 || all.Failures != 2 || len(all.Suites) != 3 {
		t.Errorf("%d tests, %d failures, %d suites", all.Tests, all.Failures, len(all.Suites))
	}
	planner := all.Suites[1]
	if planner.Tests != 3 || planner.Failures != 2 || !strings.Contains(planner.Cases[0].Failure.Message, attack) {
		t.Errorf("planner: %+v", planner)
	}
	if !strings.HasPrefix(all.Suites[2].Cases[0].Out, "warning: ") || all.Suites[2].Failures != 0 {
		t.Errorf("a warning is %+v", all.Suites[2].Cases[0])
	}
}

func TestHTML(t *testing.T) {
	var b bytes.Buffer
	if err := HTML(&b, sample()); err != nil {
		t.Fatal(err)
	}
	golden(t, "smoke.html", b.Bytes())
	text := b.String()
	for _, never := range []string{"<script", "\x1b", "http://", "https://", "ZgotmplZ"} {
		if strings.Contains(text, never) {
			t.Errorf("the page holds %q", never)
		}
	}
	for _, want := range []string{`class="limit"`, "limit 128.0 MiB", `class="slope"`, `class="mark oom"`, `class="mark load"`, `class="mark restart"`,
		"Traceback", "it would reach its limit", "runs as root", "2 failed, 1 warned, 2 passed"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not hold %q", want)
		}
	}
	if n := strings.Count(text, "<svg"); n != 1 {
		t.Errorf("%d pictures, want one: of the service that was measured", n)
	}
	wellFormed(t, text)
}

// wellFormed reads the page's pictures as XML, which SVG is.
func wellFormed(t *testing.T, text string) {
	t.Helper()
	for part := range strings.SplitSeq(text, "<svg") {
		body, _, ok := strings.Cut(part, "</svg>")
		if !ok {
			continue
		}
		var any struct {
			Inner string `xml:",innerxml"`
		}
		if err := xml.Unmarshal([]byte("<svg"+body+"</svg>"), &any); err != nil {
			t.Errorf("a picture is not well-formed: %v", err)
		}
	}
}

// Whatever a result lacks, there is a page, and its numbers are numbers.
func TestPlotsStayInTheirField(t *testing.T) {
	for name, m := range map[string]release.Memory{
		"one point":      {Series: []release.Point{{Seconds: 3, Low: 1, High: 2}}},
		"zeros":          {Limit: 100, Series: []release.Point{{}, {}}},
		"over the limit": {Limit: 100, Peak: 500, Series: []release.Point{{Seconds: 1, Low: 100, High: 500}}},
		"before the run": {Limit: 100, SlopePerSecond: 1e12, Series: []release.Point{{Seconds: -5, Low: -3, High: 4}, {Seconds: 1e9, High: 5}, {Seconds: 2e9, High: 5}}},
	} {
		p := plotOf(release.SmokeService{Memory: m}, 10)
		if p == nil {
			t.Errorf("%s: no picture", name)
			continue
		}
		for point := range strings.FieldsSeq(p.Area) {
			if strings.Contains(point, "NaN") || strings.Contains(point, "Inf") || strings.HasPrefix(point, "-") || strings.Contains(point, ",-") {
				t.Errorf("%s: point %s", name, point)
			}
		}
		if len(p.Columns) > 12 {
			t.Errorf("%s: %d ticks", name, len(p.Columns))
		}
	}
	if plotOf(release.SmokeService{}, 10) != nil {
		t.Error("a picture of nothing")
	}
	for _, w := range []func(*bytes.Buffer) error{
		func(b *bytes.Buffer) error { return HTML(b, release.Smoke{}) },
		func(b *bytes.Buffer) error { return JUnit(b, release.Smoke{}) },
	} {
		if err := w(&bytes.Buffer{}); err != nil {
			t.Error(err)
		}
	}
}
