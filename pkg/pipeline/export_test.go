package pipeline

import "time"

// SetGrace is for tests that don't wait as long as people do.
func SetGrace(d time.Duration) (restore func()) {
	before := grace
	grace = d
	return func() { grace = before }
}
