package smoke

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

const (
	stopRequests = 4
	mostRequests = 64
	// settled is what a service gets to take up the requests before it is told
	// to stop, and late is how long after that they are completed.
	settled = 300 * time.Millisecond
	late    = 100 * time.Millisecond
	// signalTime is how long an engine may take to send the signal.
	signalTime = 5 * time.Second
)

// stopTest is what is under way when a service is told to stop: what is
// configured, else the load's request if it changes something.
func (o Options) stopTest() StopTest {
	t := o.Stop
	if l := o.Memory.Load; t.HTTP == nil && l.HTTP != nil && changes(*l.HTTP) {
		t.Service, t.HTTP = l.Service, l.HTTP
	}
	t.Requests = cmp.Or(t.Requests, stopRequests)
	return t
}

// changes reports whether a request may change something: it has a body, or
// another method than those that only read.
func changes(h HTTP) bool {
	return h.Body != "" || !slices.Contains([]string{"", http.MethodGet, http.MethodHead, http.MethodOptions}, h.Method)
}

// drain stops a service while requests are under way: all but the last byte of
// each has been sent when the signal goes out, so that neither a fast handler
// nor a connection that nobody has accepted makes it an idle stop.
func (r *run) drain(ctx context.Context, s release.ServiceSpec, t StopTest, stop func() error) (err error) {
	underWay, trouble := r.begin(ctx, s, t)
	select {
	case <-ctx.Done():
	case <-time.After(settled):
	}
	before := r.monitor.get(s.Name).signals
	stopped := make(chan struct{})
	var failed error
	go func() {
		defer close(stopped)
		failed = stop()
	}()
	r.untilSignalled(s, before, stopped)
	time.Sleep(late)
	limit := time.Now().Add(cmp.Or(s.StopGrace, defaultGrace) + 5*time.Second)
	outcome := finishAll(underWay, limit)
	<-stopped
	if failed != nil {
		return failed
	}
	return r.judgeDrain(ctx, s, t, outcome, trouble)
}

// untilSignalled waits until the engine says that the stop signal went out: on
// a busy machine it takes its time, and what is answered before was not under
// way. It does not wait for long for an engine that never says so: half of the
// grace period must be left.
func (r *run) untilSignalled(s release.ServiceSpec, before int, stopped <-chan struct{}) {
	limit := time.After(min(signalTime, cmp.Or(s.StopGrace, defaultGrace)/2))
	for r.monitor.get(s.Name).signals == before {
		select {
		case <-stopped:
			return
		case <-limit:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// pending is a request of which the last byte is held back.
type pending struct {
	conn net.Conn
	rest []byte
}

// begin puts requests under way.
func (r *run) begin(ctx context.Context, s release.ServiceSpec, t StopTest) (all []pending, trouble error) {
	head, last := heldBack(*t.HTTP)
	for range t.Requests {
		conn, err := r.connect(ctx, s, portOf(s, t.HTTP.Port))
		if err == nil {
			_, err = conn.Write(head)
			if err != nil {
				conn.Close()
			}
		}
		if err != nil {
			trouble = err
			continue
		}
		all = append(all, pending{conn, last})
	}
	return all, trouble
}

// heldBack writes a request, and its last byte apart. One without a body gets an
// empty JSON object: something must be left to wait for.
func heldBack(h HTTP) (head, last []byte) {
	method, path, body := cmp.Or(h.Method, http.MethodGet), cmp.Or(h.Path, "/"), cmp.Or(h.Body, "{}")
	text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: promote-smoke\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		method, path, len(body), body)
	return []byte(text[:len(text)-1]), []byte(text[len(text)-1:])
}

// connect reaches a service at its own address if it can: a proxy in between
// ends with the container, and may take the last answers with it.
func (r *run) connect(ctx context.Context, s release.ServiceSpec, port int) (net.Conn, error) {
	c, err := r.Engine.Inspect(ctx, r.monitor.id(s.Name))
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: time.Second}
	for _, network := range slices.Sorted(maps.Keys(c.Networks)) {
		if ip := c.Networks[network]; ip != "" {
			if conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(ip, strconv.Itoa(port))); err == nil {
				return conn, nil
			}
		}
	}
	address, err := r.address(ctx, s.Name, port)
	if err != nil {
		return nil, err
	}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, withoutAddress(err, address)
	}
	return conn, nil
}

