package deploy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// labels are on everything that the attempt makes.
func (d *deployment) labels() map[string]string {
	all := workloadLabels(d.Workload, release.ServiceSpec{})
	all[release.LabelSequence] = d.Attempt.Label()
	return all
}

func workloadLabels(w release.Workload, s release.ServiceSpec) map[string]string {
	all := map[string]string{}
	maps.Copy(all, w.Labels)
	if s.OneShot {
		all[labelOneShot] = "true"
	}
	if text := leavingOf(s); text != "" {
		all[labelPreStop] = text
	}
	return all
}

// surroundings makes the networks and volumes that are missing.
func (d *deployment) surroundings(ctx context.Context, p release.Plan) error {
	if err := surround(ctx, d.engine, d.Workload, d.labels(), func(name string) bool {
		return slices.ContainsFunc(p.Steps, func(s release.Step) bool {
			return s.To == name && (s.Action == ActionCreateNetwork || s.Action == ActionCreateVolume)
		})
	}); err != nil {
		return err
	}
	// The volumes that the plan saw, and those just made, are what every
	// container is held against.
	seen, err := d.engine.Observe(ctx, d.Workload.Project)
	for _, v := range seen.Volumes {
		if _, before := d.seen.Volume(v.Name); !before {
			d.seen.Volumes = append(d.seen.Volumes, v)
		}
	}
	return err
}

func surround(ctx context.Context, e Surroundings, w release.Workload, labels map[string]string, missing func(name string) bool) error {
	for _, n := range w.Networks {
		if missing(n.Name) {
			if err := e.CreateNetwork(ctx, w.Project, n, labels); err != nil {
				return err
			}
		}
	}
	for _, v := range w.Volumes {
		if missing(v.Name) {
			if err := e.CreateVolume(ctx, w.Project, v, labels); err != nil {
				return err
			}
		}
	}
	return nil
}

// services takes each service's step, in order, waiting for each.
func (d *deployment) services(ctx context.Context, p release.Plan) error {
	for _, s := range d.Workload.Services {
		if err := d.awaitDependencies(ctx, s); err != nil {
			return err
		}
		i := slices.IndexFunc(p.Steps, func(step release.Step) bool {
			return step.Service == s.Name && slices.Contains([]string{ActionCreate, ActionRecreate, ActionStart}, step.Action)
		})
		if i < 0 {
			continue
		}
		step := event.Start(ctx, "[%s] %s %s", d.Target, p.Steps[i].Action, s.Name)
		step.Logf("%s", p.Steps[i].Cause)
		if p.Steps[i].OrderCause != "" {
			step.Logf("%s: %s", p.Steps[i].Order, p.Steps[i].OrderCause)
		}
		err := d.service(ctx, s, p.Steps[i])
		step.Done(err)
		if err != nil {
			return err
		}
		d.fine[s.Name], d.begun[s.Name] = true, true
	}
	return nil
}

// settled waits until all services are well at the end, side by side: one that
// did not change may have suffered from the change of another, and gets time to
// recover; one that was started has to stay well by itself.
func (d *deployment) settled(ctx context.Context, _ release.Plan) error {
	all, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wait sync.WaitGroup
	for _, s := range d.Workload.Services {
		await := d.watch.recovered
		if d.begun[s.Name] {
			await = d.watch.confirmed
		}
		wait.Go(func() {
			if err := await(all, d.ids[s.Name]); err != nil {
				cancel(err) // the first one counts
			}
		})
	}
	wait.Wait()
	if err := ctx.Err(); err != nil { // by what it was cancelled, a signal, is for others to say
		return err
	}
	return context.Cause(all)
}

func (d *deployment) service(ctx context.Context, s release.ServiceSpec, step release.Step) error {
	if step.Action == ActionStart {
		if err := d.engine.Start(ctx, d.ids[s.Name]); err != nil {
			return err
		}
		return d.watch.ready(ctx, d.ids[s.Name])
	}
	return d.replace(ctx, s, step.Order)
}

// awaitDependencies waits for the conditions of depends_on. Services come in
// order and each was waited for, so this matters for those that did not change.
func (d *deployment) awaitDependencies(ctx context.Context, s release.ServiceSpec) error {
	for _, dependency := range s.DependsOn {
		id, ok := d.ids[dependency.Service]
		if !ok || d.fine[dependency.Service] { // not in this model: an optional one
			continue
		}
		await := d.watch.ready
		if dependency.Condition == release.ServiceStarted {
			await = d.watch.started
		}
		if err := await(ctx, id); err != nil {
			return fmt.Errorf("service %s depends on %s: %w", s.Name, dependency.Service, err)
		}
	}
	return nil
}

// extras puts aside what nobody asked for; Clean removes it.
func (d *deployment) extras(ctx context.Context, _ release.Plan) error {
	for _, c := range inOrder(current(d.seen)) {
		s, known := d.Workload.Service(c.Service)
		if first, _ := standing(d.seen, s, d.Workload.Project); known && first.ID == c.ID {
			continue
		}
		step := event.Start(ctx, "[%s] %s %s", d.Target, ActionRemove, c.Name)
		err := d.putAside(ctx, c)
		step.Done(err)
		if err != nil {
			return err
		}
	}
	return nil
}
