package reliability

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// keep is how many snapshots of a volume the environments keep.
const keep = 2

// Labels of what snapshots are made of.
const (
	labelWhole     = "dev.promote.snapshot"      // on the note: the snapshot, as JSON
	labelParts     = "dev.promote.snapshot.data" // on what it says is whole
	labelRestoring = "dev.promote.restoring"     // on marks: the attempt
	labelArchive   = "dev.promote.archive"       // on containers that read and fill volumes
)

// snapshot is what the ledger and a note say of one.
type snapshot struct {
	Name, Attempt, Digest, Sealed, Content string
	Sequence, Size, Entries                int64
}

// volume is one of an environment's on the engine.
type volume struct {
	Name   string
	Labels map[string]string
}

// leftovers reports what a promotion must not leave: its lock, more than one
// checkpoint, containers that read volumes, networks or volumes that no version
// has, and of snapshots all but what the records tell of.
func (w *World) leftovers(ctx context.Context, env string, list []record) error {
	var bad []error
	for _, l := range []struct {
		what string
		most int
		args []string
	}{
		{"locks", 0, []string{"ps", "-aq", "--filter", "name=^/" + w.lock(env) + "$"}},
		{"checkpoints", 1, []string{"volume", "ls", "-q", "--filter", "label=dev.promote.checkpoint=" + w.lock(env)}},
		{"networks", 1, []string{"network", "ls", "-q", "--filter", "label=com.docker.compose.project=" + w.project(env)}},
		{"containers for archives", 0, []string{"ps", "-aq", "--filter", "label=" + labelArchive + "=" + w.project(env)}},
	} {
		out, err := w.docker(ctx, l.args...)
		if err != nil {
			return err
		}
		if n := len(strings.Fields(out)); n > l.most {
			bad = append(bad, fmt.Errorf("%d %s", n, l.what))
		}
	}
	there, err := w.volumes(ctx, env)
	if err != nil {
		return err
	}
	if err := errors.Join(append(bad, stray(w.project(env), there, list))...); err != nil {
		return fmt.Errorf("left behind: %w", err)
	}
	return nil
}

// volumes lists an environment's on the engine.
func (w *World) volumes(ctx context.Context, env string) ([]volume, error) {
	out, err := w.docker(ctx, "volume", "ls", "-q", "--filter", "label=com.docker.compose.project="+w.project(env))
	names := strings.Fields(out)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	out, err = w.docker(ctx, append([]string{"volume", "inspect"}, names...)...)
	var list []volume
	if err == nil {
		err = json.Unmarshal([]byte(out), &list)
	}
	return list, err
}

// stray reports the volumes that should not be there. Besides the model's there
// may be whole snapshots that a record names just so, as many as are kept, and
// the mark of a restore, until the next deployment.
func stray(project string, there []volume, list []record) error {
	named := map[string]snapshot{}
	for _, r := range list {
		for _, t := range r.Targets {
			for _, s := range t.Snapshots {
				named[s.Name] = s
			}
		}
	}
	has := func(name, label string) bool {
		return slices.ContainsFunc(there, func(v volume) bool { return v.Name == name && v.Labels[label] != "" })
	}
	var bad []error
	fault := func(format string, args ...any) { bad = append(bad, fmt.Errorf(format, args...)) }
	whole := 0
	for _, v := range there {
		switch {
		case v.Labels[labelWhole] != "":
			whole++
			var s snapshot
			if err := json.Unmarshal([]byte(v.Labels[labelWhole]), &s); err != nil || v.Name != s.Name+".note" {
				fault("%s is no note of a snapshot", v.Name)
			} else if !has(s.Name, labelParts) {
				fault("%s has no snapshot", v.Name)
			} else if named[s.Name] != s {
				fault("snapshot %s is not one that a record names: %+v, want %+v", s.Name, s, named[s.Name])
			}
		case v.Labels[labelParts] != "":
			if !has(v.Name+".note", labelWhole) {
				fault("%s is half a snapshot", v.Name)
			}
		case v.Labels[labelRestoring] != "":
			if attempt := v.Labels[labelRestoring]; attempt != lastDeployed(list) || !strings.HasPrefix(v.Name, project+"_promote-restore-"+attempt+"-done-") {
				fault("%s marks a restore that is not the last deployment", v.Name)
			}
		case v.Name != project+"_state":
			fault("volume %s", v.Name)
		}
	}
	// Beyond those that are kept, what a rollback needs of each of two releases,
	// and what was restored.
	if whole > keep+3 {
		fault("%d snapshots", whole)
	}
	return errors.Join(bad...)
}

// lastDeployed names the attempt that made the newest deployment, as its labels
// do: the first intent of a chain of resumes, by its sequence and digest.
func lastDeployed(list []record) string {
	for _, r := range slices.Backward(list) {
		if r.Phase != "deployed" || r.Intent == nil {
			continue
		}
		at := *r.Intent
		for _, i := range slices.Backward(list) {
			if i.Sequence == at && i.Resumes != nil {
				at = *i.Resumes
			}
		}
		for _, i := range list {
			if i.Sequence == at {
				return i.attempt()
			}
		}
	}
	return ""
}
