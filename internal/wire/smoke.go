package wire

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/promote-dev/promote/internal/worker"
	"github.com/promote-dev/promote/pkg/compose"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/engine"
	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/smoke"
)

// smokeGrace is what a run gets to take everything down when it is interrupted:
// more than it takes for that.
const smokeGrace = 90 * time.Second

func (s smoker) Smoke(ctx context.Context, r pipeline.SmokeRequest) (result release.Smoke, err error) {
	r.Dir = s.c.Dir()
	work := smokeWork{SmokeRequest: r, Timeout: s.c.Smoke.Timeout, Checks: smokeChecks(s.c.Smoke.Checks), Memory: memoryTest(s.c.Smoke.Memory),
		Stop: stopTest(s.c.Smoke.Stop), State: s.c.Smoke.State, DenyEgress: s.c.Smoke.Egress == "deny", Accept: accepted(s.c.Smoke.Parity.Accept),
		Registries: registryHosts(s.c.RegistrySettings())}
	err = worker.Parent{Environ: os.Environ(), Pass: r.Variables, Grace: smokeGrace}.Call(ctx, workSmoke, work, &result)
	return result, err
}

func smokeChecks(list []config.Check) []smoke.Check {
	var checks []smoke.Check
	for _, c := range list {
		check := smoke.Check{Name: c.Name, Service: c.Service, Exec: c.Exec, TCP: c.TCP, Log: c.Log, LogNot: c.LogNot, Script: c.Script,
			Contains: c.Contains, Survives: c.Survives, Timeout: c.Timeout, Watch: c.Watch}
		if h := c.HTTP; h != nil {
			check.HTTP = request(h.HTTP)
			check.HTTP.Within = h.Within
			for path, value := range h.JSON {
				if check.HTTP.JSON == nil {
					check.HTTP.JSON = map[string]string{}
				}
				check.HTTP.JSON[path] = string(value)
			}
		}
		if w := c.Write; w != nil {
			check.Write = &smoke.Ask{Exec: w.Exec, Script: w.Script}
			if w.HTTP != nil {
				check.Write.HTTP = request(*w.HTTP)
			}
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
	case l.Script != nil:
		t.Load = smoke.Load{Script: l.Script.Command, Rate: float64(l.Script.Rate)}
	}
	return t
}

func stopTest(s *config.StopTest) smoke.StopTest {
	if s == nil || s.HTTP == nil {
		return smoke.StopTest{}
	}
	return smoke.StopTest{Ask: smoke.Ask{HTTP: request(s.HTTP.HTTP)}, Service: s.HTTP.Service, Requests: s.Requests, Resumed: s.Resumed}
}

func accepted(list []config.AcceptedDifference) []smoke.Accepted {
	var out []smoke.Accepted
	for _, a := range list {
		out = append(out, smoke.Accepted{Environment: a.Environment, Service: a.Service, Field: a.Field, Statement: a.Statement})
	}
	return out
}

// smokeWork is a prod-like run to do. Values come from the child's own
// environment: the parent passes what the model names.
type smokeWork struct {
	pipeline.SmokeRequest
	Target  release.Target   `json:"target"`
	Timeout time.Duration    `json:"timeout"`
	Checks  []smoke.Check    `json:"checks"`
	Memory  smoke.MemoryTest `json:"memory"`

	Stop       smoke.StopTest   `json:"stop"`
	State      string           `json:"state"`
	DenyEgress bool             `json:"denyEgress"`
	Accept     []smoke.Accepted `json:"accept"`

	Registries map[string]registry.Host `json:"registries"`
}

func doSmoke(ctx context.Context, w smokeWork) (release.Smoke, error) {
	client, err := openRegistry(w.Registries)
	if err != nil {
		return release.Smoke{}, err
	}
	host, err := engine.Open(ctx, w.Target, engine.Options{Keychain: client.Credentials})
	if err != nil {
		return release.Smoke{}, err
	}
	defer host.Close()
	if w.DenyEgress && !host.Local() {
		return release.Smoke{}, release.Faultf(release.KindConfig, "set smoke.egress to allow, or DOCKER_HOST to an engine of this machine",
			"smoke.egress: deny takes an engine of this machine: services without a way out cannot be reached on %s", host.Name())
	}
	workload, err := w.workload(ctx, host)
	if err != nil {
		return release.Smoke{}, err
	}
	images := map[string]release.PlatformImage{}
	info, err := host.Info(ctx)
	if err != nil {
		return release.Smoke{}, err
	}
	users := map[string]string{}
	for name, subject := range w.Images {
		if images[name], err = client.Platform(ctx, subject, info.OS+"/"+info.Architecture); err != nil {
			return release.Smoke{}, err
		}
		users[name] = images[name].User
	}
	o := smoke.Options{
		Release: w.Release, Workload: workload, Engine: host, Runner: runner{host, images, w.Timeout},
		Configuration: map[string]release.Digest{"model/" + release.SmokeModel: release.DigestOf(w.Model)},
		Checks:        w.Checks, Memory: w.Memory, Timeout: w.Timeout, Stop: w.Stop, State: w.State, DenyEgress: w.DenyEgress,
		Accept: w.Accept, Dir: w.Dir, Environ: os.Environ(), ImageUsers: users,
	}
	if err := w.compare(&o); err != nil {
		return release.Smoke{}, err
	}
	o.Owner = smoke.Owner(o, cmp.Or(info.Time, time.Now()))
	if _, err := smoke.Sweep(ctx, sweeper{host}); err != nil && ctx.Err() == nil {
		event.Warnf(ctx, "what an interrupted run left behind could not be removed, promote clean tries again: %v", err)
	}
	return smoke.Run(ctx, o)
}

// workload resolves the smoke model with the release's images, or with the
// engine's own.
func (w smokeWork) workload(ctx context.Context, host *engine.Host) (release.Workload, error) {
	if len(w.Local) == 0 {
		return compose.Resolve(w.Model, environment(os.Environ()), w.Images)
	}
	local := map[string]release.Subject{}
	for service, name := range w.Local {
		id, err := host.LocalImage(ctx, name)
		if err != nil {
			return release.Workload{}, fmt.Errorf("service %s: %w", service, err)
		}
		// A model names repositories, even where none is asked.
		local[service] = release.Subject{Repository: "local.invalid/" + service, Digest: id}
	}
	resolved, err := compose.Resolve(w.Model, environment(os.Environ()), local)
	for i := range resolved.Services {
		resolved.Services[i].Image.Repository = ""
	}
	return resolved, err
}

// sweeper takes down projects the way that runs do.
type sweeper struct{ *engine.Host }

func (s sweeper) Down(ctx context.Context, project string) error {
	return deploy.Down(ctx, s.Host, project, true)
}

// compare tells a run how the models of later environments differ from the one
// that it tests, and the evidence which models those were.
func (w smokeWork) compare(o *smoke.Options) error {
	for env, model := range w.Environments {
		found, err := compose.Parity(env, w.Model, model)
		if err != nil {
			return fmt.Errorf("the model of %s: %w", env, err)
		}
		o.Environments = append(o.Environments, env)
		o.Parity = append(o.Parity, found...)
		o.Configuration["model/"+env] = release.DigestOf(model)
	}
	return nil
}

// runner runs smoke's workloads the way deployments are run.
type runner struct {
	engine  *engine.Host
	images  map[string]release.PlatformImage
	timeout time.Duration
}

func (r runner) run(w release.Workload) deploy.Run {
	// Smoke's own limit must come first: a service that is not well in time has
	// failed, it is not out of reach.
	return deploy.Run{Target: "smoke", Workload: w, Images: r.images, Timeout: r.timeout + time.Minute, Probe: r.probe}
}

// askHealth asks a service's own health check, now.
func askHealth(ctx context.Context, h *engine.Host, c release.Container) bool {
	return smoke.Probe(ctx, h, c)
}

func (r runner) probe(ctx context.Context, c release.Container) bool {
	return askHealth(ctx, r.engine, c)
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
