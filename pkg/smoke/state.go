package smoke

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// look is what a service's named volumes are at one moment, by their keys in
// the model.
type look map[string]volume

type volume struct {
	identity string // empty: it is not mounted where the model says
	entries  int    // in its top directory, at most 100
	unknown  error  // why there is no count of entries
}

// fate is the claim about one volume.
type fate struct {
	name   string
	result release.Result
	text   string
}

// look looks at the volumes that a service can write.
func (r *run) look(ctx context.Context, service string) (look, error) {
	s, _ := r.workload.Service(service)
	volumes := r.volumesOf(s)
	if len(volumes) == 0 {
		return nil, nil
	}
	seen, err := r.Engine.Observe(ctx, r.workload.Project)
	if err != nil {
		return nil, err
	}
	out := look{}
	for key, m := range volumes {
		v := volume{}
		for _, c := range seen.Containers {
			for _, real := range c.Mounts {
				if c.Service == service && real.Target == m.Target && real.Name == m.Source {
					v.identity = real.Identity
				}
			}
		}
		if v.entries, v.unknown = r.Engine.Entries(ctx, m.Source); v.unknown != nil && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		out[key] = v
	}
	return out, nil
}

// volumesOf gives a service's named volumes that it can write, by key.
func (r *run) volumesOf(s release.ServiceSpec) map[string]release.Mount {
	out := map[string]release.Mount{}
	for _, m := range s.Mounts {
		i := slices.IndexFunc(r.workload.Volumes, func(v release.VolumeSpec) bool { return v.Name == m.Source })
		if m.Type == "volume" && !m.ReadOnly && i >= 0 {
			out[r.workload.Volumes[i].Key] = m
		}
	}
	return out
}

// compare turns two looks into claims; of several about one volume the worst
// stays.
func (r *run) compare(service, how string, before, after look) {
	for _, key := range sortedKeys(before) {
		f := fateOf(before[key], after[key], how)
		f.name = "state/" + service + "/" + key
		i := slices.IndexFunc(r.fates, func(other fate) bool { return other.name == f.name })
		switch {
		case i < 0:
			r.fates = append(r.fates, f)
		case f.result < r.fates[i].result:
			r.fates[i] = f
		}
	}
}

func fateOf(before, after volume, how string) fate {
	unknown := errors.Join(before.unknown, after.unknown)
	switch {
	case after.identity == "":
		return fate{result: release.Failed, text: "is not mounted after " + how}
	case after.identity != before.identity:
		return fate{result: release.Failed, text: fmt.Sprintf("after %s another volume of the same name is mounted: what the old one held is lost", how)}
	case errors.Is(unknown, errors.ErrUnsupported):
		return fate{result: release.Warned, text: fmt.Sprintf("the same volume after %s; what is in it cannot be looked at on this engine's machine", how)}
	case unknown != nil:
		return fate{result: release.Warned, text: fmt.Sprintf("the same volume after %s; what is in it could not be looked at: %s", how, oneLine(unknown.Error()))}
	case before.entries > 0 && after.entries == 0:
		return fate{result: release.Failed, text: fmt.Sprintf("is empty after %s, it had %s", how, entries(before.entries))}
	case after.entries == 0:
		return fate{result: release.Warned, text: "nothing was ever written to it: state that must survive is elsewhere, or there is none"}
	}
	return fate{result: release.Passed, text: fmt.Sprintf("the same volume after %s, with %s", how, entries(after.entries))}
}

func entries(n int) string {
	switch {
	case n == 1:
		return "1 entry"
	case n >= 100:
		return "100 entries or more"
	}
	return fmt.Sprintf("%d entries", n)
}

// keeps replaces every service with a named volume that no check replaced, as a
// deployment would, and says what became of all volumes.
func (r *run) keeps(ctx context.Context) error {
	for _, s := range r.workload.Services {
		if r.State == Off || s.OneShot || len(r.volumesOf(s)) == 0 || r.monitor.get(s.Name).ailing() ||
			slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Service == s.Name && c.Survives == Recreate }) {
			continue
		}
		step := event.Start(ctx, "[smoke] recreate %s", s.Name)
		failed, err := r.move(ctx, s.Name, Recreate)
		if err != nil {
			step.Done(err)
			return err
		}
		step.Done(failed)
		if failed != nil {
			r.add("state/"+s.Name, release.Failed, "%v", failed)
		}
	}
	for _, f := range r.fates {
		r.add(f.name, f.result, "%s", f.text)
	}
	if len(r.fates) > 0 && r.Memory.Duration <= 0 { // else it is the memory test that measures the new ones
		select {
		case <-ctx.Done():
		case <-time.After(3 * r.Interval):
		}
	}
	return ctx.Err()
}
