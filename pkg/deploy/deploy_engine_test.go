//go:build engine

package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/engine"
	"github.com/promote-dev/promote/pkg/engine/enginetest"
	"github.com/promote-dev/promote/pkg/release"
)

var _ deploy.Engine = (*engine.Host)(nil)

var unique atomic.Int64

// site is a project on a real engine.
type site struct {
	*engine.Host
	t        *testing.T
	ctx      context.Context
	name     string
	registry *enginetest.Registry
	images   map[string]release.PlatformImage // by version
	subjects map[string]release.Subject       // by version
}

func newSite(t *testing.T) *site {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	h, err := engine.Open(ctx, release.Target{Name: "test"}, engine.Options{})
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("no engine: %v", err)
	}
	s := &site{Host: h, t: t, ctx: ctx, name: fmt.Sprintf("promote-deploy-%d-%d", os.Getpid(), unique.Add(1)), registry: enginetest.NewRegistry(t), images: map[string]release.PlatformImage{}, subjects: map[string]release.Subject{}}
	t.Cleanup(func() {
		ctx := context.Background()
		if err := deploy.Down(ctx, h, s.name, true); err != nil {
			t.Error(err)
		}
		for _, image := range s.subjects {
			if err := h.RemoveImage(ctx, image); err != nil {
				t.Error(err)
			}
		}
		_ = h.Close()
	})
	for _, version := range []string{"1", "2"} {
		image, facts := s.registry.Push(t, s.name, enginetest.Image{Version: s.name + version, Healthcheck: true, Volumes: []string{"/state"}})
		s.images[version], s.subjects[version] = facts, image
	}
	return s
}

// stack is a store with its volume, a migration, and an agent in front.
func (s *site) stack(version string) release.Workload {
	base := func(name string) release.ServiceSpec {
		return release.ServiceSpec{
			Name: name, Image: s.subjects[version], ConfigHash: "hash " + name + version, Restart: release.Restart{Name: "unless-stopped"}, StopGrace: 5 * time.Second,
			Networks: []release.Attach{{Network: s.name + "_front"}, {Network: s.name + "_back"}}, MemoryLimit: 64 << 20, ReadOnly: true,
		}
	}
	store, migrate, agent := base("store"), base("migrate"), base("agent")
	store.Mounts = []release.Mount{{Type: "volume", Source: s.name + "_memory", Target: "/data"}}
	migrate.OneShot, migrate.Command, migrate.Restart = true, []string{"/probe", "exit", "0"}, release.Restart{}
	migrate.DependsOn = []release.Dependency{{Service: "store", Condition: release.ServiceHealthy}}
	agent.DependsOn = []release.Dependency{{Service: "migrate", Condition: release.ServiceCompleted}}
	agent.Command = []string{"/probe", "run", ":8080"}
	return release.Workload{
		Project: s.name, Services: []release.ServiceSpec{store, migrate, agent},
		Networks: []release.NetworkSpec{{Key: "front", Name: s.name + "_front"}, {Key: "back", Name: s.name + "_back", Internal: true}},
		Volumes:  []release.VolumeSpec{{Key: "memory", Name: s.name + "_memory"}},
	}
}

func (s *site) job(version string, sequence int64) deploy.Job {
	w := s.stack(version)
	images := map[string]release.PlatformImage{}
	for _, service := range w.Services {
		images[service.Name] = s.images[version]
	}
	return deploy.Job{Target: "test", Workload: w, Images: images, Attempt: deploy.Attempt{Sequence: sequence}, Timeout: 30 * time.Second, Settle: 200 * time.Millisecond}
}

func (s *site) seen() release.Observed {
	s.t.Helper()
	seen, err := s.Observe(s.ctx, s.name)
	if err != nil {
		s.t.Fatal(err)
	}
	return seen
}

func (s *site) deploy(j deploy.Job) error {
	s.t.Helper()
	missing, err := deploy.MissingImages(s.ctx, s, j.Workload)
	if err != nil {
		s.t.Fatal(err)
	}
	o := j.Options
	o.Missing = missing
	return deploy.Apply(s.ctx, s, j, deploy.Plan(j.Target, j.Workload, j.Images, s.seen(), j.Recorded, o))
}

// runs checks that the project runs a job's workload and nothing else, and
// gives what the ledger would record.
func (s *site) runs(j deploy.Job) *release.TargetStatus {
	s.t.Helper()
	seen := s.seen()
	running, differences := deploy.ReadBack(j.Workload, j.Images, seen, j.Recorded, nil)
	if len(differences) > 0 {
		s.t.Errorf("read back: %+v", differences)
	}
	if len(seen.Containers) != len(j.Workload.Services) {
		s.t.Errorf("left over: %s", strings.Join(snapshot(seen), "\n"))
	}
	return &release.TargetStatus{Name: "test", Running: running}
}

