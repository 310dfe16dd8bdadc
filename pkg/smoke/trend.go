package smoke

import (
	"math"
	"slices"
	"time"
)

// sample is a service's memory at one moment, in bytes: what only the program
// can give back, and what counts against its limit besides.
type sample struct {
	at                 time.Time
	bytes, other       int64
	fds, tasks         int64 // -1 is unknown
	periods, throttled int64 // of the CPU, since the process began
}

// counted is what counts against the limit.
func (s sample) counted() int64 { return s.bytes + s.other }

// trend is how memory moved over a window. Slopes are in bytes a second; the
// true slope lies between low and high with 99 % confidence.
type trend struct {
	slope, low, high float64
	level            float64 // the fitted line at the end of the window and other, bytes
	other            float64 // what counts against the limit besides
	first, second    half
	window           time.Duration
}

// half is the trend of one half of the window by itself.
type half struct{ slope, low, high float64 }

const (
	// minWindow and minPoints are the least that a slope can be told from: half
	// of the points must still have a confidence interval of their own.
	minWindow = 5 * time.Second
	minPoints = 14
	maxPoints = 40
	// quantile is that of the normal distribution for 99 % on both sides.
	quantile = 2.576
)

// trendOf estimates the trend of samples in order of time; ok is false when
// they are too few, or span less than least.
//
// The slope is the Theil-Sen estimator, the median of the slopes of all pairs
// of points: H. Theil, "A rank-invariant method of linear and polynomial
// regression analysis", 1950; its confidence interval that of P. K. Sen,
// "Estimates of the regression coefficient based on Kendall's tau", Journal of
// the American Statistical Association 63, 1968, with the variance corrected
// for samples that depend on those before them after K. H. Hamed and A. R. Rao,
// "A modified Mann-Kendall trend test for autocorrelated data", Journal of
// Hydrology 204, 1998. Outliers up to 29 % of the points do not move it.
//
// A point is the lowest sample of its stretch of the window: what a garbage
// collector gives back is not lost.
func trendOf(samples []sample, least time.Duration) (t trend, ok bool) {
	x, y := points(samples, least)
	if len(x) < minPoints {
		return trend{}, false
	}
	t.window = samples[len(samples)-1].at.Sub(samples[0].at)
	t.slope, t.low, t.high = theilSen(x, y)
	others := make([]float64, len(samples))
	for i, s := range samples {
		others[i] = float64(s.other)
	}
	t.other = median(others)
	t.level = levelOf(x, y, t.slope, t.window.Seconds()) + t.other
	middle := len(x) / 2
	t.first.slope, t.first.low, t.first.high = theilSen(x[:middle], y[:middle])
	t.second.slope, t.second.low, t.second.high = theilSen(x[middle:], y[middle:])
	return t, true
}

// levelOf gives the height of the fitted line at a time.
func levelOf(x, y []float64, slope, at float64) float64 {
	rest := make([]float64, len(x))
	for i := range x {
		rest[i] = y[i] - slope*x[i]
	}
	return median(rest) + slope*at
}

// points thins samples out: seconds since the first, and bytes.
func points(samples []sample, least time.Duration) (x, y []float64) {
	if len(samples) < minPoints {
		return nil, nil
	}
	first := samples[0].at
	window := samples[len(samples)-1].at.Sub(first)
	if window < least || window <= 0 {
		return nil, nil
	}
	count := min(maxPoints, max(len(samples)/2, minPoints))
	stretch := float64(window) / float64(count)
	last := -1
	for _, s := range samples {
		i := min(int(float64(s.at.Sub(first))/stretch), count-1)
		at, bytes := s.at.Sub(first).Seconds(), float64(s.bytes)
		switch {
		case i > last:
			x, y, last = append(x, at), append(y, bytes), i
		case bytes < y[len(y)-1]:
			x[len(x)-1], y[len(y)-1] = at, bytes
		}
	}
	return x, y
}

// theilSen gives the median slope and its confidence interval.
func theilSen(x, y []float64) (slope, low, high float64) {
	slopes := slopesOf(x, y)
	if len(slopes) == 0 {
		return 0, math.Inf(-1), math.Inf(1)
	}
	slices.Sort(slopes)
	slope = median(slopes)
	rest := make([]float64, len(x))
	for i := range x {
		rest[i] = y[i] - slope*x[i]
	}
	width := quantile * math.Sqrt(variance(y)*dependence(rest))
	pairs := float64(len(slopes))
	return slope, at(slopes, math.Floor((pairs-width)/2)-1), at(slopes, math.Ceil((pairs+width)/2))
}

// slopesOf gives the slopes of all pairs of points.
func slopesOf(x, y []float64) []float64 {
	slopes := make([]float64, 0, len(x)*len(x)/2)
	for i := range x {
		for j := i + 1; j < len(x); j++ {
			if x[j] > x[i] {
				slopes = append(slopes, (y[j]-y[i])/(x[j]-x[i]))
			}
		}
	}
	return slopes
}

// at gives the i-th of sorted values, and an infinity outside of them.
func at(sorted []float64, i float64) float64 {
	switch {
	case i < 0:
		return math.Inf(-1)
	case i >= float64(len(sorted)):
		return math.Inf(1)
	}
	return sorted[int(i)]
}

// variance is that of Kendall's S for n values, ties taken into account.
func variance(y []float64) float64 {
	n := float64(len(y))
	v := n * (n - 1) * (2*n + 5)
	ties := map[float64]float64{}
	for _, value := range y {
		ties[value]++
	}
	for _, t := range ties {
		v -= t * (t - 1) * (2*t + 5)
	}
	return max(v, 0) / 18
}

// dependence is by how much the variance grows because values depend on those
// before them: 1 for independent ones. It looks at the ranks of what is left
// when the trend is taken away, and counts only what is not by chance.
func dependence(rest []float64) float64 {
	n := float64(len(rest))
	r := ranks(rest)
	mean := (n + 1) / 2
	total := 0.0
	for _, v := range r {
		total += (v - mean) * (v - mean)
	}
	if total == 0 {
		return 1
	}
	sum := 0.0
	for lag := 1; lag < len(r)-2; lag++ {
		c := 0.0
		for i := lag; i < len(r); i++ {
			c += (r[i] - mean) * (r[i-lag] - mean)
		}
		rho := c / total
		if math.Abs(rho) < 1.96/math.Sqrt(n) {
			continue
		}
		k := float64(lag)
		sum += (n - k) * (n - k - 1) * (n - k - 2) * rho
	}
	return max(1, 1+2*sum/(n*(n-1)*(n-2)))
}

// ranks gives 1 for the smallest value; equal values share the mean of theirs.
func ranks(values []float64) []float64 {
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case values[a] < values[b]:
			return -1
		case values[a] > values[b]:
			return 1
		}
		return 0
	})
	out := make([]float64, len(values))
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && values[order[j]] == values[order[i]] {
			j++
		}
		for k := i; k < j; k++ {
			out[order[k]] = float64(i+j+1) / 2
		}
		i = j
	}
	return out
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// reaches gives when memory would reach the limit at the rate, and whether it
// ever would.
func (t trend) reaches(limit int64, rate float64) (time.Duration, bool) {
	if rate <= 0 || math.IsInf(rate, 0) {
		return 0, false
	}
	seconds := (float64(limit) - t.level) / rate
	const century = 100 * 365 * 24 * 3600
	if seconds > century {
		return 0, false
	}
	return time.Duration(max(seconds, 0) * float64(time.Second)), true
}
