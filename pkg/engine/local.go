package engine

import (
	"context"

	"github.com/promote-dev/promote/pkg/release"
)

// LocalImage gives the id of an image of the engine's own that has a name, tag
// or no tag: what docker compose build left. The name is read this once; a
// release.Subject with the id alone, without a repository, is the image from
// there on. An image that is not there is a KindConfig fault.
func (h *Host) LocalImage(ctx context.Context, name string) (release.Digest, error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	result, err := h.client.ImageInspect(ctx, name)
	if absent(err) {
		return release.Digest{}, release.Faultf(release.KindConfig, "docker compose build, or docker pull "+clip(name, 200), "the engine has no image %s", clip(name, 200))
	}
	if err != nil {
		return release.Digest{}, h.fault("inspecting image", name, err)
	}
	id, err := release.ParseDigest(result.ID)
	if err != nil {
		return release.Digest{}, h.fault("inspecting image", name, err)
	}
	return id, nil
}

// reference is how the engine is asked for a subject's image.
func reference(s release.Subject) string {
	if s.Repository == "" {
		return s.Digest.String()
	}
	return s.String()
}
