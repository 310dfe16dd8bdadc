//go:build e2e && linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// hosts is a copy of the stage's checkout whose staging is one host, which
// reaches the registry, and whose production is two, which reach none.
type hosts struct {
	stage
	*fleet
	staged, one, two *machine
}

// The targets' truth, with what is beside the fields of other tests.
type (
	hostTruth struct {
		Name, Status, Message string
		Running               []struct{ Service, Digest, Container, State string }
	}
	hostResult struct {
		Release   string
		Images    []serviceResult
		Targets   []hostTruth
		Unchanged bool
		Record    *struct{ Sequence int64 }
	}
)

// The hosts of production.
const one, two = "prod-1", "prod-2-small"

var toProduction = []string{"to", "production"}

// copied gives the stage with a checkout of its own.
func copied(t *testing.T) stage {
	t.Helper()
	s := *theStage
	s.tree = filepath.Join(s.dir, "hosts")
	if out, err := exec.Command("cp", "-a", theStage.tree, s.tree).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { _ = os.RemoveAll(s.tree) })
	return s
}

func newHosts(t *testing.T, s stage) *hosts {
	t.Helper()
	h := &hosts{stage: s, fleet: newFleet(t, "stage-1", one, two)}
	h.staged, h.one, h.two = h.all["stage-1"], h.all[one], h.all[two]
	h.staged.reaches(h.registry)
	h.environ = append(slices.Clone(h.environ), h.path)
	target := func(m *machine) string { return "{name: " + m.name + `, host: "` + m.host() + `"}` }
	h.configure(t, "    targets: [{name: local}]\n", "    targets: ["+target(h.staged)+"]\n",
		"    targets: [{name: local}]\n", "    targets: ["+target(h.one)+", "+target(h.two)+"]\n    strategy: {canary: 1, pause: 4s, parallel: 2, onFailure: rollback}\n",
		"\nledger:\n", "\nledger:\n  lease: 3s\n")
	// What is ill is soon seen to be, and does not take long to end.
	h.rewrite(t, "compose.prod.yml", "  planner: *rotated\n", "  planner:\n    <<: *rotated\n    stop_grace_period: 2s\n"+
		"    healthcheck: {test: [CMD, python3, -m, agent.health], interval: 1s, timeout: 3s, start_period: 5s, retries: 3}\n")
	h.change(t, "several hosts")
	return h
}

