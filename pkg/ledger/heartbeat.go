package ledger

import (
	"context"
	"fmt"
	"time"
)

// Heartbeat moves the counter of an open intended record, named by its
// sequence, by one: its holder is alive. Counters lie beside the log and prove
// nothing; they only keep a challenger waiting.
func (l *Ledger) Heartbeat(ctx context.Context, intent int64) error {
	count, err := l.store.Beats(ctx, intent)
	if err != nil {
		return err
	}
	return l.store.Beat(ctx, intent, count+1)
}

// Rest removes the counter of an intent that was closed.
func (l *Ledger) Rest(ctx context.Context, intent int64) error {
	return l.store.Beat(ctx, intent, 0)
}

// Watch observes whether the holder of an intent is alive. It belongs to one
// goroutine.
type Watch struct {
	l      *Ledger
	intent int64
	lease  time.Duration
	count  int64
	moved  time.Duration // when the counter was last seen to move
	looked bool
}

// Watch begins to observe the holder of an intent whose record gives it that
// lease.
func (l *Ledger) Watch(intent int64, lease time.Duration) *Watch {
	return &Watch{l: l, intent: intent, lease: lease}
}

// Over looks once and reports whether the lease is over: the counter has not
// moved for a whole lease on this process's monotonic clock, counted from the
// first look. No clock of the holder and no wall clock takes part.
func (w *Watch) Over(ctx context.Context) (bool, error) {
	count, err := w.l.store.Beats(ctx, w.intent)
	if err != nil {
		return false, err
	}
	now := w.l.tick()
	if !w.looked || count != w.count {
		w.looked, w.count, w.moved = true, count, now
		return false, nil
	}
	return now-w.moved >= w.lease, nil
}

// Alive reports whether the counter has moved since the first look.
func (w *Watch) alive(first int64) bool { return w.looked && w.count != first }

// Stale waits until it is known whether the holder of an intent is gone: false
// as soon as its counter moves, true when it has not moved for one lease. It
// takes at most about one lease.
func (l *Ledger) Stale(ctx context.Context, intent int64, lease time.Duration) (bool, error) {
	if lease <= 0 {
		return false, fmt.Errorf("observing the holder of record %d: lease %s", intent, lease)
	}
	w := l.Watch(intent, lease)
	if _, err := w.Over(ctx); err != nil {
		return false, err
	}
	first := w.count
	timer := time.NewTicker(min(max(lease/20, time.Millisecond), time.Second))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("observing the holder of record %d: %w", intent, ctx.Err())
		case <-timer.C:
		}
		over, err := w.Over(ctx)
		if err != nil || over {
			return over, err
		}
		if w.alive(first) {
			return false, nil
		}
	}
}
