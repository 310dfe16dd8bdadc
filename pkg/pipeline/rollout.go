package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// Rollout is the order in which the targets of an environment are changed.
type Rollout struct {
	// Batches come one after the other; the targets of one are changed at once.
	Batches []Batch `json:"batches"`
	// OnFailure is "rollback" or "stop".
	OnFailure string `json:"onFailure"`
	// Gone are targets of the last record that promote.yaml does not name any
	// more. Nothing is done to them.
	Gone []release.TargetStatus `json:"gone"`
}

// Batch is targets that are changed at once.
type Batch struct {
	Targets []string `json:"targets"`
	// Canary: all canaries are changed before any other target.
	Canary bool `json:"canary,omitempty"`
	// Pause is for how many seconds the canaries are watched after this batch.
	Pause float64 `json:"pause,omitempty"`
}

// batch is a Batch with its hosts.
type batch struct {
	hosts  []*host
	canary bool
	pause  time.Duration
}

// batches puts the targets in order: canaries, then the others, some at once.
// Going back is urgent, and to what ran here before: it does not pause.
func (r *promotion) batches() []batch {
	s := r.env.Strategy
	canaries := min(max(s.Canary, 0), len(r.hosts))
	var list []batch
	for hosts := range slices.Chunk(r.hosts[:canaries], r.atOnce()) {
		list = append(list, batch{hosts: hosts, canary: true})
	}
	if canaries > 0 && canaries < len(r.hosts) && r.kind != release.KindRollback {
		list[len(list)-1].pause = s.Pause
	}
	for hosts := range slices.Chunk(r.hosts[canaries:], r.atOnce()) {
		list = append(list, batch{hosts: hosts})
	}
	return list
}

// atOnce is how many targets are changed at the same time.
func (r *promotion) atOnce() int { return max(1, r.env.Strategy.Parallel) }

// rollout is the order, for people.
func (r *promotion) rollout() *Rollout {
	out := &Rollout{Batches: []Batch{}, OnFailure: r.env.OnFailure, Gone: r.gone()}
	for _, b := range r.batches() {
		out.Batches = append(out.Batches, Batch{Targets: names(b.hosts), Canary: b.canary, Pause: b.pause.Seconds()})
	}
	return out
}

// gone are the recorded targets that the configuration does not have any more.
func (r *promotion) gone() []release.TargetStatus {
	list := []release.TargetStatus{}
	if r.current == nil {
		return list
	}
	for _, t := range r.current.Record.Targets {
		if !slices.ContainsFunc(r.env.Targets, func(have release.Target) bool { return have.Name == t.Name }) {
			list = append(list, t)
		}
	}
	return list
}

// warnOfGone says that nobody looks after what a removed target runs.
func (r *promotion) warnOfGone(ctx context.Context) {
	for _, t := range r.gone() {
		event.Warnf(ctx, "%s is not a target of %s any more; what runs there stays, and nobody looks after it: take it down by hand", t.Name, r.env.Name)
	}
}

func names(hosts []*host) []string {
	var list []string
	for _, h := range hosts {
		list = append(list, h.target.Name)
	}
	return list
}

// together runs f for hosts, at most so many at once, each to its own end: what
// goes wrong on one does not interrupt another. Errors name their targets; one
// that says that the promotion is not ours any more comes first.
func together(ctx context.Context, hosts []*host, most int, f func(context.Context, *host) error) error {
	errs := make([]error, len(hosts))
	var group errgroup.Group
	group.SetLimit(max(1, most))
	for i, h := range hosts {
		group.Go(func() error {
			if err := f(ctx, h); err != nil {
				errs[i] = fmt.Errorf("%s: %w", h.target.Name, err)
			}
			return nil
		})
	}
	_ = group.Wait() // they stand in errs
	slices.SortStableFunc(errs, func(a, b error) int { return order(a) - order(b) })
	return errors.Join(errs...)
}

func order(err error) int {
	if release.KindOf(err) == release.KindHeld {
		return 0
	}
	return 1
}

// lockAll makes every target's lock object.
func (r *promotion) lockAll(ctx context.Context) error {
	return together(ctx, r.hosts, len(r.hosts), func(ctx context.Context, h *host) error {
		err := r.lock(ctx, h)
		if err != nil && ctx.Err() == nil {
			h.status.Status, h.status.Message = "failed", oneLine(err)
		}
		return err
	})
}

// MostFetches is how many targets pull from the registry at once. Pulling takes
// as long as the way to the registry lets it; what waits for its turn here only
// comes on top.
const MostFetches = 64

// fetchImages brings the images to every target before the first one is
// changed: a host that cannot have them stops the promotion while it costs
// nothing.
func (r *promotion) fetchImages(ctx context.Context) error {
	return together(ctx, r.hosts, MostFetches, func(ctx context.Context, h *host) error {
		err := h.Fetch(ctx, r.desired(h), r.guard(h))
		if err != nil && ctx.Err() == nil {
			h.status.Status, h.status.Message = "failed", oneLine(err)
		}
		return err
	})
}

