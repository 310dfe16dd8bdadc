package bench

import (
	"errors"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"regexp"
	"sync"
	"sync/atomic"
	"time"
)

// Count is what a Front saw.
type Count struct {
	Requests    int64 `json:"requests"`
	Connections int64 `json:"connections"` // TCP connections opened
	BytesIn     int64 `json:"bytesIn"`     // to the registry, as on the wire: headers included
	BytesOut    int64 `json:"bytesOut"`    // from it, likewise
	BodyIn      int64 `json:"bodyIn"`      // of them in bodies
	BodyOut     int64 `json:"bodyOut"`
	Refused     int64 `json:"refused,omitempty"` // requests answered with 429
	// Kinds counts requests by method and object: "HEAD blob".
	Kinds map[string]int64 `json:"kinds,omitempty"`
}

// Front is what a registry's clients reach, on loopback. Every request waits
// for the delay before it goes on; opening a connection does not.
type Front struct {
	addr    string
	server  *http.Server
	backend atomic.Pointer[http.Handler]
	delay   atomic.Int64

	in, out, connections atomic.Int64

	mu    sync.Mutex
	count Count
	busy  map[net.Conn]bool
	fault Fault
}

// NewFront starts a Front, which lives until Close.
func NewFront() (*Front, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &Front{addr: listener.Addr().String(), busy: map[net.Conn]bool{}}
	f.server = &http.Server{
		Handler:           http.HandlerFunc(f.serve),
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       time.Minute,
		ConnState:         f.state,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	go func() { _ = f.server.Serve(counting{listener, f}) }()
	return f, nil
}

// Addr is where the front listens: "127.0.0.1:PORT".
func (f *Front) Addr() string { return f.addr }

// Close ends it and cuts its connections.
func (f *Front) Close() error { return f.server.Close() }

// Serve makes a handler what the front stands before.
func (f *Front) Serve(h http.Handler) { f.backend.Store(&h) }

// Begin starts a measurement: counts from zero, with a delay for each request,
// and with a fault unless that is nil.
func (f *Front) Begin(delay time.Duration, fault Fault) {
	f.delay.Store(int64(delay))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.in.Store(0)
	f.out.Store(0)
	f.connections.Store(0)
	f.count = Count{Kinds: map[string]int64{}}
	f.fault = fault
}

// errBusy means that requests are still under way.
var errBusy = errors.New("a client has ended, and its requests have not")

// End waits until no request is under way and gives what was counted.
func (f *Front) End() (Count, error) {
	deadline := time.Now().Add(30 * time.Second)
	for f.working() {
		if time.Now().After(deadline) {
			return Count{}, errBusy
		}
		time.Sleep(time.Millisecond)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.count
	c.Kinds = maps.Clone(c.Kinds)
	c.BytesIn, c.BytesOut, c.Connections = f.in.Load(), f.out.Load(), f.connections.Load()
	return c, nil
}

func (f *Front) working() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.busy) > 0
}

// state keeps the connections whose request or answer is not through.
func (f *Front) state(c net.Conn, s http.ConnState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s == http.StateActive {
		f.busy[c] = true
	} else {
		delete(f.busy, c)
	}
}

func (f *Front) serve(w http.ResponseWriter, r *http.Request) {
	in, out := &bodyReader{ReadCloser: r.Body}, &bodyWriter{ResponseWriter: w}
	r.Body = in
	f.mu.Lock()
	fault := f.fault
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.count.Requests++
		f.count.BodyIn += in.n
		f.count.BodyOut += out.n
		f.count.Kinds[kind(r)]++
		if out.status == http.StatusTooManyRequests {
			f.count.Refused++
		}
	}()
	if d := time.Duration(f.delay.Load()); d > 0 {
		time.Sleep(d)
	}
	next := *f.backend.Load()
	if fault != nil {
		next = fault(next)
	}
	next.ServeHTTP(out, r)
}

var objects = []struct {
	path *regexp.Regexp
	name string
}{
	{regexp.MustCompile(`/blobs/uploads/?`), "upload"},
	{regexp.MustCompile(`/blobs/[^/]+$`), "blob"},
	{regexp.MustCompile(`/manifests/sha256-[0-9a-f]+$`), "fallback tag"},
	{regexp.MustCompile(`/manifests/sha256-[0-9a-f]+\.[a-z]+$`), "cosign tag"},
	{regexp.MustCompile(`/manifests/sha256:[^/]+$`), "manifest by digest"},
	{regexp.MustCompile(`/manifests/[^/]+$`), "manifest by tag"},
	{regexp.MustCompile(`/referrers/[^/]+$`), "referrers"},
	{regexp.MustCompile(`/tags/list$`), "tags"},
	{regexp.MustCompile(`^/v2/?$`), "ping"},
}

// kind names a request by what it is about.
func kind(r *http.Request) string {
	for _, o := range objects {
		if o.path.MatchString(r.URL.Path) {
			if o.name == "upload" && r.URL.Query().Has("mount") {
				return r.Method + " mount"
			}
			return r.Method + " " + o.name
		}
	}
	return r.Method + " other"
}

// counting is a listener whose connections count bytes.
type counting struct {
	net.Listener
	front *Front
}

func (l counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.front.connections.Add(1)
	return &wire{c, l.front}, nil
}

type wire struct {
	net.Conn
	front *Front
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.front.in.Add(int64(n))
	return n, err
}

func (w *wire) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	w.front.out.Add(int64(n))
	return n, err
}

type bodyReader struct {
	io.ReadCloser
	n int64
}

func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	return n, err
}

type bodyWriter struct {
	http.ResponseWriter
	status int
	n      int64
}

func (b *bodyWriter) WriteHeader(status int) {
	b.status = status
	b.ResponseWriter.WriteHeader(status)
}

func (b *bodyWriter) Write(p []byte) (int, error) {
	n, err := b.ResponseWriter.Write(p)
	b.n += int64(n)
	return n, err
}

func (b *bodyWriter) Flush() { b.ResponseWriter.(http.Flusher).Flush() }
