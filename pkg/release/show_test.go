package release

import "testing"

func TestSparkline(t *testing.T) {
	series := func(highs ...int64) []Point {
		var points []Point
		for i, h := range highs {
			points = append(points, Point{Seconds: float64(i), Low: h / 2, High: h})
		}
		return points
	}
	for _, c := range []struct {
		name   string
		points []Point
		limit  int64
		cells  int
		want   string
	}{
		{"nothing", nil, 100, 8, ""},
		{"no room", series(1), 100, 0, ""},
		{"against the limit", series(0, 13, 26, 38, 51, 63, 76, 88, 100), 100, 20, "▁▂▃▄▅▆▇██"},
		{"over the limit", series(150), 100, 8, "█"},
		{"negative", series(-5), 100, 8, "▁"},
		{"without a limit, against its peak", series(1, 50, 100), 0, 8, "▁▅█"},
		{"a spike stays when cells are few", series(1, 1, 1, 100, 1, 1, 1, 1), 100, 4, "▁█▁▁"},
		{"zeros without a limit", series(0, 0), 0, 8, "▁▁"},
	} {
		if got := Sparkline(c.points, c.limit, c.cells); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestFormatSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1 << 20: "1.0 MiB", 3 << 29: "1.5 GiB", -2048: "-2.0 KiB"} {
		if got := FormatSize(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
