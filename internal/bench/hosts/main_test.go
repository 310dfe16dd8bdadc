package main

import (
	"testing"

	"github.com/promote-dev/promote/internal/bench"
	"github.com/promote-dev/promote/pkg/engine/stub"
)

// A sample of the benchmark: as many hosts at once as the strategy says, every
// host runs the second release, nobody is refused.
func TestASample(t *testing.T) {
	s := settings{runs: 1, pace: stub.Pace{}, cases: []bench.HostsCase{{Hosts: 4, Parallel: 4}, {Hosts: 4, Parallel: 2}, {Hosts: 1, Parallel: 1, Away: 0.003}, {Hosts: 8, Parallel: 8, Away: 0.003}}}
	report, err := measure(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Results) != len(s.cases) || report.Fetches < 1 {
		t.Fatalf("%+v", report)
	}
	for i, r := range report.Results {
		if r.HostsCase != s.cases[i] || r.Took.Median <= 0 || r.Requests < 20 || r.Refused != 0 || r.Connections < 1 || r.Connections > stub.MostConnections {
			t.Errorf("%+v", r)
		}
		if i == 3 && r.Reads > 4*report.Results[2].Reads {
			t.Errorf("the ledger was read %d times for %d hosts, and %d times for one", r.Reads, r.Hosts, report.Results[2].Reads)
		}
		if want := int64(r.Parallel); r.AtOnce > want || r.Parallel > 1 && r.AtOnce < 2 {
			t.Errorf("%d hosts at once, want up to %d", r.AtOnce, want)
		}
	}
}
