// Package stub is an engine that speaks the HTTP API as far as a promotion needs
// it, keeps everything in memory and runs nothing: for many hosts on one machine.
package stub

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"

	"github.com/promote-dev/promote/pkg/release"
)

// Pace is how long a stub takes for what an engine and the way to it take time
// for.
type Pace struct {
	Request time.Duration `json:"request"` // every request
	Pull    time.Duration `json:"pull"`
	Create  time.Duration `json:"create"`
	Start   time.Duration `json:"start"`
	Stop    time.Duration `json:"stop"`
	Healthy time.Duration `json:"healthy"` // from the start to the first good health check
}

// MostConnections is how many connections a stub takes at once: as many channels
// as one ssh connection is meant to carry. It refuses what comes beyond that.
const MostConnections = 10

// Engine is a stub, started. It is safe for concurrent use.
type Engine struct {
	// Address is where it listens: tcp://127.0.0.1:PORT.
	Address string

	pace     Pace
	server   *http.Server
	requests atomic.Int64
	open     atomic.Int64 // connections now
	most     atomic.Int64 // at the same time
	refused  atomic.Int64

	mu         sync.Mutex
	counter    int
	images     map[string]release.Digest // by reference; its own id
	containers []*made
	networks   []network.Summary
	volumes    []volume.Volume
	watchers   map[chan events.Message]bool
}

// made is a container.
type made struct {
	container.InspectResponse
}

// Count is what became of a stub so far.
type Count struct {
	Requests    int64
	Connections int64 // the most at one time
	Refused     int64
}

// Start serves a stub on a port of the loopback until Close.
func Start(p Pace) (*Engine, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &Engine{pace: p, Address: "tcp://" + listener.Addr().String(), images: map[string]release.Digest{}, watchers: map[chan events.Message]bool{}}
	e.server = &http.Server{Handler: e, ReadHeaderTimeout: time.Minute, ConnState: e.connection}
	go func() { _ = e.server.Serve(listener) }() // it ends with Close
	return e, nil
}

// Close ends all connections.
func (e *Engine) Close() error { return e.server.Close() }

// Count gives what was counted.
func (e *Engine) Count() Count {
	return Count{Requests: e.requests.Load(), Connections: e.most.Load(), Refused: e.refused.Load()}
}

// connection counts, and refuses what is too much.
func (e *Engine) connection(c net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		n := e.open.Add(1)
		for most := e.most.Load(); n > most && !e.most.CompareAndSwap(most, n); most = e.most.Load() {
		}
		if n > MostConnections {
			e.refused.Add(1)
			_ = c.Close()
		}
	case http.StateClosed, http.StateHijacked:
		e.open.Add(-1)
	}
}

// ServeHTTP implements http.Handler.
func (e *Engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.requests.Add(1)
	time.Sleep(e.pace.Request)
	path := r.URL.Path
	if strings.HasPrefix(path, "/v1.") {
		_, path, _ = strings.Cut(path[1:], "/")
		path = "/" + path
	}
	kind, rest, _ := strings.Cut(path[1:], "/")
	switch kind {
	case "_ping":
		w.Header().Set("Api-Version", "1.47")
		w.Header().Set("Ostype", "linux")
	case "info":
		answer(w, http.StatusOK, map[string]any{"OSType": "linux", "Architecture": "x86_64", "CgroupVersion": "2", "MemoryLimit": true,
			"ServerVersion": "27.5.1", "Driver": "overlay2", "DefaultRuntime": "runc", "SystemTime": time.Now().UTC().Format(time.RFC3339Nano)})
	case "events":
		e.follow(w, r)
	case "images":
		e.image(w, r, rest)
	case "containers":
		e.container(w, r, rest)
	case "networks":
		e.network(w, r, rest)
	case "volumes":
		e.volume(w, r, rest)
	default:
		missing(w, r)
	}
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // whoever asked has gone
}

func missing(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusNotFound, map[string]string{"message": "no such thing here: " + r.Method + " " + r.URL.Path})
}

// labels reads the filter by label of a listing.
func labels(r *http.Request) func(map[string]string) bool {
	var filters map[string]map[string]bool
	_ = json.Unmarshal([]byte(r.URL.Query().Get("filters")), &filters) // none is no filter
	return func(have map[string]string) bool {
		for want := range filters["label"] {
			key, value, exact := strings.Cut(want, "=")
			got, there := have[key]
			if !there || exact && got != value {
				return false
			}
		}
		return true
	}
}

// id makes one as engines do.
func (e *Engine) id() string {
	e.counter++
	return release.DigestOf(fmt.Append(nil, e.Address, e.counter)).Hex()
}

