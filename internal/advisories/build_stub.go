//go:build !goexperiment.jsonv2

package advisories

import (
	"context"
	"io/fs"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Build needs the scanner's libraries, which this binary was built without.
func Build(context.Context, fs.FS, string, time.Time) error {
	return release.Unavailable("build promote with `make install`, or with GOEXPERIMENT=jsonv2 in the environment",
		"building the database: this promote was built without its scanner")
}
