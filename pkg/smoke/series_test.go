package smoke

import (
	"math"
	"math/rand/v2"
	"time"
)

// shape is one kind of series for the study of errors.
type shape struct {
	name string
	// leak says that memory grows for ever; without it memory is that of a
	// healthy service.
	leak float64 // KiB a second
	// short says that the window holds less than one period of a collector:
	// no method could tell.
	short bool
	// make gives the memory in MiB at a second of a window of so many seconds.
	// It is asked in order of time.
	make func(r *rand.Rand, window float64) func(s float64) float64
}

// How the series are sampled: as here, ten times a second, a little late now
// and then.
const (
	studyInterval = 0.1  // seconds
	studyJitter   = 0.01 // seconds, at most
	studyLost     = 0.01 // share of samples
	studyLimit    = 128 * mib
)

// measured samples a series.
func (s shape) measured(r *rand.Rand, window float64) []sample {
	f := s.make(r, window)
	begin := time.Unix(0, 0)
	var out []sample
	for at := 0.0; at <= window; at += studyInterval {
		if r.Float64() < studyLost {
			continue
		}
		when := at + r.Float64()*studyJitter
		out = append(out, sample{at: begin.Add(time.Duration(when * float64(time.Second))), bytes: int64((f(when) + s.leak/1024*when) * mib)})
	}
	return out
}

const base = 40 // MiB, that every series begins at

// noise is independent from sample to sample.
func noise(sd float64) func(*rand.Rand, float64) func(float64) float64 {
	return func(r *rand.Rand, _ float64) func(float64) float64 {
		return func(float64) float64 { return base + sd*r.NormFloat64() }
	}
}

// wander is noise that depends on itself for so many seconds; 0 is for ever,
// a random walk, whose sd is then that after a second.
func wander(sd, seconds float64) func(*rand.Rand, float64) func(float64) float64 {
	return func(r *rand.Rand, _ float64) func(float64) float64 {
		v, last := sd*r.NormFloat64(), 0.0
		return func(s float64) float64 {
			passed := s - last
			last = s
			if seconds == 0 {
				v += sd * math.Sqrt(passed) * r.NormFloat64()
				return base + v
			}
			keep := math.Exp(-passed / seconds)
			v = keep*v + sd*math.Sqrt(1-keep*keep)*r.NormFloat64()
			return base + v
		}
	}
}

// stairs grows at so many moments, by so much each.
func stairs(count int, height float64) func(*rand.Rand, float64) func(float64) float64 {
	return func(r *rand.Rand, window float64) func(float64) float64 {
		when := make([]float64, count)
		for i := range when {
			when[i] = r.Float64() * window
		}
		return func(s float64) float64 {
			v := base + 0.1*r.NormFloat64()
			for _, w := range when {
				if s > w {
					v += height
				}
			}
			return v
		}
	}
}

// filling is a cache that fills to 20 MiB, with a time constant of so many windows.
func filling(windows float64) func(*rand.Rand, float64) func(float64) float64 {
	return func(r *rand.Rand, window float64) func(float64) float64 {
		return func(s float64) float64 { return base + 20*(1-math.Exp(-s/(windows*window))) + 0.05*r.NormFloat64() }
	}
}

// touching is a runtime that touches so many MiB at a steady pace, for half a
// window to one and a half.
func touching(height float64) func(*rand.Rand, float64) func(float64) float64 {
	return func(r *rand.Rand, window float64) func(float64) float64 {
		end := window * (0.5 + r.Float64())
		return func(s float64) float64 { return base + height*min(s/end, 1) + 0.05*r.NormFloat64() }
	}
}

// collector gives back 30 MiB after each period of so many windows.
func collector(windows, height float64) func(*rand.Rand, float64) func(float64) float64 {
	return func(r *rand.Rand, window float64) func(float64) float64 {
		period := windows * window
		phase := r.Float64() * period
		return func(s float64) float64 { return base + height*math.Mod(s+phase, period)/period + 0.05*r.NormFloat64() }
	}
}

