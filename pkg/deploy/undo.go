package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// Undo brings a target back to what it ran before an attempt, whatever the
// attempt left: it removes the containers that the attempt made, gives those
// that it put aside their names back, starts what is stopped, and waits until
// it is well. Of the Job it needs Target, Attempt, Recorded, Guard, Timeout,
// Settle and the workload's project. It can be called again after it was interrupted.
// ErrCommitted means that there is nothing to go back to.
func Undo(ctx context.Context, e Engine, j Job) error {
	return undo(ctx, &guarded{Engine: e, guard: j.Guard}, j)
}

func undo(ctx context.Context, e *guarded, j Job) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	step := event.Start(ctx, "[%s] undo", j.Target)
	defer func() { step.Done(err) }()
	seen, err := e.Observe(ctx, j.Workload.Project)
	if err != nil {
		return err
	}
	if err := canUndo(seen, j); err != nil {
		return err
	}
	changed, err := lost(seen, j)
	if err != nil {
		return err
	}
	v, err := newWatch(ctx, e, j.Workload, j.Timeout, j.Settle)
	if err != nil {
		return err
	}
	if err := bringBack(ctx, e, j, seen, changed); err != nil {
		return err
	}
	if err := giveBack(ctx, e, j, seen, step); err != nil {
		return err
	}
	if seen, err = e.Observe(ctx, j.Workload.Project); err != nil {
		return err
	}
	if err := startAll(ctx, e, v, seen, j.Workload); err != nil {
		return err
	}
	if err := forget(ctx, e, j.Workload.Project, seen, func(v release.ObservedVolume) bool { return v.Labels[release.LabelSequence] == j.Attempt.Label() }); err != nil {
		return err
	}
	if err := tidy(ctx, e, j, true); err != nil {
		return err
	}
	return removeNetworks(ctx, e, j)
}

// canUndo looks, before the first effect, that everything replaced is there.
// Without any trace of the attempt, it either never began or took services away
// and was done; then a recorded service that has no container tells. What another
// attempt put aside, where this one keeps nothing, is of a redeployment of what
// ran before that was interrupted.
func canUndo(seen release.Observed, j Job) error {
	trace, keeps, another := false, false, ""
	there := map[string]bool{} // ids and services
	for _, c := range seen.Containers {
		_, kept := j.Attempt.kept(c)
		_, begun := j.Attempt.begun(c)
		mine := kept || begun || j.Attempt.made(c) || j.Attempt.undone(c)
		trace, keeps = trace || mine, keeps || kept
		if isAside(c) && !mine {
			another = c.Service
		}
		there[c.ID], there[c.Service] = true, true
	}
	if another != "" && !keeps && j.Recorded != nil {
		return committed(j, another)
	}
	for _, c := range seen.Containers {
		if id := c.Labels[labelReplaces]; j.Attempt.made(c) && id != "" && !there[id] {
			return committed(j, c.Service)
		}
	}
	if trace || j.Recorded == nil {
		return nil
	}
	for _, was := range j.Recorded.Running {
		if !there[was.Service] {
			return committed(j, was.Service)
		}
	}
	return nil
}

func committed(j Job, service string) error {
	return &release.Fault{
		Kind: release.KindUnavailable, Op: "undoing on", Subject: j.Target, Err: fmt.Errorf("service %s: %w", service, ErrCommitted),
		Hint: "finish the deployment, or roll back to the release before",
	}
}

// giveBack removes what the attempt made and gives the old containers their
// names back, what depends on others first. An old one that runs may be about
// to stop, and is stopped to be sure.
func giveBack(ctx context.Context, e Engine, j Job, seen release.Observed, step *event.Step) error {
	list := inOrder(seen.Containers)
	slices.Reverse(list)
	for _, c := range list {
		if _, begun := j.Attempt.begun(c); !begun && !j.Attempt.made(c) && !j.Attempt.undone(c) {
			continue
		}
		step.Logf("removing %s", c.Name)
		if err := giveUp(ctx, e, j.Attempt, c); err != nil {
			return err
		}
	}
	for _, c := range list {
		name, ok := j.Attempt.kept(c)
		if !ok {
			continue
		}
		step.Logf("bringing back %s", name)
		if err := retire(ctx, e, c, false); err != nil {
			return err
		}
		if err := e.Rename(ctx, c.ID, name); err != nil {
			return err
		}
	}
	return nil
}

// startAll starts what is stopped, in order of dependence, and waits for
// everything.
func startAll(ctx context.Context, e Engine, v *watch, seen release.Observed, w release.Workload) error {
	for _, c := range inOrder(current(seen)) {
		if isOneShot(c, w) {
			continue
		}
		if c.State != "running" && c.State != "restarting" {
			if err := e.Start(ctx, c.ID); err != nil {
				return err
			}
		}
		if err := v.recovered(ctx, c.ID); err != nil {
			return err
		}
	}
	return nil
}

// removeNetworks removes the networks that the attempt made. Volumes stay,
// always. A network that somebody else has joined stays too, with a warning.
func removeNetworks(ctx context.Context, e *guarded, j Job) error {
	made, err := e.ListLabelled(ctx, release.LabelSequence+"="+j.Attempt.Label())
	if err != nil {
		return err
	}
	mine, err := e.ListLabelled(ctx, release.LabelProject+"="+j.Workload.Project)
	if err != nil {
		return err
	}
	for _, name := range made.Networks {
		if !slices.Contains(mine.Networks, name) {
			continue
		}
		err := e.RemoveNetwork(ctx, name)
		if e.lost != nil {
			return e.lost
		}
		if err != nil {
			event.Warnf(ctx, "the network %s stays on %s: %v", name, j.Target, err)
		}
	}
	return nil
}

// Clean removes the containers that attempts have put aside. After it, Undo has
// nothing to go back to.
// Snapshots beyond those to keep go, too.
func Clean(ctx context.Context, e Engine, j Job) error {
	g := &guarded{Engine: e, guard: j.Guard}
	if err := clean(ctx, g, j.Target, j.Workload.Project); err != nil {
		return err
	}
	return tidy(ctx, g, j, false)
}

func clean(ctx context.Context, e Engine, target, project string) error {
	seen, err := e.Observe(ctx, project)
	if err != nil {
		return err
	}
	for _, c := range replacedFirst(seen) {
		step := event.Start(ctx, "[%s] remove %s", target, c.Name)
		err := retire(ctx, e, c, false)
		switch {
		case err != nil:
		case strings.Contains(c.Name, undoneMark), strings.Contains(c.Name, newMark):
			err = e.Discard(ctx, c.ID)
		default:
			err = e.Remove(ctx, c.ID)
		}
		step.Done(err)
		if err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(seen.Volumes, func(v release.ObservedVolume) bool { return v.Labels[release.LabelAdopted] != "" }) {
		return nil
	}
	if seen, err = e.Observe(ctx, project); err != nil {
		return err
	}
	return forget(ctx, e, project, seen, gone(seen))
}

// replacedFirst lists what was put aside, those with a successor first: with
// the first of them gone, Undo knows that it comes too late.
func replacedFirst(seen release.Observed) []release.Container {
	successor := map[string]bool{}
	for _, c := range seen.Containers {
		successor[c.Labels[labelReplaces]] = true
	}
	var first, rest []release.Container
	for _, c := range seen.Containers {
		switch {
		case !isAside(c):
		case successor[c.ID]:
			first = append(first, c)
		default:
			rest = append(rest, c)
		}
	}
	return append(first, rest...)
}
