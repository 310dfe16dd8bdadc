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

// killer is a process that dies at its n-th effect. With late set, the effect
// happens and only its answer is lost. From then on every call fails, which is
// all that a dead process can do.
type killer struct {
	at   int
	late bool
	seen int
	dead bool
}

var errKilled = errors.New("killed")

func (k *killer) arm(f *enginetest.Fake) {
	f.Before = func(op, _ string) error {
		if k.dead {
			return errKilled
		}
		if enginetest.Effect(op) {
			if k.seen++; k.seen == k.at && !k.late {
				k.dead = true
				return errKilled
			}
		}
		return nil
	}
	f.After = func(string, string) error {
		if k.seen == k.at && k.late {
			k.dead = true
			return errKilled
		}
		return nil
	}
}

func disarm(f *enginetest.Fake) { f.Before, f.After = nil, nil }

// scene is one deployment that gets killed, from a target that runs the first
// version, or from an empty one.
type scene struct {
	*world
	first, second release.Workload
	before        []string // what runs before, exactly
	job           deploy.Job
}

// change says what the second version is beyond new images.
type change struct {
	name   string
	empty  bool // nothing ran before
	mutate func(*release.Workload)
}

var changes = []change{
	{name: "update"},
	{name: "first deployment", empty: true},
	{name: "a service goes and one comes", mutate: func(w *release.Workload) {
		executor := w.Services[4]
		w.Services = w.Services[:4]
		executor.Name, executor.ConfigHash = "worker", "new"
		w.Services = append(w.Services, executor)
	}},
	{name: "only one goes", mutate: func(w *release.Workload) { w.Services = w.Services[:4] }},
}

func newScene(t *testing.T, c change) *scene {
	s := &scene{world: newWorld(t)}
	s.first = s.stack("1")
	if !c.empty {
		s.mustDeploy(s.world.job(s.first, 1))
	}
	var recorded *release.TargetStatus
	if !c.empty {
		recorded = s.recorded(s.first)
	}
	s.images = map[string]release.PlatformImage{}
	version := "2"
	if c.name == "only one goes" {
		version = "1"
	}
	s.second = s.stack(version)
	if c.mutate != nil {
		c.mutate(&s.second)
		if _, ok := s.second.Service("worker"); ok {
			s.images["worker"] = s.images["executor"]
		}
	}
	if c.empty {
		s.first = release.Workload{Project: project}
	}
	s.before = snapshot(s.seen())
	s.job = s.world.job(s.second, 2)
	s.job.Recorded = recorded
	return s
}

// isOld reports why the target is not exactly what it was before.
func (s *scene) isOld() error {
	seen := s.seen()
	if got := snapshot(seen); !slices.Equal(got, s.before) {
		return fmt.Errorf("it runs\n%s\nbefore it ran\n%s", strings.Join(got, "\n"), strings.Join(s.before, "\n"))
	}
	if len(s.before) == 0 && len(seen.Networks) > 0 {
		return fmt.Errorf("networks stayed: %v", seen.Networks)
	}
	return nil
}

// isNew reports why the target is not fully the second version.
func (s *scene) isNew() error { return s.whole(s.second) }

// never looks after every effect that no service runs twice whose containers
// would share something: a volume or a port. One that shares nothing runs at
// every moment while it is replaced.
func (s *scene) never(t *testing.T) {
	running := map[string]int{}
	for _, c := range s.seen().Containers {
		if c.State == "running" && (len(c.Mounts) > 0 || len(c.Ports) > 0) {
			if running[c.Service]++; running[c.Service] > 1 {
				t.Errorf("two containers of %s run", c.Service)
			}
		}
	}
}

// gentle looks before every effect that nothing is removed while it runs: it
// would be killed without a chance to save its state.
func (s *scene) gentle(t *testing.T, name string) {
	s.fake.Before = func(op, container string) error {
		if op != "remove" && op != "discard" {
			return nil
		}
		for _, c := range s.seen().Containers {
			if c.Name == container && c.State == "running" {
				t.Errorf("%s: %s %s while it runs", name, op, container)
			}
		}
		return nil
	}
}

// effectsOf counts the effects of the whole deployment.
func effectsOf(t *testing.T, c change) int {
	s := newScene(t, c)
	k := &killer{at: -1}
	k.arm(s.fake)
	if err := s.deploy(s.job); err != nil {
		t.Fatal(err)
	}
	return k.seen
}

