package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/engine/enginetest"
	"github.com/promote-dev/promote/pkg/release"
)

var _ deploy.Engine = (*enginetest.Fake)(nil)

func TestMain(m *testing.M) { m.Run() }

const project = "agent"

// world is a target with the first version of an agent stack on offer.
type world struct {
	t      *testing.T
	fake   *enginetest.Fake
	images map[string]release.PlatformImage
}

func newWorld(t *testing.T) *world {
	return &world{t: t, fake: enginetest.NewFake("prod-1"), images: map[string]release.PlatformImage{}}
}

func subject(service, version string) release.Subject {
	return release.Subject{Repository: "registry.test/" + service, Digest: release.DigestOf([]byte(service + version))}
}

// service offers an image of a version and gives a service that runs it.
func (w *world) service(name, version string) release.ServiceSpec {
	s := subject(name, version)
	p := release.PlatformImage{Manifest: s.Digest, Config: release.DigestOf([]byte("config of " + name + version)), Healthcheck: true}
	if name == "bus" {
		p.Volumes = []string{"/data"}
	}
	w.fake.Offer(s, p)
	w.images[name] = p
	return release.ServiceSpec{
		Name: name, Image: s, ConfigHash: "hash of " + name + " " + version, Restart: release.Restart{Name: "always"}, MemoryLimit: 128 << 20,
		Networks: []release.Attach{{Network: project + "_back"}}, StopGrace: time.Second,
	}
}

// stack is a release of the agent stack in one version: bus and store first,
// a migration, then the planner and its executor.
func (w *world) stack(version string) release.Workload {
	bus, store, migrate := w.service("bus", "1"), w.service("store", version), w.service("migrate", version)
	planner, executor := w.service("planner", version), w.service("executor", version)
	store.Mounts = []release.Mount{{Type: "volume", Source: project + "_memory", Target: "/var/lib/store"}}
	store.Ports = []release.Port{{Published: "5432", Target: 5432, Protocol: "tcp"}}
	planner.Ports = []release.Port{{Published: "8080", Target: 80, Protocol: "tcp"}}
	migrate.OneShot, migrate.Command, migrate.Restart = true, []string{"/probe", "exit", "0"}, release.Restart{}
	migrate.DependsOn = []release.Dependency{{Service: "store", Condition: release.ServiceHealthy}}
	planner.DependsOn = []release.Dependency{
		{Service: "bus", Condition: release.ServiceHealthy},
		{Service: "migrate", Condition: release.ServiceCompleted},
	}
	executor.DependsOn = []release.Dependency{{Service: "planner", Condition: release.ServiceStarted}}
	store.PreStop = []release.Hook{{Command: []string{"/probe", "checkpoint", version}}}
	executor.PreStop = []release.Hook{{Command: []string{"/probe", "drain", version}}}
	return release.Workload{
		Project:  project,
		Services: []release.ServiceSpec{bus, store, migrate, planner, executor},
		Networks: []release.NetworkSpec{{Key: "back", Name: project + "_back"}},
		Volumes:  []release.VolumeSpec{{Key: "memory", Name: project + "_memory"}},
	}
}

func (w *world) job(work release.Workload, sequence int64) deploy.Job {
	return deploy.Job{
		Target: "prod-1", Workload: work, Images: w.images,
		Attempt: deploy.Attempt{Sequence: sequence}, Timeout: 2 * time.Second, Settle: time.Millisecond,
	}
}

func (w *world) seen() release.Observed {
	w.t.Helper()
	before, after := w.fake.Before, w.fake.After
	w.fake.Before, w.fake.After = nil, nil
	defer func() { w.fake.Before, w.fake.After = before, after }()
	seen, err := w.fake.Observe(context.Background(), project)
	if err != nil {
		w.t.Fatal(err)
	}
	return seen
}

func (w *world) plan(j deploy.Job) release.Plan {
	w.t.Helper()
	missing, err := deploy.MissingImages(context.Background(), w.fake, j.Workload)
	if err != nil {
		w.t.Fatal(err)
	}
	o := j.Options
	o.Missing = missing
	return deploy.Plan(j.Target, j.Workload, j.Images, w.seen(), j.Recorded, o)
}

