package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Job is one deployment of a workload to one target.
type Job struct {
	Target   string
	Workload release.Workload
	// Images holds, by service, the verified image for the target's platform;
	// a container that runs anything else is a failure.
	Images map[string]release.PlatformImage
	// Recorded is what the ledger says about the target, nil before its first
	// deployment.
	Recorded *release.TargetStatus
	Options  Options
	Attempt  Attempt
	// Guard is asked before every effect; when it fails, nothing more is done.
	Guard func(context.Context) error
	// Timeout is how long one service may take to become well; 0 is 3 minutes.
	Timeout time.Duration
	// Settle is how long a service without a health check must run; 0 is 2 s.
	Settle time.Duration
	// Probe asks a container's own health check at once; nil asks nobody. What
	// depends on a service begins when it passes. At the end it has to pass once
	// more, a quarter of a second later, unless the engine has answered before.
	Probe func(context.Context, release.Container) bool
	// KeepOld leaves the replaced containers, stopped, for Undo; Clean removes
	// them.
	KeepOld bool
	// Back: it goes back to what ran before. A hook of what is replaced that
	// fails is a warning then.
	Back bool
	// Keeping says how snapshots are made and kept.
	Keeping Keeping
	// KeepBroken leaves a failed deployment as it is, for a person to look at.
	KeepBroken bool
}

// ErrCommitted is in the chain of Undo's error when replaced containers are
// gone already: the way is forward, or a deployment of the release before.
var ErrCommitted = errors.New("the replaced containers are gone")

// Apply executes a plan: it looks again, and goes on only if the target is as
// the plan saw it. Images are pulled before anything stops; then each service
// in order, each waited for before the next. When something fails, everything
// is undone and the error is KindRolledBack, or KindBroken if that failed too
// or KeepBroken is set. Before the first effect an error keeps its own kind.
// When the context is cancelled or the guard says no, Apply stops where it is;
// Finish or Undo take it up.
func Apply(ctx context.Context, e Engine, j Job, p release.Plan) error {
	return execute(ctx, e, j, &p)
}

// Finish brings a target fully to the workload, whatever an interrupted Apply
// of the same attempt left. It is Apply without a plan made before.
func Finish(ctx context.Context, e Engine, j Job) error {
	return execute(ctx, e, j, nil)
}

func execute(ctx context.Context, e Engine, j Job, expected *release.Plan) error {
	g := &guarded{Engine: e, guard: j.Guard}
	d := &deployment{Job: j, engine: g, key: newKey()}
	err := d.run(ctx, expected)
	switch {
	case err == nil:
		return nil
	case !g.touched, g.lost != nil, errors.Is(ctx.Err(), context.Canceled):
		return err
	case j.KeepBroken:
		return broken(j.Target, err, nil)
	}
	back := ctx
	if ctx.Err() != nil { // a deadline of the caller's must not stop the way back
		var cancel context.CancelFunc
		back, cancel = context.WithTimeout(context.WithoutCancel(ctx), 10*time.Minute)
		defer cancel()
	}
	switch undone := undo(back, g, j); {
	case undone == nil:
	case g.lost != nil, errors.Is(back.Err(), context.Canceled):
		return undone
	default:
		return broken(j.Target, err, undone)
	}
	return &release.Fault{
		Kind: release.KindRolledBack, Op: "deploying to", Subject: j.Target, Err: err,
		Hint: "the target runs what it ran before; " + hintOf(err),
	}
}

func broken(target string, err, undone error) error {
	f := &release.Fault{Kind: release.KindBroken, Op: "deploying to", Subject: target, Err: err, Hint: "look at the target (docker ps -a), then promote resume; " + hintOf(err)}
	if undone != nil {
		f.Err = fmt.Errorf("%w; and undoing it: %w", err, undone)
	}
	return f
}

func hintOf(err error) string {
	var f *release.Fault
	if errors.As(err, &f) {
		return f.Hint
	}
	return ""
}

// deployment is a Job under way.
type deployment struct {
	Job
	engine *guarded
	watch  *watch
	seen   release.Observed
	// ids holds the container that stands for each service now; fine the
	// services that need not be waited for any more.
	ids   map[string]string
	fine  map[string]bool
	begun map[string]bool // services that this run started
	key   string          // of the fingerprints beside the containers that it makes
	// unnamed are containers that were ready before they had their names, by id.
	unnamed map[string]string
	had     []release.ObservedVolume // before it made any
}

