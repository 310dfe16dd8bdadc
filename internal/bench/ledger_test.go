package bench

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLedgerReport(t *testing.T) {
	quick, slow := Times{Runs: 500, Median: 0.25, P95: 0.5}, Times{Runs: 500, Median: 4, P95: 9}
	r := LedgerReport{Results: []LedgerResult{
		{Records: 1000, Bytes: 800_000, Append: slow, AppendMemory: quick, Proof: quick, Audit: LedgerAudit{Seconds: 5, Peak: 1 << 30}},
		{Records: 1_000_000, Bytes: 800_000_000, Append: quick, AppendMemory: quick, Proof: slow,
			Audit: LedgerAudit{Seconds: 90, Peak: 40 << 20}, AuditAgain: LedgerAudit{Seconds: 1.5, Peak: 40 << 20}},
	}}
	dir := t.TempDir()
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "ledger.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"from 1,000 to 1,000,000 records (B14)",
		"| 1,000 | 0.8 | 4.00 / 9.00 | 250 (≥ 2,000: **no**) |", "| 4,000 (≥ 2,000: yes) | 0.250 / 0.500 (≤ 1: yes) |",
		"| 1,000,000 | 800.0 | 0.25 / 0.50 | 4,000 (≥ 2,000: yes) |", "4.000 / 9.000 (≤ 1: **no**) |",
		"| 5.00 | 1074 |", "90.00 (≤ 2 in 64 MB: **no**) | 42 | 1.50 (≤ 2 in 64 MB: yes) | 42 |",
	} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("the report does not say %q:\n%s", want, raw)
		}
	}
	var again LedgerReport
	if raw, err = os.ReadFile(filepath.Join(dir, "ledger.json")); err != nil || json.Unmarshal(raw, &again) != nil || len(again.Results) != 2 || again.Results[1] != r.Results[1] {
		t.Errorf("%v: %s", err, raw)
	}
}
