package pipeline

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// counter reads how often it was asked, in a second each.
type counter struct{ asked, now, most atomic.Int64 }

func (c *counter) read(ctx context.Context) (int64, error) {
	n := c.asked.Add(1)
	c.most.Store(max(c.most.Load(), c.now.Add(1)))
	defer c.now.Add(-1)
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(time.Second):
		return n, nil
	}
}

// Who comes while a reading is under way does not get it: what changed since it
// began would be missing.
func TestWhoeverAsksGetsAReadingThatBeganAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shared[int64]
		var c counter
		var wait sync.WaitGroup
		var mu sync.Mutex
		var got []int64
		ask := func() {
			wait.Go(func() {
				n, err := s.get(t.Context(), c.read)
				mu.Lock()
				defer mu.Unlock()
				got = append(got, n)
				if err != nil {
					t.Error(err)
				}
			})
		}
		began := time.Now()
		ask()
		synctest.Wait()
		for range 50 { // they come too late for the first
			ask()
		}
		time.Sleep(1500 * time.Millisecond)
		for range 50 { // and these for the second
			ask()
		}
		wait.Wait()
		slices.Sort(got)
		if got[0] != 1 || got[1] != 2 || got[50] != 2 || got[51] != 3 || got[100] != 3 || c.asked.Load() != 3 || c.most.Load() != 1 {
			t.Errorf("%d readings, %d at once: %v", c.asked.Load(), c.most.Load(), got)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("it took %s", took)
		}
		if n, err := s.get(t.Context(), c.read); n != 4 || err != nil {
			t.Errorf("afterwards: %d, %v", n, err)
		}
	})
}

// Who leads a reading may have to end, before it began or in the middle; the
// others want to know all the same.
func TestALeaderThatEndsDoesNotSpeakForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shared[int64]
		var c counter
		var wait sync.WaitGroup
		first, endFirst := context.WithCancel(t.Context())
		second, endSecond := context.WithCancel(t.Context())
		for _, ctx := range []context.Context{first, second} {
			wait.Go(func() {
				if _, err := s.get(ctx, c.read); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		for range 5 {
			wait.Go(func() {
				if n, err := s.get(t.Context(), c.read); n < 2 || err != nil {
					t.Errorf("%d, %v", n, err)
				}
			})
		}
		synctest.Wait()
		endSecond()
		synctest.Wait()
		endFirst()
		wait.Wait()
		if c.asked.Load() > 3 || c.most.Load() != 1 {
			t.Errorf("%d readings, %d at once", c.asked.Load(), c.most.Load())
		}
	})
}

func TestAFailureIsEverybodys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shared[int]
		broken := errors.New("gone")
		var wait sync.WaitGroup
		for range 3 {
			wait.Go(func() {
				if _, err := s.get(t.Context(), func(context.Context) (int, error) { time.Sleep(time.Second); return 0, broken }); !errors.Is(err, broken) {
					t.Error(err)
				}
			})
		}
		wait.Wait()
	})
}

func TestMemoAsksOnceForEachKey(t *testing.T) {
	var calls atomic.Int64
	var m memo[string, string]
	for _, text := range []string{"a", "b", "a", "b", "b"} {
		value, err := m.get(text, func() (string, error) {
			calls.Add(1)
			return "of " + text, errors.New(text)
		})
		if value != "of "+text || err == nil || err.Error() != text {
			t.Errorf("%s: %q, %v", text, value, err)
		}
	}
	if calls.Load() != 2 {
		t.Errorf("%d calls", calls.Load())
	}
}
