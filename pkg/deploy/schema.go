package deploy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/promote-dev/promote/pkg/release"
)

// writes is the schema in which a service keeps its state, as its model and its
// verified image say. A label that cannot be read is blocked by schemas.
func writes(s release.ServiceSpec, image release.PlatformImage) int64 {
	n, _ := readSchema(s, image)
	return max(n, release.FirstStateSchema)
}

func readSchema(s release.ServiceSpec, image release.PlatformImage) (int64, error) {
	if image.Defaults == nil {
		return release.StateSchema(s.Labels)
	}
	return release.StateSchema(s.Labels, image.Defaults.Labels)
}

// wrote is the schema that a container says it keeps its state in. An engine
// gives a container its image's labels, under those it was created with.
func wrote(c release.Container) int64 {
	n, _ := release.StateSchema(c.Labels)
	return max(n, release.FirstStateSchema)
}

// recordedAs leaves the first schema out of the record, as not counting does.
func recordedAs(schema int64) int64 {
	if schema == release.FirstStateSchema {
		return 0
	}
	return schema
}

// schemas says which services would meet state that a later schema wrote. To go
// up is what an update is for, and is shown with the step that does it.
func (p *planner) schemas() {
	for _, s := range p.w.Services {
		if _, err := readSchema(s, p.images[s.Name]); err != nil {
			p.block("state/schema", fmt.Sprintf("service %s: %v", s.Name, err), "write a whole number from 1 on as "+release.LabelStateSchema)
		}
	}
	if p.recorded == nil {
		return
	}
	for _, was := range p.recorded.Running {
		written := p.written(was)
		if schema, all := p.restored(was); all {
			written = schema
		}
		s, by, found := p.heir(was)
		switch {
		case !found || by == written:
		case by < written:
			names := volumesOf(was)
			snapshot := ""
			if sequence, there := p.fitting(was, by); there {
				snapshot = fmt.Sprintf(": promote rollback ENV --restore %d --identity FILE --reason TEXT", sequence)
			}
			p.change(release.Reason{
				Rule:    "state/schema",
				Message: fmt.Sprintf("service %s would start with state of schema %d, and the release keeps it in schema %d", s, written, by),
				Fix:     fmt.Sprintf("promote a release that keeps it in schema %d (label %s), or restore the state from before the change%s", written, release.LabelStateSchema, snapshot),
			}, slices.Concat([]string{was.Service}, names[min(1, len(names)):], names[:min(1, len(names))])...)
		default:
			p.remark(s, fmt.Sprintf("its state goes from schema %d to %d", written, by))
		}
	}
}

// written is the schema of what a recorded service left in its volumes: what
// the record says, or what its containers say that have run since, whichever is
// later.
func (p *planner) written(was release.Running) int64 {
	n := max(was.StateSchema, release.FirstStateSchema)
	for _, c := range p.seen.Containers {
		if c.Service == was.Service && c.State != "created" {
			n = max(n, wrote(c))
		}
	}
	return n
}

// heir is the service that goes on with a recorded service's state, and the
// schema in which it keeps it: the one of its name, or else the one that mounts
// its volumes now.
func (p *planner) heir(was release.Running) (service string, schema int64, found bool) {
	if s, ok := p.w.Service(was.Service); ok {
		return s.Name, writes(s, p.images[s.Name]), true
	}
	names := volumesOf(was)
	for _, s := range p.w.Services {
		mounts := slices.ContainsFunc(s.Mounts, func(m release.Mount) bool { return m.Type == "volume" && slices.Contains(names, m.Source) })
		if n := writes(s, p.images[s.Name]); mounts && (!found || n > schema) {
			service, schema, found = s.Name, n, true
		}
	}
	return service, schema, found
}

// volumesOf names the volumes that a recorded service had, in order.
func volumesOf(was release.Running) []string {
	var names []string
	for _, path := range slices.Sorted(maps.Keys(was.Volumes)) {
		names = append(names, volumeName(was.Volumes[path]))
	}
	return names
}

// remark adds to the cause of the step that makes a service's container.
func (p *planner) remark(service, text string) {
	for i, step := range p.plan.Steps {
		if step.Service == service && (step.Action == ActionCreate || step.Action == ActionRecreate) {
			p.plan.Steps[i].Cause += "; " + text
		}
	}
}

// migration is a service whose new container ran, and keeps its state in a later
// schema than the one it replaced, which must not start over what it cannot read.
type migration struct{ new, old release.Container }

// migrated lists what an attempt may have migrated, but what was accepted.
func migrated(seen release.Observed, j Job) []migration {
	var list []migration
	for _, c := range seen.Containers {
		if !j.Attempt.made(c) && !j.Attempt.undone(c) || c.State == "created" {
			continue // one that never started has written nothing
		}
		if old, there := replaced(seen, j.Attempt, c); there && wrote(c) > wrote(old) && !accepted(j, c) {
			list = append(list, migration{c, old})
		}
	}
	return list
}

// refusal says why an attempt is not undone.
func (m migration) refusal(j Job) error {
	return &release.Fault{
		Kind: release.KindDenied, Op: "undoing on", Subject: j.Target,
		Err: fmt.Errorf("service %s: state/schema: the new container ran, and keeps its state in schema %d; the one before it, %s, is of schema %d and is not started over that",
			m.new.Service, wrote(m.new), m.old.Name, wrote(m.old)),
		Hint: "mend what failed and promote resume; or restore the state by hand and go back with promote resume --state-change " + stateOf(m.new) + " --reason TEXT",
	}
}

// replaced is the container that one of the attempt's stands in for.
func replaced(seen release.Observed, a Attempt, c release.Container) (release.Container, bool) {
	for _, old := range seen.Containers {
		if _, kept := a.kept(old); kept && (old.ID == c.Labels[labelReplaces] || old.Service == c.Service) {
			return old, true
		}
	}
	return release.Container{}, false
}

// accepted reports whether somebody said that a container's state may change.
func accepted(j Job, c release.Container) bool {
	return slices.ContainsFunc(j.Options.AcceptLoss, func(name string) bool {
		return name == c.Service || slices.ContainsFunc(c.Mounts, func(m release.ObservedMount) bool { return m.Type == "volume" && m.Name == name })
	})
}

// stateOf names a container's first named volume, or else its service.
func stateOf(c release.Container) string {
	for _, m := range c.Mounts {
		if m.Type == "volume" && m.Name != "" && !anonymous.MatchString(m.Name) {
			return m.Name
		}
	}
	return c.Service
}
