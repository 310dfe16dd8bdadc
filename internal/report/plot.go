package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// The picture's measures, in its own units.
const (
	width, height            = 900.0, 240.0
	left, right, top, bottom = 74.0, 14.0, 34.0, 26.0
)

// plot is one service's memory over a run, ready to be drawn.
type plot struct {
	Width, Height float64
	Left, Right   float64 // where the field begins and ends
	Top, Bottom   float64
	Area          string // points of the polygon between least and most
	Line          string // points of the most
	Limit         float64
	LimitText     string
	Slope         *segment
	SlopeText     string
	Rows          []tick
	Columns       []tick
	Marks         []mark
	Label         string
}

type segment struct{ X1, Y1, X2, Y2 float64 }

type tick struct {
	At   float64
	Text string
}

type mark struct {
	X, Y        float64
	Kind, Title string
}

// plotOf draws a service's series; nil if there is nothing to draw.
func plotOf(s release.SmokeService, total float64) *plot {
	m := s.Memory
	if len(m.Series) == 0 {
		return nil
	}
	high := m.Peak
	for _, p := range m.Series {
		high = max(high, p.High)
		total = max(total, p.Seconds)
	}
	ceiling := float64(max(high, m.Limit, 1)) * 1.06
	p := &plot{Width: width, Height: height, Left: left, Right: width - right, Top: top, Bottom: height - bottom}
	total = max(total, 1)
	x := func(s float64) float64 { return round1(p.Left + min(max(s, 0), total)/total*(p.Right-p.Left)) }
	y := func(b float64) float64 { return round1(p.Bottom - max(b, 0)/ceiling*(p.Bottom-p.Top)) }

	var line, low []string
	for _, point := range m.Series {
		line = append(line, fmt.Sprintf("%g,%g", x(point.Seconds), y(float64(point.High))))
		low = append(low, fmt.Sprintf("%g,%g", x(point.Seconds), y(float64(point.Low))))
	}
	slices.Reverse(low)
	p.Line = strings.Join(line, " ")
	p.Area = p.Line + " " + strings.Join(low, " ")
	p.Label = fmt.Sprintf("memory of %s: peak %s", s.Name, release.FormatSize(m.Peak))
	if m.Limit > 0 {
		p.Limit, p.LimitText = y(float64(m.Limit)), "limit "+release.FormatSize(m.Limit)
		p.Label += " of " + release.FormatSize(m.Limit)
	}
	p.slope(s, total, x, y)
	for i := range 5 {
		value := ceiling / 1.06 * float64(i) / 4
		p.Rows = append(p.Rows, tick{y(value), release.FormatSize(int64(value))})
	}
	step := stepOf(total)
	for at := 0.0; at <= total; at += step {
		p.Columns = append(p.Columns, tick{x(at), fmt.Sprintf("%g s", at)})
	}
	p.marks(s, x)
	return p
}

// slope draws the slope that was told, through the middle of what it was told
// from: the part after the warm-up.
func (p *plot) slope(s release.SmokeService, total float64, x, y func(float64) float64) {
	m := s.Memory
	if m.SlopePerSecond == 0 {
		return
	}
	begin := 0.0
	for _, mark := range s.Marks {
		if mark.Kind == release.MarkSteady {
			begin = mark.Seconds
		}
	}
	var at, level []float64
	for _, point := range m.Series {
		if point.Seconds >= begin {
			at, level = append(at, point.Seconds), append(level, float64(point.Low+point.High)/2)
		}
	}
	if len(at) < 2 {
		return
	}
	middle := at[len(at)/2]
	var offsets []float64
	for i := range at {
		offsets = append(offsets, level[i]-m.SlopePerSecond*(at[i]-middle))
	}
	slices.Sort(offsets)
	value := func(s float64) float64 { return offsets[len(offsets)/2] + m.SlopePerSecond*(s-middle) }
	last := at[len(at)-1]
	p.Slope = &segment{x(begin), y(value(begin)), x(last), y(value(last))}
	p.SlopeText = fmt.Sprintf("slope %s a second", signed(m.SlopePerSecond))
	if m.SlopeLow != nil && m.SlopeHigh != nil {
		p.SlopeText += fmt.Sprintf(" (%s to %s with 99 %% confidence)", signed(*m.SlopeLow), signed(*m.SlopeHigh))
	}
}

func signed(f float64) string {
	text := release.FormatSize(int64(math.Round(f)))
	if f > 0 {
		text = "+" + text
	}
	return text
}

// maxMarks bounds what a service that is restarted all the time draws.
const maxMarks = 60

// marks places the moments; labels that would overlap go to the next line.
func (p *plot) marks(s release.SmokeService, x func(float64) float64) {
	rows := []float64{-1e9, -1e9}
	for _, m := range s.Marks[:min(len(s.Marks), maxMarks)] {
		at := x(m.Seconds)
		row := 0
		if at-rows[0] < 58 && at-rows[1] >= 58 {
			row = 1
		}
		rows[row] = at
		title := fmt.Sprintf("%s after %.1f s", m.Kind, m.Seconds)
		if m.Text != "" {
			title += ": " + m.Text
		}
		p.Marks = append(p.Marks, mark{at, 11 + 12*float64(row), m.Kind, title})
	}
}

// stepOf gives a round distance of which some six fit into a length.
func stepOf(total float64) float64 {
	for _, step := range []float64{1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800} {
		if total/step <= 8 {
			return step
		}
	}
	return math.Ceil(total/8/3600) * 3600
}

func round1(f float64) float64 { return math.Round(f*10) / 10 }
