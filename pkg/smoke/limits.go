package smoke

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// judgeMemory gives the claims about one service's memory.
func (r *run) judgeMemory(l life) release.Memory {
	if l.oom && l.limit > 0 {
		l.peak = l.limit // the kernel kills when the limit is reached, also between two samples
	}
	m := release.Memory{Limit: l.limit, Peak: l.peak, HighWater: max(l.highWater, l.peak), Cache: l.cache,
		Samples: len(l.samples), Series: l.history.points(r.result.Started)}
	q := question{limit: l.limit, horizon: r.Memory.Horizon, percent: r.Memory.MaxPercentOfLimit, least: r.window}
	j, told := q.judge(oneLife(since(l.samples, r.steady), l.started))
	told = told && r.measured
	if told {
		describe(&m, j)
	}
	name := "memory/" + l.name
	switch {
	case len(l.samples) == 0 && !l.oom:
		return m // no claim
	case l.limit <= 0:
		r.add(name, release.Warned, "peak %s, and no limit: nothing can be said about what happens in production", release.FormatSize(l.peak))
		return m
	}
	m.PercentOfLimit = math.Round(1000*float64(l.peak)/float64(l.limit)) / 10
	detail := fmt.Sprintf("peak %s of %s (%.0f %%)", release.FormatSize(l.peak), release.FormatSize(l.limit), m.PercentOfLimit)
	switch {
	case l.oom:
		m.SlopePerSecond = r.ascent(l)
		r.add(name, release.Failed, "%s: %s%s", l.killed(), detail, growing(m.SlopePerSecond))
	case float64(l.peak) > r.Memory.MaxPercentOfLimit/100*float64(l.limit):
		m.SlopePerSecond = r.ascent(l)
		r.add(name, release.Failed, "%s, want at most %.0f %%%s", detail, r.Memory.MaxPercentOfLimit, growing(m.SlopePerSecond))
	case !r.measured:
		r.add(name, release.Passed, "%s; no memory test was made, so nothing is said about growth", detail)
	case !told:
		r.add(name, release.Passed, "%s; too short to say anything about growth", detail)
	default:
		r.add(name, release.Passed, "%s", detail)
	}
	if told {
		r.judgeGrowth(l, j)
	}
	return m
}

// killed says what the kernel killed: the service itself dies with its first
// process only. Engines mark a container as killed for its children, too.
func (l life) killed() string {
	if len(l.exits) > 0 || l.restarts > 0 || l.last.State != "running" {
		return "killed for want of memory"
	}
	if l.oomKills > 0 {
		return fmt.Sprintf("a child process was killed for want of memory while the service lived on (%d in all)", l.oomKills)
	}
	return "a child process was killed for want of memory while the service lived on"
}

// describe writes a trend into a result; what is not bounded is left out.
func describe(m *release.Memory, j judgement) {
	tenth := func(f float64) *float64 {
		if math.IsInf(f, 0) || math.IsNaN(f) {
			return nil
		}
		f = math.Round(f*10) / 10
		return &f
	}
	m.SlopePerSecond = math.Round(j.trend.slope*10) / 10
	m.SlopeLow, m.SlopeHigh = tenth(j.trend.low), tenth(j.trend.high)
	if after, ever := j.trend.reaches(m.Limit, j.trend.slope); ever && m.Limit > 0 {
		m.SecondsToLimit = tenth(after.Seconds())
	}
}

func growing(slope float64) string {
	if slope <= 0 {
		return ""
	}
	return fmt.Sprintf("; on its way there it grew by %s a second", release.FormatSize(int64(slope)))
}

// ascent describes how a service got to its limit, warm-up and all: the median
// slope, without any claim about what would have followed.
func (r *run) ascent(l life) float64 {
	samples := oneLife(since(l.samples, r.begun), l.started)
	if len(samples) < 3 {
		return 0
	}
	x, y := points(samples, 0)
	if len(x) < 3 { // a few samples are their own points
		x, y = nil, nil
		for _, s := range samples[max(0, len(samples)-maxPoints):] {
			x, y = append(x, s.at.Sub(samples[0].at).Seconds()), append(y, float64(s.bytes))
		}
	}
	slope, _, _ := theilSen(x, y)
	return max(0, math.Round(slope*10)/10)
}

