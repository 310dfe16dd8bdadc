package deploy

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// Run says how to run a whole workload in a project of its own.
type Run struct {
	Target   string // for what people read
	Workload release.Workload
	// Images holds the verified images, by service; nil compares nothing.
	Images  map[string]release.PlatformImage
	Timeout time.Duration // for each service; 0 is 3 minutes
	Settle  time.Duration // for services without a health check; 0 is 2 s
	// Probe asks a running container whether it is well while the engine, whose
	// first question may be half a minute away, has not. Nil asks nobody; a
	// failure says nothing.
	Probe func(ctx context.Context, c release.Container) bool
}

// Up runs a workload: it pulls the images, makes networks and volumes, and
// starts each service as soon as those it depends on are well; those that don't
// depend on each other start side by side. It returns when all are well, or
// with the first error. What it made stays, for Down or for a look.
func Up(ctx context.Context, e Engine, r Run) error {
	e = whole{e}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := pullAll(ctx, e, r.Target, r.Workload, r.Images); err != nil {
		return err
	}
	if err := surround(ctx, e, r.Workload, r.Workload.Labels, func(string) bool { return true }); err != nil {
		return err
	}
	v, err := newWatch(ctx, e, r.Workload, r.Timeout, r.Settle)
	if err != nil {
		return err
	}
	v.probe = r.Probe
	u := &up{Run: r, engine: e, watch: v, services: map[string]*upService{}}
	for _, s := range r.Workload.Services {
		u.services[s.Name] = &upService{created: make(chan struct{}), done: make(chan struct{})}
	}
	return u.all(ctx, cancel)
}

type up struct {
	Run
	engine   Engine
	watch    *watch
	services map[string]*upService
}

type upService struct {
	id      string
	created chan struct{} // closed when the container was started, or failed to
	done    chan struct{} // closed when the service is well, or failed
	err     error         // of starting; set before created is closed
}

// errDependency is what becomes of a service that waited for one that failed.
// It is never the error to report.
var errDependency = errors.New("a service that it depends on failed")

// all runs every service side by side and gives the first error.
func (u *up) all(ctx context.Context, cancel context.CancelFunc) error {
	var wait sync.WaitGroup
	var once sync.Once
	var first error
	for _, s := range u.Workload.Services {
		wait.Go(func() {
			state := u.services[s.Name]
			step := event.Start(ctx, "[%s] start %s", u.Target, s.Name)
			err := u.one(ctx, s, state)
			step.Done(err)
			if err != nil && !errors.Is(err, errDependency) {
				once.Do(func() { first = err; cancel() }) // before done is closed
			}
			close(state.done)
		})
	}
	wait.Wait()
	return first
}

func (u *up) one(ctx context.Context, s release.ServiceSpec, state *upService) error {
	state.err = u.start(ctx, s, state)
	close(state.created)
	if state.err != nil {
		return state.err
	}
	return u.watch.ready(ctx, state.id)
}

func (u *up) start(ctx context.Context, s release.ServiceSpec, state *upService) error {
	for _, dependency := range s.DependsOn {
		other, ok := u.services[dependency.Service]
		if !ok {
			continue
		}
		until := other.done
		if dependency.Condition == release.ServiceStarted {
			until = other.created
		}
		select {
		case <-until:
		case <-ctx.Done():
			return ctx.Err()
		}
		if other.err != nil || ctx.Err() != nil { // the one it waited for has failed
			return fmt.Errorf("not started: %w: %s", errDependency, dependency.Service)
		}
	}
	id, err := u.engine.Create(ctx, u.Workload.Project, s, containerName(s, u.Workload.Project), workloadLabels(u.Workload, s))
	if err != nil {
		return err
	}
	state.id = id
	return u.engine.Start(ctx, id)
}

// Recreate replaces one service of a running workload by a fresh container, as
// a deployment would, and waits until it is well: what is then gone was not in
// a volume.
func Recreate(ctx context.Context, e Engine, r Run, service string) error {
	e = whole{e}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, ok := r.Workload.Service(service)
	if !ok {
		return release.Faultf(release.KindConfig, "name one of the model's services", "recreating service %s: the model has no such service", service)
	}
	seen, err := e.Observe(ctx, r.Workload.Project)
	if err != nil {
		return err
	}
	v, err := newWatch(ctx, e, r.Workload, r.Timeout, r.Settle)
	if err != nil {
		return err
	}
	v.probe = r.Probe
	if old, there := standing(seen, s, r.Workload.Project); there {
		s.Mounts = inherit(s.Mounts, old, r.Images[service])
		if err := retire(ctx, e, old, true); err != nil {
			return err
		}
		if err := e.Remove(ctx, old.ID); err != nil {
			return err
		}
	}
	id, err := e.Create(ctx, r.Workload.Project, s, containerName(s, r.Workload.Project), workloadLabels(r.Workload, s))
	if err != nil {
		return err
	}
	if err := e.Start(ctx, id); err != nil {
		return err
	}
	return v.ready(ctx, id)
}

// anonymous is the form of the names that engines give to volumes without one.
var anonymous = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Down removes a project's containers, those of `docker compose run` too, and
// its networks, and, if asked, its volumes with the anonymous ones that its
// containers mount. It goes on after a failure.
func Down(ctx context.Context, e Engine, project string, volumes bool) error {
	found, err := e.ListLabelled(ctx, release.LabelProject+"="+project)
	if err != nil {
		return err
	}
	// Without an answer the anonymous volumes stay; everything else still goes.
	seen, observing := e.Observe(ctx, project)
	for _, c := range seen.Containers {
		for _, m := range c.Mounts {
			if anonymous.MatchString(m.Name) && !slices.Contains(found.Volumes, m.Name) {
				found.Volumes = append(found.Volumes, m.Name)
			}
		}
	}
	errs := make([]error, len(found.Containers))
	var wait sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i, id := range found.Containers {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = e.Discard(ctx, id)
		})
	}
	wait.Wait()
	for _, name := range found.Networks {
		errs = append(errs, e.RemoveNetwork(ctx, name))
	}
	if volumes {
		for _, name := range found.Volumes {
			errs = append(errs, e.RemoveVolume(ctx, name))
		}
	}
	if err := errors.Join(append(errs, observing)...); err != nil {
		return fmt.Errorf("taking down project %s: %w", project, err)
	}
	return nil
}
