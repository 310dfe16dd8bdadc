package smoke

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// WatchOptions say what runs and what to ask of it.
type WatchOptions struct {
	Release release.Digest
	Project string
	Engine  Engine
	// Containers stand for the services, Services are what the model says of
	// them, as far as it is known: which port is meant.
	Containers map[string]release.Container
	Services   []release.ServiceSpec
	Checks     []Check
	// Connect reaches an address as the engine's machine does; nil is as this one
	// does. NoPorts says that there is no way to them.
	Connect func(ctx context.Context, network, address string) (net.Conn, error)
	NoPorts bool
	Dir     string
	Environ []string // of scripts
}

// Watch asks what runs what the checks ask, each of them once, and changes
// nothing: nothing is written, moved or loaded. What may change something is
// asked only where its check says so. An engine that does not answer makes a
// check unknown.
func Watch(ctx context.Context, o WatchOptions) []release.WatchedCheck {
	r := &run{Options: Options{Release: o.Release, Engine: onlyLooks{o.Engine}, Dir: o.Dir, Environ: o.Environ}, token: newID(), client: newClient(1), reach: o.Connect}
	if o.Connect != nil {
		r.client.Transport.(*http.Transport).DialContext = o.Connect
	}
	defer r.client.CloseIdleConnections()
	r.workload = release.Workload{Project: o.Project}
	for name, c := range o.Containers {
		r.workload.Services = append(r.workload.Services, o.service(name, c))
	}
	r.monitor = newMonitor(r.Engine, r.workload, 0)
	for name, c := range o.Containers {
		r.monitor.services[name].id = c.ID
	}
	out := []release.WatchedCheck{}
	for _, c := range o.Checks {
		out = append(out, r.observe(ctx, c, o.NoPorts))
	}
	return out
}

// service is what the model says of a service, else what its container does.
func (o WatchOptions) service(name string, c release.Container) release.ServiceSpec {
	for _, s := range o.Services {
		if s.Name == name {
			return s
		}
	}
	return release.ServiceSpec{Name: name, Ports: c.Ports}
}

// skipped is the result of a check that was not asked.
const skipped = "skipped"

func (r *run) observe(ctx context.Context, c Check, noPorts bool) release.WatchedCheck {
	out := release.WatchedCheck{Name: c.Name, Service: c.Service, Result: skipped}
	if out.Detail = r.notAsked(c); out.Detail != "" {
		return out
	}
	if noPorts && (c.HTTP != nil || c.TCP > 0) {
		out.Detail = "there is no way from here to its ports; over ssh:// there is one"
		return out
	}
	begin := time.Now()
	a, err := r.watched(ctx, c)
	out.Result, out.Detail, out.Seconds = release.Passed.String(), a.detail, time.Since(begin).Seconds()
	if err == nil {
		return out
	}
	out.Result, out.Detail = release.Failed.String(), err.Error()
	switch engine := r.alive(ctx, err); {
	case engine != nil:
		out.Result, out.Detail = release.Unknown.String(), oneLine(engine.Error())
	case c.Log != "" && c.Watch == nil:
		out.Result, out.Detail = skipped, err.Error()+"; what was logged long ago may be gone, watch: true makes it a failure"
	}
	return out
}

// watched asks one check.
func (r *run) watched(ctx context.Context, c Check) (answer, error) {
	if c.LogNot != "" {
		line, found, err := r.search(ctx, r.monitor.id(c.Service), c.LogNot)
		if err == nil && found {
			err = fmt.Errorf("logged %s", line)
		}
		return answer{detail: "no line of the log matches " + c.LogNot}, err
	}
	if c.Log != "" {
		return r.logged(ctx, c) // it is there or not
	}
	return r.ask(ctx, c)
}

// notAsked says why a check is not asked of what runs; empty if it is.
func (r *run) notAsked(c Check) string {
	s, there := r.workload.Service(c.Service)
	wanted := c.Watch != nil && *c.Watch
	switch {
	case c.Watch != nil && !wanted:
		return "watch: false"
	case c.Write != nil || c.asksOfRun():
		return "it is about what a smoke run wrote"
	case !there && (c.Service != "" || len(c.Script) == 0):
		return "nothing runs for service " + c.Service
	case !wanted && len(c.Script) > 0:
		return "nobody knows what a script does; watch: true runs it"
	case !wanted && c.HTTP != nil && changes(*c.HTTP):
		return "it may change something; watch: true asks it"
	case c.HTTP != nil && portOf(s, c.HTTP.Port) == 0:
		return "the service publishes no port; write port"
	}
	return ""
}

// asksOfRun reports whether a check is about the word of a smoke run.
func (c Check) asksOfRun() bool {
	texts := append([]string{c.Contains, c.Log, c.LogNot}, c.Exec...)
	texts = append(texts, c.Script...)
	if c.HTTP != nil {
		texts = append(texts, c.HTTP.Path, c.HTTP.Body)
		for _, value := range c.HTTP.JSON {
			texts = append(texts, value)
		}
	}
	return strings.Contains(strings.Join(texts, "\x00"), tokenMark)
}

// onlyLooks is an engine on which nothing can be changed.
type onlyLooks struct{ Engine }

var errOnlyLooks = errors.New("a look changes nothing")

func (onlyLooks) Stop(context.Context, string, time.Duration) error    { return errOnlyLooks }
func (onlyLooks) Restart(context.Context, string, time.Duration) error { return errOnlyLooks }
func (onlyLooks) Start(context.Context, string) error                  { return errOnlyLooks }
func (onlyLooks) Entries(context.Context, string) (int, error)         { return 0, errOnlyLooks }