// judgeGrowth says whether a service leaks, as far as the run can tell.
func (r *run) judgeGrowth(l life, j judgement) {
	name, t := "growth/"+l.name, j.trend
	after, _ := t.reaches(l.limit, t.slope)
	grown := fmt.Sprintf("grew by %s a second over %s (%s to %s with 99 %% confidence)",
		release.FormatSize(int64(t.slope)), round(t.window), bound(t.low), bound(t.high))
	if j.basis == byFloors {
		grown = fmt.Sprintf("what remained after memory was given back (%d times) %s", j.falls, grown)
	}
	switch {
	case j.verdict == grows:
		r.add(name, release.Failed, "%s: it would reach its limit of %s in %s", grown, release.FormatSize(l.limit), span(after))
	case j.basis == fewFloors:
		r.add(name, release.Warned, "%s, but memory was given back %d times, which is too few to compare what remains: raise smoke.memory.duration to ten collections", grown, j.falls)
	case j.basis == levelsOff:
		r.add(name, release.Warned, "%s, less and less: it still fills and would level off near %s; start with a longer smoke.memory.warmup", grown, release.FormatSize(j.levels))
	case j.basis == byKernel:
		r.add(name, release.Warned, "its own memory does not grow, what the kernel holds for it does (sockets, page tables, names of files): %s", grown)
	case j.verdict == suspect:
		r.add(name, release.Warned, "%s: at that rate it would reach its limit of %s in %s; too little to be sure, a longer run would tell", grown, release.FormatSize(l.limit), span(after))
	default:
		r.add(name, release.Passed, "no growth over %s that chance does not explain; up to %s a second would not have shown", round(t.window), bound(max(t.high, 0)))
	}
}

func bound(f float64) string {
	if math.IsInf(f, 0) {
		return "unknown"
	}
	return release.FormatSize(int64(f))
}

const (
	throttledShare = 0.25 // of scheduling periods that may be cut short
	taskShare      = 0.80 // of the limit of processes that may be used
)

// judgeResources warns of what runs out besides memory. It says nothing where
// nothing is wrong.
func (r *run) judgeResources(l life, service *release.SmokeService) {
	samples := oneLife(since(l.samples, r.steady), l.started)
	service.FDs, service.Tasks = l.fds, l.tasks
	if len(samples) == 0 {
		return
	}
	first, last := samples[0], samples[len(samples)-1]
	if periods := last.periods - first.periods; periods > 0 {
		service.Throttled = math.Round(1000*float64(last.throttled-first.throttled)/float64(periods)) / 1000
	}
	if service.Throttled > throttledShare {
		r.add("throttled/"+l.name, release.Warned, "its CPU limit of %g cut it short in %.0f %% of the time: what needs time, leaks too, came slower than it will with more",
			l.last.CPUs, 100*service.Throttled)
	}
	var findings []string
	if l.taskLimit > 0 && float64(l.tasks) > taskShare*float64(l.taskLimit) {
		findings = append(findings, fmt.Sprintf("%d of at most %d processes and threads", l.tasks, l.taskLimit))
	}
	if r.measured {
		for what, count := range map[string]func(sample) int64{"open files": func(s sample) int64 { return s.fds }, "processes and threads": func(s sample) int64 { return s.tasks }} {
			if text := r.multiplies(samples, what, count); text != "" {
				findings = append(findings, text)
			}
		}
	}
	slices.Sort(findings)
	if len(findings) > 0 {
		r.add("handles/"+l.name, release.Warned, "%s", strings.Join(findings, "; "))
	}
}

// leastCount is the growth of a count that is worth a word.
const leastCount = 10

// multiplies says that a count grew for certain all the time.
func (r *run) multiplies(samples []sample, what string, count func(sample) int64) string {
	counts := make([]sample, 0, len(samples))
	for _, s := range samples {
		if n := count(s); n >= 0 {
			counts = append(counts, sample{at: s.at, bytes: n})
		}
	}
	t, ok := trendOf(counts, r.window)
	if !ok {
		return ""
	}
	rate := min(t.low, t.first.low, t.second.low)
	if math.IsInf(rate, 0) || rate*t.window.Seconds() < leastCount {
		return ""
	}
	return fmt.Sprintf("%s grew from %d to %d over %s and did not stop", what, counts[0].bytes, counts[len(counts)-1].bytes, round(t.window))
}
