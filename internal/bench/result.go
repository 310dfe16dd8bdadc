package bench

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// sum makes a result of samples.
func sum(c Case, image *Image, t *Tool, delay int, samples []sample) Result {
	r := Result{Case: c.ID, Work: c.Work, Spec: c.Spec, Delay: delay, Tool: t, Note: c.Note, faulty: c.Faulty}
	var times, cpu []float64
	for _, s := range samples {
		cpu = append(cpu, milliseconds(s.cost.CPU))
		if s.err == nil {
			times = append(times, milliseconds(s.cost.Wall))
			continue
		}
		r.Failed++
		if text := s.err.Error(); !slices.Contains(r.Errors, text) {
			r.Errors = append(r.Errors, text)
		}
	}
	r.Milliseconds, r.CPU = Summarize(times), Summarize(cpu).Median
	if c.Faulty {
		r.Again = again(image, samples)
	}
	slices.SortFunc(samples, func(a, b sample) int { return cmp.Compare(a.requests(), b.requests()) })
	middle := samples[len(samples)/2]
	r.Source, r.Destination = middle.source, middle.destination
	r.Requests = [2]int64{samples[0].requests(), samples[len(samples)-1].requests()}
	return r
}

func (s sample) requests() int64 { return s.source.Requests + s.destination.Requests }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// again is how much more than the image's bytes went over the lines.
func again(image *Image, samples []sample) *Again {
	need := int64(0)
	for _, b := range image.blobs {
		need += b.Size
	}
	var a Again
	for _, s := range samples {
		a.Read = max(a.Read, s.source.BodyOut-need-small)
		a.Written = max(a.Written, s.destination.BodyIn-need-small)
	}
	return &a
}

// small is what manifests and explanations of errors come to, at most.
const small = 64 * kib

// compare relates each peer to ours of the same kind.
func compare(results []Result, target Target) {
	for n := range results {
		r := &results[n]
		if r.Tool.Ours || r.faulty {
			continue
		}
		at := slices.IndexFunc(results, func(o Result) bool { return o.Tool.Ours && o.Tool.Library == r.Tool.Library })
		if at < 0 || results[at].Milliseconds.Median == 0 || r.Milliseconds.Median == 0 {
			continue
		}
		ours := results[at]
		r.Ratio = r.Milliseconds.Median / ours.Milliseconds.Median
		if r.Tool.Evidence != ours.Tool.Evidence {
			continue // it does less
		}
		if r.Target = target.Default; r.Tool.Tuning == Tuned {
			r.Target = target.Tuned
		}
		if r.Target > 0 {
			reached := r.Ratio >= r.Target
			r.Reached = &reached
		}
	}
}

// String is one line for who watches.
func (r Result) String() string {
	kind := "command"
	if r.Tool.Library {
		kind = "library"
	}
	text := fmt.Sprintf("%-3s %s, %s, %d ms | %s %s: %.0f ms (p95 %.0f), %d+%d requests, %.1f MB in, %.1f MB out, %d connections",
		r.Case, r.Work, r.Spec, r.Delay, kind, r.Tool.Label(), r.Milliseconds.Median, r.Milliseconds.P95, r.Source.Requests, r.Destination.Requests,
		megabytes(r.Source.BytesIn+r.Destination.BytesIn), megabytes(r.Source.BytesOut+r.Destination.BytesOut), r.Source.Connections+r.Destination.Connections)
	if r.Failed > 0 {
		text += fmt.Sprintf(", %d failed", r.Failed)
	}
	if r.Again != nil {
		text += fmt.Sprintf(", again: %.1f MB read, %.1f MB written", megabytes(r.Again.Read), megabytes(r.Again.Written))
	}
	if r.Ratio > 0 {
		text += fmt.Sprintf(", ratio %.2f", r.Ratio)
	}
	return text
}

func megabytes(n int64) float64 { return float64(n) / mib }
