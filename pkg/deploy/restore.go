package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// How far an attempt got with filling a volume from a snapshot.
const (
	restoreBegun = "begun" // the volume may hold anything
	restoreDone  = "done"  // it holds what the snapshot does
)

// markName names the empty volume that says how far it got.
func (a Attempt) markName(project, volume, state string) string {
	return project + "_promote-restore-" + a.Label() + "-" + state + "-" + volume
}

func (a Attempt) marked(project string, seen release.Observed, volume, state string) bool {
	v, there := seen.Volume(a.markName(project, volume, state))
	return there && v.Labels[release.LabelRestoring] == a.Label()
}

func (d *deployment) mark(ctx context.Context, volume, state string) error {
	labels := d.labels()
	labels[release.LabelRestoring] = d.Attempt.Label()
	name := d.Attempt.markName(d.Workload.Project, volume, state)
	return d.engine.CreateVolume(ctx, d.Workload.Project, release.VolumeSpec{Key: strings.TrimPrefix(name, d.Workload.Project+"_"), Name: name}, labels)
}

// restores plans to bring volumes back: what they hold now is kept first.
func (p *planner) restores() {
	for _, s := range p.o.Restore {
		volume := volumeName(s.Volume)
		if p.o.Attempt.marked(p.w.Project, p.seen, volume, restoreDone) {
			continue
		}
		if _, there := p.seen.Volume(volume); !there {
			p.block("state/volume-missing", fmt.Sprintf("volume %s, which snapshot %s is of, is not on %s any more", volume, s.Name, p.target), "make it: docker volume create "+volume)
			continue
		}
		p.keeps(release.VolumeSpec{Key: s.Key, Name: volume}, "before it is restored")
		p.add(release.Step{Action: ActionRestore, From: s.Name, To: volume, Cause: fmt.Sprintf("asked for: as it was before record %d, %d bytes", s.Sequence, s.Size)})
	}
}

// keeps plans a snapshot, once.
func (p *planner) keeps(v release.VolumeSpec, when string) {
	if _, done := p.o.Attempt.taken(p.w.Project, p.seen, v.Name); done || slices.ContainsFunc(p.plan.Steps, func(s release.Step) bool { return s.Action == ActionSnapshot && s.From == v.Name }) {
		return
	}
	p.add(release.Step{Action: ActionSnapshot, From: v.Name, Cause: when + "; its size is not known before"})
}

// restoring names a volume of a service that is brought back in this attempt.
func (p *planner) restoring(s release.ServiceSpec) (volume string, is bool) {
	for _, snapshot := range p.o.Restore {
		if name := volumeName(snapshot.Volume); mountsVolume(s, name) {
			return name, true
		}
	}
	return "", false
}

// restored gives the schema of what a recorded service will find: that of the
// snapshots, if all its named volumes are restored.
func (p *planner) restored(was release.Running) (schema int64, all bool) {
	schema = release.FirstStateSchema
	for _, name := range volumesOf(was) {
		if anonymous.MatchString(name) {
			continue
		}
		i := slices.IndexFunc(p.o.Restore, func(s release.Snapshot) bool { return volumeName(s.Volume) == name })
		if i < 0 {
			return 0, false
		}
		all = true
		schema = max(schema, p.o.Restore[i].Schemas[was.Service])
	}
	return schema, all
}

// fitting names the newest promotion whose snapshot of a service's volumes a
// release can read that keeps its state in a schema.
func (p *planner) fitting(was release.Running, schema int64) (sequence int64, found bool) {
	names := volumesOf(was)
	for _, s := range slices.Backward(Snapshots(p.w.Project, p.seen)) {
		if have, says := s.Schemas[was.Service]; says && have <= schema && slices.Contains(names, volumeName(s.Volume)) {
			return s.Sequence, true
		}
	}
	return 0, false
}

