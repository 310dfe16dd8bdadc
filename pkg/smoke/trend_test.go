package smoke

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// series makes samples two a second: f gives MiB at a second.
func series(seconds float64, f func(s float64) float64) []sample {
	var out []sample
	for s := 0.0; s <= seconds; s += 0.5 {
		out = append(out, sample{at: time.Unix(0, 0).Add(time.Duration(s * float64(time.Second))), bytes: int64(f(s) * mib)})
	}
	return out
}

const mib = 1 << 20

func TestTrend(t *testing.T) {
	const limit = 128 * mib
	for name, c := range map[string]struct {
		seconds float64
		shape   func(r *rand.Rand) func(s float64) float64
		slope   float64 // MiB a second
		within  float64
		grows   verdict
	}{
		"flat":  {50, func(*rand.Rand) func(float64) float64 { return func(float64) float64 { return 40 } }, 0, 0, steady},
		"noise": {50, func(r *rand.Rand) func(float64) float64 { return func(float64) float64 { return 40 + r.NormFloat64() } }, 0, 0.05, steady},
		"much noise": {50, func(r *rand.Rand) func(float64) float64 {
			return func(float64) float64 { return 60 + 8*r.NormFloat64() }
		}, 0, 0.3, steady},
		"leak": {50, func(*rand.Rand) func(float64) float64 { return func(s float64) float64 { return 40 + 0.5*s } }, 0.5, 0.001, grows},
		"leak in noise": {50, func(r *rand.Rand) func(float64) float64 {
			return func(s float64) float64 { return 40 + 0.2*s + 0.5*r.NormFloat64() }
		}, 0.2, 0.05, grows},
		"leak in steps": {50, func(*rand.Rand) func(float64) float64 { return func(s float64) float64 { return 40 + math.Floor(s/2) } }, 0.5, 0.05, grows},
		"leak, short": {20, func(r *rand.Rand) func(float64) float64 {
			return func(s float64) float64 { return 40 + s + 0.3*r.NormFloat64() }
		}, 1, 0.1, grows},
		"leak under a GC": {50, func(*rand.Rand) func(float64) float64 {
			return func(s float64) float64 { return 40 + 0.5*s + 10*math.Mod(s, 3)/3 }
		}, 0.5, 0.15, grows},
		"slow leak": {50, func(r *rand.Rand) func(float64) float64 {
			return func(s float64) float64 { return 40 + 0.025*s + 0.01*r.NormFloat64() }
		}, 0.025, 0.003, suspect},
		"outliers": {50, func(r *rand.Rand) func(float64) float64 {
			return func(s float64) float64 {
				if r.IntN(6) == 0 {
					return 110
				}
				return 40
			}
		}, 0, 0, steady},
		"one step": {50, func(r *rand.Rand) func(float64) float64 {
			return func(s float64) float64 {
				if s > 25 {
					return 60 + 0.1*r.NormFloat64()
				}
				return 40 + 0.1*r.NormFloat64()
			}
		}, 0.4, 0.8, steady},
		"late step": {50, func(r *rand.Rand) func(float64) float64 {
			return func(s float64) float64 {
				if s > 40 {
					return 60 + 0.1*r.NormFloat64()
				}
				return 40 + 0.1*r.NormFloat64()
			}
		}, 0, 0.8, steady},
		"warming up": {50, func(r *rand.Rand) func(float64) float64 {
			return func(s float64) float64 { return 60 - 20*math.Exp(-s/4) + 0.05*r.NormFloat64() }
		}, 0, 0.5, steady},
		"garbage collector": {50, func(*rand.Rand) func(float64) float64 {
			return func(s float64) float64 { return 40 + 30*math.Mod(s, 4)/4 }
		}, 0, 0.2, steady},
		"slow collector": {50, func(*rand.Rand) func(float64) float64 {
			return func(s float64) float64 { return 40 + 30*math.Mod(s, 11)/11 }
		}, 0, 0.7, steady},
		"waves": {50, func(*rand.Rand) func(float64) float64 {
			return func(s float64) float64 { return 50 + 10*math.Sin(s/4) }
		}, 0, 0.5, steady},
		"wandering": {50, func(r *rand.Rand) func(float64) float64 {
			v := 50.0
			return func(float64) float64 { v += 0.3*(50-v) + 0.5*r.NormFloat64(); return v }
		}, 0, 0.1, steady},
		"peaks rise, floor does not": {50, func(*rand.Rand) func(float64) float64 {
			return func(s float64) float64 { return 40 + s*2*(math.Mod(s, 1)) }
		}, 0, 0.01, steady},
		"slow wandering": {50, func(r *rand.Rand) func(float64) float64 {
			v := 50.0
			return func(float64) float64 { v += 0.1*(50-v) + 0.2*r.NormFloat64(); return v }
		}, 0, 0.2, steady},
		"shrinking": {50, func(*rand.Rand) func(float64) float64 { return func(s float64) float64 { return 90 - 0.5*s } }, -0.5, 0.001, steady},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := 0
			const runs = 50
			for seed := range uint64(runs) {
				f := c.shape(rand.New(rand.NewPCG(seed, 7)))
				trend, ok := trendOf(series(c.seconds, f), minWindow)
				if !ok {
					t.Fatal("too short?")
				}
				if got := trend.slope / mib; math.Abs(got-c.slope) > c.within {
					t.Errorf("seed %d: slope %.4f MiB/s, want %.4f ± %.4f", seed, got, c.slope, c.within)
				}
				if trend.low > trend.slope || trend.high < trend.slope {
					t.Errorf("seed %d: slope %v outside of %v to %v", seed, trend.slope, trend.low, trend.high)
				}
				if got := (question{limit: limit, horizon: 24 * time.Hour, percent: 90, least: minWindow}).points(trend); got != c.grows {
					wrong++
				}
			}
			if wrong > 1 { // 99 % confidence
				t.Errorf("%d of %d runs judged otherwise than %v", wrong, runs, c.grows)
			}
		})
	}
}

