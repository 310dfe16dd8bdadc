package reliability

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Tap is a proxy in front of a registry or an engine. It counts the requests
// of the program and strikes at one of them.
type Tap struct {
	addr   string
	server *http.Server
	proxy  *httputil.ReverseProxy

	mu     sync.Mutex
	open   bool // counting
	seen   []string
	at     int // which request is struck; 0 is none
	after  bool
	strike func(what string)
	chosen func(what string) bool
}

type requestNumber struct{}

// NewTap listens at an address, "127.0.0.1:0" or "unix:/path", and passes
// everything on to another one, "127.0.0.1:5000" or "unix:/path".
func NewTap(listen, target string) (*Tap, error) {
	network, address := place(listen)
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	t := &Tap{addr: l.Addr().String()}
	toNetwork, toAddress := place(target)
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, toNetwork, toAddress)
		},
		DisableCompression: true,
	}
	quiet := log.New(io.Discard, "", 0)
	t.proxy = &httputil.ReverseProxy{
		// The Host header stays: registries make the addresses of uploads of it.
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", r.In.Host },
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      quiet,
		ModifyResponse: func(r *http.Response) error {
			n, _ := r.Request.Context().Value(requestNumber{}).(int)
			return t.answered(n, r)
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	t.server = &http.Server{Handler: http.HandlerFunc(t.serve), ErrorLog: quiet, ReadHeaderTimeout: time.Minute}
	go func() { _ = t.server.Serve(l) }()
	return t, nil
}

// Addr is where the tap listens.
func (t *Tap) Addr() string { return t.addr }

func place(address string) (network, at string) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return "unix", path
	}
	return "tcp", address
}

// Close ends the tap and cuts what goes through it.
func (t *Tap) Close() error { return t.server.Close() }

// Count forgets what was seen and counts from now on.
func (t *Tap) Count() { t.Strike(0, false, nil) }

// Strike counts, too, and calls strike at the n-th request: before it is passed
// on, which it then never is, or when its answer has come back, which then
// never arrives.
func (t *Tap) Strike(n int, after bool, strike func(what string)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open, t.seen, t.at, t.after, t.strike = true, nil, n, after, strike
	if n != Chosen {
		t.chosen = nil
	}
}

// Chosen is the number for the request that Choose picks.
const Chosen = -1

// Choose says which request is the one to be struck, of those still to come.
func (t *Tap) Choose(chosen func(what string) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.chosen = chosen
}

// Stop ends the counting and gives what was seen, in order.
func (t *Tap) Stop() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open, t.at = false, 0
	return t.seen
}

func (t *Tap) serve(w http.ResponseWriter, r *http.Request) {
	n, struck := t.arrived(r)
	if struck {
		panic(http.ErrAbortHandler)
	}
	t.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestNumber{}, n)))
}

// arrived counts a request of the program's. What engine and BuildKit ask a
// registry is theirs.
func (t *Tap) arrived(r *http.Request) (n int, struck bool) {
	agent := r.UserAgent()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.open || strings.HasPrefix(agent, "docker/") || strings.HasPrefix(agent, "buildkit/") || strings.HasPrefix(agent, "containerd/") {
		return 0, false
	}
	t.seen = append(t.seen, operation(r.Method, r.URL))
	n = len(t.seen)
	if t.at == Chosen && t.chosen(t.seen[n-1]) {
		t.at = n
	}
	if n == t.at && !t.after {
		t.strike(t.seen[n-1])
		return n, true
	}
	return n, false
}

// answered strikes when the whole answer is here; one that never ends counts
// when it begins.
func (t *Tap) answered(n int, r *http.Response) error {
	t.mu.Lock()
	struck := n > 0 && t.open && n == t.at && t.after
	t.mu.Unlock()
	if !struck {
		return nil
	}
	if !strings.HasSuffix(r.Request.URL.Path, "/events") {
		_, _ = io.Copy(io.Discard, r.Body)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.strike(t.seen[n-1])
	return errors.New("struck")
}

// operation names a request without what differs from run to run.
func operation(method string, u *url.URL) string {
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) > 1 && strings.HasPrefix(parts[0], "v1.") {
		parts = parts[1:]
	}
	if parts[0] == "v2" {
		return method + " " + registryOperation(parts, u.Query())
	}
	kind := parts[0]
	if len(parts) == 1 {
		return method + " /" + kind
	}
	last := parts[len(parts)-1]
	switch {
	case last == "create" || last == "prune" || kind == "images" && last == "json" && len(parts) == 2 || kind == "containers" && len(parts) == 2 && last == "json":
		return method + " /" + kind + "/" + last
	case len(parts) == 2 || method == "DELETE":
		return method + " /" + kind + "/…"
	}
	return method + " /" + kind + "/…/" + last
}

func registryOperation(parts []string, query url.Values) string {
	for i, p := range parts {
		switch p {
		case "manifests":
			what := "by tag"
			if i+1 < len(parts) && strings.HasPrefix(parts[i+1], "sha256:") {
				what = "by digest"
			}
			return "manifest " + what
		case "referrers", "tags":
			return p
		case "blobs":
			switch {
			case i+1 < len(parts) && parts[i+1] == "uploads" && query.Has("mount"):
				return "blob mount"
			case i+1 < len(parts) && parts[i+1] == "uploads":
				return "blob upload"
			}
			return "blob"
		}
	}
	return "/v2/"
}
