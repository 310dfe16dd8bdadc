package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

const pause = 10 * time.Minute

// fleet is a production of so many hosts, h1 to hN, that runs v1, and a v2 in
// staging.
func fleet(t *testing.T, hosts int, s release.Strategy) (*world, *pipeline.Pipeline) {
	t.Helper()
	w, p := fixture(t)
	env := &p.Project.Environments[1]
	env.Strategy, env.Targets = s, nil
	for i := range hosts {
		w.add(&p.Project.Environments[1], fmt.Sprintf("h%d", i+1))
	}
	to(t, p, "staging")
	to(t, p, "production")
	next(w, "v2")
	to(t, p, "staging")
	w.journal = nil
	return w, p
}

func (w *world) add(env *release.Environment, name string) {
	w.hosts[name] = &fakeHost{w: w, name: name, running: map[string]release.Digest{}}
	env.Targets = append(env.Targets, release.Target{Name: name})
}

// old and new are what v1 and v2 run as.
func (w *world) version(t *testing.T, version string) release.Digest {
	t.Helper()
	for s, d := range w.documents {
		if d.Release.Version == version {
			return w.documents[s].Release.Services["planner"].Digest
		}
	}
	t.Fatalf("no release %s", version)
	return release.Digest{}
}

// does lists what happened to hosts, of certain kinds.
func (w *world) does(words ...string) []string {
	var list []string
	for _, j := range w.journal {
		for _, word := range words {
			if strings.Contains(j, word) {
				list = append(list, j)
			}
		}
	}
	return list
}

func promote(t *testing.T, p *pipeline.Pipeline) (pipeline.Promotion, error) {
	t.Helper()
	return p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
}

// wantTargets compares statuses, "name status runs" each, where runs is a
// version, "-" for nothing and "?" for what nobody knows.
func (w *world) wantTargets(t *testing.T, got []release.TargetStatus, want ...string) {
	t.Helper()
	var list []string
	for _, s := range got {
		runs := "-"
		for _, r := range s.Running {
			runs = "other"
			for _, version := range []string{"v1", "v2"} {
				if r.Digest == w.version(t, version) {
					runs = version
				}
			}
		}
		list = append(list, s.Name+" "+s.Status+" "+runs)
	}
	if !slices.Equal(list, want) {
		t.Errorf("targets are %q, want %q", list, want)
	}
}

func (w *world) lastRecord() release.Record { return w.records[len(w.records)-1].Record }

func TestCanariesGoFirstAndAreHeld(t *testing.T) {
	w, p := fleet(t, 4, release.Strategy{Canary: 1, Pause: pause, Parallel: 1})
	out, err := promote(t, p)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"h1 runs planner", "h1 held for 10m0s", "h2 runs planner", "h3 runs planner", "h4 runs planner"}
	if got := w.does("runs", "held"); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	w.wantTargets(t, out.Targets, "h1 deployed v2", "h2 deployed v2", "h3 deployed v2", "h4 deployed v2")
}

// All images are there before the first host is changed.
func TestImagesAreFetchedEverywhereFirst(t *testing.T) {
	w, p := fleet(t, 3, release.Strategy{})
	if _, err := promote(t, p); err != nil {
		t.Fatal(err)
	}
	got := w.does("fetches", "runs")
	if len(got) != 6 || slices.ContainsFunc(got[:3], func(s string) bool { return strings.Contains(s, "runs") }) {
		t.Errorf("got %q", got)
	}
}

// A full disk shows while nothing has changed yet.
func TestAHostThatCannotHaveTheImages(t *testing.T) {
	w, p := fleet(t, 3, release.Strategy{Parallel: 2})
	w.hosts["h2"].pullErr = release.Unavailable("free disk space", "no space left on device")
	out, err := promote(t, p)
	wantKind(t, err, release.KindUnavailable)
	if got := w.does("runs"); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	w.wantTargets(t, out.Targets, "h1 skipped v1", "h2 failed v1", "h3 skipped v1")
	if !strings.Contains(out.Targets[1].Message, "no space left") || w.lastRecord().Phase != release.RolledBack {
		t.Errorf("message %q, record %q", out.Targets[1].Message, w.lastRecord().Phase)
	}
	w.hosts["h2"].pullErr = nil
	if _, err := promote(t, p); err != nil {
		t.Fatal(err)
	}
}

