package report

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/promote-dev/promote/pkg/release"
)

func watched() release.Watch {
	memory, age, at := int64(200<<20), int64(90), time.Unix(1_700_000_000, 0).UTC()
	d := release.DigestOf([]byte("x"))
	return release.Watch{
		Environment: "production", Time: at, Seconds: 0.25, Release: d, Version: "v1 \"odd\\\n", Result: release.WatchFailing,
		Dimensions: map[string]release.Digest{"prompts": d, "code": d},
		Targets: []release.WatchedTarget{
			{Name: "prod-1", Differences: []release.Deviation{{Service: "planner", Field: "memory"}},
				Services: []release.WatchedService{
					{Name: "planner", Digest: d, Image: d.String(), Healthy: true, Memory: &memory, Limit: 512 << 20, Restarts: 2},
					{Name: "bus", State: "missing"},
				},
				Checks: []release.WatchedCheck{{Name: "answers", Service: "planner", Result: "failed"}, {Name: "recalls", Service: "planner", Result: "passed"},
					{Name: "script", Result: "skipped"}, {Name: "odd", Result: "unknown"}}},
			{Name: "prod-2", Error: "no route to host"},
		},
		Scans: []release.WatchedScan{
			{Services: []string{"planner"}, ScannedAt: &at, AgeSeconds: &age, Matched: true, Failing: []string{"CVE-1", "CVE-2"}},
			{Services: []string{"bus", "cache"}},
		},
		Findings: []release.WatchFinding{{Kind: release.FoundCheck}, {Kind: release.FoundDrift}},
	}
}

// parsed reads metrics as the node exporter does, and more strictly: each family
// once with help and type, no series twice, nothing but lines that end.
func parsed(t *testing.T, text string) map[string]float64 {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	out := map[string]float64{}
	for name, f := range families {
		if f.GetHelp() == "" || f.GetType() != dto.MetricType_GAUGE || strings.Count(text, "# TYPE "+name+" ") != 1 || strings.Count(text, "# HELP "+name+" ") != 1 {
			t.Errorf("family %s: %q, %s", name, f.GetHelp(), f.GetType())
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%s", l.GetName(), l.GetValue()))
			}
			series := name + " " + strings.Join(labels, " ")
			if _, twice := out[series]; twice || m.TimestampMs != nil {
				t.Errorf("series %s is there twice, or with a time, which the collector refuses", series)
			}
			out[series] = m.GetGauge().GetValue()
		}
	}
	if strings.Count(text, "\n") != len(out)+2*len(families) || !strings.HasSuffix(text, "\n") {
		t.Errorf("%d series of %d families in %d lines:\n%s", len(out), len(families), strings.Count(text, "\n"), text)
	}
	return out
}

func TestMetricsAreWhatWasSeen(t *testing.T) {
	var b bytes.Buffer
	if err := Metrics(&b, watched()); err != nil {
		t.Fatal(err)
	}
	got := parsed(t, b.String())
	digest := release.DigestOf([]byte("x")).String()
	for series, want := range map[string]float64{
		"promote_watch_success environment=production":                                                                    0,
		"promote_watch_result environment=production result=failing":                                                      1,
		"promote_watch_result environment=production result=fine":                                                         0,
		"promote_watch_findings environment=production":                                                                   2,
		"promote_watch_timestamp_seconds environment=production":                                                          1_700_000_000,
		"promote_watch_duration_seconds environment=production":                                                           0.25,
		"promote_release_info environment=production release=" + digest + " version=v1 \"odd\\\n":                         1,
		"promote_dimension_info environment=production dimension=prompts digest=" + digest:                                1,
		"promote_target_success environment=production target=prod-1":                                                     1,
		"promote_target_success environment=production target=prod-2":                                                     0,
		"promote_drift_differences environment=production target=prod-1":                                                  1,
		"promote_service_info environment=production target=prod-1 service=planner digest=" + digest + " image=" + digest: 1,
		"promote_service_info environment=production target=prod-1 service=bus digest= image=":                            1,
		"promote_service_healthy environment=production target=prod-1 service=planner":                                    1,
		"promote_service_healthy environment=production target=prod-1 service=bus":                                        0,
		"promote_service_restarts environment=production target=prod-1 service=planner":                                   2,
		"promote_service_memory_bytes environment=production target=prod-1 service=planner":                               200 << 20,
		"promote_service_memory_limit_bytes environment=production target=prod-1 service=planner":                         512 << 20,
		"promote_check_success environment=production target=prod-1 service=planner check=answers":                        0,
		"promote_check_success environment=production target=prod-1 service=planner check=recalls":                        1,
		"promote_scan_timestamp_seconds environment=production service=planner":                                           1_700_000_000,
		"promote_scan_age_seconds environment=production service=planner":                                                 90,
		"promote_match_success environment=production service=planner":                                                    1,
		"promote_match_success environment=production service=cache":                                                      0,
		"promote_match_findings environment=production service=planner":                                                   2,
	} {
		if value, ok := got[series]; !ok || value != want {
			t.Errorf("%s is %g (there: %v), want %g", series, value, ok, want)
		}
	}
	if n := strings.Count(b.String(), "promote_service_memory_bytes{"); n != 1 {
		t.Errorf("%d services have a memory", n)
	}
	if strings.Contains(b.String(), `check="script"`) || strings.Contains(b.String(), `check="odd"`) {
		t.Error("a check that was not asked has a result")
	}
	b.Reset()
	if err := Metrics(&b, release.Watch{Environment: "staging", Result: release.WatchFine}); err != nil {
		t.Fatal(err)
	}
	if got := parsed(t, b.String()); got["promote_watch_success environment=staging"] != 1 {
		t.Errorf("got %v", got)
	}
}

// The file is replaced at once, readable by the exporter, and nothing else stays.
func TestTheMetricsFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "promote.prom")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	old, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := WriteMetrics(path, watched()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || len(parsed(t, string(text))) == 0 {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	was := make([]byte, 10)
	if n, _ := old.Read(was); string(was[:n]) != "old" {
		t.Errorf("who was reading got %q", was[:n])
	}
	if err := os.MkdirAll(filepath.Join(dir, "taken", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteMetrics(filepath.Join(dir, "taken"), watched()); err == nil {
		t.Error("a directory was replaced")
	}
	if list, _ := os.ReadDir(dir); len(list) != 2 {
		t.Errorf("left: %v", list)
	}
}
