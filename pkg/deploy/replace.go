package deploy

import (
	"context"
	"errors"
	"slices"

	"github.com/promote-dev/promote/pkg/release"
)

// replace gives a service a new container, as the package comment describes.
func (d *deployment) replace(ctx context.Context, s release.ServiceSpec, order string) error {
	if old, there := standing(d.seen, s, d.Workload.Project); there && order == release.StartFirst {
		return d.startFirst(ctx, s, old)
	}
	old, replaces, err := d.makeRoom(ctx, s)
	if err != nil {
		return err
	}
	if err := d.keep(ctx, s); err != nil {
		return err
	}
	_, err = d.make(ctx, s, containerName(s, d.Workload.Project), old, replaces)
	return err
}

// make gives a service a container under a name, and waits until it is well. Of
// the old one, if there is one, it inherits what is not in the model.
func (d *deployment) make(ctx context.Context, s release.ServiceSpec, name string, old release.Container, replaces bool) (id string, err error) {
	labels := workloadLabels(d.Workload, s)
	labels[release.LabelSequence] = d.Attempt.Label()
	if replaces {
		labels[labelReplaces] = old.ID
	}
	if image := d.Images[s.Name]; image.Defaults != nil {
		labels[release.LabelDesired] = desiredOf(asked(d.Workload, s, image), d.key).encode()
	}
	s.Mounts = inherit(s.Mounts, old, d.Images[s.Name])
	if id, err = d.engine.Create(ctx, d.Workload.Project, s, name, labels); err != nil {
		return "", err
	}
	d.ids[s.Name] = id
	if err := d.sameState(ctx, s, id); err != nil {
		return "", err
	}
	if err := d.engine.Start(ctx, id); err != nil {
		return "", err
	}
	return id, d.watch.ready(ctx, id)
}

// leftovers takes up what an interrupted attempt was doing: what was given up
// goes, as does what was not ready; what was put aside stands still.
func (d *deployment) leftovers(ctx context.Context, p release.Plan) error {
	if slices.ContainsFunc(p.Steps, func(s release.Step) bool { return s.Action == ActionSnapshot || s.Action == ActionRestore }) {
		if err := Sweep(ctx, d.engine, d.Workload.Project); err != nil {
			return err
		}
	}
	for _, c := range d.seen.Containers {
		if name, ok := d.unnamed[c.ID]; ok {
			if err := d.engine.Rename(ctx, c.ID, name); err != nil {
				return err
			}
		}
	}
	for i, c := range d.seen.Containers {
		var err error
		_, begun := d.Attempt.begun(c)
		switch {
		case d.Attempt.undone(c), begun:
			err = giveUp(ctx, d.engine, d.Attempt, c)
		case isAside(c):
			err = retire(ctx, d.engine, c, false)
			d.seen.Containers[i].State = "exited"
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// makeRoom frees the service's name: a container of this attempt, unfinished,
// is removed; an older one is put aside. It gives the container that the new
// one inherits from, and whether that one is replaced by it.
func (d *deployment) makeRoom(ctx context.Context, s release.ServiceSpec) (old release.Container, replaces bool, err error) {
	have, there := standing(d.seen, s, d.Workload.Project)
	if there && !d.Attempt.made(have) {
		return have, true, d.putAside(ctx, have)
	}
	for _, c := range d.seen.Containers {
		if _, kept := d.Attempt.kept(c); kept && c.Service == s.Name {
			old, replaces = c, true
		}
	}
	switch {
	case !there:
		return old, replaces, nil
	case replaces:
		return old, true, giveUp(ctx, d.engine, d.Attempt, have)
	}
	// Nothing else holds what it may have kept in volumes of its own.
	if err := retire(ctx, d.engine, have, false); err != nil {
		return have, false, err
	}
	return have, false, d.engine.Remove(ctx, have.ID)
}

// putAside gives a container the name that tells what it waits for, and stops
// it within its own grace. The name comes first: an engine goes on stopping when
// nobody waits any more, and a container that is about to stop looks like one
// that runs.
func (d *deployment) putAside(ctx context.Context, c release.Container) error {
	if err := d.setAside(ctx, c); err != nil {
		return err
	}
	return stop(ctx, d.engine, c)
}

// setAside is putAside without the stop: the name, and the container's hooks.
// One that fails leaves the container as it was, with its name and all that is
// in its memory.
func (d *deployment) setAside(ctx context.Context, c release.Container) error {
	if err := d.engine.Rename(ctx, c.ID, d.Attempt.oldName(c.Name)); err != nil {
		return err
	}
	err := preStop(ctx, d.engine, c, !d.Back)
	if err == nil || ctx.Err() != nil || d.engine.lost != nil {
		return err
	}
	if back := d.engine.Rename(ctx, c.ID, c.Name); back != nil {
		return errors.Join(err, back)
	}
	return err
}

// giveUp removes a container that an attempt made, with the volumes that only
// it has; first it gets a name that says so, as in putAside.
func giveUp(ctx context.Context, e Engine, a Attempt, c release.Container) error {
	if !a.undone(c) {
		if err := e.Rename(ctx, c.ID, c.Name+undoneMark+a.Label()); err != nil {
			return err
		}
	}
	if err := retire(ctx, e, c, false); err != nil {
		return err
	}
	return e.Discard(ctx, c.ID)
}

func stop(ctx context.Context, e Containers, c release.Container) error {
	if c.State == "exited" || c.State == "created" || c.State == "dead" {
		return nil
	}
	return e.Stop(ctx, c.ID, 0)
}

// inherit keeps the anonymous volumes of the container that is replaced, for
// the volume paths of the image that the model does not mount: what a service
// wrote there is state, too.
func inherit(mounts []release.Mount, old release.Container, image release.PlatformImage) []release.Mount {
	mounts = slices.Clone(mounts)
	for _, m := range old.Mounts {
		mounted := slices.ContainsFunc(mounts, func(have release.Mount) bool { return have.Target == m.Target })
		if m.Type == "volume" && !mounted && slices.Contains(image.Volumes, m.Target) {
			mounts = append(mounts, release.Mount{Type: "volume", Source: m.Name, Target: m.Target, ReadOnly: m.ReadOnly})
		}
	}
	return mounts
}

// sameState looks, before a new container starts, that each of its named
// volumes is the one that was there when the target was looked at: an engine
// makes a missing volume on the way, and it would be empty.
func (d *deployment) sameState(ctx context.Context, s release.ServiceSpec, id string) error {
	c, err := d.engine.Inspect(ctx, id)
	if err != nil {
		return err
	}
	for _, m := range s.Mounts {
		if m.Type != "volume" || m.Source == "" {
			continue
		}
		have, err := d.engine.Volume(ctx, m.Source)
		if err != nil {
			return err
		}
		was, there := d.seen.Volume(m.Source)
		if !there || mountedAt(c, m.Target).Name != m.Source || !sameVolume(have.Identity, was.Identity) {
			return release.Denied("find out who changes volumes on the target, and restore the data from its backup",
				"starting service %s: the volume %s at %s is not the one that was there: %s, before %s", s.Name, m.Source, m.Target, orNone(have.Identity), orNone(was.Identity))
		}
	}
	return nil
}