// deploy applies a job's own plan.
func (w *world) deploy(j deploy.Job) error {
	w.t.Helper()
	return deploy.Apply(context.Background(), w.fake, j, w.plan(j))
}

func (w *world) mustDeploy(j deploy.Job) {
	w.t.Helper()
	if err := w.deploy(j); err != nil {
		w.t.Fatal(err)
	}
}

// recorded is what the ledger would say about the target now.
func (w *world) recorded(work release.Workload) *release.TargetStatus {
	w.t.Helper()
	running, differences := deploy.ReadBack(work, w.images, w.seen(), nil, nil)
	if len(differences) > 0 {
		w.t.Fatalf("read back: %+v", differences)
	}
	return &release.TargetStatus{Name: "prod-1", Status: "deployed", Running: running}
}

// snapshot names every container with its id, state and health: two equal
// snapshots are the same containers doing the same.
func snapshot(seen release.Observed) []string {
	var list []string
	for _, c := range seen.Containers {
		list = append(list, fmt.Sprintf("%s %s %s %s %d", c.Name, c.ID[56:], c.State, c.Health, c.ExitCode))
	}
	return list
}

// whole reports what is wrong with a target that should run a workload fully:
// differences, leftovers, names.
func (w *world) whole(work release.Workload) error {
	seen := w.seen()
	if list := deploy.Differences(work, w.images, seen, nil); len(list) > 0 {
		return fmt.Errorf("differences: %+v\n%s", list, strings.Join(snapshot(seen), "\n"))
	}
	if len(seen.Containers) != len(work.Services) {
		return fmt.Errorf("%d containers for %d services:\n%s", len(seen.Containers), len(work.Services), strings.Join(snapshot(seen), "\n"))
	}
	for _, c := range seen.Containers {
		if c.Name != project+"-"+c.Service+"-1" {
			return fmt.Errorf("container %s of service %s", c.Name, c.Service)
		}
	}
	return nil
}

func TestFirstDeployment(t *testing.T) {
	w := newWorld(t)
	work := w.stack("1")
	w.mustDeploy(w.job(work, 1))
	if err := w.whole(work); err != nil {
		t.Error(err)
	}
	var order []string
	for _, call := range w.fake.Calls() {
		if service, ok := strings.CutPrefix(call, "start agent-"); ok {
			order = append(order, service)
		}
	}
	if want := []string{"bus-1", "store-1", "migrate-1", "planner-1", "executor-1"}; !slices.Equal(order, want) {
		t.Errorf("started in order %v, want %v", order, want)
	}
	if p := w.plan(w.job(work, 2)); p.Changes() || len(p.Blocking) > 0 {
		t.Errorf("a second plan is not empty: %+v", p)
	}
}

func TestUpdateReplacesWhatChangedAndOnlyThat(t *testing.T) {
	w := newWorld(t)
	first := w.stack("1")
	w.mustDeploy(w.job(first, 1))
	recorded := w.recorded(first)
	bus := w.container("bus")
	before := len(w.fake.Calls())
	second := w.stack("2")
	j := w.job(second, 2)
	j.Recorded = recorded
	w.mustDeploy(j)
	if err := w.whole(second); err != nil {
		t.Error(err)
	}
	if now := w.container("bus"); now.ID != bus.ID || !now.Started.Equal(bus.Started) {
		t.Error("bus did not change and was replaced or restarted")
	}
	calls := w.fake.Calls()[before:]
	begin := slices.IndexFunc(calls, func(c string) bool { return !strings.HasPrefix(c, "pull") })
	for _, c := range calls[begin:] {
		if strings.HasPrefix(c, "pull") {
			t.Errorf("%s after something was changed", c)
		}
	}
	running, differences := deploy.ReadBack(second, w.images, w.seen(), recorded, nil)
	if len(differences) > 0 {
		t.Errorf("read back: %+v", differences)
	}
	for _, r := range running {
		if s, _ := second.Service(r.Service); r.Digest != s.Image.Digest {
			t.Errorf("%s runs %s, want %s", r.Service, r.Digest, s.Image.Digest)
		}
	}
}

func (w *world) container(service string) release.Container {
	w.t.Helper()
	for _, c := range w.seen().Containers {
		if c.Service == service {
			return c
		}
	}
	w.t.Fatalf("no container of %s", service)
	return release.Container{}
}

