package registry

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// The reasons for which we give an exchange up ourselves. They are not tried
// again: a registry that was too slow once has had its time.
var (
	errSilent = errors.New("no answer in time")
	errSlow   = errors.New("too slow: the answer was not complete in time")
	errStall  = errors.New("too slow: the transfer has stalled")
)

func slow(err error) bool {
	return errors.Is(err, errSilent) || errors.Is(err, errSlow) || errors.Is(err, errStall)
}

// watch is the deadline of what an exchange does now. Each phase arms it anew;
// when it runs out, the exchange's context ends with the phase's reason.
type watch struct {
	cancel context.CancelCauseFunc
	limits *Limits

	mu    sync.Mutex
	timer *time.Timer
}

func newWatch(cancel context.CancelCauseFunc, l *Limits) *watch {
	return &watch{cancel: cancel, limits: l}
}

func (w *watch) arm(d time.Duration, reason error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.timer = time.AfterFunc(d, func() { w.cancel(reason) })
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}

// sending watches a request's body: the peer has to take each piece within a
// window, and to answer in time once it has all. While the body's own source
// is being read, the peer is not to blame and the watch stands still.
type sending struct {
	io.ReadCloser
	w *watch
}

func (s sending) Read(p []byte) (int, error) {
	s.w.stop()
	n, err := s.ReadCloser.Read(p)
	switch {
	case err == nil:
		s.w.arm(s.w.limits.Window, errStall)
	case errors.Is(err, io.EOF):
		s.w.arm(s.w.limits.Commit, errSilent)
	}
	return n, err
}

// receiving watches an answer's body. Only time spent waiting for bytes counts,
// so that a slow reader is not held against the registry.
type receiving struct {
	body   io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	limits *Limits

	waited time.Duration
	got    int64
}

func (r *receiving) Read(p []byte) (int, error) {
	timer := time.AfterFunc(r.limits.Window-r.waited, func() { r.cancel(errStall) })
	start := time.Now()
	n, err := r.body.Read(p)
	timer.Stop()
	r.waited += time.Since(start)
	r.got += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		if cause := context.Cause(r.ctx); cause != nil {
			err = cause
		}
		return n, err
	}
	switch enough := max(1, int64(float64(r.limits.Rate)*r.limits.Window.Seconds())); {
	case r.got >= enough:
		r.waited, r.got = 0, 0
	case r.waited >= r.limits.Window && err == nil:
		r.cancel(errStall)
		return n, errStall
	}
	return n, err
}

func (r *receiving) Close() error {
	err := r.body.Close()
	r.cancel(nil)
	return err
}
