package smoke

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// mostPoints bounds a series in a result.
const mostPoints = 120

// history keeps a picture of samples in bounded space: stretches of time with
// the least and the most in each. It gets coarser as it gets longer.
type history struct {
	width     time.Duration
	stretches []stretch
}

type stretch struct {
	begin     time.Time
	low, high int64
}

// finest is the width of stretches at first.
const finest = 100 * time.Millisecond

func (h *history) add(at time.Time, bytes int64) {
	if h.width == 0 {
		h.width = finest
	}
	if n := len(h.stretches); n > 0 && at.Sub(h.stretches[n-1].begin) < h.width {
		last := &h.stretches[n-1]
		last.low, last.high = min(last.low, bytes), max(last.high, bytes)
		return
	}
	if len(h.stretches) == mostPoints {
		h.coarsen()
	}
	h.stretches = append(h.stretches, stretch{at, bytes, bytes})
}

// coarsen doubles the width until there is place.
func (h *history) coarsen() {
	for len(h.stretches) > mostPoints/2 {
		h.width *= 2
		kept := h.stretches[:1]
		for _, s := range h.stretches[1:] {
			last := &kept[len(kept)-1]
			if s.begin.Sub(last.begin) < h.width {
				last.low, last.high = min(last.low, s.low), max(last.high, s.high)
				continue
			}
			kept = append(kept, s)
		}
		h.stretches = kept
	}
}

// points gives the series of a result, in seconds since a moment.
func (h *history) points(begin time.Time) []release.Point {
	var out []release.Point
	for _, s := range h.stretches {
		out = append(out, release.Point{Seconds: seconds(s.begin, begin), Low: s.low, High: s.high})
	}
	return out
}

func seconds(at, begin time.Time) float64 {
	return math.Round(at.Sub(begin).Seconds()*100) / 100
}

// moment is a mark before it is known what it is counted from.
type moment struct {
	at         time.Time
	kind, text string
}

// mostMarks bounds what a restart loop can fill a result with.
const mostMarks = 50

// mark keeps a moment; one that is told twice, by an event and by a look, once.
func (l *life) mark(at time.Time, kind, text string) {
	if len(l.marks) >= mostMarks {
		return
	}
	for _, m := range l.marks {
		if m.kind == kind && at.Sub(m.at).Abs() < time.Second {
			return
		}
	}
	l.marks = append(l.marks, moment{at, kind, text})
}

// marks gives a service's marks in order of time, with those of the whole run.
func (r *run) marks(l life) []release.Mark {
	moments := slices.Clone(l.marks)
	if !r.begun.IsZero() {
		moments = append(moments, moment{r.begun, release.MarkLoad, ""})
		if r.steady.After(r.begun) {
			moments = append(moments, moment{r.steady, release.MarkSteady, ""})
		}
	}
	slices.SortStableFunc(moments, func(a, b moment) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return strings.Compare(a.kind, b.kind)
	})
	var out []release.Mark
	for _, m := range moments {
		out = append(out, release.Mark{Seconds: seconds(m.at, r.result.Started), Kind: m.kind, Text: m.text})
	}
	return out
}
