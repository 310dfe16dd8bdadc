package engine

import (
	"context"
	"errors"
	"fmt"
)

// Entries counts the entries of a volume's top directory, at most 100.
func (h *Host) Entries(ctx context.Context, volume string) (int, error) {
	return 0, fmt.Errorf("looking into volume %s: %w", volume, errors.ErrUnsupported)
}
