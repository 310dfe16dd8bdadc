//go:build engine

package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/release"
)

// front is a job of one service that shares nothing, with a hook of its version,
// or, with a volume, one that is stopped first.
func (s *site) front(version string, sequence int64, volume bool) deploy.Job {
	j := s.job(version, sequence)
	front := j.Workload.Services[2]
	front.Name, front.DependsOn, front.ConfigHash = "front", nil, "hash front "+version
	front.Networks = front.Networks[:1]
	front.Mounts = []release.Mount{{Type: "tmpfs", Target: "/state"}, {Type: "tmpfs", Target: "/said", Mode: 0o1777}}
	if volume {
		front.Mounts[0] = release.Mount{Type: "volume", Source: s.name + "_memory", Target: "/state"}
	}
	// As root: some engines give a tmpfs another mode at a restart.
	front.PreStop = []release.Hook{{Command: []string{"/probe", "write", "/said/last", "drained " + version}, User: "0:0"}}
	j.Workload.Services = []release.ServiceSpec{front}
	j.Images = map[string]release.PlatformImage{"front": s.images[version]}
	return j
}

// dies counts every effect, hooks too.
type dies struct{ dying }

func (d *dies) RunHook(ctx context.Context, id string, h release.Hook) (int, []byte, error) {
	if err := d.die(); err != nil {
		return -1, nil, err
	}
	return d.Host.RunHook(ctx, id, h)
}

func (d *dies) Remove(ctx context.Context, id string) error {
	if err := d.die(); err != nil {
		return err
	}
	return d.Host.Remove(ctx, id)
}

// Killed at any effect of either order, Undo brings back the old container and
// Finish the new one, each under its own name and alone; drift sees nothing.
func TestBothOrdersKilledAnywhereOnARealEngine(t *testing.T) {
	for _, order := range []string{release.StartFirst, release.StopFirst} {
		t.Run(order, func(t *testing.T) {
			s := newSite(t)
			first := s.front("1", 1, order == release.StopFirst)
			if err := s.deploy(first); err != nil {
				t.Fatal(err)
			}
			recorded := s.runs(first)
			before := snapshot(s.seen())
			n := 0
			for at, finished := 1, false; !finished; at++ {
				for _, way := range []string{"undo", "finish"} {
					name := fmt.Sprintf("killed at %d, %s", at, way)
					j := s.front("2", int64(10*at), order == release.StopFirst)
					j.Recorded, j.KeepOld = recorded, true
					if step := deploy.Plan("test", j.Workload, j.Images, s.seen(), recorded, j.Options).Steps; len(step) != 1 || step[0].Order != order {
						t.Fatalf("%s: %+v", name, step)
					}
					err := deploy.Finish(s.ctx, &dies{dying{s.Host, at - 1}}, j)
					if err == nil {
						finished = true // it has no more effects
					} else if !errors.Is(err, errKilled) {
						t.Fatalf("%s: %v", name, err)
					} else {
						n = at
					}
					if way == "finish" {
						if err := deploy.Finish(s.ctx, s, j); err != nil {
							t.Fatalf("%s: %v", name, err)
						}
						if got := s.names(); !slices.ContainsFunc(got, func(c string) bool { return c == s.name+"-front-1 running" }) {
							t.Errorf("%s: %q", name, got)
						}
						if err := s.isFront("2", j); err != nil {
							t.Errorf("%s: %v", name, err)
						}
					}
					if err := deploy.Undo(s.ctx, s, j); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					if after := snapshot(s.seen()); !slices.Equal(before, after) {
						t.Errorf("%s: before\n%s\nafter\n%s", name, strings.Join(before, "\n"), strings.Join(after, "\n"))
					}
				}
			}
			// create, start, name, hook, stop; and another name where it starts first
			if want := map[string]int{release.StartFirst: 6, release.StopFirst: 5}[order]; n != want {
				t.Errorf("%d effects, want %d", n, want)
			}
			j := s.front("2", 999, order == release.StopFirst)
			j.Recorded = recorded
			if err := deploy.Finish(s.ctx, s, j); err != nil {
				t.Fatal(err)
			}
			j.Recorded = s.runs(j)
			if r := deploy.Drift(deploy.Query{Project: s.name, Images: j.Images, Recorded: j.Recorded, Workload: &j.Workload, Key: "k",
				Subjects: map[string]release.Subject{"front": s.subjects["2"]}}, s.seen(), nil); len(r.Differences) > 0 {
				t.Errorf("drift: %+v", r.Differences)
			}
		})
	}
}

// isFront reports why the service is not the version, alone under its name.
func (s *site) isFront(version string, j deploy.Job) error {
	seen := j.Attempt.Hide(s.seen())
	if len(seen.Containers) != 1 || seen.Containers[0].Name != s.name+"-front-1" || seen.Containers[0].Reference != s.subjects[version].String() {
		return fmt.Errorf("%s", strings.Join(snapshot(seen), "\n"))
	}
	return nil
}

func (s *site) names() []string {
	var list []string
	for _, c := range s.seen().Containers {
		list = append(list, c.Name+" "+c.State)
	}
	return list
}

// A hook runs in the old container as its model says; one that fails leaves it
// untouched.
func TestHooksOnARealEngine(t *testing.T) {
	for _, volume := range []bool{false, true} {
		s := newSite(t)
		first := s.front("1", 1, volume)
		if err := s.deploy(first); err != nil {
			t.Fatal(err)
		}
		first.Recorded = s.runs(first)
		old := s.seen().Containers[0]
		// The second's own hook cannot be run, which matters to the third only.
		j := s.front("2", 2, volume)
		j.Recorded, j.KeepOld = first.Recorded, true
		j.Workload.Services[0].PreStop = []release.Hook{{Command: []string{"/probe", "write", "/none/there", "x"}}}
		if err := s.deploy(j); err != nil {
			t.Fatal(err)
		}
		if err := deploy.Clean(s.ctx, s, j); err != nil {
			t.Fatal(err)
		}
		j.Recorded = s.runs(j)
		now := s.seen().Containers[0]
		third := s.front("1", 3, volume)
		third.Recorded = j.Recorded
		err := s.deploy(third)
		if release.KindOf(err) != release.KindRolledBack || !strings.Contains(fmt.Sprint(err), "pre_stop hook 1 (probe) of service front ended with exit code 1; it said last:\nopen /none/there") {
			t.Errorf("volume %t: %v", volume, err)
		}
		if list := s.seen().Containers; now.ID == old.ID || len(list) != 1 || list[0].ID != now.ID || !list[0].Started.Equal(now.Started) || list[0].Name != now.Name {
			t.Errorf("volume %t: %s", volume, strings.Join(snapshot(s.seen()), "\n"))
		}
		third.Back = true
		if err := s.deploy(third); err != nil {
			t.Errorf("volume %t: back: %v", volume, err)
		}
		s.runs(third)
	}
}