// configure replaces texts in promote.yaml, the first there is of each.
func (h *hosts) configure(t *testing.T, pairs ...string) {
	t.Helper()
	path := filepath.Join(h.tree, "promote.yaml")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("promote.yaml does not hold %q", pairs[i])
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// It comes after the tests that break what all share, beside others that mostly
// wait as well.
func TestSeveralHosts(t *testing.T) {
	s := copied(t)
	t.Parallel()
	h := newHosts(t, s)
	adopted := h.adopt(t)
	first := h.promotes(t, 0, toProduction, one+" deployed", two+" deployed")
	var second hostResult
	var built struct{ Images []serviceResult }
	h.must(t, &built, "build")
	h.must(t, &promotionResult{}, "to", "staging")
	for service, c := range h.staged.containers() {
		// What stays the same stays, what changes is replaced, with its memory.
		if was := adopted[service]; (c.id == was.id) != (c.ref == was.ref) || c.volumes != was.volumes || !c.up {
			t.Errorf("%s was %+v, is %+v", service, was, c)
		}
	}

	t.Run("the order is planned", func(t *testing.T) {
		var plan struct {
			Rollout struct {
				Batches []struct {
					Targets []string
					Canary  bool
					Pause   float64
				}
			}
		}
		h.must(t, &plan, "plan", "--to", "production")
		b := plan.Rollout.Batches
		if len(b) != 2 || !b[0].Canary || b[0].Pause != 4 || b[0].Targets[0] != one || b[1].Targets[0] != two {
			t.Errorf("batches %+v", b)
		}
	})
	t.Run("a host is down", func(t *testing.T) {
		h.one.down()
		defer h.one.serve(one)
		h.promotes(t, 1, toProduction, one+" unreachable", two+" skipped")
		h.run(t, first)
	})
	t.Run("the jump host is down", func(t *testing.T) {
		h.staged.down()
		defer h.staged.serve(h.staged.name)
		h.promotes(t, 1, toProduction, one+" skipped", two+" unreachable")
		h.run(t, first)
	})
	t.Run("a host has another key", func(t *testing.T) {
		h.keygen("stranger")
		h.two.down()
		h.two.serve("stranger")
		defer func() { h.two.down(); h.two.serve(two) }()
		result := h.promotes(t, 1, toProduction, one+" skipped", two+" unreachable")
		if m := result.Targets[1].Message; !strings.Contains(m, "not the one in known_hosts") {
			t.Errorf("message %q", m)
		}
		h.run(t, first)
	})
	t.Run("a disk is full", func(t *testing.T) {
		defer h.two.fill()()
		result := h.promotes(t, 1, toProduction, one+" skipped", two+" failed")
		if m := result.Targets[1].Message; !strings.Contains(m, "no space left") {
			t.Errorf("message %q", m)
		}
		h.run(t, first)
	})
	t.Run("the canary ends in the pause", func(t *testing.T) {
		result := h.during(t, "[pause] production", func(*os.Process) { h.one.docker("kill", h.one.containers()["planner"].id) },
			4, toProduction, one+" rolledBack", two+" skipped")
		// Who notices first says it: the watch, or a check that is being asked.
		if m := result.Targets[0].Message; !strings.Contains(m, "exit code 137") && !strings.Contains(m, "fails the check") {
			t.Errorf("message %q", m)
		}
		h.run(t, first)
	})
	t.Run("a service turns unhealthy on the second host", func(t *testing.T) {
		done := h.two.when("planner", "kill", "--signal", "STOP")
		result := h.promotes(t, 4, toProduction, one+" rolledBack", two+" rolledBack")
		<-done
		if m := result.Targets[1].Message; !strings.Contains(m, "unhealthy") {
			t.Errorf("message %q", m)
		}
		h.run(t, first)
	})
	t.Run("interrupted in the pause", func(t *testing.T) {
		h.during(t, "[pause] production", func(p *os.Process) { _ = p.Signal(syscall.SIGINT) },
			130, toProduction, one+" deployed", two+" skipped")
		h.promotes(t, 0, []string{"resume", "production"}, one+" deployed", two+" deployed")
	})
	t.Run("the identical digest everywhere", func(t *testing.T) { second = h.identical(t, built.Images) })
	t.Run("one differs by hand", h.differs)
	t.Run("going back stops on the second host", func(t *testing.T) {
		h.configure(t, "onFailure: rollback", "onFailure: stop")
		done := h.two.when("planner", "kill")
		result := h.promotes(t, 5, []string{"rollback", "production", "--reason", "trial"}, one+" deployed", two+" failed")
		<-done
		if m := result.Targets[1].Message; !strings.Contains(m, "exit code 137") {
			t.Errorf("message %q", m)
		}
		h.promote(t, toProduction...).want(t, 6, "promote resume production")
		h.promotes(t, 0, []string{"resume", "production"}, one+" deployed", two+" deployed")
		h.run(t, first)
	})
	t.Run("a host is gone from promote.yaml", func(t *testing.T) {
		h.configure(t, `, {name: `+two+`, host: "`+h.two.host()+`"}`, "", "canary: 1, pause: 4s, ", "")
		var plan struct {
			Rollout struct{ Gone []struct{ Name string } }
		}
		h.must(t, &plan, "plan", "--to", "production")
		if g := plan.Rollout.Gone; len(g) != 1 || g[0].Name != two {
			t.Errorf("gone: %+v", g)
		}
		h.promotes(t, 0, toProduction, one+" deployed")
		h.run(t, second, h.one)
		h.run(t, first, h.two)
	})
}

// adopt starts with Docker Compose, on the host of staging, what the stage's own
// staging runs. Staging takes it over, and nothing is restarted.
func (h *hosts) adopt(t *testing.T) (running map[string]container) {
	t.Helper()
	program, err := compose()
	if err != nil {
		t.Fatal(err)
	}
	var status statusResult
	h.must(t, &status, "status", "staging")
	env := status.Environments[0]
	images := "services:\n"
	for _, r := range env.Targets[0].Running {
		images += fmt.Sprintf("  %s: {build: !reset null, image: %s/agent/%s@%s}\n", r.Service, h.registry, r.Service, r.Digest)
	}
	h.write("images.yml", images, 0o600)
	args := append(program[1:], "--env-file", "../staging.env")
	for _, file := range []string{"compose.yaml", "compose.prod-like.yml", "compose.staging.yml", h.at("images.yml")} {
		args = append(args, "-f", file)
	}
	cmd := exec.Command(program[0], append(args, "up", "--wait", "--quiet-pull")...)
	cmd.Dir, cmd.Env = h.tree, append(slices.Clone(h.environ), "DOCKER_HOST=unix://"+h.staged.socket())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("docker compose: %v\n%s", err, out)
	}
	before := h.staged.containers()
	h.must(t, &promotionResult{}, "to", "staging", "--release", env.Release, "--adopt")
	if now := h.staged.containers(); len(now) != 4 || fmt.Sprint(now) != fmt.Sprint(before) {
		t.Errorf("Compose started %+v, adopted is %+v", before, now)
	}
	return before
}
