package engine

import (
	"context"

	"github.com/promote-dev/promote/pkg/release"
)

// Confinement tells how a running container is confined and what it wrote.
func (h *Host) Confinement(ctx context.Context, id string) (release.Confinement, error) {
	c, err := h.Inspect(ctx, id)
	if err != nil {
		return release.Confinement{}, err
	}
	return release.Confinement{RootReadOnly: c.ReadOnly}, nil
}
