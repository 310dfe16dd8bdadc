package engine

import (
	"context"
	"errors"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
)

// RemoveUnused removes the images whose name begins with prefix, such as
// "registry.example.com/team/", and whose digest is one of those given, and
// returns the names that are gone. The guard is asked before each. One that a
// container uses, also a stopped one, stays; so does what has another name, under
// that. Names with a tag are not touched, but those that an image got which came
// over ssh.
func (h *Host) RemoveUnused(ctx context.Context, prefix string, digests []release.Digest, guard func(context.Context) error) (removed []string, err error) {
	names, err := h.namesOf(ctx, prefix, digests)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, name := range names {
		if err := guard(ctx); err != nil {
			return removed, errors.Join(append(errs, err)...)
		}
		switch gone, err := h.removeUnused(ctx, name); {
		case err != nil:
			errs = append(errs, err)
		case gone:
			removed = append(removed, name)
		}
	}
	return removed, errors.Join(errs...)
}

func (h *Host) namesOf(ctx context.Context, prefix string, digests []release.Digest) ([]string, error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	images, err := h.client.ImageList(ctx, client.ImageListOptions{})
	if err != nil {
		return nil, h.fault("listing images", h.Name(), err)
	}
	wanted := map[string]bool{}
	for _, d := range digests {
		wanted["@"+d.String()], wanted[":promote-"+d.Hex()] = true, true
	}
	var names []string
	for _, i := range images.Items {
		for _, name := range append(i.RepoDigests, i.RepoTags...) {
			path, ours := strings.CutPrefix(name, prefix)
			if mark := strings.IndexAny(path, "@:"); ours && mark >= 0 && wanted[path[mark:]] {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// removeUnused removes an image by one of its names, unless a container uses it.
func (h *Host) removeUnused(ctx context.Context, name string) (gone bool, err error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	_, err = h.client.ImageRemove(ctx, name, client.ImageRemoveOptions{PruneChildren: true})
	if errdefs.IsConflict(err) || absent(err) {
		return false, nil
	}
	return err == nil, h.fault("removing image", name, err)
}