func TestOnlySoManyAtOnce(t *testing.T) {
	for _, parallel := range []int{1, 2, 3, 10} {
		t.Run(fmt.Sprint(parallel), func(t *testing.T) {
			w, p := fleet(t, 7, release.Strategy{Parallel: parallel})
			var now, most atomic.Int64
			want := int64(min(parallel, 7))
			for _, h := range w.hosts {
				h.during = func(context.Context) {
					n := now.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					for end := time.Now().Add(time.Second); most.Load() < want && time.Now().Before(end); {
						time.Sleep(time.Millisecond)
					}
					now.Add(-1)
				}
			}
			if _, err := promote(t, p); err != nil {
				t.Fatal(err)
			}
			if most.Load() != want {
				t.Errorf("%d at once, want %d", most.Load(), want)
			}
		})
	}
}

// A canary that fails keeps everybody else from it.
func TestACanaryFails(t *testing.T) {
	w, p := fleet(t, 3, release.Strategy{Canary: 1, Pause: pause, Parallel: 2})
	w.hosts["h1"].applyErr = errBoom
	out, err := promote(t, p)
	wantKind(t, err, release.KindRolledBack)
	if got := w.does("runs", "held"); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	w.wantTargets(t, out.Targets, "h1 rolledBack v1", "h2 skipped v1", "h3 skipped v1")
	if !strings.Contains(out.Targets[0].Message, "boom") {
		t.Errorf("message %q", out.Targets[0].Message)
	}
}

