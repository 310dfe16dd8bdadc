package smoke

import (
	"context"
	"fmt"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// memoryTest samples under load for the configured time. It ends early when
// something happened that fails the run anyway.
func (r *run) memoryTest(ctx context.Context) (err error) {
	if r.Memory.Duration <= 0 {
		return nil
	}
	step := event.Start(ctx, "[smoke] memory under load for %s", r.Memory.Duration)
	defer func() { step.Done(err) }()
	r.begun = time.Now()
	r.steady = r.begun.Add(r.Memory.Warmup)
	loadCtx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	var w work
	go func() {
		defer close(done)
		if !r.Memory.Load.none() {
			r.load(loadCtx, &w)
		}
	}()
	r.sit(ctx)
	stop()
	<-done
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := r.monitor.failure(); err != nil {
		return err
	}
	if err := r.sampledAll(); err != nil && !r.monitor.alarmed() {
		return err
	}
	r.measured = true
	if r.Memory.Load.none() {
		return nil
	}
	return r.judgeLoad(&w)
}

// sampledAll makes sure that there is something to judge: memory that was not
// seen is not memory that was low.
func (r *run) sampledAll() error {
	for _, s := range r.workload.Services {
		l := r.monitor.get(s.Name)
		if !s.OneShot && len(l.samples) == 0 && l.last.State == "running" && r.Memory.Duration > 4*max(r.Interval, engineInterval) {
			return release.Unavailable("docker stats shows whether the engine can measure", "the memory of service %s could not be sampled", s.Name)
		}
	}
	return nil
}

// sit waits and shows memory meanwhile.
func (r *run) sit(ctx context.Context) {
	end := time.After(r.Memory.Duration)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	shown := r.pictures(ctx)
	defer shown.end()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.monitor.trouble:
			return
		case <-end:
			return
		case now := <-tick.C:
			shown.draw(now)
		}
	}
}

// since leaves out the samples before a moment.
func since(samples []sample, begin time.Time) []sample {
	for i, s := range samples {
		if !s.at.Before(begin) {
			return samples[i:]
		}
	}
	return nil
}

// oneLife gives the longest stretch of samples in which the process was not
// started anew.
func oneLife(samples []sample, started []time.Time) []sample {
	var best, now []sample
	next := 0
	for _, s := range samples {
		for next < len(started) && !s.at.Before(started[next]) {
			now = nil
			next++
		}
		now = append(now, s)
		if len(now) > len(best) {
			best = now
		}
	}
	return best
}

// span writes a long duration for people.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.0f days", d.Hours()/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%.0f hours", d.Hours())
	case d >= 2*time.Minute:
		return fmt.Sprintf("%.0f minutes", d.Minutes())
	}
	return fmt.Sprintf("%.0f seconds", d.Seconds())
}