// Killed at any effect, before or after it was done, Undo brings back fully the
// old and Finish fully the new.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	for _, c := range changes {
		n := effectsOf(t, c)
		for at := 1; at <= n; at++ {
			for _, late := range []bool{false, true} {
				name := fmt.Sprintf("%s, effect %d of %d, late %t", c.name, at, n, late)
				undoOrCommitted(t, name, killedAt(t, c, at, late))
				finish(t, name, killedAt(t, c, at, late))
			}
		}
	}
}

func killedAt(t *testing.T, c change, at int, late bool) *scene {
	s := newScene(t, c)
	p := s.plan(s.job)
	(&killer{at: at, late: late}).arm(s.fake)
	if err := deploy.Apply(context.Background(), s.fake, s.job, p); !errors.Is(err, errKilled) {
		t.Fatalf("%s, effect %d: %v", c.name, at, err)
	}
	disarm(s.fake)
	return s
}

// undoOrCommitted undoes; once old containers were removed for good, Undo must
// say so without an effect, and Finish must find everything new.
func undoOrCommitted(t *testing.T, name string, s *scene) {
	t.Helper()
	calls := len(s.fake.Calls())
	s.gentle(t, name)
	err := deploy.Undo(context.Background(), s.fake, s.job)
	switch {
	case errors.Is(err, deploy.ErrCommitted):
		if len(s.fake.Calls()) != calls {
			t.Errorf("%s: undo says it cannot and did %v", name, s.fake.Calls()[calls:])
		}
		if err := deploy.Finish(context.Background(), s.fake, s.job); err != nil {
			t.Errorf("%s: finishing: %v", name, err)
		}
		if err := s.isNew(); err != nil {
			t.Errorf("%s: committed, and %v", name, err)
		}
	case err != nil:
		t.Errorf("%s: undoing: %v", name, err)
	default:
		if err := s.isOld(); err != nil {
			t.Errorf("%s: undone, and %v", name, err)
		}
	}
}

func finish(t *testing.T, name string, s *scene) {
	t.Helper()
	s.gentle(t, name)
	s.fake.After = func(string, string) error { s.never(t); return nil }
	if err := deploy.Finish(context.Background(), s.fake, s.job); err != nil {
		t.Errorf("%s: finishing: %v", name, err)
		return
	}
	if err := s.isNew(); err != nil {
		t.Errorf("%s: finished, and %v", name, err)
	}
}

// Undo and Finish are killed, too; they can be called again, and the other one
// can be called instead.
func TestKilledAgain(t *testing.T) {
	t.Parallel()
	c := changes[2]
	n := effectsOf(t, c)
	type resume struct {
		name string
		do   func(context.Context, deploy.Engine, deploy.Job) error
	}
	both := []resume{{"undo", deploy.Undo}, {"finish", deploy.Finish}}
	for at := 1; at <= n; at++ {
		for _, once := range both {
			for second := 1; ; second++ {
				s := killedAt(t, c, at, false)
				k := &killer{at: second}
				k.arm(s.fake)
				err := once.do(context.Background(), s.fake, s.job)
				disarm(s.fake)
				if err == nil || errors.Is(err, deploy.ErrCommitted) {
					break // it has fewer effects than that
				}
				name := fmt.Sprintf("effect %d, then %s killed at %d", at, once.name, second)
				if !errors.Is(err, errKilled) {
					t.Fatalf("%s: %v", name, err)
				}
				undoOrCommitted(t, name+", then undo", s)
				s = killedAt(t, c, at, false)
				(&killer{at: second}).arm(s.fake)
				_ = once.do(context.Background(), s.fake, s.job)
				disarm(s.fake)
				finish(t, name+", then finish", s)
			}
		}
	}
}

// Back, forth and back again: what was given up the first time is not in the
// way of the second.
func TestKilledBackAndForth(t *testing.T) {
	t.Parallel()
	at := effectsOf(t, changes[0]) - 4 // nearly done
	for back := 1; back <= 3; back++ {
		for forth := 1; ; forth++ {
			s := killedAt(t, changes[0], at, false)
			(&killer{at: back, late: true}).arm(s.fake)
			if err := deploy.Undo(context.Background(), s.fake, s.job); !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			(&killer{at: forth, late: true}).arm(s.fake)
			err := deploy.Finish(context.Background(), s.fake, s.job)
			disarm(s.fake)
			if err == nil {
				break
			}
			undoOrCommitted(t, fmt.Sprintf("back %d, forth %d", back, forth), s)
		}
	}
}

