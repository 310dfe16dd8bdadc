package cli

import (
	"context"
	"path/filepath"

	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// load reads the configuration that -c names, or promote.yaml here or above.
func (r *run) load() (*config.Config, error) {
	path := r.config
	if path == "" {
		var err error
		if path, err = config.Find(r.dir); err != nil {
			return nil, err
		}
	} else if !filepath.IsAbs(path) {
		path = filepath.Join(r.dir, path)
	}
	return config.Load(path)
}

// registries reads how registries are reached, of the same file and of nothing
// else in it. Without a file there is nothing to say.
func (r *run) registries() (map[string]config.RegistrySettings, error) {
	path := r.config
	if path == "" {
		found, err := config.Find(r.dir)
		if release.KindOf(err) == release.KindUsage {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		path = found
	} else if !filepath.IsAbs(path) {
		path = filepath.Join(r.dir, path)
	}
	return config.LoadRegistrySettings(path)
}

// withPipeline loads the configuration, builds the pipeline and hands it on.
func (r *run) withPipeline(ctx context.Context, f func(*pipeline.Pipeline) error) error {
	return r.withKey(ctx, "", f)
}

// withKey is withPipeline, signing with another key than the configured one
// if it is not empty: a path from here, or a URI.
func (r *run) withKey(ctx context.Context, key string, f func(*pipeline.Pipeline) error) error {
	c, err := r.load()
	if err != nil {
		return err
	}
	p, closePipeline, err := r.wiring.Pipeline(ctx, c, PipelineOptions{Offline: r.offline, Key: config.KeyFrom(r.dir, key)})
	if err != nil {
		return err
	}
	defer closePipeline()
	return f(p)
}
