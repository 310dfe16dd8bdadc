package deploy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/release"
)

// hooked is a world whose hooks are written down, "service command in container:
// health", and answered by service.
type hooked struct {
	*world
	mu     sync.Mutex
	ran    []string
	answer map[string]func(context.Context) (int, []byte, error)
}

func newHooked(t *testing.T) *hooked {
	h := &hooked{world: newWorld(t), answer: map[string]func(context.Context) (int, []byte, error){}}
	h.fake.OnHook = func(ctx context.Context, c release.Container, hook release.Hook) (int, []byte, error) {
		h.mu.Lock()
		h.ran = append(h.ran, fmt.Sprintf("%s in %s: %s", strings.Join(hook.Command[1:], " "), c.Name, c.State))
		h.mu.Unlock()
		if f := h.answer[c.Service]; f != nil {
			return f(ctx)
		}
		return 0, nil, nil
	}
	h.mustDeploy(h.job(h.stack("1"), 1))
	return h
}

func fails(context.Context) (int, []byte, error) { return 3, []byte("one\ntwo\n"), nil }

// second is a job for the second version.
func (h *hooked) second(sequence int64) deploy.Job {
	h.images = map[string]release.PlatformImage{}
	return h.job(h.stack("2"), sequence)
}

// The old container's own hooks run in it, before it is stopped, and no other's.
func TestHooksRunInTheOldContainer(t *testing.T) {
	h := newHooked(t)
	if len(h.ran) != 0 {
		t.Errorf("at the first deployment: %q", h.ran)
	}
	h.mustDeploy(h.second(2))
	want := []string{"checkpoint 1 in agent-store-1.promote-old-2: running", "drain 1 in agent-executor-1.promote-old-2: running"}
	if !slices.Equal(h.ran, want) {
		t.Errorf("ran %q", h.ran)
	}
	calls := h.fake.Calls()
	hook, stop := slices.Index(calls, "hook agent-store-1.promote-old-2"), slices.Index(calls, "stop agent-store-1.promote-old-2")
	if hook < 0 || stop < hook {
		t.Errorf("hook %d, stop %d", hook, stop)
	}
	// One that does not run has nothing to say.
	h.ran = nil
	h.fake.Die("agent-executor-1", 1)
	third := h.stack("2")
	third.Services[4].ConfigHash = "changed"
	h.mustDeploy(h.job(third, 3))
	if len(h.ran) != 0 {
		t.Errorf("in a stopped container: %q", h.ran)
	}
}

// A service whose hook fails is not stopped: what it has in its memory is there
// still. What was done before is undone.
func TestAHookThatFailsKeepsTheService(t *testing.T) {
	for service, c := range map[string]struct {
		answer func(context.Context) (int, []byte, error)
		says   string
	}{
		"store":    {fails, "pre_stop hook 1 (probe) of service store ended with exit code 3; it said last:\none\ntwo"},
		"executor": {fails, "of service executor ended with exit code 3"},
		"slow": {func(ctx context.Context) (int, []byte, error) { <-ctx.Done(); return -1, nil, ctx.Err() },
			"longer than the stop_grace_period, 30ms"},
		"broken": {func(context.Context) (int, []byte, error) { return -1, nil, release.Unavailable("", "no such program") },
			"could not be run: no such program"},
	} {
		h := newHooked(t)
		name := service
		if service == "slow" || service == "broken" {
			name = "store"
			first := h.stack("1")
			first.Services[1].StopGrace, first.Services[1].ConfigHash = 30*time.Millisecond, "short"
			h.mustDeploy(h.job(first, 5))
		}
		old, before := h.container(name), snapshot(h.seen())
		h.answer[name] = c.answer
		err := h.deploy(h.second(6))
		if release.KindOf(err) != release.KindRolledBack || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v", service, err)
		}
		if now := h.container(name); now.ID != old.ID || !now.Started.Equal(old.Started) {
			t.Errorf("%s: it was restarted", service)
		}
		if after := snapshot(h.seen()); !slices.Equal(before, after) {
			t.Errorf("%s: before %q, after %q", service, before, after)
		}
	}
}