func TestACanaryTurnsBadInThePause(t *testing.T) {
	cases := map[string]struct {
		breaks    func(*fakeHost)
		onFailure string
		kind      release.Kind
		targets   []string
	}{
		"unhealthy": {func(h *fakeHost) {
			h.holding = func(context.Context, time.Duration) error {
				return release.Unavailable("", "planner turned unhealthy\nand a log")
			}
		}, "rollback", release.KindRolledBack, []string{"h1 rolledBack v1", "h2 rolledBack v1", "h3 skipped v1"}},
		"unhealthy, stop": {func(h *fakeHost) {
			h.holding = func(context.Context, time.Duration) error {
				return release.Unavailable("", "planner turned unhealthy")
			}
		}, "stop", release.KindBroken, []string{"h1 deployed v2", "h2 failed v2", "h3 skipped v1"}},
		"replaced at its end": {func(h *fakeHost) {
			h.holding = func(context.Context, time.Duration) error {
				h.running["planner"] = release.DigestOf([]byte("by hand"))
				return nil
			}
		}, "stop", release.KindBroken, []string{"h1 deployed v2", "h2 failed other", "h3 skipped v1"}},
		"unreachable": {func(h *fakeHost) {
			h.holding = func(context.Context, time.Duration) error {
				h.down = release.Unavailable("", "no route to host")
				return h.down
			}
		}, "rollback", release.KindBroken, []string{"h1 rolledBack v1", "h2 unreachable -", "h3 skipped v1"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w, p := fleet(t, 3, release.Strategy{Canary: 2, Pause: pause, Parallel: 2})
			p.Project.Environments[1].OnFailure = c.onFailure
			c.breaks(w.hosts["h2"])
			// The other canary is not watched to the end of the pause.
			w.hosts["h1"].holding = func(ctx context.Context, _ time.Duration) error {
				if c.kind == release.KindBroken && name == "replaced at its end" {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			}
			out, err := promote(t, p)
			wantKind(t, err, c.kind)
			w.wantTargets(t, out.Targets, c.targets...)
			if strings.Contains(out.Targets[1].Message, "\n") || out.Targets[1].Message == "" {
				t.Errorf("message %q", out.Targets[1].Message)
			}
			if _, open := w.records.Open("production"); open != (c.kind == release.KindBroken) {
				t.Errorf("open: %t, %q", open, w.phases())
			}
			if got := w.lastRecord(); fmt.Sprint(got.Targets) != fmt.Sprint(out.Targets) {
				t.Errorf("the record says %v, the result %v", got.Targets, out.Targets)
			}
		})
	}
}

// One of a batch fails: the other one of it comes to its own end, nobody
// further begins, and what was done is undone, the last batch first.
func TestAFailureInTheMiddleOfABatch(t *testing.T) {
	for _, onFailure := range []string{"rollback", "stop"} {
		t.Run(onFailure, func(t *testing.T) {
			w, p := fleet(t, 6, release.Strategy{Canary: 1, Parallel: 2})
			p.Project.Environments[1].OnFailure = onFailure
			begun, failed := make(chan struct{}), make(chan struct{})
			w.hosts["h4"].applyErr = errBoom
			w.hosts["h4"].during = func(context.Context) {
				<-begun
				time.AfterFunc(20*time.Millisecond, func() { close(failed) })
			}
			w.hosts["h5"].during = func(context.Context) { close(begun); <-failed }
			out, err := promote(t, p)
			if onFailure == "stop" {
				wantKind(t, err, release.KindBroken)
				w.wantTargets(t, out.Targets, "h1 deployed v2", "h2 deployed v2", "h3 deployed v2", "h4 failed v1", "h5 deployed v2", "h6 skipped v1")
				return
			}
			wantKind(t, err, release.KindRolledBack)
			w.wantTargets(t, out.Targets, "h1 rolledBack v1", "h2 rolledBack v1", "h3 rolledBack v1", "h4 rolledBack v1", "h5 rolledBack v1", "h6 skipped v1")
			undone := w.does("undone")
			at := func(host string) int { return slices.Index(undone, host+" undone") }
			if at("h1") < max(at("h2"), at("h3")) || min(at("h2"), at("h3")) < max(at("h4"), at("h5")) || at("h5") < 0 {
				t.Errorf("undone in the order %q", undone)
			}
		})
	}
}

// With one at a time, what was done is undone in the exact reverse.
func TestUndoneInReverse(t *testing.T) {
	w, p := fleet(t, 4, release.Strategy{})
	w.hosts["h4"].applyErr = errBoom
	_, err := promote(t, p)
	wantKind(t, err, release.KindRolledBack)
	want := []string{"h4 undone", "h3 undone", "h2 undone", "h1 undone"}
	if got := w.does("undone"); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// A host that cannot be undone does not keep the others from it.
func TestAHostGoesDown(t *testing.T) {
	down := release.Unavailable("look at the host", "no route to host")
	cases := map[string]struct {
		when    func(w *world, h *fakeHost)
		kind    release.Kind
		open    bool
		targets []string
	}{
		"before anything": {func(_ *world, h *fakeHost) { h.down = down }, release.KindUnavailable, false,
			[]string{"h1 skipped -", "h2 unreachable -", "h3 skipped -"}},
		"before its turn": {func(w *world, h *fakeHost) {
			w.hosts["h1"].during = func(context.Context) { h.down = down }
		}, release.KindBroken, true, []string{"h1 rolledBack v1", "h2 unreachable -", "h3 skipped v1"}},
		"in the middle": {func(_ *world, h *fakeHost) {
			h.applyErr = errBoom
			h.during = func(context.Context) { h.down = down }
		}, release.KindBroken, true, []string{"h1 rolledBack v1", "h2 unreachable -", "h3 skipped v1"}},
		"after its turn": {func(w *world, h *fakeHost) {
			w.hosts["h3"].during = func(context.Context) { h.down = down }
			w.hosts["h3"].applyErr = errBoom
		}, release.KindBroken, true, []string{"h1 rolledBack v1", "h2 unreachable -", "h3 rolledBack v1"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w, p := fleet(t, 3, release.Strategy{})
			c.when(w, w.hosts["h2"])
			out, err := promote(t, p)
			wantKind(t, err, c.kind)
			if !strings.Contains(err.Error(), "h2") {
				t.Errorf("the host is not named: %v", err)
			}
			w.wantTargets(t, out.Targets, c.targets...)
			if m := out.Targets[1].Message; m == "" {
				t.Error("no message")
			}
			if _, open := w.records.Open("production"); open != c.open {
				t.Errorf("open: %t", open)
			}
			for _, h := range w.hosts {
				h.down, h.applyErr, h.during = nil, nil, nil
			}
			finish := p.Resume
			if !c.open {
				finish = func(ctx context.Context, _ pipeline.ResumeOptions) (pipeline.Promotion, error) { return promote(t, p) }
			}
			if out, err = finish(t.Context(), pipeline.ResumeOptions{Environment: "production"}); err != nil {
				t.Fatal(err)
			}
			w.wantTargets(t, out.Targets, "h1 deployed v2", "h2 deployed v2", "h3 deployed v2")
		})
	}
}

// Every host that does not answer is named, and none that does.
func TestAllUnreachableHostsAreNamed(t *testing.T) {
	w, p := fleet(t, 4, release.Strategy{})
	for _, name := range []string{"h2", "h4"} {
		w.hosts[name].down = release.Unavailable("", "the host's key is not the one in known_hosts")
	}
	out, err := promote(t, p)
	wantKind(t, err, release.KindUnavailable)
	if !strings.Contains(err.Error(), "h2: ") || !strings.Contains(err.Error(), "h4: ") {
		t.Errorf("got %v", err)
	}
	w.wantTargets(t, out.Targets, "h1 skipped -", "h2 unreachable -", "h3 skipped -", "h4 unreachable -")
}

// Ctrl-C in the pause ends it at once; the resume counts what the canary has
// run for.
func TestAnInterruptionInThePause(t *testing.T) {
	for name, c := range map[string]struct {
		uptime time.Duration
		held   string // "" is not at all
	}{
		"soon after": {3 * time.Minute, "h1 held for 7m0s"}, "long after": {time.Hour, "h1 held for 0s"}, "restarted": {0, "h1 held for 10m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			w, p := fleet(t, 3, release.Strategy{Canary: 1, Pause: pause, Parallel: 2})
			ctx, cancel := context.WithCancel(t.Context())
			w.hosts["h1"].holding = func(ctx context.Context, _ time.Duration) error {
				cancel()
				<-ctx.Done()
				return ctx.Err()
			}
			out, err := p.To(ctx, pipeline.PromoteOptions{Environment: "production"})
			wantKind(t, err, release.KindInterrupted)
			w.wantTargets(t, out.Targets, "h1 deployed v2", "h2 skipped v1", "h3 skipped v1")
			if _, open := w.records.Open("production"); !open {
				t.Error("the record is closed")
			}
			w.hosts["h1"].holding, w.hosts["h1"].uptime, w.journal = nil, c.uptime, nil
			if out, err = p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "production"}); err != nil {
				t.Fatal(err)
			}
			if got := w.does("held"); !slices.Equal(got, []string{c.held}) {
				t.Errorf("held %q, want %q", got, c.held)
			}
			w.wantTargets(t, out.Targets, "h1 deployed v2", "h2 deployed v2", "h3 deployed v2")
		})
	}
}

