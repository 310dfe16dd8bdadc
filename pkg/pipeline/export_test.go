package pipeline

import "time"

// SetGrace is for tests that don't wait as long as people do.
func SetGrace(d time.Duration) (restore func()) {
	before := grace
	grace = d
	return func() { grace = before }
}

// NameAtMost bounds how many ranges of records a compaction names, and gives
// what undoes it.
func NameAtMost(ranges int) (undo func()) {
	before := mostRanges
	mostRanges = ranges
	return func() { mostRanges = before }
}

// Compactable is compactable.
var Compactable = compactable
