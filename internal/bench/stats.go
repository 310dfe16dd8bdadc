package bench

import (
	"math"
	"slices"
)

// Times sums up how long runs took, in milliseconds.
type Times struct {
	Runs   int     `json:"runs"`
	Median float64 `json:"median"`
	P95    float64 `json:"p95"` // nearest rank: with fewer than twenty runs the longest
	Least  float64 `json:"least"`
}

// Summarize sums up runs; none is the zero value.
func Summarize(milliseconds []float64) Times {
	if len(milliseconds) == 0 {
		return Times{}
	}
	sorted := slices.Sorted(slices.Values(milliseconds))
	n := len(sorted)
	return Times{
		Runs:   n,
		Median: (sorted[(n-1)/2] + sorted[n/2]) / 2,
		P95:    sorted[int(math.Ceil(0.95*float64(n)))-1],
		Least:  sorted[0],
	}
}
