package ledger

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

func beating(t *testing.T) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), Options{
		Dir: t.TempDir(), Origin: "promote/test",
		Verify: func([]byte, string) ([]byte, release.Signer, error) {
			return nil, release.Signer{}, errors.New("not asked")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestALeaseEndsOnTheChallengersClock drives the clock by hand.
func TestALeaseEndsOnTheChallengersClock(t *testing.T) {
	l := beating(t)
	var now time.Duration
	l.tick = func() time.Duration { return now }
	beat := func() {
		t.Helper()
		if err := l.Heartbeat(t.Context(), 4); err != nil {
			t.Fatal(err)
		}
	}
	beat()
	now = time.Hour // the holder may have been silent for long: only what is seen counts
	w := l.Watch(4, 10*time.Second)
	look := func(want bool) {
		t.Helper()
		over, err := w.Over(t.Context())
		if err != nil || over != want {
			t.Fatalf("at %s over is %v, %v; want %v", now, over, err, want)
		}
	}
	look(false)
	now += 9 * time.Second
	look(false)
	beat()
	now += 9 * time.Second
	look(false)
	now += 9 * time.Second
	look(false)
	now += time.Second
	look(true)
	if err := l.Heartbeat(t.Context(), 5); err != nil { // another intent's
		t.Fatal(err)
	}
	look(true)
	beat() // it was only slow
	look(false)
	if err := l.Rest(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	if count, err := l.store.Beats(t.Context(), 4); err != nil || count != 0 {
		t.Fatalf("counter of a closed intent is %d, %v", count, err)
	}
}

func TestStale(t *testing.T) {
	l := beating(t)
	const lease = 60 * time.Millisecond
	begin := time.Now()
	over, err := l.Stale(t.Context(), 1, lease) // nobody ever beat
	if took := time.Since(begin); err != nil || !over || took < lease {
		t.Errorf("a dead holder: %v, %v after %s", over, err, took)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				_ = l.Heartbeat(context.Background(), 1)
			}
		}
	}()
	if over, err := l.Stale(t.Context(), 1, 5*time.Second); err != nil || over {
		t.Errorf("a living holder: %v, %v", over, err)
	}
	close(stop)
	<-stopped
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	begin = time.Now()
	if _, err := l.Stale(ctx, 1, time.Hour); err == nil || time.Since(begin) > time.Second {
		t.Errorf("a cancelled wait: %v after %s", err, time.Since(begin))
	}
	if _, err := l.Stale(t.Context(), 1, 0); err == nil {
		t.Error("a lease of nothing was accepted")
	}
}