// A container that the attempt made and that got ill before it was finished is
// made anew, and has its time to stop.
func TestFinishRenewsWhatIsIll(t *testing.T) {
	s := newScene(t, changes[0])
	begin := func() { // and be killed when the store was started
		t.Helper()
		s.fake.After = func(op, name string) error {
			if op == "start" && name == "agent-store-1" {
				s.fake.Before = func(string, string) error { return errKilled }
			}
			return nil
		}
		if err := deploy.Finish(context.Background(), s.fake, s.job); !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		disarm(s.fake)
	}
	begin()
	(&killer{at: 1, late: true}).arm(s.fake) // what was begun is given up, and not removed
	if err := deploy.Undo(context.Background(), s.fake, s.job); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	disarm(s.fake)
	begin()
	ill := s.container("store")
	s.fake.SetHealth("agent-store-1", "unhealthy")
	finish(t, "ill", s)
	if _, err := s.fake.Inspect(context.Background(), ill.ID); !errors.Is(err, release.ErrNotFound) {
		t.Errorf("it is still there: %v", err)
	}
}

// An engine goes on with a stop that nobody waits for any more. Whoever takes
// up the attempt must not take the container for one that runs.
func TestKilledWhileSomethingStops(t *testing.T) {
	t.Parallel()
	for stops := 1; stops <= 3; stops++ {
		for _, resume := range []string{"undo", "finish", "undo, killed, finish"} {
			s := newScene(t, changes[0])
			p := s.plan(s.job)
			left := stops
			// stopping dies at the n-th stop, which happens a little later.
			stopping := func(op, name string) error {
				if op != "stop" {
					return nil
				}
				if left--; left > 0 {
					return nil
				}
				s.fake.Before = func(string, string) error { return errKilled }
				time.AfterFunc(5*time.Millisecond, func() { s.fake.Die(name, 0) })
				return errKilled
			}
			s.fake.Before = stopping
			if err := deploy.Apply(context.Background(), s.fake, s.job, p); !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			disarm(s.fake)
			if resume == "undo, killed, finish" {
				left = 1
				s.fake.Before = stopping
				if err := deploy.Undo(context.Background(), s.fake, s.job); !errors.Is(err, errKilled) {
					t.Fatal(err)
				}
				disarm(s.fake)
			}
			do, whole := deploy.Finish, s.isNew
			if resume == "undo" {
				do, whole = deploy.Undo, s.isOld
			}
			if err := do(context.Background(), s.fake, s.job); err != nil {
				t.Errorf("stop %d, %s: %v", stops, resume, err)
			}
			time.Sleep(10 * time.Millisecond)
			if err := whole(); err != nil {
				t.Errorf("stop %d, %s: %v", stops, resume, err)
			}
		}
	}
}

// What is removed for good was stopped within its grace before, whoever is at
// it, and what is only put aside does not run.
func TestWhatGoesIsStoppedFirst(t *testing.T) {
	const aside = "agent-executor-1.promote-old-2"
	stopped := func() *scene { // renamed, and killed before the stop
		s := killedAt(t, changes[3], 2, false)
		if c, err := s.fake.Inspect(context.Background(), aside); err != nil || c.State != "running" {
			t.Fatalf("%s is %s, %v", aside, c.State, err)
		}
		return s
	}
	s := stopped()
	s.job.KeepOld = true
	if err := deploy.Finish(context.Background(), s.fake, s.job); err != nil {
		t.Error(err)
	}
	if c, err := s.fake.Inspect(context.Background(), aside); err != nil || c.State != "exited" {
		t.Errorf("%s is %s, %v", aside, c.State, err)
	}
	s = stopped()
	if err := deploy.Clean(context.Background(), s.fake, s.job); err != nil {
		t.Error(err)
	}
	calls := s.fake.Calls()
	if last := calls[len(calls)-2:]; !slices.Equal(last, []string{"stop " + aside, "remove " + aside}) {
		t.Errorf("%v", last)
	}
}

