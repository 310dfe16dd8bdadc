package registry

import (
	"context"
	"sync"

	"github.com/promote-dev/promote/pkg/release"
)

// flights lets those who ask the same at the same time share one answer. What
// was answered is not kept: whoever asks later asks again.
type flights[T any] struct {
	mu  sync.Mutex
	all map[release.Subject]*flight[T]
}

type flight[T any] struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiting int
	result  T
	err     error
}

// do asks once for everybody who waits for s. A caller who leaves takes nobody
// along; when the last one has left, the asking ends.
func (f *flights[T]) do(ctx context.Context, s release.Subject, ask func(context.Context) (T, error)) (answer T, err error) {
	f.mu.Lock()
	one, ok := f.all[s]
	if !ok {
		if f.all == nil {
			f.all = map[release.Subject]*flight[T]{}
		}
		shared, cancel := context.WithCancel(context.WithoutCancel(ctx))
		one = &flight[T]{done: make(chan struct{}), cancel: cancel}
		f.all[s] = one
		go func() {
			result, err := ask(shared)
			f.mu.Lock()
			f.forget(s, one)
			one.result, one.err = result, err
			f.mu.Unlock()
			close(one.done)
			cancel()
		}()
	}
	one.waiting++
	f.mu.Unlock()
	select {
	case <-one.done:
		return one.result, one.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if one.waiting--; one.waiting == 0 {
		f.forget(s, one) // nobody may join what is being given up
		one.cancel()
	}
	return answer, ctx.Err()
}

// forget takes a flight off the list, unless another has its place.
func (f *flights[T]) forget(s release.Subject, one *flight[T]) {
	if f.all[s] == one {
		delete(f.all, s)
	}
}

// contents keeps what is attached, verified, by repository and digest: it
// cannot change, while the list of what is attached can, and is never kept.
type contents struct {
	mu    sync.Mutex
	all   map[release.Subject][]byte
	order []release.Subject
	bytes int
}

const contentBytes = 32 * mib

func (c *contents) get(s release.Subject) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.all[s]
	return b, ok
}

func (c *contents) put(s release.Subject, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[release.Subject][]byte{}
	}
	if _, ok := c.all[s]; ok || len(b) > contentBytes/4 {
		return
	}
	c.all[s] = b
	c.order = append(c.order, s)
	c.bytes += len(b)
	for c.bytes > contentBytes {
		oldest := c.order[0]
		c.order = c.order[1:]
		c.bytes -= len(c.all[oldest])
		delete(c.all, oldest)
	}
}
