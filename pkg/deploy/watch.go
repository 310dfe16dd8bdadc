package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// mostRestarts is how often a container may be restarted while it is waited
// for, before that counts as a crash loop.
const mostRestarts = 5

// watch waits for containers. Events say when to look; what a look finds is
// what counts, and looks happen without events too, ever more rarely, so that
// a lost connection costs time and not the answer.
type watch struct {
	engine  Engine
	w       release.Workload
	timeout time.Duration
	settle  time.Duration
	probe   func(context.Context, release.Container) bool // see Run.Probe

	mu     sync.Mutex
	bells  map[string]chan struct{} // container id → something happened
	passed map[string]pass          // container id → its health check passed, asked by ourselves
}

// pass is when a health check first passed, and which start of its container
// that was.
type pass struct{ at, started time.Time }

// newWatch subscribes to the project's events; they end with the context.
func newWatch(ctx context.Context, e Engine, w release.Workload, timeout, settle time.Duration) (*watch, error) {
	if timeout <= 0 {
		timeout = 3 * time.Minute
	}
	if settle <= 0 {
		settle = 2 * time.Second
	}
	v := &watch{engine: e, w: w, timeout: timeout, settle: settle, bells: map[string]chan struct{}{}, passed: map[string]pass{}}
	events, err := e.Events(ctx, w.Project)
	if err != nil {
		return nil, err
	}
	go func() {
		for e := range events {
			if !strings.HasPrefix(e.Action, "exec_") { // health checks make three each, and say what came of it apart
				v.ring(e.Container)
			}
		}
	}()
	return v, nil
}

func (v *watch) bell(id string) chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.bells[id] == nil {
		v.bells[id] = make(chan struct{}, 1)
	}
	return v.bells[id]
}

// ready waits until a started container is well: healthy where it has a health
// check, still running after the settle time where it has none, ended with
// exit code 0 where it is meant to end. The error tells what a person needs:
// how it ended, the last health check's output, the last lines of its log.
func (v *watch) ready(ctx context.Context, id string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := prober{probe: v.probe, answers: make(chan bool, 1)}
	return v.wait(ctx, id, func(c release.Container, running time.Duration) (bool, error) {
		if !isOneShot(c, v.w) && p.well(ctx, c, func() { v.ring(id) }) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.passed[id] = pass{time.Now(), c.Started}
			return true, nil
		}
		return well(c, isOneShot(c, v.w), running >= v.settle)
	})
}

// ring says that it is time for a look.
func (v *watch) ring(id string) {
	select {
	case v.bell(id) <- struct{}{}:
	default: // it rings already
	}
}

// probeTime bounds one answer of a probe, and mostPause is between two.
const (
	probeTime = 3 * time.Second
	mostPause = time.Second
)

// prober asks a container by ourselves while the engine has not asked its health
// check yet: one question at a time, ever more rarely.
type prober struct {
	probe   func(context.Context, release.Container) bool
	answers chan bool
	asking  bool
	next    time.Time
	pause   time.Duration
}

// well gives the last answer, and asks if it is time to. An answer rings.
func (p *prober) well(ctx context.Context, c release.Container, ring func()) bool {
	if p.probe == nil || c.State != "running" || c.Health != "starting" {
		return false
	}
	if p.asking {
		select {
		case ok := <-p.answers:
			p.asking, p.pause = false, min(max(2*p.pause, 50*time.Millisecond), mostPause)
			p.next = time.Now().Add(p.pause)
			time.AfterFunc(p.pause, ring)
			return ok
		default:
			return false
		}
	}
	if time.Now().Before(p.next) {
		return false
	}
	p.asking = true
	go func() {
		ctx, cancel := context.WithTimeout(ctx, probeTime)
		defer cancel()
		p.answers <- p.probe(ctx, c)
		ring()
	}()
	return false
}

// steady is how long a health check has to go on passing where the engine has
// not asked it yet: one answer may come from what is about to end.
const steady = 250 * time.Millisecond

// confirmed waits, after ready, until the engine says the same, or the health
// check passes once more, steady after it first did and without a restart in
// between.
func (v *watch) confirmed(ctx context.Context, id string) error {
	return v.confirm(ctx, id, well)
}

// recovered waits as confirmed does, and gives an unhealthy or stopped container
// until the timeout to get well.
func (v *watch) recovered(ctx context.Context, id string) error {
	return v.confirm(ctx, id, func(c release.Container, oneShot, settled bool) (bool, error) {
		ok, err := well(c, oneShot, settled)
		return ok && err == nil, nil
	})
}

