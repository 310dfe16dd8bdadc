package wire

import (
	"context"
	"os"
	"time"

	"github.com/promote-dev/promote/internal/worker"
	"github.com/promote-dev/promote/pkg/build"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/scan"
)

// The kinds of work that run in child processes without keys.
const (
	workBuild = "build"
	workScan  = "scan"
	workSmoke = "smoke"
)

// workers are what a child process can do. Each one is given everything it
// needs in its request; it reads no configuration.
func workers() map[string]worker.Handler {
	return map[string]worker.Handler{
		workBuild: worker.Typed(doBuild),
		workScan:  worker.Typed(doScan),
		workSmoke: worker.Typed(doSmoke),
	}
}

// buildWork is a build to do.
type buildWork struct {
	pipeline.BuildRequest
	Address string   `json:"address"` // BUILDKIT_HOST
	Cache   []string `json:"cache"`
	Builder string   `json:"builder"`

	Registries map[string]registry.Host `json:"registries"`
}

func doBuild(ctx context.Context, w buildWork) (release.Image, error) {
	client, err := openRegistry(w.Registries)
	if err != nil {
		return release.Image{}, err
	}
	labels := map[string]string{
		"org.opencontainers.image.title":    w.Service,
		"org.opencontainers.image.revision": w.Head.Revision,
	}
	if w.Head.Remote != "" {
		labels["org.opencontainers.image.source"] = w.Head.Remote
	}
	return build.Image(ctx, w.Service, build.Options{
		Address: w.Address, Context: w.Spec.Context, Dockerfile: w.Spec.Dockerfile, Target: w.Spec.Target, Args: w.Spec.Args,
		Platforms: w.Platforms, Repository: w.Repository, Annotations: labels,
		Source: w.Head.Remote, Revision: w.Head.Revision, Version: w.Head.Version, Epoch: w.Head.Time, Builder: w.Builder,
		Cache: w.Cache, Insecure: client.PlainHTTP, Credentials: client.Credentials,
	})
}

// scanWork is a scan to do.
type scanWork struct {
	Subject    release.Subject `json:"subject"`
	CacheDir   string          `json:"cacheDir"`
	Repository string          `json:"repository"` // of the database
	MaxAge     time.Duration   `json:"maxAge"`
	FailOn     string          `json:"failOn"`
	IgnoreFile string          `json:"ignoreFile"`
	Waive      []scan.Waiver   `json:"waive"`
	Platforms  []string        `json:"platforms"`

	Registries map[string]registry.Host `json:"registries"`
}

func doScan(ctx context.Context, w scanWork) (release.Scan, error) {
	client, err := openRegistry(w.Registries)
	if err != nil {
		return release.Scan{}, err
	}
	return scan.Image(ctx, scan.Options{
		Subject: w.Subject, CacheDir: w.CacheDir, Database: scan.DatabaseRef{Repository: w.Repository, MaxAge: w.MaxAge},
		FailOn: w.FailOn, IgnoreFile: w.IgnoreFile, Waive: w.Waive, Platforms: w.Platforms,
		Registry: client,
	})
}

// builder, scanner and smoker start the child processes.
type (
	builder struct{ c *config.Config }
	scanner struct{ c *config.Config }
	smoker  struct{ c *config.Config }
)

func (b builder) Build(ctx context.Context, r pipeline.BuildRequest) (image release.Image, err error) {
	work := buildWork{BuildRequest: r, Address: os.Getenv("BUILDKIT_HOST"), Cache: b.c.Build.Cache, Builder: builderID(),
		Registries: registryHosts(b.c.RegistrySettings())}
	err = worker.Parent{Environ: os.Environ()}.Call(ctx, workBuild, work, &image)
	return image, err
}

// builderID names the CI workflow that builds; empty is a build by hand.
func builderID() string {
	if os.Getenv("GITHUB_ACTIONS") != "true" || os.Getenv("GITHUB_WORKFLOW_REF") == "" {
		return ""
	}
	return os.Getenv("GITHUB_SERVER_URL") + "/" + os.Getenv("GITHUB_WORKFLOW_REF")
}

func (s scanner) Scan(ctx context.Context, subject release.Subject) (result release.Scan, err error) {
	cache, err := cacheDir("scan")
	if err != nil {
		return result, err
	}
	work := scanWork{Subject: subject, CacheDir: cache, Repository: s.c.Scan.Database.Repository, MaxAge: s.c.Scan.MaxAge,
		FailOn: s.c.Scan.FailOn, IgnoreFile: s.c.Abs(s.c.Scan.IgnoreFile), Platforms: s.c.Build.Platforms,
		Registries: registryHosts(s.c.RegistrySettings())}
	for _, w := range s.c.Scan.Waive {
		work.Waive = append(work.Waive, scan.Waiver{Distribution: w.Distribution, Statement: w.Statement, Expires: w.Expires.Time})
	}
	err = worker.Parent{Environ: os.Environ()}.Call(ctx, workScan, work, &result)
	return result, err
}