// The pause is for a canary that changed: one that only now got the release is
// held for all of it, however long something else ran there.
func TestUptimeCountsOnlyForTheRelease(t *testing.T) {
	w, p := fleet(t, 2, release.Strategy{Canary: 1, Pause: pause})
	w.hosts["h1"].uptime = time.Hour
	if _, err := promote(t, p); err != nil {
		t.Fatal(err)
	}
	if got := w.does("held"); !slices.Equal(got, []string{"h1 held for 10m0s"}) {
		t.Errorf("held %q", got)
	}
}

func TestAnInterruptionInABatchResumes(t *testing.T) {
	w, p := fleet(t, 5, release.Strategy{Canary: 1, Pause: pause, Parallel: 2})
	ctx, cancel := context.WithCancel(t.Context())
	w.hosts["h3"].during = func(context.Context) { cancel() }
	out, err := p.To(ctx, pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindInterrupted)
	if out.Targets[0].Status != "deployed" || out.Targets[2].Status != "failed" || out.Targets[3].Status != "skipped" || out.Targets[4].Status != "skipped" {
		t.Errorf("targets %+v", out.Targets)
	}
	w.hosts["h3"].during, w.hosts["h1"].uptime = nil, time.Hour
	if out, err = p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "production"}); err != nil {
		t.Fatal(err)
	}
	w.wantTargets(t, out.Targets, "h1 deployed v2", "h2 deployed v2", "h3 deployed v2", "h4 deployed v2", "h5 deployed v2")
	if got := w.does("h1 runs"); len(got) != 1 {
		t.Errorf("the canary was changed again: %q", got)
	}
}

