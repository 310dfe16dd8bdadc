package engine

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"path"

	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
)

// mostLooked bounds what is read to find a directory's first entry: headers,
// and what is in the way.
const mostLooked = 4 << 20

// Holds reports whether a directory of a container, running or not, has an
// entry beside a file system's own lost+found. It reads the names of the first
// entries and gives the rest up; nothing is made on the target.
func (h *Host) Holds(ctx context.Context, container, dir string) (bool, error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	result, err := h.client.CopyFromContainer(ctx, container, client.CopyFromContainerOptions{SourcePath: path.Clean(dir) + "/."})
	if err != nil {
		return false, h.fault("looking into "+dir+" of container", container, err)
	}
	defer result.Content.Close()
	return holds(result.Content, dir)
}

// holds looks for an entry behind that of the directory itself.
func holds(r io.Reader, dir string) (bool, error) {
	archive := tar.NewReader(io.LimitReader(r, mostLooked))
	for first := true; ; first = false {
		entry, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil:
			return false, release.Unavailable("try again", "looking into %s: %w", dir, err)
		}
		// The directory itself comes first, as "./" or under its name.
		if first && entry.Typeflag == tar.TypeDir || path.Base(path.Clean(entry.Name)) == "lost+found" {
			continue
		}
		return true, nil
	}
}
