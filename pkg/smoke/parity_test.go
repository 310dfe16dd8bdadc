//go:build engine

package smoke

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

func TestParityDecidesTheRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	there := w.workload
	there.Project = "agent"
	there.Services = append([]release.ServiceSpec(nil), there.Services...)
	there.Services[1].MemoryLimit = 64 * mib
	there.Services[1].CPUs = 0.1
	grave := release.Differences("production", w.workload, there)
	harmless := []release.Difference{{Environment: "staging", Service: "bus", Field: "restart", Tested: "no", There: "always"}}

	for name, c := range map[string]struct {
		options func(*Options)
		check   string
		result  release.Result
		words   []string
		whole   release.Result
	}{
		"no environments":   {nil, "", release.Passed, nil, release.Passed},
		"the same":          {func(o *Options) { o.Environments = []string{"production"} }, "parity/production", release.Passed, []string{"its model is the tested one"}, release.Passed},
		"less memory there": {func(o *Options) { o.Environments, o.Parity = []string{"production"}, grave }, "parity/production/planner", release.Failed, []string{"memory: production has 64.0 MiB, the tested model 128.0 MiB; ", "cpus: production has 0.1"}, release.Failed},
		"accepted": {func(o *Options) {
			o.Environments, o.Parity = []string{"production"}, grave
			o.Accept = []Accepted{{"production", "planner", "memory", "sized for its small shop"}}
		}, "parity/production/planner", release.Warned, []string{"(accepted: sized for its small shop)"}, release.Warned},
		"accepted for another service": {func(o *Options) {
			o.Environments, o.Parity = []string{"production"}, grave
			o.Accept = []Accepted{{"production", "bus", "memory", "x"}, {"staging", "planner", "memory", "x"}, {"production", "planner", "cpus", "x"}}
		}, "parity/production/planner", release.Failed, []string{"(accepted: x)"}, release.Failed},
		"harmless": {func(o *Options) { o.Environments, o.Parity = []string{"staging", "production"}, harmless }, "parity/staging/bus", release.Warned, []string{"restart: staging has always, the tested model no"}, release.Warned},
		"the model as a whole": {func(o *Options) {
			o.Environments, o.Parity = []string{"production"}, []release.Difference{{Environment: "production", Field: "model", There: "one", Tested: "another", Grave: true}}
		}, "parity/production", release.Failed, []string{"model: production has one"}, release.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			s := w.mustRun(t, c.options)
			if s.Result != c.whole {
				t.Errorf("result %s%s", s.Result, lines(s))
			}
			if c.check == "" {
				if strings.Contains(lines(s), "parity") {
					t.Errorf("claims about nothing: %s", lines(s))
				}
				return
			}
			want(t, s, c.check, c.result, c.words...)
			var p struct{ FailedTests []string }
			if err := json.Unmarshal(s.Predicate, &p); err != nil || (len(p.FailedTests) > 0) != (c.whole == release.Failed) {
				t.Errorf("predicate %s %v", s.Predicate, err)
			}
			if strings.Count(c.check, "/") == 2 && find(t, s, c.check).Service == "" {
				t.Error("a check about a service that does not say which")
			}
		})
	}
}
