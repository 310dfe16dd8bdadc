package smoke

import (
	"context"
	"fmt"
	"math"
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
	if !r.Memory.Load.none() {
		r.judgeLoad(&w)
	}
	return nil
}

// sampledAll makes sure that there is something to judge: memory that was not
// seen is not memory that was low.
func (r *run) sampledAll() error {
	for _, s := range r.workload.Services {
		l := r.monitor.get(s.Name)
		if !s.OneShot && len(l.samples) == 0 && l.last.State == "running" && r.Memory.Duration > 4*r.Interval {
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

// judgeMemory gives the claims about one service's memory.
func (r *run) judgeMemory(l life) release.Memory {
	if l.oom && l.limit > 0 {
		l.peak = l.limit // the kernel kills when the limit is reached, also between two samples
	}
	m := release.Memory{Limit: l.limit, Peak: l.peak, Samples: len(l.samples)}
	t, told := trendOf(oneLife(since(l.samples, r.steady), l.started), r.window)
	if told && r.measured {
		m.SlopePerSecond = math.Round(t.slope*10) / 10
	}
	name := "memory/" + l.name
	switch {
	case len(l.samples) == 0 && !l.oom:
		return m // no claim
	case l.limit <= 0:
		r.add(name, release.Warned, "peak %s, and no limit: nothing can be said about what happens in production", size(l.peak))
		return m
	}
	percent := 100 * float64(l.peak) / float64(l.limit)
	detail := fmt.Sprintf("peak %s of %s (%.0f %%)", size(l.peak), size(l.limit), percent)
	switch {
	case l.oom:
		m.SlopePerSecond = r.ascent(l)
		r.add(name, release.Failed, "killed for want of memory: %s%s", detail, growing(m.SlopePerSecond))
	case percent > r.Memory.MaxPercentOfLimit:
		m.SlopePerSecond = r.ascent(l)
		r.add(name, release.Failed, "%s, want at most %.0f %%%s", detail, r.Memory.MaxPercentOfLimit, growing(m.SlopePerSecond))
	case !r.measured:
		r.add(name, release.Passed, "%s; no memory test was made, so nothing is said about growth", detail)
	case !told:
		r.add(name, release.Passed, "%s; too short to say anything about growth", detail)
	default:
		r.add(name, release.Passed, "%s", detail)
	}
	if told && r.measured {
		r.judgeGrowth(l, t)
	}
	return m
}

func growing(slope float64) string {
	if slope <= 0 {
		return ""
	}
	return fmt.Sprintf("; on its way there it grew by %s a second", size(int64(slope)))
}

// ascent describes how a service got to its limit, warm-up and all: the median
// slope, without any claim about what would have followed.
func (r *run) ascent(l life) float64 {
	samples := oneLife(since(l.samples, r.begun), l.started)
	if len(samples) < 3 {
		return 0
	}
	var x, y []float64
	for _, s := range samples[max(0, len(samples)-maxPoints):] {
		x, y = append(x, s.at.Sub(samples[0].at).Seconds()), append(y, float64(s.bytes))
	}
	slope, _, _ := theilSen(x, y)
	return max(0, math.Round(slope*10)/10)
}

// judgeGrowth says whether a service leaks, as far as the run can tell.
func (r *run) judgeGrowth(l life, t trend) {
	name := "growth/" + l.name
	after, _ := t.reaches(l.limit, t.slope)
	grown := fmt.Sprintf("grew by %s a second over %s (%s to %s with 99 %% confidence)",
		size(int64(t.slope)), round(t.window), bound(t.low), bound(t.high))
	switch judge(t, l.limit, r.Memory.Horizon) {
	case grows:
		r.add(name, release.Failed, "%s: it would reach its limit of %s in %s", grown, size(l.limit), span(after))
	case suspect:
		r.add(name, release.Warned, "%s: at that rate it would reach its limit of %s in %s; too little to be sure, a longer run would tell", grown, size(l.limit), span(after))
	default:
		r.add(name, release.Passed, "no growth over %s that chance does not explain; up to %s a second would not have shown", round(t.window), bound(max(t.high, 0)))
	}
}

func bound(f float64) string {
	if math.IsInf(f, 0) {
		return "unknown"
	}
	return size(int64(f))
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

// size writes bytes for people.
func size(n int64) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%s%.1f GiB", sign, float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%s%.1f MiB", sign, float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%s%.1f KiB", sign, float64(n)/(1<<10))
	}
	return fmt.Sprintf("%s%d B", sign, n)
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
