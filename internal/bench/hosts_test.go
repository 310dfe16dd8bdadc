package bench

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHostsReport(t *testing.T) {
	took := func(ms float64) Times { return Times{Runs: 10, Median: ms, P95: 2 * ms} }
	r := HostsReport{Fetches: 64, Results: []HostsResult{
		{HostsCase: HostsCase{Hosts: 1, Parallel: 1}, Took: took(4000), AtOnce: 1, Requests: 127, Connections: 2, Reads: 22},
		{HostsCase: HostsCase{Hosts: 50, Parallel: 50}, Took: took(5000), AtOnce: 50, Requests: 127, Connections: 2},
		{HostsCase: HostsCase{Hosts: 50, Parallel: 10}, Took: took(10000), AtOnce: 10},
		{HostsCase: HostsCase{Hosts: 1, Parallel: 1, Away: 0.1}, Took: took(8000)},
		{HostsCase: HostsCase{Hosts: 50, Parallel: 50, Away: 0.1}, Took: took(16000), Refused: 3},
	}}
	dir := t.TempDir()
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "hosts.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| 1 | 1 | – | 4.00 / 8.00 |  | 1 | 127 | 2 | 0 | 22 |", "| 50 | 50 | – | 5.00 / 10.00 | 1.25 (≤ 1.5: yes) | 50 |",
		"| 50 | 10 | – | 10.00 / 20.00 | 2.50 | 10 |", "| 50 | 50 | 100 ms | 16.00 / 32.00 | 2.00 (≤ 1.5: **no**) |", "| **3** |", "64 hosts at once",
	} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("the report does not say %q:\n%s", want, raw)
		}
	}
	var again HostsReport
	if raw, err = os.ReadFile(filepath.Join(dir, "hosts.json")); err != nil || json.Unmarshal(raw, &again) != nil || len(again.Results) != 5 || again.Results[4] != r.Results[4] {
		t.Errorf("%v: %s", err, raw)
	}
}
