package enginetest

import (
	"context"
	"strconv"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// Confinement answers by OnConfinement, or as the container was declared.
func (f *Fake) Confinement(ctx context.Context, id string) (release.Confinement, error) {
	return f.confinement(ctx, "confinement", id)
}

// Processes lists those of Confinement.
func (f *Fake) Processes(ctx context.Context, id string) ([]release.Process, error) {
	seen, err := f.confinement(ctx, "processes", id)
	return seen.Processes, err
}

func (f *Fake) confinement(ctx context.Context, op, id string) (seen release.Confinement, err error) {
	var c release.Container
	err = f.call(ctx, op, id, func() error {
		found, err := f.find(id)
		switch {
		case err != nil:
			return err
		case found.State != "running":
			return release.Unavailable("", "container %s is not running", found.Name)
		}
		c = f.report(found)
		return nil
	})
	switch {
	case err != nil:
		return release.Confinement{}, err
	case f.OnConfinement != nil:
		return f.OnConfinement(c), nil
	}
	return release.Confinement{
		Processes:    []release.Process{{PID: c.PID, UID: declaredUID(c.User), Name: "probe", Command: "/probe run", NoNewPrivileges: c.NoNewPrivileges}},
		RootReadOnly: c.ReadOnly, Known: true,
	}, nil
}

// declaredUID reads the number of a user; names are -1.
func declaredUID(user string) int64 {
	word, _, _ := strings.Cut(user, ":")
	if word == "" || word == "root" {
		return 0
	}
	uid, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		return -1
	}
	return uid
}

// Entries answers by OnEntries.
func (f *Fake) Entries(ctx context.Context, volume string) (n int, err error) {
	var v release.ObservedVolume
	err = f.call(ctx, "entries", volume, func() error {
		var ok bool
		if v, ok = f.volumes[volume]; !ok {
			return notFound("volume", volume)
		}
		return nil
	})
	if err != nil || f.OnEntries == nil {
		return 1, err
	}
	return f.OnEntries(v)
}

// Owned gives the projects of what carries a label, and their owners.
func (f *Fake) Owned(ctx context.Context, label string) (owners map[string]string, err error) {
	owners = map[string]string{}
	err = f.call(ctx, "owned", label, func() error {
		found := f.labelled(label)
		for _, id := range found.Containers {
			own(owners, f.containers[id].Labels)
		}
		for _, name := range found.Networks {
			own(owners, f.networks[name].labels)
		}
		for _, name := range found.Volumes {
			own(owners, f.volumes[name].Labels)
		}
		return nil
	})
	return owners, err
}

func own(owners map[string]string, labels map[string]string) {
	project := labels[release.LabelProject]
	if project == "" {
		return
	}
	if owners[project] == "" {
		owners[project] = labels[release.LabelOwner]
	}
}
