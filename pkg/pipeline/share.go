package pipeline

import (
	"context"
	"sync"
)

// shared lets many ask for the same at once and reads it once: whoever asks gets
// the result of a reading that began after they asked. So nobody gets an older
// state than by reading themselves, and however many ask, they wait for two
// readings at most.
type shared[T any] struct {
	mu      sync.Mutex
	running *reading[T] // has its turn: too old for who comes now
	next    *reading[T] // of those who came meanwhile
}

// reading is one call of read.
type reading[T any] struct {
	done  chan struct{}
	value T
	err   error
	// givenUp: whoever led it had to end; it says nothing to the others.
	givenUp bool
}

// get reads, together with whoever else asks. All hand in the same read.
func (s *shared[T]) get(ctx context.Context, read func(context.Context) (T, error)) (T, error) {
	for {
		r, leads, before := s.join()
		if leads {
			s.lead(ctx, r, before, read)
			return r.value, r.err
		}
		select {
		case <-ctx.Done():
			var none T
			return none, ctx.Err()
		case <-r.done:
		}
		if !r.givenUp {
			return r.value, r.err
		}
	}
}

// join gives the reading to wait for, whether it is the caller's to lead, and
// the one that has to end before.
func (s *shared[T]) join() (r *reading[T], leads bool, before *reading[T]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.running == nil:
		s.running = &reading[T]{done: make(chan struct{})}
		return s.running, true, nil
	case s.next == nil:
		s.next = &reading[T]{done: make(chan struct{})}
		return s.next, true, s.running
	}
	return s.next, false, nil
}

// lead reads for all who wait for r, after the reading before it.
func (s *shared[T]) lead(ctx context.Context, r, before *reading[T], read func(context.Context) (T, error)) {
	defer s.end(r)
	if before != nil {
		select {
		case <-before.done:
		case <-ctx.Done():
			r.err, r.givenUp = ctx.Err(), true
			return
		}
	}
	r.value, r.err = read(ctx)
	r.givenUp = r.err != nil && ctx.Err() != nil
}

// end lets those go on who waited for r, and those whose turn comes after it.
func (s *shared[T]) end(r *reading[T]) {
	s.mu.Lock()
	if s.next == r { // it ended before its turn
		s.next = nil
	} else {
		s.running, s.next = s.next, nil
	}
	s.mu.Unlock()
	close(r.done)
}

// memo keeps what was found out about each key, an error too. Whoever asks while
// somebody finds it out waits for that.
type memo[K comparable, V any] struct {
	calls sync.Map // K → func() (V, error)
}

// get gives what is known about a key; find is asked once.
func (m *memo[K, V]) get(key K, find func() (V, error)) (V, error) {
	call, _ := m.calls.LoadOrStore(key, sync.OnceValues(find))
	return call.(func() (V, error))()
}

// beside lets f go on while the promotion does other things, and gives what
// waits for it. Closing the promotion interrupts it, and waits as well.
func beside[T any](ctx context.Context, r *promotion, f func(context.Context) (T, error)) (wait func() (T, error)) {
	ctx, cancel := context.WithCancel(ctx)
	r.cancels = append(r.cancels, cancel)
	done := make(chan struct{})
	var value T
	var err error
	r.asides.Go(func() {
		defer close(done)
		value, err = f(ctx)
	})
	return func() (T, error) { <-done; return value, err }
}
