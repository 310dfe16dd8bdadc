package reliability

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Survey runs what is struck undisturbed, and gives what there is to strike at,
// and how long it takes.
func (w *World) Survey(ctx context.Context, of string) (map[string][]string, time.Duration, error) {
	p := Point{Of: of, Where: AtCall}
	if w.o.Tracer == "" {
		p.Where = ""
	}
	t, err := w.begin(ctx, of)
	if err != nil {
		return nil, 0, err
	}
	way := t.way
	if of == OfResume {
		if err := w.halfway(ctx, Point{At: 2}, way); err != nil {
			return nil, 0, err
		}
		way = w.resume(t.env, false)
	}
	s, err := w.strike(ctx, p, way...)
	if err != nil {
		return nil, 0, err
	}
	if s.Code != 0 {
		return nil, 0, fmt.Errorf("undisturbed: %s", s.ended)
	}
	if err := errors.Join(w.whole(ctx, t.env, t.to), w.remembers(ctx, t, recordedEnd, t.to)); err != nil {
		return nil, 0, err
	}
	if t.env == first {
		return s.seen, s.Took, w.forget(ctx)
	}
	w.running = t.to
	return s.seen, s.Took, nil
}

// Points lists the points of a survey: each request and each call, before and
// after, and random moments. most bounds those of each kind, evenly spread; 0
// is all of them.
func Points(of string, seen map[string][]string, took time.Duration, randoms, most int) []Point {
	var list []Point
	for _, where := range []string{AtEngine, AtRegistry, AtCall} {
		var some []Point
		count := map[string]int{}
		for _, what := range seen[where] {
			count[what]++
			p := Point{Of: of, Where: where, Call: what, At: count[what]}
			some = append(some, p)
			p.After = true
			some = append(some, p)
		}
		list = append(list, thin(some, most)...)
	}
	source := rand.New(rand.NewPCG(6, uint64(len(of))))
	var some []Point
	for range randoms {
		moment := time.Duration(source.Float64() * 1.05 * float64(took)).Round(time.Microsecond)
		some = append(some, Point{Of: of, Where: AtRandom, Moment: moment})
	}
	return append(list, thin(some, most)...)
}

// urgency orders the points so that a run that is cut short has tried something
// of everything: the last of each kind of request or call of a promotion or a
// restore, on each side, first, and of all others those that change something.
// The sooner the lower.
func urgency(p Point, seen []string, random *rand.Rand) float64 {
	u := random.Float64()
	if p.Of != OfUpdate && p.Of != OfRestore {
		return 0.3 + u*0.7
	}
	if p.Where == AtRandom {
		return 0.2 + u*0.8
	}
	kind := 0
	for _, what := range seen {
		if what == p.Call {
			kind++
		}
	}
	idle := reads(p.Call) || strings.Contains(p.Call, "heartbeats") // they prove nothing
	switch last := p.At == kind; {
	case !idle && (last || p.Where != AtRegistry):
		return u * 0.2
	case idle && !last:
		return 1 + u
	}
	return 0.2 + u*0.8
}

// reads reports whether a request changes nothing.
func reads(what string) bool {
	return strings.HasPrefix(what, "GET") || strings.HasPrefix(what, "HEAD")
}

// thin keeps most of a list, evenly spread.
func thin(list []Point, most int) []Point {
	if most <= 0 || len(list) <= most {
		return list
	}
	var kept []Point
	for i := range most {
		kept = append(kept, list[i*len(list)/most])
	}
	return slices.Compact(kept)
}
