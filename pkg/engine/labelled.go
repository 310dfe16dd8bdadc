package engine

import (
	"context"
	"errors"
	"strings"

	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
)

// ListLabelled lists every container, network, volume and image that carries a
// label, given as "key" or "key=value".
func (h *Host) ListLabelled(ctx context.Context, label string) (release.Labelled, error) {
	var found release.Labelled
	var err error
	if found.Containers, err = h.containers(ctx, label); err != nil {
		return release.Labelled{}, err
	}
	ctx, cancel := h.short(ctx)
	defer cancel()
	filters := client.Filters{}.Add("label", label)
	networks, err := h.client.NetworkList(ctx, client.NetworkListOptions{Filters: filters})
	if err != nil {
		return release.Labelled{}, h.fault("listing networks", h.Name(), err)
	}
	for _, n := range networks.Items {
		found.Networks = append(found.Networks, n.Name)
	}
	volumes, err := h.client.VolumeList(ctx, client.VolumeListOptions{Filters: filters})
	if err != nil {
		return release.Labelled{}, h.fault("listing volumes", h.Name(), err)
	}
	for _, v := range volumes.Items {
		found.Volumes = append(found.Volumes, v.Name)
	}
	images, err := h.client.ImageList(ctx, client.ImageListOptions{Filters: filters})
	if err != nil {
		return release.Labelled{}, h.fault("listing images", h.Name(), err)
	}
	for _, i := range images.Items {
		found.Images = append(found.Images, i.ID)
	}
	return found, nil
}

// RemoveLabelled removes everything that carries a label, in an order that
// works, and goes on after a failure. It gives what there was.
func (h *Host) RemoveLabelled(ctx context.Context, label string) (release.Labelled, error) {
	if key, _, _ := strings.Cut(label, "="); key == "" {
		return release.Labelled{}, release.Faultf(release.KindInternal, "", "removing by label: no label given")
	}
	found, err := h.ListLabelled(ctx, label)
	if err != nil {
		return found, err
	}
	var errs []error
	for _, id := range found.Containers {
		errs = append(errs, h.Discard(ctx, id))
	}
	for _, name := range found.Networks {
		errs = append(errs, h.RemoveNetwork(ctx, name))
	}
	for _, name := range found.Volumes {
		errs = append(errs, h.RemoveVolume(ctx, name))
	}
	for _, id := range found.Images {
		errs = append(errs, h.removeImage(ctx, id))
	}
	return found, errors.Join(errs...)
}

func (h *Host) removeImage(ctx context.Context, id string) error {
	ctx, cancel := h.short(ctx)
	defer cancel()
	_, err := h.client.ImageRemove(ctx, id, client.ImageRemoveOptions{Force: true, PruneChildren: true})
	if absent(err) {
		return nil
	}
	return h.fault("removing image", id, err)
}

// RemoveImages removes every image whose reference begins with a prefix, such
// as a registry's "host:port/". Images that a container still uses stay, and
// are an error.
func (h *Host) RemoveImages(ctx context.Context, prefix string) error {
	if !strings.Contains(prefix, "/") {
		return release.Faultf(release.KindInternal, "", "removing images: %q is no registry", prefix)
	}
	short, cancel := h.short(ctx)
	defer cancel()
	images, err := h.client.ImageList(short, client.ImageListOptions{All: true})
	if err != nil {
		return h.fault("listing images", h.Name(), err)
	}
	var errs []error
	for _, i := range images.Items {
		for _, reference := range append(i.RepoTags, i.RepoDigests...) {
			if strings.HasPrefix(reference, prefix) {
				errs = append(errs, h.removeImage(ctx, reference))
			}
		}
	}
	return errors.Join(errs...)
}
