package registry

import "context"

// future is a value that one goroutine finds and others wait for.
type future[T any] struct {
	done  chan struct{}
	state *struct {
		value T
		err   error
	}
}

func newFuture[T any]() future[T] {
	return future[T]{make(chan struct{}), new(struct {
		value T
		err   error
	})}
}

// set is called once.
func (f future[T]) set(value T, err error) {
	f.state.value, f.state.err = value, err
	close(f.done)
}

// get waits for the value; where names what it comes from, for people.
func (f future[T]) get(ctx context.Context, where string) (value T, err error) {
	select {
	case <-f.done:
		return f.state.value, f.state.err
	case <-ctx.Done():
	}
	select {
	case <-f.done: // what was found counts more than how the wait ended
		return f.state.value, f.state.err
	default:
		return value, ended(ctx, where)
	}
}
