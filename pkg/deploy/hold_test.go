package deploy_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/engine/enginetest"
	"github.com/promote-dev/promote/pkg/release"
)

func TestHoldSeesWhatDoesNotGoOn(t *testing.T) {
	change := func(service string, what func(*release.Container)) func(*enginetest.Fake, map[string]string) {
		return func(f *enginetest.Fake, ids map[string]string) { f.Change(ids[service], what) }
	}
	cases := map[string]struct {
		happens func(f *enginetest.Fake, ids map[string]string)
		says    string // "" is: nothing is wrong
	}{
		"all well":       {func(*enginetest.Fake, map[string]string) {}, ""},
		"a health check": {change("planner", func(c *release.Container) { c.Health = "unhealthy" }), "unhealthy"},
		"no answer for a moment, and not asked by the engine yet": {func(f *enginetest.Fake, ids map[string]string) {
			f.Change(ids["planner"], func(c *release.Container) { c.Health = "starting" })
			time.AfterFunc(200*time.Millisecond, func() { f.Change(ids["planner"], func(c *release.Container) { c.Health = "healthy" }) })
		}, ""},
		"no answer to the end": {change("planner", func(c *release.Container) { c.Health = "starting" }), "starting"},
		"ill for a moment only": {func(f *enginetest.Fake, ids map[string]string) {
			f.SetHealth(ids["planner"], "unhealthy")
			f.SetHealth(ids["planner"], "healthy")
		}, "turned unhealthy"},
		"ended":              {func(f *enginetest.Fake, ids map[string]string) { f.Die(ids["executor"], 3) }, "exit code 3"},
		"restarted":          {func(f *enginetest.Fake, ids map[string]string) { _ = f.Restart(context.Background(), ids["bus"], 0) }, "bus"},
		"restarted, unheard": {change("bus", func(c *release.Container) { c.Restarts++ }), "restarted"},
		"started, unheard":   {change("bus", func(c *release.Container) { c.Started = c.Started.Add(time.Second) }), "restarted"},
		"out of memory":      {func(f *enginetest.Fake, ids map[string]string) { f.OOM(ids["executor"]) }, "memory"},
		"gone":               {change("bus", func(c *release.Container) { c.Service = "" }), "no container"},
		"replaced":           {change("bus", func(c *release.Container) { c.ID = strings.Repeat("0", 64) }), "replaced"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			j := w.job(w.stack("1"), 1)
			w.mustDeploy(j)
			ids := map[string]string{}
			for _, c := range w.seen().Containers {
				ids[c.Service] = c.ID
			}
			looks := make(chan struct{}, 1000)
			w.fake.Before = func(op, _ string) error {
				if op == "observe" {
					looks <- struct{}{}
				}
				return nil
			}
			held := make(chan error, 1)
			go func() { held <- deploy.Hold(t.Context(), w.fake, j, 500*time.Millisecond) }()
			<-looks // by the second one it is subscribed and has looked
			<-looks
			c.happens(w.fake, ids)
			err := <-held
			if c.says == "" && err != nil {
				t.Errorf("got %v", err)
			}
			if c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

func TestHoldEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	j := w.job(w.stack("1"), 1)
	w.mustDeploy(j)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if err := deploy.Hold(ctx, w.fake, j, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A target that gives no answer for a moment is looked at again; one that gives
// none at the end has not been held.
func TestHoldOutlivesAMomentWithoutAnswer(t *testing.T) {
	for name, ever := range map[string]bool{"a moment": false, "for ever": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			j := w.job(w.stack("1"), 1)
			w.mustDeploy(j)
			looks := 0
			w.fake.Before = func(op, _ string) error {
				if op != "observe" {
					return nil
				}
				if looks++; looks > 1 && (ever || looks == 2) {
					return release.Unavailable("", "no answer")
				}
				return nil
			}
			if err := deploy.Hold(t.Context(), w.fake, j, 400*time.Millisecond); ever != (err != nil) {
				t.Errorf("got %v after %d looks", err, looks)
			}
		})
	}
}

func TestRunningSince(t *testing.T) {
	w := newWorld(t)
	work := w.stack("1")
	if !deploy.RunningSince(work, w.seen()).IsZero() {
		t.Error("nothing runs")
	}
	w.mustDeploy(w.job(work, 1))
	at := time.Unix(1_700_000_000, 0)
	for i, c := range w.seen().Containers {
		w.fake.Change(c.ID, func(c *release.Container) { c.Started = at.Add(time.Duration(-i) * time.Hour) })
	}
	w.fake.Change(w.container("migrate").ID, func(c *release.Container) { c.Started = at.Add(time.Hour) })
	if got := deploy.RunningSince(work, w.seen()); !got.Equal(at) {
		t.Errorf("got %s, want %s", got, at)
	}
	w.fake.SetHealth(w.container("planner").ID, "unhealthy")
	if !deploy.RunningSince(work, w.seen()).IsZero() {
		t.Error("what is ill has not run")
	}
}

func TestFetchChangesNothingThatRuns(t *testing.T) {
	w := newWorld(t)
	w.mustDeploy(w.job(w.stack("1"), 1))
	before := snapshot(w.seen())
	j := w.job(w.stack("2"), 2)
	if err := deploy.Fetch(t.Context(), w.fake, j); err != nil {
		t.Fatal(err)
	}
	if after := snapshot(w.seen()); strings.Join(after, "\n") != strings.Join(before, "\n") {
		t.Errorf("before %q, after %q", before, after)
	}
	missing, err := deploy.MissingImages(t.Context(), w.fake, j.Workload)
	if err != nil || len(missing) > 0 {
		t.Errorf("missing %v, %v", missing, err)
	}
	j = w.job(w.stack("3"), 3)
	j.Guard = func(context.Context) error { return errors.New("not yours") }
	if err := deploy.Fetch(t.Context(), w.fake, j); err == nil {
		t.Error("the guard was not asked")
	}
}
