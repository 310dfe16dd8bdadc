package engine

import (
	"context"

	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
)

// Owned gives the Compose projects of all containers, networks and volumes that
// carry a label ("key" or "key=value"), with the value of their
// release.LabelOwner: empty where none of a project's objects has one.
func (h *Host) Owned(ctx context.Context, label string) (map[string]string, error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	owners := owners{}
	filters := client.Filters{}.Add("label", label)
	containers, err := h.client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filters})
	if err != nil {
		return nil, h.fault("listing containers", h.Name(), err)
	}
	for _, c := range containers.Items {
		owners.add(c.Labels)
	}
	networks, err := h.client.NetworkList(ctx, client.NetworkListOptions{Filters: filters})
	if err != nil {
		return nil, h.fault("listing networks", h.Name(), err)
	}
	for _, n := range networks.Items {
		owners.add(n.Labels)
	}
	volumes, err := h.client.VolumeList(ctx, client.VolumeListOptions{Filters: filters})
	if err != nil {
		return nil, h.fault("listing volumes", h.Name(), err)
	}
	for _, v := range volumes.Items {
		owners.add(v.Labels)
	}
	if n := len(containers.Items) + len(networks.Items) + len(volumes.Items); n > mostObjects {
		return nil, tooMany("labelled objects", n)
	}
	return owners, nil
}

// owners is the owner of each project.
type owners map[string]string

func (o owners) add(labels map[string]string) {
	project := labels[release.LabelProject]
	if project != "" && o[project] == "" {
		o[project] = labels[release.LabelOwner]
	}
}
