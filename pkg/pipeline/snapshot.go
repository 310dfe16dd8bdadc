package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// actionRestore is the step of a plan that needs a private key.
const actionRestore = "restore"

const identityHint = "give the private key of snapshots.encryptTo: --identity FILE, or env://VARIABLE"

// checkRestore refuses a restore that could not be done, before anything is read.
func (o PromoteOptions) checkRestore() error {
	if o.Restore != nil && o.Identity == "" {
		return release.Misuse(identityHint, "to restore a snapshot needs the private key that opens it")
	}
	return nil
}

// recordedSnapshots are what the ledger says about the snapshots of an
// environment, by target and name.
func (r *promotion) recordedSnapshots() map[string]map[string]release.Snapshot {
	all := map[string]map[string]release.Snapshot{}
	for _, e := range r.history {
		if e.Record.Environment != r.env.Name {
			continue
		}
		for _, t := range e.Record.Targets {
			for _, s := range t.Snapshots {
				if all[t.Name] == nil {
					all[t.Name] = map[string]release.Snapshot{}
				}
				all[t.Name][s.Name] = s
			}
		}
	}
	return all
}

// restored finds the snapshots to restore, by target, as the ledger has them.
func (r *promotion) restored() (map[string][]release.Snapshot, error) {
	if r.options.Restore == nil {
		return nil, nil
	}
	if r.env.Snapshots.Recipient == "" {
		return nil, release.Faultf(release.KindConfig, "write environments."+r.env.Name+".snapshots", "to restore needs snapshots to be configured: what is there now is kept first")
	}
	found, known := map[string][]release.Snapshot{}, []string{}
	for target, all := range r.recordedSnapshots() {
		for _, name := range sortedKeys(all) {
			s := all[name]
			if s.Sequence == *r.options.Restore {
				found[target] = append(found[target], s)
			}
			if text := fmt.Sprint(s.Sequence); !slices.Contains(known, text) {
				known = append(known, text)
			}
		}
	}
	for _, t := range r.env.Targets {
		if len(found[t.Name]) == 0 {
			slices.Sort(known)
			return nil, release.Misuse("promote log "+r.env.Name+" -o json has them, under targets[].snapshots; those of records "+strings.Join(known, ", "), "the ledger has no snapshot of record %d on %s", *r.options.Restore, t.Name)
		}
	}
	return found, nil
}

// releaseOfSnapshots is the release that ran when the snapshots to restore were
// taken; zero if that is not known.
func (r *promotion) releaseOfSnapshots() (release.Digest, error) {
	found, err := r.restored()
	for _, t := range r.env.Targets {
		for _, s := range found[t.Name] {
			return s.Release, err
		}
	}
	return release.Digest{}, err
}

