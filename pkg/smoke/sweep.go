package smoke

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// sweepTime bounds looking for leftovers before a run.
const sweepTime = 20 * time.Second

// Leftovers gives the projects of smoke runs that are over and were not taken
// down, because their process was killed. What belongs to a run whose process
// lives, on this machine or on another one within its time, is not among them.
// Older runs that do not say whose they are, are none unless unowned is set.
func Leftovers(ctx context.Context, s Sweeper, unowned bool) ([]string, error) {
	owners, err := s.Owned(ctx, release.LabelSmoke)
	if err != nil || len(owners) == 0 {
		return nil, err
	}
	info, err := s.Info(ctx)
	if err != nil {
		return nil, err
	}
	now := info.Time
	if now.IsZero() {
		now = time.Now()
	}
	here := thisMachine()
	var left []string
	for _, project := range slices.Sorted(maps.Keys(owners)) {
		if !strings.Contains(project, projectInfix) {
			continue // a label alone takes nothing down that is not named like a run of ours
		}
		over, err := here.stale(owners[project], now)
		if over || err != nil && unowned {
			left = append(left, project)
		}
	}
	return left, nil
}

// Sweep removes what earlier runs left behind, see Leftovers, and gives their
// projects. It is bounded, and goes on after a failure.
func Sweep(ctx context.Context, s Sweeper) (removed []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	left, err := Leftovers(ctx, s, false)
	if err != nil || len(left) == 0 {
		return nil, err
	}
	step := event.Start(ctx, "[smoke] remove what %d interrupted runs left behind", len(left))
	defer func() { step.Done(err) }()
	var errs []error
	for _, project := range left {
		if err := s.Down(ctx, project); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, project)
	}
	return removed, errors.Join(errs...)
}