// Resuming a promotion whose canary fails by now undoes it.
func TestAResumedPauseFails(t *testing.T) {
	w, p := fleet(t, 2, release.Strategy{Canary: 1, Pause: pause})
	ctx, cancel := context.WithCancel(t.Context())
	w.hosts["h1"].holding = func(ctx context.Context, _ time.Duration) error { cancel(); <-ctx.Done(); return ctx.Err() }
	_, err := p.To(ctx, pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindInterrupted)
	w.hosts["h1"].holding = func(context.Context, time.Duration) error { return release.Unavailable("", "planner ended") }
	out, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "production"})
	wantKind(t, err, release.KindRolledBack)
	w.wantTargets(t, out.Targets, "h1 rolledBack v1", "h2 rolledBack v1")
}

// A rollback is urgent: canaries first, and no pause.
func TestARollbackDoesNotPause(t *testing.T) {
	w, p := fleet(t, 3, release.Strategy{Canary: 1, Pause: pause, Parallel: 2})
	if _, err := promote(t, p); err != nil {
		t.Fatal(err)
	}
	w.journal = nil
	if _, err := p.Rollback(t.Context(), pipeline.PromoteOptions{Environment: "production", Reason: "r"}); err != nil {
		t.Fatal(err)
	}
	if got := w.does("runs", "held"); len(got) != 3 || got[0] != "h1 runs planner" {
		t.Errorf("got %q", got)
	}
}

func TestThePauseShowsLife(t *testing.T) {
	w, p := fleet(t, 2, release.Strategy{Canary: 1, Pause: pause})
	beats := func() int64 {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.beats[int64(len(w.records)-1)]
	}
	w.hosts["h1"].holding = func(context.Context, time.Duration) error {
		before := beats()
		for end := time.Now().Add(5 * time.Second); beats() < before+2; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				return errors.New("no sign of life")
			}
		}
		return nil
	}
	if _, err := promote(t, p); err != nil {
		t.Fatal(err)
	}
}

// Whoever lost the environment in the pause does not go on after it.
func TestAPauseDoesNotHoldTheEnvironment(t *testing.T) {
	w, p := fleet(t, 2, release.Strategy{Canary: 1, Pause: pause})
	w.hosts["h1"].holding = func(ctx context.Context, _ time.Duration) error {
		_, _, err := w.Append(ctx, release.Record{Phase: release.Intended, Environment: "production", Release: w.lastRecord().Release}, int64(len(w.records)))
		return err
	}
	_, err := promote(t, p)
	wantKind(t, err, release.KindHeld)
	if got := w.does("h2 runs", "undone"); len(got) > 0 {
		t.Errorf("got %q", got)
	}
}

