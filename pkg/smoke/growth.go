package smoke

import (
	"math"
	"time"
)

// verdict says what a trend means for a limit.
type verdict int

const (
	steady  verdict = iota // no growth that could be told from chance, or none that matters
	suspect                // grows, by too little or for too short a time to fail a release for
	grows                  // grows for certain, and would reach the limit within the horizon
)

const (
	// A run of a minute cannot tell a leak from a cache that is still filling
	// by a few pages: only growth of this share of the limit within the window
	// fails, and below that of the other share nothing is said. With the first
	// one at most 5 % of the healthy series fail that docs/smoke.md studies.
	failShare = 0.005
	warnShare = 0.001
	// failLeast is the least growth in bytes that fails: a runtime touches the
	// pages of its heap, stacks and tables one by one under its first load. A
	// small Go server was seen to take 1.3 MiB in 11 s, steadily, and no more;
	// what is certain of that is below 1 MiB, the least that is worth a word.
	failLeast = 1.5 * (1 << 20)
	warnLeast = 1 << 20
	// kernelShare is that of what the kernel holds for a service: what it keeps
	// about cached files is a few per cent of them.
	kernelShare = 0.05
	// levelling is by how much the second half of the window must grow slower
	// than the first for a cache that fills, bound against bound.
	levelling = 0.67
)

// basis is what a judgement rests on.
type basis int

const (
	byPoints  basis = iota // the lowest samples of stretches of the window
	byFloors               // what remained each time memory was given back
	fewFloors              // it was given back, but too few times to compare what remained
	levelsOff              // it grows less and less, and would stop below the limit
	byKernel               // what the kernel holds for it grows, not its own memory
)

// judgement is what a service's samples say about its growth.
type judgement struct {
	verdict verdict
	basis   basis
	trend   trend
	falls   int   // how many times memory was given back
	levels  int64 // where it would level off, with levelsOff
}

// question is what a judgement answers.
type question struct {
	limit   int64
	horizon time.Duration
	percent float64       // of the limit, that a service may use
	least   time.Duration // that a window spans
}

// judge fails only what is beyond doubt. It looks at what only the program can
// give back; ok is false when there are too few samples to say anything.
func (q question) judge(samples []sample) (j judgement, ok bool) {
	j.trend, ok = trendOf(samples, q.least)
	if !ok {
		return judgement{}, false
	}
	j.verdict = q.points(j.trend)
	fall, floors := troughs(samples)
	returned := q.collected(samples, fall)
	if returned && len(floors) < minFloors { // too few to say anything, unless they are not its own
		broad := opened(samples)
		fall, _ := troughs(broad)
		returned = q.collected(broad, fall)
	}
	switch {
	case returned:
		j.falls = len(floors)
		q.judgeFloors(&j, floors)
	case j.verdict == grows:
		if level, ok := q.level(j.trend); ok {
			j.verdict, j.basis, j.levels = suspect, levelsOff, level
		}
	}
	if j.verdict == steady {
		q.judgeRest(&j, samples)
	}
	return j, true
}

// points judges a trend by its lower bounds: even that of the whole window and
// that of its second half (a step or a cache that has filled does not grow any
// more) reach the limit within the horizon, the growth is more than crumbs, and
// the first half grew for certain, too (or it was steps, or chance).
func (q question) points(t trend) verdict {
	v := q.weigh(t, min(t.low, t.second.low))
	if v == grows && t.first.low <= 0 {
		return suspect
	}
	return v
}

// weigh judges a rate that is certain.
func (q question) weigh(t trend, rate float64) verdict {
	after, ever := t.reaches(q.limit, rate)
	if q.limit <= 0 || !ever || after > q.horizon {
		return steady
	}
	switch grown := rate * t.window.Seconds(); {
	case grown >= max(failShare*float64(q.limit), failLeast):
		return grows
	case grown >= max(warnShare*float64(q.limit), warnLeast):
		return suspect
	}
	return steady
}

// judgeFloors compares what remained each time memory was given back: the
// teeth of a collector say nothing, its floors do.
func (q question) judgeFloors(j *judgement, floors []sample) {
	if t, ok := floorTrend(floors, j.trend.window); ok {
		t.level += j.trend.other
		j.basis, j.trend, j.verdict = byFloors, t, q.weigh(t, t.low)
		return
	}
	if j.verdict == grows {
		j.verdict, j.basis = suspect, fewFloors
	}
}

// level tells a cache that fills from a leak: the second half of the window
// grew slower than the first beyond doubt, and what is still to come by A. C.
// Aitken's delta-squared rule ("On Bernoulli's numerical solution of algebraic
// equations", 1926) stays below what the service may use.
func (q question) level(t trend) (int64, bool) {
	if t.second.high >= levelling*t.first.low {
		return 0, false
	}
	half := t.window.Seconds() / 2
	before, after := t.first.slope*half, t.second.slope*half
	level := t.level + after*after/(before-after)
	return int64(level), level < q.percent/100*float64(q.limit)
}

// judgeRest looks at what counts against the limit besides the program's own
// memory: sockets, page tables, names of files. Some of it the kernel gives
// back and does not say so, hence no more than a warning.
func (q question) judgeRest(j *judgement, samples []sample) {
	all := make([]sample, len(samples))
	for i, s := range samples {
		all[i] = sample{at: s.at, bytes: s.bytes + s.other}
	}
	t, ok := trendOf(all, q.least)
	if !ok || q.points(t) != grows || min(t.low, t.second.low)*t.window.Seconds() < kernelShare*float64(q.limit) {
		return
	}
	if fall, _ := troughs(all); !q.collected(all, fall) && t.slope > 2*math.Max(j.trend.high, 0) {
		j.verdict, j.basis, j.trend = suspect, byKernel, t
	}
}
