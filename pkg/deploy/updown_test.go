package deploy_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

func (w *world) run(work release.Workload) deploy.Run {
	return deploy.Run{Target: "smoke", Workload: work, Images: w.images, Timeout: 2 * time.Second, Settle: time.Millisecond}
}

// tells is an engine that has another idea of what an image is.
type tells struct {
	deploy.Engine
	id func(release.Subject) string
}

func (e tells) ImageID(_ context.Context, s release.Subject) (string, bool, error) {
	return e.id(s), true, nil
}

// An image that is not the verified one is no candidate, whatever happens.
// Engines before 28 give the index itself where their containerd store has one:
// then nobody knows, which is no denial, and no permission either.
func TestAnImageThatIsNotTheVerifiedOne(t *testing.T) {
	for what, c := range map[string]struct {
		id   func(release.Subject) string
		kind release.Kind
		says string
	}{
		"another":   {func(release.Subject) string { return release.DigestOf([]byte("other")).String() }, release.KindDenied, "not the one that was verified"},
		"the index": {func(s release.Subject) string { return s.Digest.String() }, release.KindUnavailable, "by the index of all platforms"},
	} {
		w := newWorld(t)
		r := w.run(w.stack("1"))
		r.Images = maps.Clone(r.Images)
		for name, image := range r.Images {
			image.Config, image.Manifest = release.DigestOf([]byte("configuration")), release.DigestOf([]byte("manifest"))
			r.Images[name] = image
		}
		err := deploy.Up(t.Context(), tells{w.fake, c.id}, r)
		if release.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v (%s)", what, err, release.KindOf(err))
		}
		if seen := w.seen(); len(seen.Containers) > 0 {
			t.Errorf("%s: %+v", what, seen.Containers)
		}
	}
}

func TestUpAndDown(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	work := w.stack("1")
	work.Labels = map[string]string{release.LabelSmoke: "42"}
	if err := deploy.Up(ctx, w.fake, w.run(work)); err != nil {
		t.Fatal(err)
	}
	if err := w.whole(work); err != nil {
		t.Error(err)
	}
	found, err := w.fake.ListLabelled(ctx, release.LabelSmoke+"=42")
	if err != nil || found.Count() != 5+1+1 {
		t.Errorf("labelled: %+v, %v", found, err)
	}
	calls := w.fake.Calls()
	before := func(a, b string) bool { return slices.Index(calls, a) < slices.Index(calls, b) }
	if !before("start agent-store-1", "create agent-migrate-1") || !before("start agent-migrate-1", "create agent-planner-1") ||
		!before("start agent-bus-1", "create agent-planner-1") || !before("start agent-planner-1", "create agent-executor-1") {
		t.Errorf("order: %v", calls)
	}
	// The recreated bus has the anonymous volume by its name.
	if err := deploy.Recreate(ctx, w.fake, w.run(work), "bus"); err != nil {
		t.Error(err)
	}
	inherited := w.container("bus").Mounts[0].Name
	if err := deploy.Down(ctx, w.fake, project, false); err != nil {
		t.Error(err)
	}
	seen := w.seen()
	if len(seen.Containers) != 0 || len(seen.Networks) != 0 {
		t.Errorf("left: %+v", seen)
	}
	if _, ok := seen.Volume(project + "_memory"); !ok {
		t.Error("the volume went without being asked for")
	}
	if _, ok := seen.Volume(inherited); !ok {
		t.Error("the anonymous volume went without being asked for")
	}
	if err := w.fake.RemoveVolume(ctx, inherited); err != nil {
		t.Error(err)
	}
	if err := deploy.Up(ctx, w.fake, w.run(work)); err != nil {
		t.Fatal(err)
	}
	if err := deploy.Recreate(ctx, w.fake, w.run(work), "bus"); err != nil {
		t.Error(err)
	}
	if err := deploy.Down(ctx, w.fake, project, true); err != nil {
		t.Error(err)
	}
	if seen = w.seen(); len(seen.Volumes) != 0 {
		t.Errorf("left: %+v", seen.Volumes)
	}
}