// A ledger that does not answer in the middle of a host's change does not make
// the host one that was never touched.
func TestTheLedgerIsSilentInTheMiddle(t *testing.T) {
	w, p := fleet(t, 2, release.Strategy{})
	ledger := &silent{Ledger: w}
	p.Ledger = ledger
	w.hosts["h1"].after = func(ctx context.Context, guard pipeline.Guard) error {
		ledger.next.Store(true)
		return guard(ctx)
	}
	out, err := promote(t, p)
	wantKind(t, err, release.KindRolledBack)
	w.wantTargets(t, out.Targets, "h1 rolledBack v1", "h2 skipped v1")
}

// silent is a ledger that does not answer once.
type silent struct {
	pipeline.Ledger
	next atomic.Bool
}

func (s *silent) Read(ctx context.Context) (release.History, release.Checkpoint, error) {
	if s.next.Swap(false) {
		return nil, release.Checkpoint{}, release.Unavailable("", "the ledger does not answer")
	}
	return s.Ledger.Read(ctx)
}

func TestPlanShowsTheOrder(t *testing.T) {
	_, p := fleet(t, 6, release.Strategy{Canary: 1, Pause: pause, Parallel: 3})
	p.Project.Environments[1].Targets = p.Project.Environments[1].Targets[:5]
	plan, err := p.Plan(t.Context(), pipeline.PromoteOptions{Environment: "production"})
	if err != nil {
		t.Fatal(err)
	}
	want := []pipeline.Batch{{Targets: []string{"h1"}, Canary: true, Pause: 600}, {Targets: []string{"h2", "h3", "h4"}}, {Targets: []string{"h5"}}}
	if r := plan.Rollout; r == nil || fmt.Sprint(r.Batches) != fmt.Sprint(want) || r.OnFailure != "rollback" {
		t.Fatalf("got %+v", plan.Rollout)
	}
	if gone := plan.Rollout.Gone; len(gone) != 1 || gone[0].Name != "h6" || len(gone[0].Running) == 0 {
		t.Errorf("gone is %+v", gone)
	}
}

// A target that is added gets what the others run, without a pause for a canary
// that has run it all along.
func TestAnAddedTargetIsCompleted(t *testing.T) {
	w, p := fleet(t, 2, release.Strategy{Canary: 1, Pause: pause})
	to(t, p, "production")
	before := len(w.records)
	w.add(&p.Project.Environments[1], "h3")
	w.hosts["h1"].uptime, w.journal = time.Hour, nil
	out := to(t, p, "production")
	w.wantTargets(t, out.Targets, "h1 deployed v2", "h2 deployed v2", "h3 deployed v2")
	if got := w.does("runs"); !slices.Equal(got, []string{"h3 runs planner"}) {
		t.Errorf("got %q", got)
	}
	if len(w.records) != before+2 || len(w.lastRecord().Targets) != 3 {
		t.Errorf("records %q", w.phases())
	}
	if out = to(t, p, "production"); !out.Unchanged {
		t.Error("it is not done")
	}
}

// One host fails, and another one shows that somebody took over: nothing is
// ours to undo.
func TestWhoIsFencedOffUndoesNothing(t *testing.T) {
	w, p := fleet(t, 2, release.Strategy{Parallel: 2})
	begun, fenced := make(chan struct{}), make(chan struct{})
	w.hosts["h1"].applyErr = errBoom
	w.hosts["h1"].during = func(context.Context) { close(begun); <-fenced }
	w.hosts["h2"].during = func(context.Context) { <-begun; w.hosts["h2"].lock = nil; close(fenced) }
	_, err := promote(t, p)
	wantKind(t, err, release.KindHeld)
	if got := w.does("undone"); len(got) > 0 || w.lastRecord().Phase != release.Intended {
		t.Errorf("%q, %q", got, w.phases())
	}
}