// What a failed deployment leaves is exactly what was there before.
func TestFailureIsUndone(t *testing.T) {
	ill := func(service string) func(*world) {
		return func(w *world) {
			w.fake.Health = func(c release.Container) string {
				if c.Service == service && c.Reference == subject(service, "2").String() {
					return "unhealthy"
				}
				return "healthy"
			}
		}
	}
	cases := map[string]struct {
		arrange func(*world)
		says    string
	}{
		"store unhealthy":    {ill("store"), "unhealthy"},
		"planner unhealthy":  {ill("planner"), "not well"},
		"executor unhealthy": {ill("executor"), "unhealthy"},
		"planner ends": {func(w *world) {
			w.fake.Exited = func(c release.Container) (int, bool) {
				return map[string]int{"planner": 3}[c.Service], c.Service == "migrate" || c.Reference == subject("planner", "2").String()
			}
		}, "exit code 3"},
		"migration fails": {func(w *world) {
			w.fake.Exited = func(c release.Container) (int, bool) { return 1, c.Service == "migrate" }
		}, "exit code 1"},
		"planner never well": {func(w *world) {
			w.fake.Health = func(c release.Container) string {
				if c.Reference == subject("planner", "2").String() {
					return "starting"
				}
				return "healthy"
			}
		}, "not well after"},
		"create fails": {func(w *world) {
			w.fake.Before = func(op, subject string) error {
				if op == "create" && subject == "agent-planner-1" {
					return errors.New("no space left on device")
				}
				return nil
			}
		}, "no space left"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first := w.stack("1")
			w.mustDeploy(w.job(first, 1))
			before, images, calls := snapshot(w.seen()), w.images, len(w.fake.Calls())
			w.images = map[string]release.PlatformImage{}
			j := w.job(w.stack("2"), 2)
			j.Timeout = 100 * time.Millisecond
			c.arrange(w)
			err := w.deploy(j)
			if release.KindOf(err) != release.KindRolledBack || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v (%s), want rolledBack and %q", err, release.KindOf(err), c.says)
			}
			if after := snapshot(w.seen()); !slices.Equal(after, before) {
				t.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
			for _, call := range w.fake.Calls()[calls:] {
				if strings.HasSuffix(call, " agent-executor-1.promote-old-2") || strings.HasPrefix(call, "stop agent-executor-1 ") {
					t.Errorf("the executor, which goes on until the new one is well: %s", call)
				}
			}
			w.images = images
			if err := w.whole(first); err != nil {
				t.Error(err)
			}
		})
	}
}

// A service that did not change may suffer from the change of another: it gets
// time, and when it does not recover, the deployment failed.
func TestOthersMayRecover(t *testing.T) {
	for _, recovers := range []bool{true, false} {
		w := newWorld(t)
		work := w.stack("1")
		w.mustDeploy(w.job(work, 1))
		planner := w.container("planner").ID
		w.fake.After = func(op, subject string) error {
			if op == "start" && subject == "agent-store-1" {
				w.fake.SetHealth(planner, "unhealthy")
				if recovers {
					time.AfterFunc(30*time.Millisecond, func() { w.fake.SetHealth(planner, "healthy") })
				}
			}
			return nil
		}
		j := w.job(w.stack("1"), 2)
		j.Timeout = 150 * time.Millisecond
		j.Workload.Services[1].ConfigHash = "changed"
		switch err := w.deploy(j); {
		case recovers && err != nil:
			t.Error(err)
		case recovers && w.container("planner").Health != "healthy":
			t.Error("it did not wait")
		case !recovers && !strings.Contains(fmt.Sprint(err), "agent-planner-1"):
			t.Errorf("%v", err)
		}
	}
}

// What a service depends on must be well before it is replaced, also when that
// did not change.
func TestDependenciesAreAwaited(t *testing.T) {
	w := newWorld(t)
	work := w.stack("1")
	w.mustDeploy(w.job(work, 1))
	bus := w.container("bus").ID
	w.fake.SetHealth(bus, "starting")
	time.AfterFunc(40*time.Millisecond, func() { w.fake.SetHealth(bus, "healthy") })
	j := w.job(w.stack("1"), 2)
	j.Workload.Services[3].ConfigHash = "changed"
	w.fake.Before = func(op, subject string) error {
		if op == "stop" && subject == "agent-planner-1.promote-old-2" {
			if c, err := w.fake.Inspect(context.Background(), bus); err != nil || c.Health != "healthy" {
				t.Errorf("the bus is %s, %v", c.Health, err)
			}
		}
		return nil
	}
	w.mustDeploy(j)
}

