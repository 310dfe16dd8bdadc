package engine

import (
	"context"
	"crypto/rand"
	"maps"

	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
)

// composeVersion is what we say in Compose's version label: the generation of
// labels that we write.
const composeVersion = "5.0.0"

// CreateNetwork makes a network of the project if it is missing. One that is
// there is left as it is; if it is of another kind, that is an error. An
// external network must exist.
func (h *Host) CreateNetwork(ctx context.Context, project string, n release.NetworkSpec, labels map[string]string) error {
	ctx, cancel := h.short(ctx)
	defer cancel()
	found, err := h.findNetworks(ctx, n.Name)
	if err != nil {
		return err
	}
	driver := n.Driver
	if driver == "" {
		driver = "bridge"
	}
	if len(found) > 0 {
		have := found[0]
		if !n.External && (have.driver != driver || have.internal != n.Internal) {
			return release.Faultf(release.KindConfig, "stop what uses it and remove it (docker network rm "+n.Name+"), or give the network another name",
				"creating network %s: one of that name exists with driver %s, internal %t; the model wants driver %s, internal %t", n.Name, have.driver, have.internal, driver, n.Internal)
		}
		return nil
	}
	if n.External {
		return release.Faultf(release.KindConfig, "create it on the host: docker network create "+n.Name, "network %s is external to the project and missing on %s", n.Name, h.Name())
	}
	created, err := h.client.NetworkCreate(ctx, n.Name, client.NetworkCreateOptions{
		Driver: driver, Internal: n.Internal, Options: n.Options, Labels: projectLabels(project, release.LabelNetwork, n.Key, labels, n.Labels),
	})
	if err != nil {
		return h.fault("creating network", n.Name, err)
	}
	// Engines before 25.0 take a second network of the same name.
	if found, err = h.findNetworks(ctx, n.Name); err != nil || len(found) < 2 {
		return err
	}
	_, err = h.client.NetworkRemove(ctx, created.ID, client.NetworkRemoveOptions{})
	return h.fault("removing the second network", n.Name, err)
}

type foundNetwork struct {
	driver   string
	internal bool
}

func (h *Host) findNetworks(ctx context.Context, name string) ([]foundNetwork, error) {
	result, err := h.client.NetworkList(ctx, client.NetworkListOptions{Filters: client.Filters{}.Add("name", name)})
	if err != nil {
		return nil, h.fault("listing networks", h.Name(), err)
	}
	var found []foundNetwork
	for _, n := range result.Items {
		if n.Name == name { // the filter matches parts of names
			found = append(found, foundNetwork{n.Driver, n.Internal})
		}
	}
	return found, nil
}

// RemoveNetwork removes a network; one that is not there is no error.
func (h *Host) RemoveNetwork(ctx context.Context, name string) error {
	ctx, cancel := h.short(ctx)
	defer cancel()
	_, err := h.client.NetworkRemove(ctx, name, client.NetworkRemoveOptions{})
	if absent(err) {
		return nil
	}
	return h.fault("removing network", name, err)
}

// CreateVolume makes a volume of the project if it is missing, with an
// identity of its own. It never touches one that is there. An external volume
// must exist.
func (h *Host) CreateVolume(ctx context.Context, project string, v release.VolumeSpec, labels map[string]string) error {
	ctx, cancel := h.short(ctx)
	defer cancel()
	_, err := h.client.VolumeInspect(ctx, v.Name, client.VolumeInspectOptions{})
	if err == nil {
		return nil
	}
	if !absent(err) {
		return h.fault("inspecting volume", v.Name, err)
	}
	if v.External {
		return release.Faultf(release.KindConfig, "create it on the host, or restore it from its backup", "volume %s is external to the project and missing on %s", v.Name, h.Name())
	}
	all := projectLabels(project, release.LabelVolume, v.Key, labels, v.Labels)
	all[release.LabelIdentity] = rand.Text()
	_, err = h.client.VolumeCreate(ctx, client.VolumeCreateOptions{Name: v.Name, Driver: v.Driver, DriverOpts: v.Options, Labels: all})
	return h.fault("creating volume", v.Name, err)
}

// RemoveVolume removes a volume and what is in it; one that is not there is no
// error.
func (h *Host) RemoveVolume(ctx context.Context, name string) error {
	ctx, cancel := h.short(ctx)
	defer cancel()
	_, err := h.client.VolumeRemove(ctx, name, client.VolumeRemoveOptions{})
	if absent(err) {
		return nil
	}
	return h.fault("removing volume", name, err)
}

// projectLabels are Compose's labels of a network or volume.
func projectLabels(project, kind, key string, more ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range more {
		maps.Copy(all, m)
	}
	all[release.LabelProject] = project
	all[kind] = key
	all["com.docker.compose.version"] = composeVersion
	return all
}
