package smoke

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// work counts what a load did.
type work struct {
	done, failed atomic.Int64
	skipped      atomic.Int64 // requests not made because all before were still under way
	began        time.Time
	took         time.Duration
	mu           sync.Mutex
	first        error // the first failure
}

func (w *work) count(err error) {
	if err == nil {
		w.done.Add(1)
		return
	}
	w.failed.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first == nil {
		w.first = err
	}
}

// load keeps a service busy until ctx ends.
func (r *run) load(ctx context.Context, w *work) {
	w.began = time.Now()
	defer func() { w.took = time.Since(w.began) }()
	l := r.Memory.Load
	if l.HTTP == nil {
		r.repeat(ctx, w, l)
		return
	}
	s, _ := r.workload.Service(l.Service)
	address, err := r.address(ctx, l.Service, portOf(s, l.HTTP.Port))
	if err != nil {
		if ctx.Err() == nil { // else the test ended before the load began
			w.count(err)
		}
		return
	}
	client := newClient(l.Concurrency)
	defer client.CloseIdleConnections()
	r.atRate(ctx, w, l, func(ctx context.Context) error {
		_, err := request(ctx, client, address, *l.HTTP)
		return err
	})
}

// atRate begins a request whenever one is due, whatever has become of those
// before: a service that slows down is not spared. One that finds no free place
// is left out.
func (r *run) atRate(ctx context.Context, w *work, l Load, one func(context.Context) error) {
	places := make(chan struct{}, l.Concurrency)
	var group sync.WaitGroup
	defer group.Wait()
	for n := 1; ; n++ {
		due := w.began.Add(time.Duration(float64(n) / l.Rate * float64(time.Second)))
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(due)):
		}
		select {
		case places <- struct{}{}:
		default:
			w.skipped.Add(1)
			continue
		}
		group.Go(func() {
			defer func() { <-places }()
			err := one(ctx)
			if ctx.Err() == nil { // the last ones are cut off by us
				w.count(err)
			}
		})
	}
}

// repeat runs a command or a script again and again, one at a time, at most as
// often as its rate says.
func (r *run) repeat(ctx context.Context, w *work, l Load) {
	environ := r.scriptEnviron(ctx, "load", l.Service)
	for ctx.Err() == nil {
		due := time.Now().Add(time.Duration(float64(time.Second) / l.Rate))
		err := r.perform(ctx, l, environ)
		if ctx.Err() != nil {
			return
		}
		w.count(err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(due)):
		}
	}
}

// perform runs the load's command or script once.
func (r *run) perform(ctx context.Context, l Load, environ []string) error {
	if len(l.Script) > 0 {
		bounded, cancel := context.WithTimeout(ctx, r.Timeout)
		defer cancel()
		_, err := r.script(bounded, l.Script, environ)
		return err
	}
	exit, output, err := r.Engine.Exec(ctx, r.monitor.id(l.Service), l.Exec)
	if err == nil && exit != 0 {
		err = fmt.Errorf("exit code %d: %s", exit, oneLine(string(output)))
	}
	return err
}

const (
	failedShare  = 0.10 // of requests that may fail before the load counts as refused
	warnedShare  = 0.01
	skippedShare = 0.20 // of requests that may find all before them still under way
)

// judgeLoad says whether there was the load that memory was measured under. A
// load of which nothing ended, well or badly, says nothing about the service.
func (r *run) judgeLoad(w *work) error {
	done, failed := w.done.Load(), w.failed.Load()
	all, skipped := float64(done+failed), float64(w.skipped.Load())
	rate := all / max(w.took.Seconds(), 0.001)
	detail := fmt.Sprintf("%d requests in %s, %.1f a second, %d failed", done+failed, round(w.took), rate, failed)
	if w.first != nil {
		detail += "; the first: " + w.first.Error()
	}
	if r.Memory.Load.HTTP == nil {
		detail = fmt.Sprintf("ran %d times in %s, %d failed", done+failed, round(w.took), failed)
		if w.first != nil {
			detail += "; the first: " + w.first.Error()
		}
	}
	switch share := float64(failed) / max(all, 1); {
	case all == 0 && r.monitor.alarmed(): // something else ended the test before the load began
	case all == 0:
		return release.Unavailable("raise smoke.memory.duration, or try again where the machine has less to do",
			"nothing of the load on service %s ended within %s, well or badly, so memory was not measured under any", r.Memory.Load.Service, round(w.took))
	case done == 0:
		r.add("load", release.Failed, "nothing of the load succeeded, so memory was not measured under any: %s", detail)
	case share > failedShare:
		r.add("load", release.Failed, "%s", detail)
	case share > warnedShare:
		r.add("load", release.Warned, "%s", detail)
	case skipped/max(all+skipped, 1) > skippedShare:
		r.add("load", release.Warned, "%s; %.0f more were not made, because %d were under way all the time: the service is too slow for %.1f a second",
			detail, skipped, r.Memory.Load.Concurrency, r.Memory.Load.Rate)
	default:
		r.add("load", release.Passed, "%s", detail)
	}
	return nil
}

func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}