func (s *site) exec(service string, cmd ...string) string {
	s.t.Helper()
	_, out, err := s.Exec(s.ctx, s.name+"-"+service+"-1", cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(out)
}

// The story: deploy, remember something, update, fail and be undone, move the
// volume away; the memory is always there, or nothing starts.
func TestOnARealEngine(t *testing.T) {
	s := newSite(t)
	first := s.job("1", 1)
	if err := s.deploy(first); err != nil {
		t.Fatal(err)
	}
	first.Recorded = s.runs(first)
	s.exec("store", "/probe", "write", "/data/memory", "42")
	s.exec("store", "/probe", "write", "/state/also", "43")

	second := s.job("2", 2)
	second.Recorded = first.Recorded
	if err := s.deploy(second); err != nil {
		t.Fatal(err)
	}
	second.Recorded = s.runs(second)
	if got := s.exec("store", "/probe", "read", "/data/memory") + s.exec("store", "/probe", "read", "/state/also"); got != "4243" {
		t.Errorf("it remembers %q", got)
	}

	before := snapshot(s.seen())
	ill := s.job("1", 3)
	ill.Recorded = second.Recorded
	ill.Workload.Services[2].Health = &release.Health{Test: []string{"CMD", "/probe", "fail"}, Interval: 100 * time.Millisecond, Retries: 1}
	err := s.deploy(ill)
	if release.KindOf(err) != release.KindRolledBack || !strings.Contains(err.Error(), "not well") || !strings.Contains(err.Error(), "running") {
		t.Errorf("%v (%s)", err, release.KindOf(err))
	}
	if after := snapshot(s.seen()); !slices.Equal(before, after) {
		t.Errorf("before\n%s\nafter\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	if got := s.exec("store", "/probe", "read", "/data/memory"); got != "42" {
		t.Errorf("it remembers %q", got)
	}

	gone, err := s.Inspect(s.ctx, s.name+"-store-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Discard(s.ctx, gone.ID); err != nil {
		t.Fatal(err)
	}
	for _, m := range gone.Mounts {
		if err := s.RemoveVolume(s.ctx, m.Name); err != nil {
			t.Fatal(err)
		}
	}
	second.Attempt.Sequence = 4
	if err := s.deploy(second); release.KindOf(err) != release.KindDenied || !strings.Contains(err.Error(), "state/volume-missing") {
		t.Errorf("%v (%s)", err, release.KindOf(err))
	}
	if _, err := s.Inspect(s.ctx, s.name+"-store-1"); !errors.Is(err, release.ErrNotFound) {
		t.Errorf("it started without its memory: %v", err)
	}
}

// dying is an engine behind a process that is killed at an effect.
type dying struct {
	*engine.Host
	left int
}

func (d *dying) die() error {
	if d.left--; d.left < 0 {
		return errKilled
	}
	return nil
}

func (d *dying) Stop(ctx context.Context, id string, grace time.Duration) error {
	if err := d.die(); err != nil {
		return err
	}
	return d.Host.Stop(ctx, id, grace)
}

func (d *dying) Rename(ctx context.Context, id, name string) error {
	if err := d.die(); err != nil {
		return err
	}
	return d.Host.Rename(ctx, id, name)
}

func (d *dying) Create(ctx context.Context, project string, spec release.ServiceSpec, name string, labels map[string]string) (string, error) {
	if err := d.die(); err != nil {
		return "", err
	}
	return d.Host.Create(ctx, project, spec, name, labels)
}

func (d *dying) Start(ctx context.Context, id string) error {
	if err := d.die(); err != nil {
		return err
	}
	return d.Host.Start(ctx, id)
}

func (d *dying) Discard(ctx context.Context, id string) error {
	if err := d.die(); err != nil {
		return err
	}
	return d.Host.Discard(ctx, id)
}

// Killed within the recreation of the store, before each of its effects.
func TestKilledOnARealEngine(t *testing.T) {
	s := newSite(t)
	first := s.job("1", 1)
	if err := s.deploy(first); err != nil {
		t.Fatal(err)
	}
	recorded := s.runs(first)
	s.exec("store", "/probe", "write", "/data/memory", "42")
	before := snapshot(s.seen())
	for killedAt := 1; killedAt <= 4; killedAt++ { // stop, rename, create, start
		j := s.job("2", int64(1+killedAt))
		j.Recorded = recorded
		err := deploy.Finish(s.ctx, &dying{s.Host, killedAt - 1}, j)
		if !errors.Is(err, errKilled) {
			t.Fatalf("killed at %d: %v", killedAt, err)
		}
		if err := deploy.Undo(s.ctx, s, j); err != nil {
			t.Fatalf("killed at %d: %v", killedAt, err)
		}
		if after := snapshot(s.seen()); !slices.Equal(before, after) {
			t.Errorf("killed at %d: before\n%s\nafter\n%s", killedAt, strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
		if got := s.exec("store", "/probe", "read", "/data/memory"); got != "42" {
			t.Errorf("killed at %d: it remembers %q", killedAt, got)
		}
	}
	j := s.job("2", 9)
	j.Recorded = recorded
	if err := deploy.Finish(s.ctx, &dying{s.Host, 3}, j); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	if err := deploy.Finish(s.ctx, s, j); err != nil {
		t.Fatal(err)
	}
	s.runs(j)
	if got := s.exec("store", "/probe", "read", "/data/memory"); got != "42" {
		t.Errorf("finished: it remembers %q", got)
	}
}

// A model runs whole and goes whole.
func TestUpAndDownOnARealEngine(t *testing.T) {
	s := newSite(t)
	j := s.job("1", 0)
	j.Workload.Labels = map[string]string{release.LabelSmoke: s.name}
	r := deploy.Run{Target: "test", Workload: j.Workload, Images: j.Images, Timeout: 30 * time.Second, Settle: 200 * time.Millisecond}
	if err := deploy.Up(s.ctx, s, r); err != nil {
		t.Fatal(err)
	}
	s.runs(j)
	s.exec("store", "/probe", "write", "/data/memory", "42")
	if err := deploy.Recreate(s.ctx, s, r, "store"); err != nil {
		t.Fatal(err)
	}
	if got := s.exec("store", "/probe", "read", "/data/memory"); got != "42" {
		t.Errorf("it remembers %q", got)
	}
	if err := deploy.Down(s.ctx, s, s.name, true); err != nil {
		t.Fatal(err)
	}
	if left, err := s.ListLabelled(s.ctx, release.LabelSmoke+"="+s.name); err != nil || left.Count() != 0 {
		t.Errorf("left %+v, %v", left, err)
	}
}
