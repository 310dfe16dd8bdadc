package release

import (
	"fmt"
	"strings"
)

// FormatSize writes a number of bytes for people: "61.5 MiB".
func FormatSize(n int64) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%s%.1f GiB", sign, float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%s%.1f MiB", sign, float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%s%.1f KiB", sign, float64(n)/(1<<10))
	}
	return fmt.Sprintf("%s%d B", sign, n)
}

var bars = []rune("▁▂▃▄▅▆▇█")

// Sparkline draws a series against a limit in at most so many characters: a
// full bar is the limit, or without one the highest point. A cell shows the
// highest of its points, so that no spike is lost.
func Sparkline(points []Point, limit int64, cells int) string {
	if len(points) == 0 || cells <= 0 {
		return ""
	}
	full := limit
	if full <= 0 {
		for _, p := range points {
			full = max(full, p.High)
		}
	}
	full = max(full, 1)
	cells = min(cells, len(points))
	var b strings.Builder
	for cell := range cells {
		var high int64
		for _, p := range points[cell*len(points)/cells : (cell+1)*len(points)/cells] {
			high = max(high, p.High)
		}
		share := float64(max(high, 0)) / float64(full)
		b.WriteRune(bars[min(int(share*float64(len(bars))), len(bars)-1)])
	}
	return b.String()
}
