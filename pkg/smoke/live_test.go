package smoke

import (
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

func TestPicture(t *testing.T) {
	begin := time.Unix(1000, 0)
	var rising []sample
	for i := range 21 {
		rising = append(rising, sample{at: begin.Add(time.Duration(i) * time.Second), bytes: int64(i) * 5 << 20})
	}
	for _, c := range []struct {
		samples []sample
		limit   int64
		want    string
	}{
		{nil, 100, "not measured yet"},
		{rising[:1], 0, "▁ 0 B"},
		{rising, 100 << 20, "▁▁▁▂▂▃▃▃▄▄▅▅▅▆▆▇▇▇███ 100.0 MiB of 100.0 MiB (100 %), +5.0 MiB/s"},
		{[]sample{{at: begin, bytes: 4 << 20}, {at: begin.Add(2 * time.Second), bytes: 2 << 20}}, 4 << 20, "█▅ 2.0 MiB of 4.0 MiB (50 %), -1.0 MiB/s"},
	} {
		if got := picture(c.samples, c.limit); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}

// Each service has one step, a line when it is time, more often where somebody
// watches.
func TestPicturesAreDrawnInTime(t *testing.T) {
	w := release.Workload{Services: []release.ServiceSpec{{Name: "a", MemoryLimit: 8 << 20}, {Name: "job", OneShot: true}}}
	for live, want := range map[bool]int{false: 2, true: 10} {
		var lines, steps int
		ctx := event.With(t.Context(), func(e event.Event) {
			switch {
			case e.Type == event.Log && strings.Contains(e.Message, "4.0 MiB of 8.0 MiB"):
				lines++
			case e.Type == event.Started, e.Type == event.Done:
				steps++
			}
		})
		if live {
			ctx = event.WithLive(ctx)
		}
		r := &run{workload: w, monitor: newMonitor(nil, w, time.Second)}
		r.monitor.services["a"].samples = []sample{{at: time.Now(), bytes: 4 << 20}}
		p := r.pictures(ctx)
		begin := time.Now()
		for s := range 21 {
			p.draw(begin.Add(time.Duration(s) * time.Second))
		}
		p.end()
		if lines != want || steps != 2 {
			t.Errorf("live %t: %d lines, want %d; %d events of steps", live, lines, want, steps)
		}
	}
}