// drained is what became of the requests.
type drained struct {
	answered, lost, early int
	first                 error // of those lost
}

func finishAll(all []pending, limit time.Time) drained {
	var mu sync.Mutex
	var out drained
	var group sync.WaitGroup
	for _, p := range all {
		group.Go(func() {
			defer p.conn.Close()
			early, err := p.finish(limit)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case early:
				out.early++
			case err == nil:
				out.answered++
			default:
				out.lost++
				if out.first == nil {
					out.first = err
				}
			}
		})
	}
	group.Wait()
	return out
}

// finish sends the last byte and waits for the answer. early: it was answered
// without it.
func (p pending) finish(limit time.Time) (early bool, err error) {
	in := bufio.NewReader(io.LimitReader(p.conn, mostAnswer))
	_ = p.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := in.Peek(1); err == nil {
		return true, nil
	}
	_ = p.conn.SetDeadline(limit)
	if _, err := p.conn.Write(p.rest); err != nil {
		return false, errors.New("the connection was closed before the request was complete")
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return false, errors.New("the connection was closed without an answer")
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return false, errors.New("the answer was cut off")
	case resp.StatusCode >= 500:
		return false, fmt.Errorf("answered %d: %s", resp.StatusCode, oneLine(string(body)))
	}
	return false, nil
}

// judgeDrain: what was under way at the signal is answered, or taken up again
// after a start.
func (r *run) judgeDrain(ctx context.Context, s release.ServiceSpec, t StopTest, d drained, trouble error) error {
	name, signal := "drains/"+s.Name, cmp.Or(s.StopSignal, "SIGTERM")
	all := d.answered + d.lost
	switch {
	case all == 0 && r.Stop.HTTP == nil:
		return nil // nobody asked
	case all == 0 && trouble != nil:
		r.add(name, release.Warned, "nothing was under way at %s: %v", signal, trouble)
		return nil
	case all == 0:
		r.add(name, release.Warned, "nothing was under way at %s: %s answers before a request is complete", signal, s.Name)
		return nil
	case d.lost == 0:
		r.add(name, release.Passed, "%d requests under way at %s were answered", all, signal)
		return nil
	}
	lost := fmt.Sprintf("%d of %d requests under way at %s were lost: %v", d.lost, all, signal, d.first)
	i := slices.IndexFunc(r.Checks, func(c Check) bool { return c.Name == t.Resumed })
	if i < 0 {
		r.add(name, release.Failed, "%s", lost)
		return nil
	}
	failed, err := r.resumed(ctx, s, r.Checks[i])
	switch {
	case err != nil:
		return err
	case failed != nil:
		r.add(name, release.Failed, "%s, and after a start %s says: %v", lost, t.Resumed, failed)
	default:
		r.add(name, release.Passed, "%s; they were taken up again, %s passes after a start", strings.TrimSuffix(lost, ": "+fmt.Sprint(d.first)), t.Resumed)
	}
	return nil
}

// resumed starts a stopped service, makes a check and stops it again.
func (r *run) resumed(ctx context.Context, s release.ServiceSpec, c Check) (failed, err error) {
	bounded, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	err = r.monitor.move(bounded, s.Name, func(id string) error { return r.Engine.Start(bounded, id) }, func() error { return r.settle(bounded) })
	if err != nil {
		if errors.Is(err, errStuck) && ctx.Err() == nil {
			return err, nil
		}
		return nil, err
	}
	_, failed = r.ask(ctx, c)
	if err := r.alive(ctx, failed); err != nil {
		return nil, err
	}
	return failed, r.monitor.move(ctx, s.Name, func(id string) error { return r.Engine.Stop(ctx, id, s.StopGrace) }, nil)
}
