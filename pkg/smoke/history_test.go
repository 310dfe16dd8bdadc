package smoke

import (
	"testing"
	"time"
)

// A day's samples fit in as little space as a minute's, and no extreme is lost.
func TestHistoryIsBounded(t *testing.T) {
	var h history
	begin := time.Unix(1000, 0)
	for i := range 200_000 {
		bytes := int64(50)
		switch i {
		case 3:
			bytes = 1
		case 150_000:
			bytes = 99
		}
		h.add(begin.Add(time.Duration(i)*100*time.Millisecond), bytes)
	}
	points := h.points(begin)
	if len(points) > mostPoints || len(points) < mostPoints/2 {
		t.Fatalf("%d points", len(points))
	}
	low, high := points[0].Low, int64(0)
	for i, p := range points {
		low, high = min(low, p.Low), max(high, p.High)
		if i > 0 && p.Seconds <= points[i-1].Seconds {
			t.Fatalf("point %d: %v", i, points)
		}
	}
	if low != 1 || high != 99 || points[0].Seconds != 0 || points[len(points)-1].Seconds < 19_000 {
		t.Errorf("from %d to %d, %v", low, high, points)
	}
}