// What is ill is not kept for its hook, nor is what is left when going back, nor
// what an undo takes away.
func TestAHookThatFailsKeepsNothingBack(t *testing.T) {
	h := newHooked(t)
	h.answer["store"], h.answer["executor"] = fails, fails
	j := h.second(2)
	h.fake.SetHealth("agent-store-1", "unhealthy")
	h.fake.SetHealth("agent-executor-1", "unhealthy")
	h.mustDeploy(j)
	if len(h.ran) != 2 {
		t.Errorf("unhealthy: %q", h.ran)
	}
	h.images = map[string]release.PlatformImage{}
	j = h.job(h.stack("1"), 3)
	j.Back = true
	h.mustDeploy(j)

	j = h.second(4)
	delete(h.answer, "executor")
	h.answer["store"] = func(ctx context.Context) (int, []byte, error) {
		if h.container("store").Reference == subject("store", "2").String() {
			return 3, nil, nil
		}
		return 0, nil, nil
	}
	h.fake.Health = func(c release.Container) string {
		if c.Service == "executor" && c.Reference == subject("executor", "2").String() {
			return "unhealthy"
		}
		return "healthy"
	}
	h.ran = nil
	if err := h.deploy(j); release.KindOf(err) != release.KindRolledBack {
		t.Error(err)
	}
	if !slices.Contains(h.ran, "checkpoint 2 in agent-store-1.promote-undone-4: running") {
		t.Errorf("undone: %q", h.ran)
	}
	if c := h.container("store"); c.Reference != subject("store", "1").String() || c.Health != "healthy" {
		t.Errorf("%+v", c)
	}
}

// Going back, a container that the engine has not asked yet is left by its hooks
// if it is at work, and not if it never got well.
func TestWhatTheEngineHasNotAskedYetRunsItsHooks(t *testing.T) {
	for _, atWork := range []bool{true, false} {
		h := newHooked(t)
		work := h.stack("1")
		work.Services[1].ConfigHash, work.Services[1].Health = "asked seldom", &release.Health{Test: []string{"CMD", "/agent", "healthy"}}
		h.mustDeploy(h.job(work, 2))
		h.ran = nil
		h.fake.SetHealth("agent-store-1", "starting")
		h.answer["store"] = func(context.Context) (int, []byte, error) {
			if atWork {
				return 0, nil, nil
			}
			return 1, nil, nil
		}
		j := h.second(3)
		j.Back = true
		h.mustDeploy(j)
		const old = " in agent-store-1.promote-old-3: running"
		if !slices.Contains(h.ran, "healthy"+old) || slices.Contains(h.ran, "checkpoint 1"+old) != atWork {
			t.Errorf("at work %t: %q", atWork, h.ran)
		}
	}
}

// A service that is taken away runs its hooks, too.
func TestAServiceThatGoesRunsItsHooks(t *testing.T) {
	h := newHooked(t)
	work := h.stack("1")
	work.Services = work.Services[:4]
	h.answer["executor"] = fails
	if err := h.deploy(h.job(work, 2)); release.KindOf(err) != release.KindRolledBack {
		t.Error(err)
	}
	delete(h.answer, "executor")
	h.mustDeploy(h.job(work, 3))
	if want := []string{"drain 1 in agent-executor-1.promote-old-2: running", "drain 1 in agent-executor-1.promote-old-3: running"}; !slices.Equal(h.ran, want) {
		t.Errorf("%q", h.ran)
	}
}

// Values that reach a hook reach neither what is said nor what is recorded, and
// output is shown up to a bound.
func TestAHooksValuesStayWithTheContainer(t *testing.T) {
	h := newHooked(t)
	const secret = "hunter2-hunter2"
	work := h.stack("1")
	work.Services[1].ConfigHash = "with a secret"
	work.Services[1].PreStop = []release.Hook{{Command: []string{"/agent", "--token=" + secret}, User: "1000", WorkingDir: "/srv", Environment: map[string]string{"TOKEN": secret}}}
	h.mustDeploy(h.job(work, 2))
	var got release.Hook
	h.fake.OnHook = func(_ context.Context, _ release.Container, hook release.Hook) (int, []byte, error) {
		got = hook
		return 1, []byte(strings.Repeat(strings.Repeat("x", 5000)+"\n", 300)), nil
	}
	recorded, err := json.Marshal(h.recorded(work))
	if err != nil {
		t.Fatal(err)
	}
	j := h.second(3)
	plan, err := json.Marshal(h.plan(j))
	if err != nil {
		t.Fatal(err)
	}
	failed := h.deploy(j)
	text := fmt.Sprint(failed)
	if failed == nil || strings.Contains(text+string(recorded)+string(plan), secret) {
		t.Errorf("%.500s\n%s\n%s", text, recorded, plan)
	}
	if len(text) > 8000 {
		t.Errorf("%d bytes are said", len(text))
	}
	if got.Environment["TOKEN"] != secret || got.User != "1000" || got.WorkingDir != "/srv" || got.Command[1] != "--token="+secret {
		t.Errorf("%+v", got)
	}
}
