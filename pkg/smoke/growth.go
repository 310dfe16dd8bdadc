package smoke

import (
	"time"
)

// verdict says what a trend means for a limit.
type verdict int

const (
	steady  verdict = iota // no growth that could be told from chance, or none that matters
	suspect                // grows for certain, by too little to fail a release for
	grows                  // grows for certain, and would reach the limit within the horizon
)

const (
	// A run of a minute cannot tell a leak from a cache that is still filling
	// by a few pages: only growth of this share of the limit within the window
	// fails, and below that of the other share nothing is said.
	failShare = 0.01
	warnShare = 0.001
)

// judge fails only what is beyond doubt: even the lower bound of the slope, of
// the whole window and of its second half (a step or a cache that has filled
// does not grow any more), reaches the limit within the horizon, and the growth
// is more than crumbs.
func judge(t trend, limit int64, horizon time.Duration) verdict {
	rate := min(t.low, t.recent)
	after, ever := t.reaches(limit, rate)
	if limit <= 0 || !ever || after > horizon {
		return steady
	}
	switch grown := rate * t.window.Seconds(); {
	case grown >= failShare*float64(limit):
		return grows
	case grown >= warnShare*float64(limit):
		return suspect
	}
	return steady
}
