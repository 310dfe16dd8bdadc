//go:build !goexperiment.jsonv2

package scan

import (
	"context"

	"github.com/promote-dev/promote/pkg/release"
)

func unbuilt() error {
	return release.Unavailable("build promote with `make install`, or with GOEXPERIMENT=jsonv2 in the environment",
		"scanning: this promote was built without its scanner")
}

// Image scans an image. This binary was built without the scanner.
func Image(context.Context, Options) (release.Scan, error) { return release.Scan{}, unbuilt() }

// DatabaseStatus describes the database at hand. This binary was built without
// the scanner.
func DatabaseStatus(context.Context, Options) (release.Database, error) {
	return release.Database{}, unbuilt()
}

// UpdateDatabase downloads the newest database. This binary was built without
// the scanner.
func UpdateDatabase(context.Context, Options) (release.Database, error) {
	return release.Database{}, unbuilt()
}
