//go:build engine

package engine_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/promote-dev/promote/pkg/engine/enginetest"
	"github.com/promote-dev/promote/pkg/release"
)

// What the kernel says of a container that is confined, and of one that is not.
func TestConfinement(t *testing.T) {
	w := newWorld(t, enginetest.Image{})
	if err := w.CreateVolume(w.ctx, w.name, release.VolumeSpec{Key: "memory", Name: w.name + "_memory"}, nil); err != nil {
		t.Fatal(err)
	}
	mounts := []release.Mount{{Type: "volume", Source: w.name + "_memory", Target: "/memory/deep"}}
	confined := w.start(release.ServiceSpec{Name: "confined", Command: []string{"/probe", "run"}, ReadOnly: true, User: "1234",
		Mounts: append(mounts, release.Mount{Type: "tmpfs", Target: "/scratch"}), SecurityOpt: []string{"no-new-privileges:true"}})
	open := w.start(release.ServiceSpec{Name: "open", Command: []string{"/probe", "run"}, User: "0", Mounts: mounts})
	if exit, output, err := w.Exec(w.ctx, open, []string{"/probe", "write", "/data/x", "1"}); err != nil || exit != 0 {
		t.Fatalf("exit code %d, %v: %s", exit, err, output)
	}
	for id, want := range map[string]release.Confinement{
		confined: {RootReadOnly: true, Known: true, Processes: []release.Process{{UID: 1234, NoNewPrivileges: true}}},
		open:     {Known: true, Processes: []release.Process{{UID: 0}}, Written: []string{"/data/x"}},
	} {
		got, err := w.Confinement(w.ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if got.RootReadOnly != want.RootReadOnly || got.Known != want.Known || !slices.Equal(got.Written, want.Written) || len(got.Processes) != 1 {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		p := got.Processes[0]
		if p.UID != want.Processes[0].UID || p.NoNewPrivileges != want.Processes[0].NoNewPrivileges || p.Name != "probe" || p.Command != "/probe run" {
			t.Errorf("%+v", p)
		}
		if list, err := w.Processes(w.ctx, id); err != nil || !slices.Equal(list, got.Processes) {
			t.Errorf("processes %+v, %v, want %+v", list, err, got.Processes)
		}
	}
}

// The probe sees what others wrote, and leaves nothing behind.
func TestEntries(t *testing.T) {
	w := newWorld(t, enginetest.Image{})
	name := w.name + "_memory"
	labels := map[string]string{release.LabelSmoke: w.name, release.LabelOwner: "somebody"}
	if err := w.CreateVolume(w.ctx, w.name, release.VolumeSpec{Key: "memory", Name: name}, labels); err != nil {
		t.Fatal(err)
	}
	if n, err := w.Entries(w.ctx, name); err != nil || n != 0 {
		t.Fatalf("%d entries, %v", n, err)
	}
	id := w.start(release.ServiceSpec{Name: "writer", Command: []string{"/probe", "run"}, User: "0",
		Mounts: []release.Mount{{Type: "volume", Source: name, Target: "/memory", NoCopy: true}}})
	if exit, output, err := w.Exec(w.ctx, id, []string{"/probe", "write", "/memory/x", "1"}); err != nil || exit != 0 {
		t.Fatalf("exit code %d, %v: %s", exit, err, output)
	}
	if n, err := w.Entries(w.ctx, name); err != nil || n != 1 {
		t.Errorf("%d entries, %v", n, err)
	}
	if _, err := w.Entries(w.ctx, w.name+"_absent"); !errors.Is(err, release.ErrNotFound) {
		t.Errorf("a volume that is not there: %v", err)
	}
	if seen, err := w.Observe(w.ctx, w.name); err != nil || len(seen.Containers) != 1 {
		t.Errorf("left behind: %+v, %v", seen.Containers, err)
	} else if _, made := seen.Volume(w.name + "_absent"); made {
		t.Error("looking made a volume")
	}
	owners, err := w.Owned(w.ctx, release.LabelSmoke+"="+w.name)
	if err != nil || len(owners) != 1 || owners[w.name] != "somebody" {
		t.Errorf("owners %v, %v", owners, err)
	}
}
