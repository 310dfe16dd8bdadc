package smoke

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// checks makes the configured checks in order.
func (r *run) checks(ctx context.Context) error {
	for _, c := range r.Checks {
		step := event.Start(ctx, "[smoke] check %s", c.Name)
		failed, detail, err := r.check(ctx, c)
		if err != nil {
			step.Done(err)
			return err
		}
		if failed != nil {
			r.add(c.Name, release.Failed, "%v", failed)
		} else {
			r.add(c.Name, release.Passed, "%s", detail)
		}
		step.Done(failed)
	}
	return nil
}

// check makes one check, twice if something must survive. failed is what the
// application did wrong, err that it could not be asked.
func (r *run) check(ctx context.Context, c Check) (failed error, detail string, err error) {
	before, failed := r.ask(ctx, c)
	if failed != nil || c.Survives == "" {
		return failed, before.detail, r.alive(ctx, failed)
	}
	bounded, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	err = r.monitor.move(bounded, c.Service, func(id string) error {
		if c.Survives == Restart {
			return r.Engine.Restart(bounded, id, 0)
		}
		return r.Runner.Recreate(bounded, r.workload, c.Service)
	}, func() error { return r.settle(bounded) })
	if err != nil {
		unwell, seen := r.unwell(ctx)
		switch {
		case ctx.Err() != nil:
			return nil, "", ctx.Err()
		case seen == nil && unwell != "":
			return fmt.Errorf("after %s: %s", c.Survives, unwell), "", nil
		case seen == nil && bounded.Err() != nil:
			return fmt.Errorf("after %s %w within %s", c.Survives, errStuck, r.Timeout), "", nil
		}
		return nil, "", err
	}
	after, failed := r.ask(ctx, c)
	switch {
	case failed != nil:
		return fmt.Errorf("before %s it passed, after it: %w", c.Survives, failed), "", r.alive(ctx, failed)
	case len(c.Exec) > 0 && !bytes.Equal(before.output, after.output):
		return fmt.Errorf("%s changed by %s: %q before, %q after", strings.Join(c.Exec, " "), c.Survives, oneLine(string(before.output)), oneLine(string(after.output))), "", nil
	}
	return nil, fmt.Sprintf("%s, and again after %s", before.detail, c.Survives), nil
}

// settle waits until every service is well again.
func (r *run) settle(ctx context.Context) error {
	pause := 20 * time.Millisecond
	for {
		seen, err := r.Engine.Observe(ctx, r.workload.Project)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(seen.Containers, func(c release.Container) bool { return c.Health == "starting" || c.Health == "unhealthy" }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errStuck
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		}
	}
}

var errStuck = errors.New("not all services became well again")

// alive turns a failed check into an error when it was the engine that did not
// answer.
func (r *run) alive(ctx context.Context, failed error) error {
	if failed == nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := r.Engine.Observe(ctx, r.workload.Project); err != nil {
		return err
	}
	return nil
}

// answer is what a passed check found.
type answer struct {
	detail string
	output []byte
}

// ask asks until the answer is as wanted or the check's time is over.
func (r *run) ask(ctx context.Context, c Check) (answer, error) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = checkTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pause := 50 * time.Millisecond
	var last error
	for {
		a, err := r.once(ctx, c)
		if err == nil {
			return a, nil
		}
		if ctx.Err() == nil || last == nil {
			last = err // the reason, rather than that time was over
		}
		select {
		case <-ctx.Done():
			return answer{}, fmt.Errorf("%w (for %s)", last, timeout)
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		}
	}
}

func (r *run) once(ctx context.Context, c Check) (answer, error) {
	switch {
	case c.HTTP != nil:
		path := c.HTTP.Path
		if path == "" {
			path = "/"
		}
		return answer{detail: "answered " + path}, r.http(ctx, c.Service, *c.HTTP)
	case c.TCP > 0:
		return answer{detail: fmt.Sprintf("port %d takes connections", c.TCP)}, r.dial(ctx, c.Service, c.TCP)
	case c.Log != "":
		return r.logged(ctx, c)
	}
	exit, output, err := r.Engine.Exec(ctx, r.monitor.id(c.Service), c.Exec)
	if err == nil && exit != 0 {
		err = fmt.Errorf("%s gave exit code %d: %s", strings.Join(c.Exec, " "), exit, oneLine(string(output)))
	}
	return answer{detail: fmt.Sprintf("%s: %s", strings.Join(c.Exec, " "), oneLine(string(output))), output: output}, err
}

// logLines is how much of a log is searched.
const logLines = 10_000

func (r *run) logged(ctx context.Context, c Check) (answer, error) {
	raw, err := r.Engine.Logs(ctx, r.monitor.id(c.Service), logLines)
	if err != nil {
		return answer{}, err
	}
	want, err := regexp.Compile(c.Log)
	if err != nil {
		return answer{}, err
	}
	for line := range bytes.Lines(raw) {
		if want.Match(bytes.TrimRight(line, "\r\n")) {
			return answer{detail: "logged " + oneLine(string(line))}, nil
		}
	}
	return answer{}, fmt.Errorf("no line of the log matches %s", c.Log)
}
