//go:build engine

package smoke

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

func TestVolumesAfterARecreate(t *testing.T) {
	t.Parallel()
	moved := func(w *world, before, after int) func(release.ObservedVolume) (int, error) {
		var looks atomic.Int64
		return func(release.ObservedVolume) (int, error) {
			if looks.Add(1) == 1 {
				return before, nil
			}
			return after, nil
		}
	}
	recalls := []Check{{Name: "recalls", Service: "planner", Exec: []string{"/probe", "ok"}, Survives: Recreate}}
	restarts := []Check{{Name: "restarts", Service: "planner", Exec: []string{"/probe", "ok"}, Survives: Restart}}
	for name, c := range map[string]struct {
		prepare func(w *world)
		options func(*Options)
		result  release.Result
		words   []string
	}{
		"keeps what it has": {func(w *world) { w.OnEntries = moved(w, 3, 4) }, nil, release.Passed, []string{"the same volume after recreate, with 4 entries"}},
		"many entries":      {func(w *world) { w.OnEntries = moved(w, 100, 100) }, nil, release.Passed, []string{"100 entries or more"}},
		"is empty":          {func(w *world) { w.OnEntries = moved(w, 3, 0) }, nil, release.Failed, []string{"is empty after recreate, it had 3 entries"}},
		"was never written": {func(w *world) { w.OnEntries = moved(w, 0, 0) }, nil, release.Warned, []string{"nothing was ever written to it"}},
		"is filled later":   {func(w *world) { w.OnEntries = moved(w, 0, 1) }, nil, release.Passed, []string{"with 1 entry"}},
		"cannot be looked at": {func(w *world) {
			w.OnEntries = func(release.ObservedVolume) (int, error) { return 0, fmt.Errorf("arm64: %w", errors.ErrUnsupported) }
		}, nil, release.Warned, []string{"cannot be looked at on this engine's machine"}},
		"could not be looked at": {func(w *world) {
			w.OnEntries = func(release.ObservedVolume) (int, error) { return 0, errors.New("no space") }
		}, nil, release.Warned, []string{"could not be looked at: no space"}},
		"moved by a check":           {func(w *world) { w.OnEntries = moved(w, 3, 0) }, func(o *Options) { o.Checks, o.State = recalls, Off }, release.Failed, []string{"is empty after recreate"}},
		"restarted by a check":       {func(w *world) { w.OnEntries = moved(w, 3, 3) }, func(o *Options) { o.Checks, o.State = restarts, Off }, release.Passed, []string{"the same volume after restart"}},
		"restarted, and recreated":   {func(w *world) { w.OnEntries = func(release.ObservedVolume) (int, error) { return 2, nil } }, func(o *Options) { o.Checks = restarts }, release.Passed, []string{"the same volume after restart"}},
		"the worst of several moves": {func(w *world) { w.OnEntries = moved(w, 3, 0) }, func(o *Options) { o.Checks = restarts }, release.Failed, []string{"is empty after restart"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.prepare(w)
			s := w.mustRun(t, c.options)
			want(t, s, "state/planner/memory", c.result, c.words...)
			if n := strings.Count(lines(s), "state/"); n != 1 {
				t.Errorf("%d claims%s", n, lines(s))
			}
		})
	}
}

func TestAnotherVolumeOfTheSameName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var once sync.Once
	o := w.options()
	o.Runner = replacing{w, func(project string) {
		once.Do(func() {
			ctx := context.Background()
			name := project + "_memory"
			if err := w.RemoveVolume(ctx, name); err != nil {
				t.Error(err)
			}
			if err := w.CreateVolume(ctx, project, release.VolumeSpec{Key: "memory", Name: name}, map[string]string{release.LabelSmoke: "x"}); err != nil {
				t.Error(err)
			}
		})
	}}
	s, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want(t, s, "state/planner/memory", release.Failed, "another volume of the same name")
	w.empty(t)
}

// replacing recreates services; before that the test replaces their volume.
type replacing struct {
	*world
	swap func(project string)
}

func (r replacing) Recreate(ctx context.Context, w release.Workload, service string) error {
	seen, err := r.Observe(ctx, w.Project)
	if err != nil {
		return err
	}
	for _, c := range seen.Containers {
		if c.Service == service {
			if err := r.Discard(ctx, c.ID); err != nil {
				return err
			}
		}
	}
	r.swap(w.Project)
	return r.world.Recreate(ctx, w, service)
}

func TestWhoIsRecreated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.service(t, "migrate", func(s *release.ServiceSpec) {
		s.OneShot, s.Command, s.Health = true, []string{"/probe", "exit", "0"}, nil
		s.Mounts = []release.Mount{{Type: "volume", Source: "agent_memory", Target: "/memory"}}
	})
	w.service(t, "reader", func(s *release.ServiceSpec) {
		s.Mounts = []release.Mount{{Type: "volume", Source: "agent_memory", Target: "/memory", ReadOnly: true}, {Type: "tmpfs", Target: "/tmp"}}
	})
	s := w.mustRun(t, nil)
	if n := strings.Count(lines(s), "state/"); n != 1 {
		t.Errorf("%d claims about state, want that about planner%s", n, lines(s))
	}
	if s := w.mustRun(t, func(o *Options) { o.State = Off }); strings.Contains(lines(s), "state/") {
		t.Errorf("state is off%s", lines(s))
	}
}
