package wire

import (
	"context"
	"os"
	"time"

	"github.com/promote-dev/promote/internal/worker"
	"github.com/promote-dev/promote/pkg/build"
	"github.com/promote-dev/promote/pkg/compose"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/engine"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/scan"
	"github.com/promote-dev/promote/pkg/smoke"
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

func (s smoker) Smoke(ctx context.Context, r pipeline.SmokeRequest) (result release.Smoke, err error) {
	work := smokeWork{SmokeRequest: r, Timeout: s.c.Smoke.Timeout, Checks: smokeChecks(s.c.Smoke.Checks), Memory: memoryTest(s.c.Smoke.Memory),
		Registries: registryHosts(s.c.RegistrySettings())}
	err = worker.Parent{Environ: os.Environ(), Pass: r.Variables}.Call(ctx, workSmoke, work, &result)
	return result, err
}

func smokeChecks(list []config.Check) []smoke.Check {
	var checks []smoke.Check
	for _, c := range list {
		check := smoke.Check{Name: c.Name, Service: c.Service, Exec: c.Exec, TCP: c.TCP, Log: c.Log, Survives: c.Survives, Timeout: c.Timeout}
		if c.HTTP != nil {
			check.HTTP = request(*c.HTTP)
		}
		checks = append(checks, check)
	}
	return checks
}

func request(h config.HTTP) *smoke.HTTP {
	return &smoke.HTTP{Path: h.Path, Method: h.Method, Status: h.Status, Port: h.Port, Body: h.Body}
}

func memoryTest(m config.Memory) smoke.MemoryTest {
	t := smoke.MemoryTest{Duration: m.Duration, Warmup: m.Warmup, MaxPercentOfLimit: m.MaxPercentOfLimit, Horizon: m.Horizon}
	switch l := m.Load; {
	case l.HTTP != nil:
		t.Load = smoke.Load{Service: l.HTTP.Service, HTTP: request(l.HTTP.HTTP), Rate: float64(l.HTTP.Rate), Concurrency: l.HTTP.Concurrency}
	case l.Exec != nil:
		t.Load = smoke.Load{Service: l.Exec.Service, Exec: l.Exec.Command, Rate: float64(l.Exec.Rate)}
	}
	return t
}

// smokeWork is a prod-like run to do. Values come from the child's own
// environment: the parent passes what the model names.
type smokeWork struct {
	pipeline.SmokeRequest
	Target  release.Target   `json:"target"`
	Timeout time.Duration    `json:"timeout"`
	Checks  []smoke.Check    `json:"checks"`
	Memory  smoke.MemoryTest `json:"memory"`

	Registries map[string]registry.Host `json:"registries"`
}

func doSmoke(ctx context.Context, w smokeWork) (release.Smoke, error) {
	client, err := openRegistry(w.Registries)
	if err != nil {
		return release.Smoke{}, err
	}
	workload, err := compose.Resolve(w.Model, environment(os.Environ()), w.Images)
	if err != nil {
		return release.Smoke{}, err
	}
	host, err := engine.Open(ctx, w.Target, engine.Options{Keychain: client.Credentials})
	if err != nil {
		return release.Smoke{}, err
	}
	defer host.Close()
	images := map[string]release.PlatformImage{}
	info, err := host.Info(ctx)
	if err != nil {
		return release.Smoke{}, err
	}
	for name, subject := range w.Images {
		if images[name], err = client.Platform(ctx, subject, info.OS+"/"+info.Architecture); err != nil {
			return release.Smoke{}, err
		}
	}
	return smoke.Run(ctx, smoke.Options{
		Release: w.Release, Workload: workload, Engine: host, Runner: runner{host, images, w.Timeout},
		Configuration: map[string]release.Digest{"model/" + release.SmokeModel: release.DigestOf(w.Model)},
		Checks:        w.Checks, Memory: w.Memory, Timeout: w.Timeout,
	})
}

// runner runs smoke's workloads the way deployments are run.
type runner struct {
	engine  deploy.Engine
	images  map[string]release.PlatformImage
	timeout time.Duration
}

func (r runner) run(w release.Workload) deploy.Run {
	// Smoke's own limit must come first: a service that is not well in time has
	// failed, it is not out of reach.
	return deploy.Run{Target: "smoke", Workload: w, Images: r.images, Timeout: r.timeout + time.Minute}
}

func (r runner) Up(ctx context.Context, w release.Workload) error {
	return deploy.Up(ctx, r.engine, r.run(w))
}

func (r runner) Recreate(ctx context.Context, w release.Workload, service string) error {
	return deploy.Recreate(ctx, r.engine, r.run(w), service)
}

func (r runner) Down(ctx context.Context, project string) error {
	return deploy.Down(ctx, r.engine, project, true)
}