func TestTrendNeedsTime(t *testing.T) {
	rising := func(s float64) float64 { return 10 * s }
	if _, ok := trendOf(series(4, rising), minWindow); ok {
		t.Error("four seconds are enough?")
	}
	if _, ok := trendOf(nil, minWindow); ok {
		t.Error("no samples are enough?")
	}
	few := series(60, rising)
	if _, ok := trendOf([]sample{few[0], few[30], few[60], few[90], few[120]}, minWindow); ok {
		t.Error("five samples are enough?")
	}
	same := make([]sample, 100)
	if _, ok := trendOf(same, 0); ok {
		t.Error("a hundred samples of one moment are enough?")
	}
}

func TestHorizonDecides(t *testing.T) {
	trend, _ := trendOf(series(50, func(s float64) float64 { return 40 + 0.1*s }), minWindow) // 83 MiB left: 14 minutes
	for horizon, want := range map[time.Duration]verdict{10 * time.Minute: steady, 20 * time.Minute: grows, 24 * time.Hour: grows, 0: steady} {
		if got := (question{limit: 128 * mib, horizon: horizon}).points(trend); got != want {
			t.Errorf("horizon %s: %v, want %v", horizon, got, want)
		}
	}
	if got := (question{horizon: 24 * time.Hour}).points(trend); got != steady {
		t.Errorf("without a limit: %v", got)
	}
	if after, ok := trend.reaches(128*mib, trend.slope); !ok || after < 13*time.Minute || after > 15*time.Minute {
		t.Errorf("reaches the limit after %s", after)
	}
	if _, ok := trend.reaches(128*mib, -1); ok {
		t.Error("shrinking reaches a limit")
	}
}

// An exec health check and the runtime that starts it add to a service's
// memory for a moment: that is no memory that the service gives back.
func TestHealthChecksDoNotHideALeak(t *testing.T) {
	begin := time.Unix(1000, 0)
	series := func(spike func(second float64) bool) []sample {
		var list []sample
		for i := range 450 {
			second := float64(i) / 10
			bytes := int64(6<<20) + int64(second*64*1024)
			if spike(second) {
				bytes += 5 << 20
			}
			list = append(list, sample{at: begin.Add(time.Duration(i) * 100 * time.Millisecond), bytes: bytes})
		}
		return list
	}
	q := question{limit: 128 << 20, horizon: 24 * time.Hour, least: minWindow, percent: 90}
	short := func(s float64) bool { return s > 12 && s < 12.8 || s > 30 && s < 31.5 }
	if j, ok := q.judge(series(short)); !ok || j.verdict != grows {
		t.Errorf("with two health checks on top: %+v", j)
	}
	long := func(s float64) bool { return s > 10 && s < 16 || s > 28 && s < 36 }
	if j, ok := q.judge(series(long)); !ok || j.verdict == grows {
		t.Errorf("with two collections: %+v", j)
	}
}