// Services that do not wait for each other start side by side.
func TestUpIsConcurrent(t *testing.T) {
	w := newWorld(t)
	w.fake.HealthDelay = 150 * time.Millisecond
	work := release.Workload{Project: project}
	for _, name := range []string{"a", "b", "c", "d"} {
		s := w.service(name, "1")
		s.Networks = nil
		work.Services = append(work.Services, s)
	}
	began := time.Now()
	if err := deploy.Up(context.Background(), w.fake, w.run(work)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 450*time.Millisecond {
		t.Errorf("four services of 150 ms took %s", took)
	}
}

// The error is that of the service that failed, with its health check and log;
// what depends on it never starts.
func TestUpSaysWhatFailed(t *testing.T) {
	cases := map[string]struct {
		arrange func(*world, *release.Workload)
		says    []string
	}{
		"unhealthy": {func(w *world, work *release.Workload) {
			work.Services[1].Health = &release.Health{Test: []string{"CMD", "/probe", "fail"}}
		}, []string{"agent-store-1", "unhealthy", "not well", "running"}},
		"ended": {func(w *world, work *release.Workload) {
			work.Services[2].Command = []string{"/probe", "exit", "4"}
		}, []string{"agent-migrate-1", "exit code 4", "exiting with 4"}},
		"never well": {func(w *world, work *release.Workload) {
			w.fake.Health = func(c release.Container) string {
				return map[bool]string{true: "starting", false: "healthy"}[c.Service == "bus"]
			}
		}, []string{"agent-bus-1", "not well after"}},
		"a migration that never ends": {func(w *world, work *release.Workload) {
			work.Services[2].Command = []string{"/probe", "run"}
		}, []string{"agent-migrate-1", "not well after"}},
		"created by nobody": {func(w *world, _ *release.Workload) {
			w.fake.Before = func(op, subject string) error {
				if op == "create" && subject == "agent-planner-1" {
					time.Sleep(20 * time.Millisecond)
					return release.Unavailable("", "disk full")
				}
				return nil
			}
		}, []string{"disk full"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			work := w.stack("1")
			c.arrange(w, &work)
			r := w.run(work)
			r.Timeout = 100 * time.Millisecond
			if name == "unhealthy" {
				r.Timeout = 10 * time.Second
			}
			// A failure takes its time to be told, and is known all the same.
			ctx := event.With(context.Background(), func(e event.Event) {
				if e.Error != "" {
					time.Sleep(20 * time.Millisecond)
				}
			})
			began := time.Now()
			err := deploy.Up(ctx, w.fake, r)
			if err == nil || time.Since(began) > 5*time.Second {
				t.Fatalf("%v after %s", err, time.Since(began))
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q is not in: %v", s, err)
				}
			}
			for _, c := range w.seen().Containers {
				if c.Service == "planner" || c.Service == "executor" {
					t.Errorf("%s was started", c.Service)
				}
			}
		})
	}
}

func TestUpEndsWhenCancelled(t *testing.T) {
	w := newWorld(t)
	w.fake.Health = func(release.Container) string { return "starting" }
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	r := w.run(w.stack("1"))
	r.Timeout = time.Minute
	began := time.Now()
	if err := deploy.Up(ctx, w.fake, r); err == nil || time.Since(began) > time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

// Recreating loses what is not in a volume and keeps what is.
func TestRecreate(t *testing.T) {
	w := newWorld(t)
	work := w.stack("1")
	r := w.run(work)
	if err := deploy.Up(context.Background(), w.fake, r); err != nil {
		t.Fatal(err)
	}
	for _, service := range []string{"bus", "store"} {
		before := w.container(service)
		if err := deploy.Recreate(context.Background(), w.fake, r, service); err != nil {
			t.Error(err)
		}
		after := w.container(service)
		if after.ID == before.ID || after.Mounts[0].Identity != before.Mounts[0].Identity {
			t.Errorf("%s: %+v, before %+v", service, after, before)
		}
	}
	if err := w.whole(work); err != nil {
		t.Error(err)
	}
	if err := deploy.Recreate(context.Background(), w.fake, r, "nobody"); release.KindOf(err) != release.KindConfig {
		t.Errorf("%v", err)
	}
}

// A container that keeps restarting is not waited for until the deadline.
func TestACrashLoopIsNoticed(t *testing.T) {
	w := newWorld(t)
	work := w.stack("1")
	work.Services = work.Services[:1]
	w.fake.Health = func(release.Container) string { return "starting" }
	r := w.run(work)
	r.Timeout = time.Minute
	result := make(chan error, 1)
	go func() { result <- deploy.Up(context.Background(), w.fake, r) }()
	deadline := time.After(5 * time.Second)
	for {
		select {
		case err := <-result:
			if err == nil || !strings.Contains(err.Error(), "restarted 5 times") {
				t.Errorf("%v", err)
			}
			return
		case <-deadline:
			t.Fatal("still waiting")
		case <-time.After(5 * time.Millisecond):
			seen, err := w.fake.Observe(context.Background(), project)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range seen.Containers {
				w.fake.Change(c.ID, func(c *release.Container) { c.Restarts = 5 })
			}
		}
	}
}