// rollOut changes one batch of targets after the other and reads each target
// back before the next batch is touched. After a failure no further target
// begins; those that are at it come to their own end. What Apply replaced
// stays, stopped, until all are done.
func (r *promotion) rollOut(ctx context.Context) error {
	if err := r.hook(ctx, PreDeploy, r.intent); err != nil {
		return err
	}
	var canaries []*host
	for _, b := range r.batches() {
		if b.canary {
			canaries = append(canaries, b.hosts...)
			r.lookBack(ctx, b.hosts)
		}
		if err := r.change(ctx, b.hosts); err != nil {
			return err
		}
		if b.pause > 0 {
			if err := r.hold(ctx, canaries, b.pause); err != nil {
				return err
			}
		}
	}
	return together(ctx, r.hosts, r.atOnce(), func(ctx context.Context, h *host) error {
		return h.Commit(ctx, r.desired(h), r.guard(h))
	})
}

// change deploys to the targets of a batch.
func (r *promotion) change(ctx context.Context, hosts []*host) error {
	var failed atomic.Bool
	return together(ctx, hosts, len(hosts), func(ctx context.Context, h *host) error {
		if failed.Load() {
			return nil // it stays skipped
		}
		err := r.rollOutTo(ctx, h)
		if err != nil {
			failed.Store(true)
		}
		return err
	})
}

func (r *promotion) rollOutTo(ctx context.Context, h *host) (err error) {
	step := event.Start(ctx, "[deploy] %s %s", r.env.Name, h.target.Name)
	defer func() { step.Done(err) }()
	if err := r.guard(h)(ctx); err != nil {
		return err
	}
	if err := h.Apply(ctx, r.desired(h), r.touching(h)); err != nil {
		h.touched = h.touched || release.KindOf(err) == release.KindBroken
		return h.failed(ctx, err)
	}
	h.touched = true
	if err := r.readBack(ctx, h); err != nil {
		return h.failed(ctx, err)
	}
	if err := r.noteSnapshots(ctx, h); err != nil {
		return h.failed(ctx, err)
	}
	h.status.Status, h.status.Message = "deployed", ""
	return nil
}

// touching is the guard that remembers that an effect followed.
func (r *promotion) touching(h *host) Guard {
	guard := r.guard(h)
	return func(ctx context.Context) error {
		err := guard(ctx)
		h.touched = h.touched || err == nil
		return err
	}
}

// failed notes what went wrong on a target.
func (h *host) failed(ctx context.Context, err error) error {
	h.status.Status, h.status.Message = "failed", oneLine(err)
	if ctx.Err() != nil {
		h.status.Message = "interrupted in the middle"
	}
	return err
}

// readBack compares what a target runs with what was promoted.
func (r *promotion) readBack(ctx context.Context, h *host) error {
	running, reasons, err := h.ReadBack(ctx, r.desired(h))
	if err != nil {
		return err
	}
	h.status.Running = running
	if len(reasons) > 0 {
		return denial("what runs is not what was promoted", reasons)
	}
	return nil
}

// lookBack notes for how long canaries have run the release already: those of a
// promotion that was interrupted, or of one that only adds targets. A look that
// fails counts as no time.
func (r *promotion) lookBack(ctx context.Context, canaries []*host) {
	if r.env.Strategy.Pause <= 0 || r.options.Redeploy {
		return
	}
	_ = together(ctx, canaries, len(canaries), func(ctx context.Context, h *host) error {
		_, reasons, err := h.ReadBack(ctx, r.desired(h))
		if err != nil || len(reasons) > 0 {
			return err
		}
		h.ran, err = h.Uptime(ctx, r.desired(h))
		return err
	})
}

// hold watches the canaries through the pause, and reads them back after it. The
// checks that can be asked of what runs are asked at its beginning and its end.
// Time that all of them ran the release before counts, so that a resume does
// not begin the pause again; a restart does, as it begins that time again.
func (r *promotion) hold(ctx context.Context, canaries []*host, pause time.Duration) (err error) {
	left := pause
	for i, h := range canaries {
		if past := max(0, pause-h.ran); i == 0 || past > left {
			left = past
		}
	}
	step := event.Start(ctx, "[pause] %s: %s alone for %s", r.env.Name, strings.Join(names(canaries), ", "), left.Round(time.Second))
	defer func() { step.Done(err) }()
	if left < pause {
		step.Logf("running for %s already", (pause - left).Round(time.Second))
	}
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	return together(watch, canaries, len(canaries), func(ctx context.Context, h *host) error {
		err := r.ask(ctx, h)
		if err == nil {
			err = h.Hold(ctx, r.desired(h), left)
		}
		if err == nil {
			err = r.readBack(ctx, h)
		}
		if err == nil && left > 0 {
			err = r.ask(ctx, h)
		}
		if err == nil {
			return nil
		}
		if watch.Err() == nil || release.KindOf(err) != release.KindInterrupted {
			_ = h.failed(watch, err)
		}
		cancel() // the others need not be watched any longer
		return err
	})
}
