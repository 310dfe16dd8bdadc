package cli

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

func TestMomentsAreTimesDaysOrHowLongAgo(t *testing.T) {
	now := time.Date(2026, 3, 5, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"":                          {},
		"2026-03-01":                time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
		"2026-03-01T12:00:00+02:00": time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC),
		"72h":                       time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC),
	} {
		if got, err := moment("since", text, now, false); err != nil || !got.Equal(want) {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
	if got, err := moment("until", "2026-03-01", now, true); err != nil || !got.Equal(time.Date(2026, 3, 1, 23, 59, 59, 999999999, time.UTC)) {
		t.Errorf("until a day: %s, %v", got, err)
	}
	for _, text := range []string{"yesterday", "-3h", "2026-13-01", "3"} {
		if _, err := moment("since", text, now, false); release.KindOf(err) != release.KindUsage {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestTheLogAsATable(t *testing.T) {
	intent := int64(4)
	l := logResult{Records: release.History{{Record: release.Record{Sequence: 5, Phase: release.Deployed, Environment: "staging", Version: "=1+1", Reason: "a \"b\",\nc",
		Intent: &intent, Time: time.Unix(0, 0)}, Signer: release.Signer{Name: "@ops"}}}, Compacted: []pipeline.CompactedRecords{{Records: 7, Record: 9}}}
	var out bytes.Buffer
	if err := l.writeAs("csv", &out); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil || len(rows) != 3 || len(rows[0]) != len(rows[1]) || !strings.Contains(rows[2][11], "7 records compacted (record 9)") {
		t.Fatalf("%v, %v", rows, err)
	}
	got := map[string]string{}
	for i, name := range rows[0] {
		got[name] = rows[1][i]
	}
	for name, want := range map[string]string{"sequence": "5", "phase": "deployed", "intent": "4", "version": "'=1+1", "signer": "'@ops", "reason": "a \"b\",\nc", "time": "1970-01-01T00:00:00Z", "release": ""} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
}