// Going back, what depends on others goes first.
func TestUndoIsInReverse(t *testing.T) {
	w := newWorld(t)
	work := w.stack("1")
	w.fake.Health = func(c release.Container) string {
		return map[bool]string{true: "unhealthy", false: "healthy"}[c.Service == "executor"]
	}
	if err := w.deploy(w.job(work, 1)); release.KindOf(err) != release.KindRolledBack {
		t.Fatal(err)
	}
	var order []string
	for _, call := range w.fake.Calls() {
		if name, ok := strings.CutPrefix(call, "discard agent-"); ok {
			order = append(order, strings.TrimSuffix(name, ".promote-undone-1"))
		}
	}
	if want := []string{"executor-1", "planner-1", "migrate-1", "store-1", "bus-1"}; !slices.Equal(order, want) {
		t.Errorf("removed in order %v, want %v", order, want)
	}
}

func TestAPullThatFailsTouchesNothing(t *testing.T) {
	w := newWorld(t)
	w.mustDeploy(w.job(w.stack("1"), 1))
	before, calls := snapshot(w.seen()), len(w.fake.Calls())
	work := w.stack("2")
	w.fake.Before = func(op, s string) error {
		if op == "pull" && strings.Contains(s, "executor") {
			return release.Unavailable("", "registry is down")
		}
		return nil
	}
	if err := w.deploy(w.job(work, 2)); release.KindOf(err) != release.KindUnavailable {
		t.Errorf("%v (%s)", err, release.KindOf(err))
	}
	for _, c := range w.fake.Calls()[calls:] {
		if !strings.HasPrefix(c, "pull") {
			t.Errorf("effect %s", c)
		}
	}
	if after := snapshot(w.seen()); !slices.Equal(before, after) {
		t.Error("something changed")
	}
}

// An engine that has other bytes under the digest than were verified is not used.
func TestAnotherImageIsNotStarted(t *testing.T) {
	w := newWorld(t)
	work := w.stack("1")
	w.images["planner"] = release.PlatformImage{Config: release.DigestOf([]byte("x")), Manifest: release.DigestOf([]byte("y"))}
	if err := w.deploy(w.job(work, 1)); release.KindOf(err) != release.KindDenied || !strings.Contains(err.Error(), "planner") {
		t.Errorf("%v (%s)", err, release.KindOf(err))
	}
	if n := len(w.seen().Containers); n != 0 {
		t.Errorf("%d containers", n)
	}
}

func TestATargetThatChangedSinceThePlanIsNotTouched(t *testing.T) {
	w := newWorld(t)
	w.mustDeploy(w.job(w.stack("1"), 1))
	j := w.job(w.stack("2"), 2)
	p := w.plan(j)
	if err := w.fake.Remove(context.Background(), w.container("bus").ID); err != nil {
		t.Fatal(err)
	}
	before := snapshot(w.seen())
	if err := deploy.Apply(context.Background(), w.fake, j, p); release.KindOf(err) != release.KindUnavailable || !strings.Contains(err.Error(), "since the plan") {
		t.Errorf("%v (%s)", err, release.KindOf(err))
	}
	if after := snapshot(w.seen()); !slices.Equal(before, after) {
		t.Error("something changed")
	}
}

// When the guard says no, nothing more is done: the lock may be another's.
func TestTheGuardHoldsEveryEffect(t *testing.T) {
	for fatal := 0; ; fatal++ {
		w := newWorld(t)
		w.mustDeploy(w.job(w.stack("1"), 1))
		j := w.job(w.stack("2"), 2)
		p := w.plan(j)
		asked, effects := 0, len(w.fake.Calls())
		j.Guard = func(context.Context) error {
			if asked++; asked == fatal+1 { // it says so once; that is enough
				return release.Faultf(release.KindHeld, "", "the lock is gone")
			}
			return nil
		}
		err := deploy.Apply(context.Background(), w.fake, j, p)
		if err == nil {
			if asked != len(w.fake.Calls())-effects {
				t.Errorf("%d effects, asked %d times", len(w.fake.Calls())-effects, asked)
			}
			return
		}
		if release.KindOf(err) != release.KindHeld {
			t.Errorf("after %d: %v (%s)", fatal, err, release.KindOf(err))
		}
		if got := len(w.fake.Calls()) - effects; got != fatal {
			t.Errorf("the guard allowed %d effects and there were %d", fatal, got)
		}
	}
}

