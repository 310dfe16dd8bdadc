package smoke

import (
	"math"
	"slices"
	"time"
)

// What tells a collector from noise: a fall of this share of the limit, of
// this share of all that memory moved in, and of so many steps as usual.
const (
	fallShare      = 0.02
	fallRangeShare = 0.3
	fallSteps      = 6
)

// The least floors that a trend is told from. With so few the lower bound is
// the smallest slope of all pairs: n values that do not grow are in order by
// chance in one case of n!, which for five is below one per cent.
const (
	minFloors   = 5
	exactFloors = 8 // from here on Sen's interval is as good
)

// collected reports whether memory was given back, as collectors do.
func (q question) collected(samples []sample, fall float64) bool {
	low, high := samples[0].bytes, samples[0].bytes
	steps := make([]float64, 0, len(samples))
	for i, s := range samples {
		low, high = min(low, s.bytes), max(high, s.bytes)
		if i > 0 {
			steps = append(steps, math.Abs(float64(s.bytes-samples[i-1].bytes)))
		}
	}
	return fall > fallShare*float64(q.limit) && fall > fallRangeShare*float64(high-low) && fall > fallSteps*median(steps)
}

// troughs gives the largest fall from any height, and the lowest sample after
// each fall of at least half of that which was followed by as large a rise: one
// whose end was not seen may lie too high.
func troughs(samples []sample) (fall float64, floors []sample) {
	high := int64(math.MinInt64)
	for _, s := range samples {
		high = max(high, s.bytes)
		fall = max(fall, float64(high-s.bytes))
	}
	if fall == 0 {
		return 0, nil
	}
	top, lowest, falling := samples[0], samples[0], false
	for _, s := range samples {
		switch {
		case !falling && float64(top.bytes-s.bytes) >= fall/2:
			falling, lowest = true, s
		case !falling && s.bytes > top.bytes:
			top = s
		case falling && s.bytes < lowest.bytes:
			lowest = s
		case falling && float64(s.bytes-lowest.bytes) >= fall/2:
			falling, top = false, s
			floors = append(floors, lowest)
		}
	}
	return fall, floors
}

// passing is how long another process may add to a service's memory without
// counting as the service's own: whoever makes an exec health check, and the
// runtime that starts it, are in the same cgroup for a moment.
const passing = 2 * time.Second

// opened takes peaks off that are narrower than passing: the lowest of each
// stretch of that length around a sample, then the highest of those (the opening
// of mathematical morphology). Valleys and wide teeth stay.
func opened(samples []sample) []sample {
	lowest := around(samples, func(a, b int64) bool { return a < b })
	return around(lowest, func(a, b int64) bool { return a > b })
}

// around gives each sample the best value within half of passing on both sides.
func around(samples []sample, better func(a, b int64) bool) []sample {
	out := slices.Clone(samples)
	first := 0
	for i, s := range samples {
		for s.at.Sub(samples[first].at) > passing/2 {
			first++
		}
		for j := first; j < len(samples) && samples[j].at.Sub(s.at) <= passing/2; j++ {
			if better(samples[j].bytes, out[i].bytes) {
				out[i].bytes = samples[j].bytes
			}
		}
	}
	return out
}

// floorTrend gives the trend of floors. They are nearly independent of each
// other and few: nothing is said about halves.
func floorTrend(floors []sample, window time.Duration) (t trend, ok bool) {
	if len(floors) < minFloors {
		return trend{}, false
	}
	var x, y []float64
	for _, s := range floors {
		x, y = append(x, s.at.Sub(floors[0].at).Seconds()), append(y, float64(s.bytes))
	}
	t.window = window
	t.slope, t.low, t.high = theilSen(x, y)
	if len(floors) < exactFloors {
		slopes := slopesOf(x, y)
		t.low, t.high = slices.Min(slopes), slices.Max(slopes)
	}
	t.level = levelOf(x, y, t.slope, x[len(x)-1])
	return t, true
}