// restore brings volumes back to snapshots: every container that has one is put
// aside, what it holds is kept, it is emptied, filled and read back.
func (d *deployment) restore(ctx context.Context, _ release.Plan) error {
	for _, s := range d.Options.Restore {
		volume := volumeName(s.Volume)
		if d.Attempt.marked(d.Workload.Project, d.seen, volume, restoreDone) {
			continue
		}
		step := event.Start(ctx, "[%s] %s %s", d.Target, ActionRestore, volume)
		err := d.restoreOne(ctx, s, volume)
		step.Done(err)
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *deployment) restoreOne(ctx context.Context, s release.Snapshot, volume string) error {
	for _, c := range inOrder(d.seen.Containers) {
		if !hasVolume(c, volume) {
			continue
		}
		set := d.putAside
		if isAside(c) || d.Attempt.made(c) || c.Labels[composeOneOff] == "True" {
			set = func(ctx context.Context, c release.Container) error { return stop(ctx, d.engine, c) }
		}
		if err := set(ctx, c); err != nil {
			return err
		}
		if d.ids[c.Service] == c.ID {
			delete(d.ids, c.Service)
			delete(d.fine, c.Service)
		}
	}
	seen, err := d.engine.Observe(ctx, d.Workload.Project)
	if err != nil {
		return err
	}
	d.seen.Containers = seen.Containers
	if _, done := d.Attempt.taken(d.Workload.Project, seen, volume); !done {
		if err := d.take(ctx, seen, release.VolumeSpec{Key: s.Key, Name: volume}); err != nil {
			return err
		}
	}
	if err := d.mark(ctx, volume, restoreBegun); err != nil {
		return err
	}
	if err := refill(ctx, d.engine, d.Workload.Project, volume, s, d.Keeping.Open); err != nil {
		return err
	}
	return d.mark(ctx, volume, restoreDone)
}

// lost are the volumes that an attempt may have changed so that what ran before
// must not start over them, with the snapshot that brings each back: those that
// it began to restore, and those of services that ran in a later schema. Where
// there is no snapshot, the error says so.
func lost(seen release.Observed, j Job) ([]release.Snapshot, error) {
	var list []release.Snapshot
	add := func(volume string) bool {
		s, there := j.Attempt.taken(j.Workload.Project, seen, volume)
		if there && !slices.ContainsFunc(list, func(have release.Snapshot) bool { return have.Name == s.Name }) {
			list = append(list, s)
		}
		return there
	}
	prefix := j.Attempt.markName(j.Workload.Project, "", restoreBegun)
	for _, v := range seen.Volumes {
		volume, ok := strings.CutPrefix(v.Name, prefix)
		if ok && v.Labels[release.LabelRestoring] == j.Attempt.Label() && !add(volume) {
			return nil, release.Denied("restore it by hand", "undoing on %s: volume %s was being restored, and the snapshot of what it held before is not there", j.Target, volume)
		}
	}
	for _, c := range migrated(seen, j) {
		whole := false
		for _, m := range c.new.Mounts {
			if m.Type != "volume" || anonymous.MatchString(m.Name) {
				continue
			}
			if whole = add(m.Name); !whole {
				break
			}
		}
		if !whole {
			return nil, c.refusal(j)
		}
	}
	return list, nil
}

// bringBack fills volumes from the attempt's own snapshots, while nothing that
// has them runs. Each can be opened before the first is touched.
func bringBack(ctx context.Context, e *guarded, j Job, seen release.Observed, list []release.Snapshot) error {
	project := j.Workload.Project
	for _, s := range list {
		o, err := openSnapshot(ctx, e, project, s, j.Keeping.Open)
		if err != nil {
			return release.Denied("promote resume ENV --identity FILE, with the private key of snapshots.encryptTo",
				"undoing on %s: volume %s has to be brought back to what it held before, and its snapshot cannot be opened here (promote resume --identity FILE): %w", j.Target, volumeName(s.Volume), err)
		}
		if err := o.Close(); err != nil {
			return err
		}
	}
	for _, s := range list {
		volume := volumeName(s.Volume)
		step := event.Start(ctx, "[%s] bring back %s", j.Target, volume)
		err := bringBackOne(ctx, e, j, seen, s, volume)
		step.Done(err)
		if err != nil {
			return err
		}
	}
	return nil
}

func bringBackOne(ctx context.Context, e *guarded, j Job, seen release.Observed, s release.Snapshot, volume string) error {
	for _, c := range inOrder(seen.Containers) {
		if !hasVolume(c, volume) {
			continue
		}
		if err := stop(ctx, e, c); err != nil {
			return err
		}
	}
	// Whoever goes on forward from here has to restore again.
	if err := e.RemoveVolume(ctx, j.Attempt.markName(j.Workload.Project, volume, restoreDone)); err != nil {
		return err
	}
	if err := refill(ctx, e, j.Workload.Project, volume, s, j.Keeping.Open); err != nil {
		return err
	}
	return e.RemoveVolume(ctx, j.Attempt.markName(j.Workload.Project, volume, restoreBegun))
}

// Sweep removes the containers through which a killed process read volumes.
func Sweep(ctx context.Context, e Engine, project string) error {
	left, err := e.ListLabelled(ctx, release.LabelArchive+"="+project)
	for _, id := range left.Containers {
		if err == nil {
			err = e.Discard(ctx, id)
		}
	}
	return err
}

// tidy removes what attempts needed on their way, what is half of a snapshot,
// and the snapshots that are too many. What does not go is no reason to undo a
// deployment, and goes the next time. Unless the attempt is undone, the note
// stays that it restored: a resume that comes after this must not do it again.
func tidy(ctx context.Context, e *guarded, j Job, undone bool) error {
	err := removeSurplus(ctx, e, j, undone)
	if err == nil || e.lost != nil || ctx.Err() != nil {
		return err
	}
	event.Warnf(ctx, "snapshots on %s could not be tidied up: %v", j.Target, err)
	return nil
}

func removeSurplus(ctx context.Context, e Engine, j Job, undone bool) error {
	project := j.Workload.Project
	seen, err := e.Observe(ctx, project)
	if err != nil {
		return err
	}
	ours := func(v release.ObservedVolume, label string) bool {
		return v.Labels[label] != "" && v.Labels[release.LabelProject] == project
	}
	if !slices.ContainsFunc(seen.Volumes, func(v release.ObservedVolume) bool {
		return ours(v, release.LabelRestoring) || ours(v, release.LabelSnapshotData)
	}) {
		return nil
	}
	if err := Sweep(ctx, e, project); err != nil {
		return err
	}
	whole := Snapshots(project, seen)
	remove := []string{}
	for _, v := range seen.Volumes {
		half := ours(v, release.LabelSnapshotData) && !slices.ContainsFunc(whole, func(s release.Snapshot) bool { return s.Name == v.Name })
		mark := ours(v, release.LabelRestoring) && (undone || !strings.HasPrefix(v.Name, j.Attempt.markName(project, "", restoreDone)))
		if mark || half {
			remove = append(remove, v.Name)
		}
	}
	for _, s := range surplus(whole, j) {
		remove = append(remove, noteName(s.Name), s.Name) // the note first: without it, it does not count
	}
	for _, name := range remove {
		if err := e.RemoveVolume(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// surplus are the snapshots that may go: all but the newest of each volume, those
// of this attempt and those that it restored, and the newest that a release left
// that a rollback may go to.
func surplus(all []release.Snapshot, j Job) []release.Snapshot {
	if j.Keeping.Keep < 1 {
		return nil
	}
	var list []release.Snapshot
	seen, needed := map[string]int{}, map[string]bool{}
	for _, s := range slices.Backward(all) {
		volume := volumeName(s.Volume)
		seen[volume]++
		first := slices.Contains(j.Keeping.Needed, s.Release) && !needed[volume+" "+s.Release.String()]
		needed[volume+" "+s.Release.String()] = true
		restored := slices.ContainsFunc(j.Options.Restore, func(r release.Snapshot) bool { return r.Name == s.Name })
		if seen[volume] > j.Keeping.Keep && !first && !restored && s.Attempt != j.Attempt.Label() {
			list = append(list, s)
		}
	}
	return list
}
