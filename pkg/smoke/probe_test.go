package smoke

import (
	"context"
	"errors"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

// execEngine only runs commands.
type execEngine struct {
	Engine
	exit int
	err  error
}

func (e execEngine) Exec(context.Context, string, []string) (int, []byte, error) {
	return e.exit, nil, e.err
}

// A service that the engine has not asked yet is asked by its own health check;
// what the engine has answered stands.
func TestWhoeverWasNotAskedIsAsked(t *testing.T) {
	starting := release.Container{State: "running", Health: "starting", HealthTest: []string{"/health"}}
	unhealthy, exited, silent := starting, starting, starting
	unhealthy.Health, exited.State, silent.HealthTest = "unhealthy", "exited", nil
	for _, c := range []struct {
		name   string
		last   release.Container
		engine execEngine
		want   bool
	}{
		{"answers", starting, execEngine{}, true},
		{"answers with a failure", starting, execEngine{exit: 1}, false},
		{"does not answer", starting, execEngine{err: errors.New("no")}, false},
		{"the engine said no", unhealthy, execEngine{}, false},
		{"it has ended", exited, execEngine{}, false},
		{"it has no health check", silent, execEngine{}, false},
	} {
		w := release.Workload{Services: []release.ServiceSpec{{Name: "a"}}}
		r := &run{Options: Options{Engine: c.engine}, workload: w, monitor: newMonitor(nil, w, 0)}
		r.monitor.services["a"].last = c.last
		r.probeStarting(t.Context())
		l := r.monitor.get("a")
		if l.answered != c.want || runs(l, false) != c.want {
			t.Errorf("%s: answered %t, runs %t", c.name, l.answered, runs(l, false))
		}
	}
}