// checkSnapshots finds what is to be restored, and that the targets have it as
// the ledger says. Each is decrypted to its end before anything is touched. A
// volume that is to be kept and that the model does not have would never be.
func (r *promotion) checkSnapshots(ctx context.Context) (err error) {
	if err := r.checkKept(ctx); err != nil || r.options.Restore == nil {
		return err
	}
	if r.restoring, err = r.restored(); err != nil {
		return err
	}
	return each(ctx, r.hosts, func(ctx context.Context, h *host) error {
		there, err := h.Snapshots(ctx, r.workload.Project)
		if err != nil {
			return err
		}
		for _, s := range r.restoring[h.target.Name] {
			i := slices.IndexFunc(there, func(have release.Snapshot) bool { return have.Name == s.Name })
			if i < 0 {
				return release.Unavailable("restore another one, or from a backup: promote log "+r.env.Name+" -o json", "snapshot %s is not on %s any more", s.Name, h.target.Name)
			}
			if have := there[i]; have.Digest != s.Digest || have.Sealed != s.Sealed || have.Content != s.Content || have.Volume != s.Volume {
				return release.Faultf(release.KindIntegrity, "find out who changed it; restore another one", "snapshot %s on %s is not the one that the ledger has: %s, recorded %s", s.Name, h.target.Name, have.Digest, s.Digest)
			}
			if r.resumed {
				continue // it was checked when it began
			}
			step := event.Start(ctx, "[check] %s on %s", s.Name, h.target.Name)
			err := h.CheckSnapshot(ctx, r.desired(h), s)
			step.Done(err)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// checkKept holds the volumes that are to be kept against the model. Going back
// to a release that had no such volume yet must not fail for that.
func (r *promotion) checkKept(ctx context.Context) error {
	for _, key := range r.env.Snapshots.Volumes {
		if slices.ContainsFunc(r.workload.Volumes, func(v release.VolumeSpec) bool { return v.Key == key }) {
			continue
		}
		if r.back() || r.resumed {
			event.Warnf(ctx, "%s has no volume %s: nothing of it is kept", r.document.Release.Version, key)
			continue
		}
		var keys []string
		for _, v := range r.workload.Volumes {
			keys = append(keys, v.Key)
		}
		hint := "name it as the Compose model does: " + strings.Join(keys, ", ")
		if near := release.Nearest(key, keys); near != "" {
			hint = "did you mean " + near + "?"
		}
		return release.Faultf(release.KindConfig, hint, "environments.%s.snapshots.volumes: the model of %s has no volume %s", r.env.Name, r.document.Release.Version, key)
	}
	return nil
}

// needsIdentity refuses to go on with a restore without the private key, while
// nothing is touched.
func (r *promotion) needsIdentity() error {
	for _, h := range r.hosts {
		for _, s := range h.plan.Steps {
			if s.Action == actionRestore && r.options.Identity == "" {
				return release.Misuse(identityHint, "volume %s on %s is still to be restored", s.To, h.target.Name)
			}
		}
	}
	return nil
}

// onlyForward says why a restore is not undone: what ran before is gone, and would
// have to be deployed over the state that was brought back, which is not its own.
func (r *promotion) onlyForward(h *host) error {
	return release.Faultf(release.KindDenied, fmt.Sprintf("mend what failed and promote resume %s --identity FILE; after that, promote rollback %s --restore %d brings back what was there before", r.env.Name, r.env.Name, r.attempt().Sequence),
		"undoing on %s: the state was brought back for %s, and the containers that ran before, with other state, are gone: %w", h.target.Name, r.document.Release.Version, ErrCommitted)
}

// sweep removes what a killed restore, or the look before one, left of its reading
// of snapshots. Only where the records tell of some can there be any.
func (r *promotion) sweep(ctx context.Context, h Host, target string) error {
	var projects []string
	for name := range r.recordedSnapshots()[target] {
		if project, _, ok := strings.Cut(name, "_promote-snapshot-"); ok && !slices.Contains(projects, project) {
			projects = append(projects, project)
		}
	}
	for _, project := range projects {
		if err := h.Sweep(ctx, project); err != nil {
			return err
		}
	}
	return nil
}

// candidates are the releases that a rollback may go to after this, or if this
// is undone.
func (r *promotion) candidates() []release.Digest {
	if r.current == nil {
		return nil
	}
	list := []release.Digest{r.current.Record.Release}
	for _, e := range slices.Backward(r.history) {
		rec := e.Record
		if rec.Environment == r.env.Name && rec.Phase == release.Deployed && rec.Release != r.current.Record.Release {
			return append(list, rec.Release)
		}
	}
	return list
}

// before is the release that ran before.
func (r *promotion) before() release.Digest {
	if r.current == nil {
		return release.Digest{}
	}
	return r.current.Record.Release
}

// noteSnapshots says in a target's status what this attempt kept there, and what
// was kept where the release before was deployed again.
func (r *promotion) noteSnapshots(ctx context.Context, h *host) error {
	if r.env.Snapshots.Recipient == "" {
		return nil
	}
	all, err := h.Snapshots(ctx, r.workload.Project)
	if err != nil {
		return err
	}
	mine := []Attempt{r.attempt(), redeployment(r.intent)}
	h.status.Snapshots = slices.DeleteFunc(all, func(s release.Snapshot) bool {
		return !slices.ContainsFunc(mine, func(a Attempt) bool {
			return s.Sequence == a.Sequence && (a.Record.IsZero() || strings.HasSuffix(s.Attempt, a.Record.Short()))
		})
	})
	return nil
}