// What an undone attempt made goes with the volumes that only it has.
func TestCleanTakesWhatWasGivenUp(t *testing.T) {
	s := killedAt(t, changes[1], 10, false) // five pulls, a network, a volume, and the bus are there
	(&killer{at: 3}).arm(s.fake)            // renamed, stopped, not removed
	if err := deploy.Undo(context.Background(), s.fake, s.job); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	disarm(s.fake)
	if n := len(s.seen().Volumes); n != 2 {
		t.Fatalf("%d volumes", n)
	}
	if err := deploy.Clean(context.Background(), s.fake, s.job); err != nil {
		t.Error(err)
	}
	if seen := s.seen(); len(seen.Containers) != 0 || len(seen.Volumes) != 1 || seen.Volumes[0].Name != project+"_memory" {
		t.Errorf("%+v", seen)
	}
}

// A container that another ledger's attempt of the same number made is not
// ours to remove.
func TestAttemptsOfTwoLedgersAreTold(t *testing.T) {
	w := newWorld(t)
	first := w.stack("1")
	j := w.job(first, 7)
	j.Attempt.Record = release.DigestOf([]byte("one"))
	w.mustDeploy(j)
	before := snapshot(w.seen())
	j.Attempt.Record = release.DigestOf([]byte("two"))
	if err := deploy.Undo(context.Background(), w.fake, j); err != nil {
		t.Error(err)
	}
	if after := snapshot(w.seen()); !slices.Equal(before, after) {
		t.Errorf("before %v, after %v", before, after)
	}
}

// The wait is driven by events: a container that becomes healthy is noticed at
// once, not at the next look.
func TestHealthIsNoticedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fake.HealthDelay = 350 * time.Millisecond
	work := w.stack("1")
	work.Services = work.Services[:1]
	began := time.Now()
	w.mustDeploy(w.job(work, 1))
	if took := time.Since(began); took > 580*time.Millisecond {
		t.Errorf("healthy after 350 ms, noticed after %s", took)
	}
}

// Without events the answer is the same, only later.
func TestHealthIsNoticedWithoutEvents(t *testing.T) {
	w := newWorld(t)
	w.fake.HealthDelay = 20 * time.Millisecond
	work := w.stack("1")
	if err := deploy.Apply(context.Background(), deaf{w.fake}, w.job(work, 1), w.plan(w.job(work, 1))); err != nil {
		t.Error(err)
	}
}

// deaf is an engine whose events end at once.
type deaf struct{ *enginetest.Fake }

func (deaf) Events(context.Context, string) (<-chan release.ContainerEvent, error) {
	events := make(chan release.ContainerEvent)
	close(events)
	return events, nil
}

// Where what an attempt replaced is gone, undoing it is deploying the release
// before again, as another attempt. Killed anywhere in that, Undo of the first
// says that there is nothing to go back to, or everything is there.
func TestAKilledRedeploymentIsNotTakenForUndone(t *testing.T) {
	t.Parallel()
	one := change{name: "one service", mutate: func(w *release.Workload) {
		for i := range w.Services {
			if w.Services[i].Name != "store" {
				w.Services[i].ConfigHash = "hash of " + w.Services[i].Name + " 1"
			}
		}
	}}
	redeploy := func(s *scene, sequence int64) error {
		s.images = map[string]release.PlatformImage{}
		s.first = s.stack("1")
		back := s.world.job(s.first, sequence)
		back.Recorded, back.KeepOld, back.Back = s.job.Recorded, true, true
		if err := deploy.Finish(context.Background(), s.fake, back); err != nil {
			return err
		}
		return deploy.Clean(context.Background(), s.fake, back)
	}
	for _, c := range []change{changes[0], changes[2], one} {
		for at := 1; ; at++ {
			ended := false
			for _, late := range []bool{false, true} {
				name := fmt.Sprintf("%s, effect %d, late %t", c.name, at, late)
				s := newScene(t, c)
				s.mustDeploy(s.job) // committed
				(&killer{at: at, late: late}).arm(s.fake)
				err := redeploy(s, 3)
				disarm(s.fake)
				if ended = err == nil; ended {
					break
				}
				if !errors.Is(err, errKilled) {
					t.Fatalf("%s: %v", name, err)
				}
				err = deploy.Undo(context.Background(), s.fake, s.job)
				if errors.Is(err, deploy.ErrCommitted) {
					err = redeploy(s, 4)
				}
				if err == nil {
					err = s.whole(s.first)
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if ended {
				break
			}
		}
	}
}