// run is the deployment from looking to cleaning.
func (d *deployment) run(ctx context.Context, expected *release.Plan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := d.images(ctx); err != nil {
		return err
	}
	plan, err := d.plan(ctx)
	if err != nil {
		return err
	}
	if len(plan.Blocking) > 0 {
		return blocked(d.Target, plan.Blocking)
	}
	if expected != nil && !sameEffects(*expected, plan) {
		return release.Unavailable("plan and run again", "deploying to %s: somebody changed the target since the plan was made", d.Target)
	}
	if d.watch, err = newWatch(ctx, d.engine, d.Workload, d.Timeout, d.Settle); err != nil {
		return err
	}
	d.watch.probe = d.Probe
	for _, phase := range []func(context.Context, release.Plan) error{d.leftovers, d.surroundings, d.restore, d.services, d.extras, d.settled, d.adopt} {
		if err := phase(ctx, plan); err != nil {
			return err
		}
	}
	if d.KeepOld {
		return nil
	}
	if err := clean(ctx, d.engine, d.Target, d.Workload.Project); err != nil {
		return err
	}
	return tidy(ctx, d.engine, d.Job, false)
}

// MissingImages names the services whose image is not on the target.
func MissingImages(ctx context.Context, e Images, w release.Workload) (map[string]bool, error) {
	missing := map[string]bool{}
	for _, s := range w.Services {
		_, present, err := e.ImageID(ctx, s.Image)
		if err != nil {
			return nil, err
		}
		if !present {
			missing[s.Name] = true
		}
	}
	return missing, nil
}

// images pulls what is missing and compares what the engine then has with what
// was verified.
func (d *deployment) images(ctx context.Context) error {
	return pullAll(ctx, d.engine, d.Target, d.Workload, d.Images)
}

func pullAll(ctx context.Context, e Images, target string, w release.Workload, images map[string]release.PlatformImage) error {
	for _, s := range w.Services {
		id, present, err := e.ImageID(ctx, s.Image)
		if err == nil && !present {
			if err = e.Pull(ctx, s.Image); err == nil {
				id, _, err = e.ImageID(ctx, s.Image)
			}
		}
		if err != nil {
			return err
		}
		image, verified := images[s.Name]
		if verified && !isImage(id, image) && id == s.Image.Digest.String() {
			return release.Unavailable("update the engine to 28, or turn off its containerd image store (features, containerd-snapshotter, in its daemon.json), or build for one platform",
				"which platform's image of service %s is on %s cannot be told: its engine, older than 28, names it by the index of all platforms, %s", s.Name, target, id)
		}
		if verified && !isImage(id, image) {
			return release.Denied("do not use this host or registry before it is clear why",
				"the image of service %s on %s is not the one that was verified: the engine has %s, verified were config %s and manifest %s", s.Name, target, id, image.Config, image.Manifest)
		}
	}
	return nil
}

// plan looks at the target and plans afresh.
func (d *deployment) plan(ctx context.Context) (release.Plan, error) {
	seen, err := d.engine.Observe(ctx, d.Workload.Project)
	if err != nil {
		return release.Plan{}, err
	}
	d.takeNames(seen)
	d.had = seen.Volumes
	d.seen, d.ids, d.fine, d.begun = seen, map[string]string{}, map[string]bool{}, map[string]bool{}
	for _, s := range d.Workload.Services {
		if c, ok := standing(seen, s, d.Workload.Project); ok {
			d.ids[s.Name], d.fine[s.Name] = c.ID, len(condition(s, c)) == 0
		}
	}
	o := d.Options
	o.Missing = nil // they are there by now
	o.Attempt = d.Attempt
	return Plan(d.Target, d.Workload, d.Images, seen, d.Recorded, o), nil
}

func blocked(target string, reasons []release.Reason) error {
	text := ""
	for _, r := range reasons {
		text += "; " + r.Rule + ": " + r.Message
	}
	text = ":" + text[1:]
	return release.Denied(reasons[0].Fix, "deploying to %s%s", target, text)
}

// sameEffects compares two plans without their pulls.
func sameEffects(a, b release.Plan) bool {
	effects := func(p release.Plan) []release.Step {
		return slices.DeleteFunc(slices.Clone(p.Steps), func(s release.Step) bool { return s.Action == ActionPull })
	}
	return slices.Equal(effects(a), effects(b))
}
