package smoke

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// checks makes the configured checks in order, then looks at the state of
// services that none of them moved.
func (r *run) checks(ctx context.Context) error {
	for _, c := range r.Checks {
		if c.LogNot != "" {
			continue // see quiet
		}
		step := event.Start(ctx, "[smoke] check %s", c.Name)
		begin := time.Now()
		failed, detail, err := r.check(ctx, c.with(r.token))
		if err != nil {
			step.Done(err)
			return err
		}
		if failed != nil {
			r.add(c.Name, release.Failed, "%v", failed)
		} else {
			r.add(c.Name, release.Passed, "%s", detail)
		}
		last := &r.result.Checks[len(r.result.Checks)-1]
		last.Service, last.Seconds = c.Service, time.Since(begin).Seconds()
		step.Done(failed)
	}
	return r.keeps(ctx)
}

// check makes one check, twice if something must survive. failed is what the
// application did wrong, err that it could not be asked.
func (r *run) check(ctx context.Context, c Check) (failed error, detail string, err error) {
	if c.Write != nil {
		bounded, cancel := context.WithTimeout(ctx, max(c.Timeout, checkTimeout))
		_, failed := r.do(bounded, c.Name, c.Service, *c.Write, "")
		cancel()
		if failed != nil {
			return fmt.Errorf("writing: %w", failed), "", r.alive(ctx, failed)
		}
	}
	before, failed := r.ask(ctx, c)
	if failed != nil || c.Survives == "" {
		return failed, before.detail, r.alive(ctx, failed)
	}
	if failed, err = r.move(ctx, c.Service, c.Survives); failed != nil || err != nil {
		return failed, "", err
	}
	after, failed := r.ask(ctx, c)
	switch {
	case failed != nil:
		return fmt.Errorf("before %s it passed, after it: %w", c.Survives, failed), "", r.alive(ctx, failed)
	case !bytes.Equal(before.output, after.output):
		return fmt.Errorf("%s changed by %s: %q before, %q after", strings.Join(append(c.Exec, c.Script...), " "), c.Survives,
			oneLine(string(before.output)), oneLine(string(after.output))), "", nil
	}
	return nil, fmt.Sprintf("%s, and again after %s", before.detail, c.Survives), nil
}

// move restarts or replaces a service and waits until all are well again. failed
// is that they did not become so.
func (r *run) move(ctx context.Context, service, how string) (failed, err error) {
	bounded, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	before, err := r.look(bounded, service)
	if err != nil {
		return nil, err
	}
	err = r.monitor.move(bounded, service, func(id string) error {
		if how == Restart {
			return r.Engine.Restart(bounded, id, 0)
		}
		return r.Runner.Recreate(bounded, r.workload, service)
	}, func() error { return r.settle(bounded) })
	if err == nil {
		after, err := r.look(bounded, service)
		r.compare(service, how, before, after)
		return nil, err
	}
	unwell, seen := r.unwell(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case seen == nil && unwell != "":
		return fmt.Errorf("after %s: %s", how, unwell), nil
	case seen == nil && bounded.Err() != nil:
		return fmt.Errorf("after %s %w within %s", how, errStuck, r.Timeout), nil
	}
	return nil, err
}

// settle waits until every service is well again.
func (r *run) settle(ctx context.Context) error {
	pause := 20 * time.Millisecond
	for {
		seen, err := r.Engine.Observe(ctx, r.workload.Project)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(seen.Containers, func(c release.Container) bool {
			return c.Health == "unhealthy" || c.Health == "starting" && !Probe(ctx, r.Engine, c)
		}) {
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

// quiet judges the checks of what no line of a log may say, when everything has
// been said.
func (r *run) quiet(ctx context.Context) error {
	for _, c := range r.Checks {
		if c.LogNot == "" {
			continue
		}
		line, found, err := r.search(ctx, r.monitor.id(c.Service), c.LogNot)
		switch {
		case err != nil:
			if err := r.alive(ctx, err); err != nil {
				return err
			}
			r.add(c.Name, release.Failed, "its log cannot be read: %v", err)
		case found:
			r.add(c.Name, release.Failed, "logged %s", line)
		default:
			r.add(c.Name, release.Passed, "no line of the log matches %s", c.LogNot)
		}
		r.result.Checks[len(r.result.Checks)-1].Service = c.Service
	}
	return nil
}