func (v *watch) confirm(ctx context.Context, id string, judge func(c release.Container, oneShot, settled bool) (bool, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ring := func() { v.ring(id) }
	var p *prober // another one for each start: what an earlier one was answered is void
	after := func(first pass) {
		p = &prober{probe: v.probe, answers: make(chan bool, 1), next: first.at.Add(steady)}
		time.AfterFunc(time.Until(p.next), ring)
	}
	v.mu.Lock()
	first := v.passed[id]
	v.mu.Unlock()
	after(first)
	return v.wait(ctx, id, func(c release.Container, _ time.Duration) (bool, error) {
		if !c.Started.Equal(first.started) {
			first = pass{time.Now(), c.Started}
			after(first)
		}
		if !isOneShot(c, v.w) && p.well(ctx, c, ring) {
			return true, nil
		}
		return judge(c, isOneShot(c, v.w), true)
	})
}

// started waits until a container runs, or has run.
func (v *watch) started(ctx context.Context, id string) error {
	return v.wait(ctx, id, func(c release.Container, _ time.Duration) (bool, error) {
		return c.State == "running" || isOneShot(c, v.w) && c.State == "exited", nil
	})
}

// wait looks at a container until done says so. done gets the time since the
// container was first seen running without a restart.
func (v *watch) wait(ctx context.Context, id string, done func(release.Container, time.Duration) (bool, error)) error {
	begin := time.Now()
	var since, started time.Time
	pause := 10 * time.Millisecond
	for {
		c, err := v.engine.Inspect(ctx, id)
		if err != nil {
			return err
		}
		limit := v.limit(c.Service)
		if c.State != "running" {
			since = time.Time{}
		} else if since.IsZero() || !c.Started.Equal(started) {
			since, started = time.Now(), c.Started
		}
		var running time.Duration
		if !since.IsZero() {
			running = time.Since(since)
		}
		ok, err := done(c, running)
		if err != nil {
			return v.explain(ctx, c, err)
		}
		if ok {
			return nil
		}
		if time.Since(begin) > limit {
			return v.explain(ctx, c, fmt.Errorf("not well after %s: %s", limit, describe(c)))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-v.bell(id):
			pause = 10 * time.Millisecond
		case <-time.After(pause):
			pause = min(2*pause, 2*time.Second)
		}
	}
}

// limit is how long a service may take: its health check's start period comes
// on top, during which failures do not count.
func (v *watch) limit(service string) time.Duration {
	s, ok := v.w.Service(service)
	if ok && s.Health != nil {
		return v.timeout + s.Health.StartPeriod
	}
	return v.timeout
}

// well judges one look at a container.
func well(c release.Container, oneShot, settled bool) (bool, error) {
	switch c.State {
	case "exited", "dead":
		if oneShot && c.ExitCode == 0 {
			return true, nil
		}
		return false, fmt.Errorf("it ended: %s", describe(c))
	case "restarting":
	case "running":
		switch {
		case c.Health == "unhealthy":
			return false, errors.New("it is unhealthy")
		case c.Health == "healthy":
			return !oneShot, nil
		case c.Health == "none" && settled && !oneShot:
			return true, nil
		}
	}
	if c.Restarts >= mostRestarts {
		return false, fmt.Errorf("it was restarted %d times: %s", c.Restarts, describe(c))
	}
	return false, nil
}

func describe(c release.Container) string {
	text := state(c)
	if c.State == "running" && c.Health != "none" {
		text += ", " + c.Health
	}
	if c.Error != "" {
		text += ", " + c.Error
	}
	return text
}

// explain adds what the container said about itself.
func (v *watch) explain(ctx context.Context, c release.Container, err error) error {
	text := fmt.Sprintf("waiting for %s: %v", c.Name, err)
	if c.HealthLog != "" {
		text += "; its last health check: " + c.HealthLog
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if log, err := v.engine.Logs(ctx, c.ID, 20); err == nil && len(log) > 0 {
		text += "; the last lines of its log:\n" + clip(strings.TrimRight(string(log), "\n"), 4000)
	}
	return release.Unavailable("the service's log has the cause: docker logs "+c.Name, "%s", text)
}

// clip keeps the end of a log.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return "…" + strings.ToValidUTF8(s[len(s)-most:], "")
}
