package smoke

import (
	"context"
	"fmt"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// How often a service's memory is drawn while it is watched, and while nobody
// is.
const (
	liveEvery  = 2 * time.Second
	plainEvery = 10 * time.Second
	liveCells  = 24
	lately     = 10 * time.Second // what a rate is shown of
)

// pictures shows each service's memory against its limit while the memory test
// goes on: one step for each, a line from time to time.
type pictures struct {
	run   *run
	every time.Duration
	next  time.Time
	steps map[string]*event.Step
}

func (r *run) pictures(ctx context.Context) *pictures {
	p := &pictures{run: r, every: plainEvery, steps: map[string]*event.Step{}}
	if event.Live(ctx) {
		p.every = liveEvery
	}
	p.next = time.Now().Add(p.every)
	for _, s := range r.workload.Services {
		if !s.OneShot {
			p.steps[s.Name] = event.Start(ctx, "[smoke] memory %s", s.Name)
		}
	}
	return p
}

// draw writes a line for each service if it is time to.
func (p *pictures) draw(now time.Time) {
	if now.Before(p.next) {
		return
	}
	p.next = now.Add(p.every)
	for _, s := range p.run.workload.Services {
		step := p.steps[s.Name]
		if step == nil {
			continue
		}
		if l := p.run.monitor.get(s.Name); len(l.samples) > 0 {
			step.Logf("%s", picture(since(l.samples, p.run.begun), l.limit))
		}
	}
}

func (p *pictures) end() {
	for _, step := range p.steps {
		step.Done(nil)
	}
}

// picture draws samples: "▁▂▄▆ 61.2 MiB of 128.0 MiB (48 %), +1.2 MiB/s".
func picture(samples []sample, limit int64) string {
	if len(samples) == 0 {
		return "not measured yet"
	}
	points := make([]release.Point, len(samples))
	for i, s := range samples {
		points[i] = release.Point{Low: s.counted(), High: s.counted()}
	}
	last := samples[len(samples)-1]
	text := release.Sparkline(points, limit, liveCells) + " " + release.FormatSize(last.counted())
	if limit > 0 {
		text += fmt.Sprintf(" of %s (%.0f %%)", release.FormatSize(limit), 100*float64(last.counted())/float64(limit))
	}
	recent := since(samples, last.at.Add(-lately))
	if took := last.at.Sub(recent[0].at).Seconds(); took >= 1 {
		rate := int64(float64(last.bytes-recent[0].bytes) / took)
		if rate > 0 {
			text += ", +" + release.FormatSize(rate) + "/s"
		} else if rate < 0 {
			text += ", " + release.FormatSize(rate) + "/s"
		}
	}
	return text
}
