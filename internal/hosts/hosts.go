// Package hosts joins the engine's client and what deploys to what the pipeline
// calls a host.
package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/promote-dev/promote/internal/seal"
	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/engine"
	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// Targets opens Docker hosts for the pipeline.
type Targets struct {
	Options engine.Options
	// Look looks at what a host runs; nil sees nothing.
	Look func(ctx context.Context, h *engine.Host, q pipeline.LookQuery) ([]release.WatchedService, []release.WatchedCheck, error)
	// Probe asks a container's own health check at once; nil leaves that to the
	// engine.
	Probe func(ctx context.Context, h *engine.Host, c release.Container) bool
}

var _ pipeline.Targets = Targets{}

// Open implements pipeline.Targets.
func (t Targets) Open(ctx context.Context, target release.Target) (pipeline.Host, error) {
	h, err := engine.Open(ctx, target, t.Options)
	if err != nil {
		return nil, err
	}
	return &host{Host: h, name: target.Name, look: t.Look, probe: t.Probe}, nil
}

// host is an engine that things are deployed to: the engine's own methods are
// the fence, pkg/deploy is the rest.
type host struct {
	*engine.Host
	name  string
	mu    sync.Mutex
	seals *seal.Sealer // nil until it is needed
	look  func(context.Context, *engine.Host, pipeline.LookQuery) ([]release.WatchedService, []release.WatchedCheck, error)
	probe func(context.Context, *engine.Host, release.Container) bool
	// passed is when health checks last passed that we asked.
	passed map[start]time.Time
}

var _ pipeline.Host = (*host)(nil)

func (h *host) job(d pipeline.Desired, guard pipeline.Guard) deploy.Job {
	j := deploy.Job{
		Target: h.name, Workload: d.Workload, Images: d.Images, Recorded: d.Recorded, Guard: guard,
		Options: deploy.Options{Redeploy: d.Redeploy, Adopt: d.Adopt, Recreate: d.Recreate, AcceptLoss: d.StateChanges, Snapshots: d.Snapshots.Volumes, Restore: d.Restore},
		Keeping: h.keeping(d),
		Attempt: deploy.Attempt{Sequence: d.Attempt.Sequence, Record: d.Attempt.Record},
		// The pipeline undoes all targets together.
		KeepOld: true, KeepBroken: true, Back: d.Back,
	}
	if h.probe != nil {
		j.Probe = h.ask
	}
	return j
}

// Observe is the engine's, with the health of what the engine has not asked yet.
func (h *host) Observe(ctx context.Context, project string) (release.Observed, error) {
	seen, err := h.Host.Observe(ctx, project)
	if err != nil || h.probe == nil {
		return seen, err
	}
	return deploy.Ask(ctx, seen, h.answers), nil
}

// lately is for how long a health check that passed need not be asked again.
const lately = 2 * time.Second

// answers reports whether a container's health check passes, or passed lately.
func (h *host) answers(ctx context.Context, c release.Container) bool {
	h.mu.Lock()
	last := h.passed[startOf(c)]
	h.mu.Unlock()
	return time.Since(last) < lately || h.ask(ctx, c)
}

func (h *host) ask(ctx context.Context, c release.Container) bool {
	ok := h.probe(ctx, h.Host, c)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.passed == nil {
		h.passed = map[start]time.Time{}
	}
	delete(h.passed, startOf(c))
	if ok {
		h.passed[startOf(c)] = time.Now()
	}
	return ok
}

// start is one start of a container.
type start struct {
	id string
	at int64 // nanoseconds since 1970, by the target's clock
}

func startOf(c release.Container) start { return start{c.ID, c.Started.UnixNano()} }

// Plan implements pipeline.Deployer.
func (h *host) Plan(ctx context.Context, d pipeline.Desired) (release.Plan, error) {
	seen, err := h.Observe(ctx, d.Workload.Project)
	if err != nil {
		return release.Plan{}, err
	}
	if len(d.Snapshots.Volumes) > 0 {
		if _, err := h.sealer(d.Snapshots.Recipient); err != nil {
			return release.Plan{}, err
		}
	}
	missing, err := deploy.MissingImages(ctx, h.Host, d.Workload)
	if err != nil {
		return release.Plan{}, err
	}
	empty, unseen := deploy.EmptyVolumes(ctx, h.Host, seen, d.Recorded)
	for _, volume := range unseen {
		event.Warnf(ctx, "nobody could look into the volume %s on %s: whether it holds anything is not known", volume, h.name)
	}
	return deploy.Plan(h.name, d.Workload, d.Images, seen, d.Recorded, deploy.Options{
		Redeploy: d.Redeploy, Adopt: d.Adopt, Recreate: d.Recreate, AcceptLoss: d.StateChanges, Empty: empty, AcceptedEmpty: d.KnownChanges, Missing: missing, Snapshots: d.Snapshots.Volumes, Restore: d.Restore, Attempt: deploy.Attempt{Sequence: d.Attempt.Sequence, Record: d.Attempt.Record},
	}), nil
}

// sealer is what encrypts this host's snapshots, the same as long as it is open:
// what it sealed it can open again.
func (h *host) sealer(recipient string) (*seal.Sealer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seals != nil {
		return h.seals, nil
	}
	s, err := seal.New(recipient)
	if err == nil {
		h.seals = s
	}
	return s, err
}

func (h *host) keeping(d pipeline.Desired) deploy.Keeping {
	return deploy.Keeping{
		Keep: d.Snapshots.Keep, Needed: d.Needed, Release: d.Before,
		Seal: func(w io.Writer) (io.WriteCloser, error) {
			s, err := h.sealer(d.Snapshots.Recipient)
			if err != nil {
				return nil, err
			}
			return s.Seal(w)
		},
		Open: func(r io.Reader) (io.Reader, error) {
			h.mu.Lock()
			s := h.seals
			h.mu.Unlock()
			return s.Open(r, d.Identity)
		},
	}
}

