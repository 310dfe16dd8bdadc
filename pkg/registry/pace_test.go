package registry

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
)

// together runs n transfers that all wait for each other, as far as the pace
// lets them, and gives how many ran at once.
func together(t *testing.T, p *pace, n int, f func(context.Context) error) int64 {
	t.Helper()
	var active, most atomic.Int64
	g, ctx := errgroup.WithContext(t.Context())
	for range n {
		g.Go(func() error {
			return p.run(ctx, func(ctx context.Context) error {
				now := active.Add(1)
				defer active.Add(-1)
				for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
				}
				return f(ctx)
			})
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return most.Load()
}

func well(context.Context) error { return nil }

func TestPaceGrows(t *testing.T) {
	p := newPace(4, 10)
	together(t, p, 3, well)
	if p.limit != 7 {
		t.Errorf("after 3 that went well it is %d, want 7", p.limit)
	}
	if got := together(t, p, 100, well); p.limit != 10 || got > 10 {
		t.Errorf("it grew to %d and ran %d at once, want at most 10", p.limit, got)
	}
	if newPace(16, 3).limit != 3 {
		t.Error("it begins above its most")
	}
}

func TestPaceHeedsComplaints(t *testing.T) {
	p := newPace(8, 8)
	release := make(chan struct{})
	g, ctx := errgroup.WithContext(t.Context())
	for range 8 {
		g.Go(func() error {
			return p.run(ctx, func(ctx context.Context) error {
				<-release
				complain(ctx) // all at the same time, about the same thing
				return nil
			})
		})
	}
	for p.count() < 8 {
	}
	close(release)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if p.limit < 4 || p.limit > 5 {
		t.Errorf("8 complaints at once leave %d, want half of 8", p.limit)
	}
	for range 10 {
		together(t, p, 1, func(ctx context.Context) error { complain(ctx); return nil })
	}
	if p.limit < 1 || p.limit > 2 {
		t.Errorf("a registry that keeps complaining leaves %d, want 1", p.limit)
	}
	before := p.limit
	together(t, p, 1, well)
	together(t, p, 1, well)
	if p.limit > before+2 {
		t.Errorf("it grew from %d to %d after two", before, p.limit)
	}
	complain(t.Context()) // no pace: nothing happens
}

func (p *pace) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.active
}

func TestPaceEnds(t *testing.T) {
	p := newPace(1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	inside := make(chan struct{})
	g := errgroup.Group{}
	g.Go(func() error {
		return p.run(t.Context(), func(context.Context) error { close(inside); <-ctx.Done(); return nil })
	})
	<-inside
	g.Go(func() error {
		if err := p.run(ctx, well); !errors.Is(err, context.Canceled) {
			return errors.New("a transfer that waits for its turn does not end with its context")
		}
		return nil
	})
	cancel()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if p.count() != 0 {
		t.Errorf("%d are still counted", p.count())
	}
}
