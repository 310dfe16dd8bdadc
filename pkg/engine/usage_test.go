package engine

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

// stats_v1.json is what engine 20.10 on cgroup v1 answered for a container that
// had read a file of 20 MiB several times. stats_v2.json has the form and the
// memory that the API's reference documents for cgroup v2.
func TestUsageFromTheEngine(t *testing.T) {
	for file, want := range map[string]release.Usage{
		"stats_v1.json": {Memory: 23379968 - 2613248 - 20381696, Anonymous: 98304, Cache: 2613248 + 20381696, HighWater: 67108864, Limit: 64 << 20,
			PIDs: 1, Tasks: 1, TaskLimit: 64, OOMKills: -1, FDs: -1},
		"stats_v2.json": {Memory: 10731520 - 2510848 - 5115904 - 725576, Anonymous: 1572864, Cache: 2510848 + 5115904 + 725576, HighWater: 10731520, Limit: 64 << 20,
			PIDs: 9, Tasks: 9, TaskLimit: 64, OOMKills: -1, FDs: -1, Periods: 120, Throttled: 48},
	} {
		raw, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		u := sampled(t, string(raw))
		if u.Time.IsZero() {
			t.Errorf("%s: no time", file)
		}
		want.Time = u.Time
		if u != want {
			t.Errorf("%s\ngot  %+v\nwant %+v", file, u, want)
		}
	}
}

// sampled asks an engine that gives this answer.
func sampled(t *testing.T, answer string) release.Usage {
	t.Helper()
	s := &stub{version: "1.41", answers: map[string]string{"GET /info": `{"MemTotal":8000000000}`, "GET /containers/c1/stats": answer}}
	u, err := s.host(t, Options{}).Usage(context.Background(), "c1")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// A service without a limit is reported with the machine's memory as its limit,
// or with a number that no machine has; statistics without fields leave all of
// the usage counting.
func TestUsageWithoutALimit(t *testing.T) {
	for _, limit := range []string{"8000000000", "9223372036854771712", "18446744073709551615"} {
		u := sampled(t, `{"memory_stats":{"usage":100,"limit":`+limit+`,"stats":{"anon":7}},"pids_stats":{"current":3,"limit":18446744073709551615}}`)
		if u.Limit != 0 || u.TaskLimit != 0 || u.Memory != 100 {
			t.Errorf("%s: %+v", limit, u)
		}
	}
	if u := sampled(t, `{}`); u.Memory != 0 {
		t.Errorf("a stopped container: %+v", u)
	}
}
