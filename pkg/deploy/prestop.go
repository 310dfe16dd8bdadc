package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// labelPreStop is what a container says is to be run in it before it is stopped:
// its own hooks, not those of the release that comes after it.
const labelPreStop = "dev.promote.pre-stop"

const (
	defaultGrace  = 10 * time.Second // the engine's
	mostHookLines = 100              // of output that are shown
	mostHookLine  = 1000             // bytes of one
)

// leaving is what stands in labelPreStop.
type leaving struct {
	Grace time.Duration  `json:"grace"` // for all hooks together
	Hooks []release.Hook `json:"hooks"`
}

// leavingOf writes it for a service; empty where it has no hooks.
func leavingOf(s release.ServiceSpec) string {
	if len(s.PreStop) == 0 {
		return ""
	}
	raw, err := json.Marshal(leaving{s.StopGrace, s.PreStop})
	if err != nil {
		panic(err) // texts always encode
	}
	return string(raw)
}

// retire runs a container's hooks and stops it within its own grace. The hooks
// have as long as the stop. A hook that fails is an error and the container runs
// on, if it must not fail and the container is well; else it is a warning: what
// is ill, or is going anyway, is not kept for it.
func retire(ctx context.Context, e Engine, c release.Container, must bool) error {
	if c.State == "exited" || c.State == "created" || c.State == "dead" {
		return nil
	}
	if err := preStop(ctx, e, c, must); err != nil {
		return err
	}
	return stop(ctx, e, c)
}

// preStop is the first half of retire.
func preStop(ctx context.Context, e Engine, c release.Container, must bool) error {
	text := c.Labels[labelPreStop]
	if text == "" {
		return nil
	}
	now, err := e.Inspect(ctx, c.ID)
	switch {
	case errors.Is(err, release.ErrNotFound):
		return nil
	case err != nil:
		return err
	case now.State != "running", !must && now.Health == "starting" && !answers(ctx, e, now):
		return nil // nothing is in it that could be saved
	}
	must = must && now.Health != "unhealthy"
	if err = runHooks(ctx, e, now, text); err == nil || must || ctx.Err() != nil {
		return err
	}
	event.Warnf(ctx, "%v; it is stopped all the same", err)
	return nil
}

// answers asks a container's health check where the engine has not yet: it may
// have been at work for most of an interval.
func answers(ctx context.Context, e Engine, c release.Container) bool {
	if len(c.HealthTest) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	exit, _, err := e.RunHook(ctx, c.ID, release.Hook{Command: c.HealthTest})
	return err == nil && exit == 0
}

func runHooks(ctx context.Context, e Engine, c release.Container, text string) error {
	var l leaving
	if len(text) > mostDesired || json.Unmarshal([]byte(text), &l) != nil {
		return release.Unavailable("somebody else made the container: docker inspect "+c.Name, "the hooks of %s cannot be read: label %s", c.Name, labelPreStop)
	}
	if l.Grace <= 0 {
		l.Grace = defaultGrace
	}
	ctx, cancel := context.WithTimeoutCause(ctx, l.Grace, fmt.Errorf("it took longer than the stop_grace_period, %s", l.Grace))
	defer cancel()
	for i, h := range l.Hooks {
		if err := runHook(ctx, e, c, i+1, h); err != nil {
			return err
		}
	}
	return nil
}

// runHook names the hook by its number and program only: its arguments may come
// from values, and what is said here ends in the ledger.
func runHook(ctx context.Context, e Engine, c release.Container, number int, h release.Hook) (err error) {
	name := fmt.Sprintf("pre_stop hook %d of service %s", number, c.Service)
	if len(h.Command) > 0 {
		name = fmt.Sprintf("pre_stop hook %d (%s) of service %s", number, path.Base(h.Command[0]), c.Service)
	}
	step := event.Start(ctx, "%s", name)
	defer func() { step.Done(err) }()
	exit, output, err := e.RunHook(ctx, c.ID, h)
	if g, ok := e.(*guarded); ok && g.lost != nil {
		return g.lost
	}
	lines := hookLines(output)
	for _, line := range lines {
		step.Logf("%s", line)
	}
	const hint = "mend the hook, or the service; where it must go without, stop the container by hand first"
	switch {
	case err != nil && ctx.Err() != nil:
		return release.Unavailable(hint, "the %s: %w", name, context.Cause(ctx))
	case err != nil:
		return release.Unavailable(hint, "the %s could not be run: %w", name, err)
	case exit != 0:
		said := ""
		if n := len(lines); n > 0 {
			said = "; it said last:\n" + strings.Join(lines[max(0, n-5):], "\n")
		}
		return release.Unavailable(hint, "the %s ended with exit code %d%s", name, exit, said)
	}
	return nil
}

// hookLines gives what is shown of a hook's output.
func hookLines(output []byte) []string {
	text := strings.TrimRight(strings.ToValidUTF8(string(output), "�"), "\n")
	if text == "" {
		return nil
	}
	var lines []string
	for line := range strings.Lines(text) {
		if len(lines) == mostHookLines {
			return append(lines, "…")
		}
		lines = append(lines, clipStart(strings.TrimRight(line, "\r\n"), mostHookLine))
	}
	return lines
}

// clipStart keeps the beginning of a line.
func clipStart(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
