//go:build engine

package smoke

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// sampling runs a memory test whose samples are what usage says.
func (w *world) sampling(t *testing.T, usage func(u *release.Usage, running time.Duration)) release.Smoke {
	t.Helper()
	w.OnUsage = func(c release.Container) release.Usage {
		u := release.Usage{Time: time.Now(), Memory: 30 * mib, Anonymous: 20 * mib, Cache: 5 * mib, HighWater: 36 * mib, Limit: c.Memory, FDs: 10, Tasks: 4, TaskLimit: 100}
		if c.Service == "planner" && !c.Started.IsZero() {
			usage(&u, time.Since(c.Started))
		}
		return u
	}
	return w.mustRun(t, func(o *Options) {
		o.Memory = MemoryTest{Duration: 900 * time.Millisecond, Warmup: 20 * time.Millisecond}
	})
}

func service(t *testing.T, s release.Smoke, name string) release.SmokeService {
	t.Helper()
	for _, one := range s.Services {
		if one.Name == name {
			return one
		}
	}
	t.Fatalf("no service %s", name)
	return release.SmokeService{}
}

// A file that is read makes cache, and some memory of the kernel's: that is no
// leak, whatever the limit says about the peak.
func TestGrowthIsToldFromOwnMemory(t *testing.T) {
	t.Parallel()
	s := newWorld(t).sampling(t, func(u *release.Usage, running time.Duration) {
		u.Cache += int64(running.Seconds() * 40 * mib)
		u.HighWater = u.Memory + u.Cache
		u.Memory += int64(running.Seconds() * mib)
	})
	want(t, s, "growth/planner", release.Passed, "no growth")
	m := service(t, s, "planner").Memory
	if m.Cache < 20*mib || m.HighWater < m.Peak+20*mib || m.Peak > 35*mib {
		t.Errorf("%+v", m)
	}
}

func TestGrowthOfOwnMemoryBelowASteadyUsage(t *testing.T) {
	t.Parallel()
	s := newWorld(t).sampling(t, func(u *release.Usage, running time.Duration) {
		u.Anonymous += int64(running.Seconds() * 5 * mib) // as the kernel drops other pages for it
	})
	want(t, s, "growth/planner", release.Failed, "would reach its limit")
	m := service(t, s, "planner").Memory
	// One interval in twenty leaves the truth out, and these are some bytes wide.
	const near = mib / 100
	if m.SlopeLow == nil || m.SlopeHigh == nil || *m.SlopeLow > 5*mib+near || *m.SlopeHigh < 5*mib-near || m.SecondsToLimit == nil || *m.SecondsToLimit < 10 || *m.SecondsToLimit > 25 {
		t.Errorf("%+v", m)
	}
}

func TestThrottling(t *testing.T) {
	t.Parallel()
	periods := func(share float64) func(*release.Usage, time.Duration) {
		return func(u *release.Usage, running time.Duration) {
			u.Periods = int64(1000 * running.Seconds())
			u.Throttled = int64(share * float64(u.Periods))
		}
	}
	s := newWorld(t).sampling(t, periods(0.5))
	want(t, s, "throttled/planner", release.Warned, "50 %")
	if share := service(t, s, "planner").Throttled; share < 0.45 || share > 0.55 {
		t.Errorf("%v", share)
	}
	if s = newWorld(t).sampling(t, periods(0.1)); has(s, "throttled/planner") || has(s, "handles/planner") {
		t.Error(lines(s))
	}
}

func TestHandles(t *testing.T) {
	t.Parallel()
	s := newWorld(t).sampling(t, func(u *release.Usage, running time.Duration) {
		u.FDs += int64(running.Seconds() * 200)
		u.Tasks = 85
	})
	want(t, s, "handles/planner", release.Warned, "open files grew from", "85 of at most 100 processes")
	if one := service(t, s, "planner"); one.FDs < 100 || one.Tasks != 85 {
		t.Errorf("%+v", one)
	}
	if has(s, "handles/bus") {
		t.Error(lines(s))
	}
}