// irregular is a collector whose periods, heights and floors differ.
func irregular(windows, height float64) func(*rand.Rand, float64) func(float64) float64 {
	return func(r *rand.Rand, window float64) func(float64) float64 {
		v, last := r.Float64()*height, 0.0
		top := height * (0.8 + 0.4*r.Float64())
		return func(s float64) float64 {
			v += height / (windows * window) * (s - last) * (0.5 + r.Float64())
			last = s
			if v > top {
				v, top = 0.1*height*r.Float64(), height*(0.8+0.4*r.Float64())
			}
			return base + v
		}
	}
}

// shapes are the series of the study.
var shapes = []shape{
	{name: "noise, 2 MiB", make: noise(2)},
	{name: "wandering, 0.5 MiB over 4 s", make: wander(0.46, 3.8)},
	{name: "wandering, 1 MiB over 20 s", make: wander(1, 20)},
	{name: "random walk, 0.3 MiB in a second", make: wander(0.32, 0)},
	{name: "one step of 10 MiB", make: stairs(1, 10)},
	{name: "two steps of 5 MiB", make: stairs(2, 5)},
	{name: "four steps of 3 MiB", make: stairs(4, 3)},
	{name: "cache that fills within an eighth of the window", make: filling(0.125)},
	{name: "cache that fills within a third of the window", make: filling(0.333)},
	{name: "runtime that touches its first 1.3 MiB", make: touching(1.3)},
	{name: "collector, 20 periods", make: collector(0.05, 30)},
	{name: "collector, 10 periods", make: collector(0.1, 30)},
	{name: "collector, 5 periods", make: collector(0.2, 30)},
	{name: "collector, 3 periods", make: collector(0.34, 30)},
	{name: "collector, 2 periods", make: collector(0.5, 30)},
	{name: "collector, 1.25 periods", make: collector(0.8, 30)},
	{name: "irregular collector, 20 periods", make: irregular(0.05, 20)},
	{name: "irregular collector, 10 periods", make: irregular(0.1, 20)},
	{name: "irregular collector, 5 periods", make: irregular(0.2, 20)},
	{name: "irregular collector, 2 periods", make: irregular(0.5, 20)},
	{name: "collector, 1 period", make: collector(1, 30), short: true},
	{name: "collector, two thirds of a period", make: collector(1.5, 30), short: true},
	{name: "cache that needs three windows to fill", make: filling(3), short: true},
	{name: "leak of 1 MiB/s", leak: 1024, make: noise(0.1)},
	{name: "leak of 256 KiB/s", leak: 256, make: noise(0.1)},
	{name: "leak of 64 KiB/s", leak: 64, make: noise(0.1)},
	{name: "leak of 16 KiB/s", leak: 16, make: noise(0.1)},
	{name: "leak of 1 MiB/s, wandering 0.5 MiB", leak: 1024, make: wander(0.46, 3.8)},
	{name: "leak of 256 KiB/s, wandering 0.5 MiB", leak: 256, make: wander(0.46, 3.8)},
	{name: "leak of 64 KiB/s, wandering 0.5 MiB", leak: 64, make: wander(0.46, 3.8)},
	{name: "leak of 1 MiB/s, collector of 10 periods", leak: 1024, make: collector(0.1, 20)},
	{name: "leak of 256 KiB/s, collector of 10 periods", leak: 256, make: collector(0.1, 20)},
	{name: "leak of 64 KiB/s, collector of 10 periods", leak: 64, make: collector(0.1, 20)},
	{name: "leak of 256 KiB/s, irregular collector of 10 periods", leak: 256, make: irregular(0.1, 20)},
	{name: "leak of 64 KiB/s, irregular collector of 10 periods", leak: 64, make: irregular(0.1, 20)},
	{name: "leak of 256 KiB/s, collector of 3 periods", leak: 256, make: collector(0.34, 20)},
}