// Snapshots implements pipeline.Deployer.
func (h *host) Snapshots(ctx context.Context, project string) ([]release.Snapshot, error) {
	seen, err := h.Observe(ctx, project)
	return deploy.Snapshots(project, seen), err
}

// CheckSnapshot implements pipeline.Deployer.
func (h *host) CheckSnapshot(ctx context.Context, d pipeline.Desired, s release.Snapshot) error {
	return deploy.CheckSnapshot(ctx, h.Host, d.Workload.Project, s, h.keeping(d).Open)
}

// Sweep implements pipeline.Deployer.
func (h *host) Sweep(ctx context.Context, project string) error {
	return deploy.Sweep(ctx, h.Host, project)
}

// Drift implements pipeline.Deployer.
func (h *host) Drift(ctx context.Context, q pipeline.DriftQuery) (pipeline.DriftReport, error) {
	seen, err := h.Observe(ctx, q.Project)
	if err != nil {
		return pipeline.DriftReport{}, err
	}
	others, err := h.Outsiders(ctx, q.Project)
	if err != nil {
		return pipeline.DriftReport{}, err
	}
	r := deploy.Drift(deploy.Query{
		Project: q.Project, Images: q.Images, Subjects: q.Subjects, Built: q.Built, Recorded: q.Recorded, Workload: q.Workload, Key: q.Key,
	}, seen, others)
	return pipeline.DriftReport{Differences: r.Differences, Texts: r.Texts, Untold: r.Untold, Unknown: r.Unknown}, nil
}

// Look implements pipeline.Looker.
func (h *host) Look(ctx context.Context, q pipeline.LookQuery) ([]release.WatchedService, []release.WatchedCheck, error) {
	if h.look == nil {
		return nil, nil, fmt.Errorf("looking at %s: %w", h.name, errors.ErrUnsupported)
	}
	return h.look(ctx, h.Host, q)
}

// Fetch implements pipeline.Deployer.
func (h *host) Fetch(ctx context.Context, d pipeline.Desired, guard pipeline.Guard) error {
	return deploy.Fetch(ctx, h.Host, h.job(d, guard))
}

// Hold implements pipeline.Deployer.
func (h *host) Hold(ctx context.Context, d pipeline.Desired, length time.Duration) error {
	return deploy.Hold(ctx, h, h.job(d, nil), length)
}

// Uptime implements pipeline.Deployer.
func (h *host) Uptime(ctx context.Context, d pipeline.Desired) (time.Duration, error) {
	seen, err := h.Observe(ctx, d.Workload.Project)
	if err != nil {
		return 0, err
	}
	info, err := h.Info(ctx)
	since := deploy.RunningSince(d.Workload, seen)
	if err != nil || since.IsZero() || info.Time.IsZero() {
		return 0, err
	}
	return max(0, info.Time.Sub(since)), nil
}

// Apply implements pipeline.Deployer. Finish also takes up what an interrupted
// Apply of the same attempt left.
func (h *host) Apply(ctx context.Context, d pipeline.Desired, guard pipeline.Guard) error {
	return deploy.Finish(ctx, h.Host, h.job(d, guard))
}

// Commit implements pipeline.Deployer.
func (h *host) Commit(ctx context.Context, d pipeline.Desired, guard pipeline.Guard) error {
	return deploy.Clean(ctx, h.Host, h.job(d, guard))
}

// Prune implements pipeline.Deployer.
func (h *host) Prune(ctx context.Context, registry string, images []release.Digest, guard pipeline.Guard) ([]string, error) {
	return h.RemoveUnused(ctx, registry+"/", images, guard)
}

// Undo implements pipeline.Deployer.
func (h *host) Undo(ctx context.Context, d pipeline.Desired, guard pipeline.Guard) error {
	err := deploy.Undo(ctx, h.Host, h.job(d, guard))
	if errors.Is(err, deploy.ErrCommitted) {
		return fmt.Errorf("%w: %w", pipeline.ErrCommitted, err)
	}
	return err
}

// ReadBack implements pipeline.Deployer.
func (h *host) ReadBack(ctx context.Context, d pipeline.Desired) ([]release.Running, []release.Reason, error) {
	seen, err := h.Observe(ctx, d.Workload.Project)
	if err != nil {
		return nil, nil, err
	}
	job, before := h.job(d, nil), d.Recorded
	if d.Adopt {
		before = nil // what is there counts, not what was
	}
	running, differences := deploy.ReadBack(d.Workload, d.Images, job.Attempt.Hide(seen), before, d.StateChanges)
	return running, h.reasons(differences), nil
}

// Running implements pipeline.Deployer.
func (h *host) Running(ctx context.Context, project string, images map[string]release.PlatformImage) ([]release.Running, []release.Reason, error) {
	seen, err := h.Observe(ctx, project)
	if err != nil {
		return nil, nil, err
	}
	running, differences := deploy.Running(project, images, seen)
	return running, h.reasons(differences), nil
}

func (h *host) reasons(list []deploy.Difference) []release.Reason {
	var reasons []release.Reason
	for _, d := range list {
		reasons = append(reasons, release.Reason{
			Rule:    "drift/" + d.Field,
			Message: fmt.Sprintf("%s: %s: %s is %q, recorded %q", h.name, d.Service, d.Field, d.Running, d.Recorded),
			Fix:     "find out who changed it, then deploy the recorded release again with --redeploy",
		})
	}
	return reasons
}