// image serves /images: looking, pulling and importing.
func (e *Engine) image(w http.ResponseWriter, r *http.Request, rest string) {
	if r.Method == http.MethodPost && rest == "create" {
		e.pull(w, r)
		return
	}
	name, ok := strings.CutSuffix(rest, "/json")
	e.mu.Lock()
	id, there := e.images[name]
	e.mu.Unlock()
	switch {
	case rest == "json":
		answer(w, http.StatusOK, []any{})
	case ok && there && r.Method == http.MethodGet:
		answer(w, http.StatusOK, map[string]any{"Id": id.String(), "Os": "linux", "Architecture": "amd64"})
	default:
		missing(w, r)
	}
}

func (e *Engine) pull(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	name := q.Get("fromImage")
	if name == "" { // an import
		_, _ = io.Copy(io.Discard, r.Body) // what is in it matters to nobody
		name = q.Get("repo")
	} else {
		time.Sleep(e.pace.Pull)
	}
	if tag := q.Get("tag"); strings.HasPrefix(tag, "sha256:") {
		name += "@" + tag
	} else if tag != "" {
		name += ":" + tag
	}
	_, digest, _ := strings.Cut(name, "@")
	id, err := release.ParseDigest(digest)
	if err != nil {
		id = release.DigestOf([]byte(name))
	}
	e.mu.Lock()
	e.images[name] = id
	e.mu.Unlock()
	answer(w, http.StatusOK, map[string]string{"status": "done"})
}

// network serves /networks.
func (e *Engine) network(w http.ResponseWriter, r *http.Request, rest string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case r.Method == http.MethodGet && rest == "":
		match := labels(r)
		answer(w, http.StatusOK, slices.DeleteFunc(slices.Clone(e.networks), func(n network.Summary) bool { return !match(n.Labels) }))
	case r.Method == http.MethodPost && rest == "create":
		var n network.Summary
		if !read(w, r, &n) {
			return
		}
		n.ID = e.id()
		e.networks = append(e.networks, n)
		answer(w, http.StatusCreated, map[string]string{"Id": n.ID})
	default:
		missing(w, r)
	}
}

// volume serves /volumes.
func (e *Engine) volume(w http.ResponseWriter, r *http.Request, rest string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.IndexFunc(e.volumes, func(v volume.Volume) bool { return v.Name == rest })
	switch {
	case r.Method == http.MethodGet && rest == "":
		match := labels(r)
		answer(w, http.StatusOK, volume.ListResponse{Volumes: slices.DeleteFunc(slices.Clone(e.volumes), func(v volume.Volume) bool { return !match(v.Labels) })})
	case r.Method == http.MethodPost && rest == "create":
		var c volume.CreateRequest
		if !read(w, r, &c) {
			return
		}
		v := volume.Volume{Name: c.Name, Driver: "local", Labels: c.Labels, CreatedAt: time.Now().UTC().Format(time.RFC3339Nano)}
		e.volumes = append(e.volumes, v)
		answer(w, http.StatusCreated, v)
	case i < 0:
		missing(w, r)
	case r.Method == http.MethodGet:
		answer(w, http.StatusOK, e.volumes[i])
	case r.Method == http.MethodDelete:
		e.volumes = slices.Delete(e.volumes, i, i+1)
		w.WriteHeader(http.StatusNoContent)
	default:
		missing(w, r)
	}
}

// read decodes what was sent.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(into)
	if err != nil {
		answer(w, http.StatusBadRequest, map[string]string{"message": err.Error()})
	}
	return err == nil
}

// follow streams events until whoever asked has gone.
func (e *Engine) follow(w http.ResponseWriter, r *http.Request) {
	stream := make(chan events.Message, 64)
	e.mu.Lock()
	e.watchers[stream] = true
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.watchers, stream)
		e.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	out, flush := json.NewEncoder(w), http.NewResponseController(w)
	for {
		if flush.Flush() != nil {
			return
		}
		select {
		case m := <-stream:
			if out.Encode(m) != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// tell sends an event to whoever follows. Callers hold the lock.
func (e *Engine) tell(action events.Action, c *made) {
	m := events.Message{Type: events.ContainerEventType, Action: action, TimeNano: time.Now().UnixNano(), Actor: events.Actor{ID: c.ID, Attributes: c.Config.Labels}}
	for stream := range e.watchers {
		select {
		case stream <- m:
		default: // who does not listen has to look
		}
	}
}

// sleep waits unless nobody waits for the answer any more.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