// The guard holds the way back as well, to its last effect.
func TestTheGuardHoldsUndo(t *testing.T) {
	for fatal := 0; ; fatal++ {
		w := newWorld(t)
		j := w.job(w.stack("1"), 1)
		w.fake.Before = func(op, subject string) error {
			if op == "start" && subject == "agent-store-1" {
				return errors.New("killed")
			}
			return nil
		}
		j.KeepBroken = true
		if err := w.deploy(j); err == nil {
			t.Fatal("deployed")
		}
		w.fake.Before = nil
		effects, asked := len(w.fake.Calls()), 0
		j.Guard = func(context.Context) error {
			if asked++; asked == fatal+1 {
				return release.Faultf(release.KindHeld, "", "the lock is gone")
			}
			return nil
		}
		err := deploy.Undo(context.Background(), w.fake, j)
		if got := len(w.fake.Calls()) - effects; got != min(fatal, asked) {
			t.Errorf("the guard allowed %d effects and there were %d", fatal, got)
		}
		if err == nil {
			return
		}
		if release.KindOf(err) != release.KindHeld {
			t.Errorf("%v (%s)", err, release.KindOf(err))
		}
	}
}

func TestCancellingStopsWhereItIs(t *testing.T) {
	w := newWorld(t)
	first := w.stack("1")
	w.mustDeploy(w.job(first, 1))
	images := w.images
	w.images = map[string]release.PlatformImage{}
	j := w.job(w.stack("2"), 2)
	p := w.plan(j)
	ctx, cancel := context.WithCancel(context.Background())
	w.fake.After = func(op, subject string) error {
		if op == "start" && subject == "agent-store-1" {
			cancel()
		}
		return nil
	}
	effects := len(w.fake.Calls())
	if err := deploy.Apply(ctx, w.fake, j, p); release.KindOf(err) != release.KindInterrupted {
		t.Errorf("%v (%s)", err, release.KindOf(err))
	}
	if last := w.fake.Calls()[len(w.fake.Calls())-1]; last != "start agent-store-1" {
		t.Errorf("%s came after the cancellation, of %v", last, w.fake.Calls()[effects:])
	}
	w.fake.After = nil
	if err := deploy.Undo(context.Background(), w.fake, j); err != nil {
		t.Error(err)
	}
	w.images = images
	if err := w.whole(first); err != nil {
		t.Error(err)
	}
}

func TestKeepBrokenLeavesItForAPerson(t *testing.T) {
	w := newWorld(t)
	w.mustDeploy(w.job(w.stack("1"), 1))
	j := w.job(w.stack("2"), 2)
	j.KeepBroken = true
	w.fake.Health = func(c release.Container) string {
		return map[bool]string{true: "unhealthy", false: "healthy"}[c.Reference == subject("planner", "2").String()]
	}
	if err := w.deploy(j); release.KindOf(err) != release.KindBroken {
		t.Errorf("%v (%s)", err, release.KindOf(err))
	}
	names := strings.Join(snapshot(w.seen()), "\n")
	if !strings.Contains(names, "agent-planner-1.promote-old-2") {
		t.Errorf("the old planner is gone:\n%s", names)
	}
}

// An engine that stops answering leaves the target to a person and resume.
func TestAnEngineThatGoesAway(t *testing.T) {
	w := newWorld(t)
	w.mustDeploy(w.job(w.stack("1"), 1))
	j := w.job(w.stack("2"), 2)
	p := w.plan(j)
	gone := false
	w.fake.Before = func(op, subject string) error {
		gone = gone || op == "create"
		if gone {
			return release.Unavailable("", "connection refused")
		}
		return nil
	}
	if err := deploy.Apply(context.Background(), w.fake, j, p); release.KindOf(err) != release.KindBroken || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("%v (%s)", err, release.KindOf(err))
	}
}