// The kernel's count tells of children; the service may not even notice.
func TestKilledChild(t *testing.T) {
	t.Parallel()
	s := newWorld(t).sampling(t, func(u *release.Usage, running time.Duration) {
		if running > 200*time.Millisecond {
			u.OOMKills = 2
		}
	})
	want(t, s, "memory/planner", release.Failed, "a child process was killed", "lived on", "2 in all")
	one := service(t, s, "planner")
	if one.OOMKills != 2 || !one.OOMKilled || one.Memory.PercentOfLimit != 100 {
		t.Errorf("%+v", one)
	}
	if n := strings.Count(kinds(one.Marks), release.MarkOOM); n != 1 {
		t.Errorf("marks %v", one.Marks)
	}
}

func kinds(marks []release.Mark) string {
	var list []string
	for _, m := range marks {
		list = append(list, m.Kind)
	}
	return strings.Join(list, " ")
}

func TestSeriesAndMarks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.sampling(t, func(u *release.Usage, running time.Duration) {
		if running > 100*time.Millisecond && running < 200*time.Millisecond {
			u.Memory = 70 * mib
		}
	})
	one := service(t, s, "planner")
	if got := kinds(one.Marks); got != "move load steady stop" {
		t.Errorf("marks %s", got)
	}
	high, last := int64(0), -1.0
	for _, p := range one.Memory.Series {
		if p.Low > p.High || p.Seconds <= last {
			t.Errorf("series %+v", one.Memory.Series)
		}
		high, last = max(high, p.High), p.Seconds
	}
	if high != 70*mib || high != one.Memory.Peak || len(one.Memory.Series) > mostPoints {
		t.Errorf("highest %d of %d points, peak %d", high, len(one.Memory.Series), one.Memory.Peak)
	}
}

// Where no interval is given the kernel is asked ten times a second, an engine
// once.
func TestHowOftenSamplesAreTaken(t *testing.T) {
	t.Parallel()
	for kernel, most := range map[bool]int{true: 60, false: 6} {
		w := newWorld(t)
		w.OnUsage = func(c release.Container) release.Usage {
			return release.Usage{Memory: 20 * mib, Anonymous: 20 * mib, Limit: c.Memory, Kernel: kernel}
		}
		s := w.mustRun(t, func(o *Options) {
			o.Interval = 0
			o.Memory = MemoryTest{Duration: 3 * time.Second}
		})
		n := service(t, s, "planner").Memory.Samples
		if n > most || n < most/10 || kernel && n <= 6 {
			t.Errorf("kernel %t: %d samples in 3 s", kernel, n)
		}
	}
}

func TestMarksAreBounded(t *testing.T) {
	w := newWorld(t)
	m := newMonitor(w, w.workload, time.Hour)
	l := m.services["bus"]
	for i := range 1000 {
		l.mark(time.Unix(int64(2*i), 0), release.MarkRestart, "")
		l.mark(time.Unix(int64(2*i), 1), release.MarkRestart, "told twice")
	}
	if len(l.marks) != mostMarks || l.marks[1].at.Unix() != 2 {
		t.Errorf("%d marks", len(l.marks))
	}
}

// A load that never began is no verdict; what ended the test before it began is
// told by its own check.
func TestLoadThatNeverBegan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := &run{Options: w.options().withDefaults(), workload: w.workload, monitor: newMonitor(w, w.workload, time.Hour)}
	r.Memory.Load = Load{Service: "planner", HTTP: &HTTP{}, Rate: 10, Concurrency: 1}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var never work
	r.load(ended, &never)
	if never.failed.Load() != 0 {
		t.Errorf("counted as failed: %v", never.first)
	}
	if err := r.judgeLoad(&never); release.KindOf(err) != release.KindUnavailable {
		t.Errorf("a load that never began is not a verdict: %v", err)
	}
	r.monitor.alarm()
	if err := r.judgeLoad(&never); err != nil || len(r.result.Checks) != 0 {
		t.Errorf("%v, %v", err, r.result.Checks)
	}
}

// A service that answers nothing within a test shorter than a request may take
// is no verdict either, and everything is taken down.
func TestLoadThatNothingAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handler = func(http.ResponseWriter, *http.Request) { time.Sleep(600 * time.Millisecond) }
	_, err := w.run(t, func(o *Options) { loaded(o); o.Memory.Load.Concurrency = 1 })
	if release.KindOf(err) != release.KindUnavailable || !strings.Contains(err.Error(), "nothing of the load on service planner ended within") {
		t.Errorf("got %v", err)
	}
}
