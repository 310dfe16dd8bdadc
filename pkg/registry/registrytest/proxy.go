package registrytest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Proxy is a registry on loopback that answers as its backend does, except
// where a rule says otherwise. It remembers what it was asked.
type Proxy struct {
	Host    string // host:port
	backend http.Handler
	server  *httptest.Server
	ctx     context.Context // of the test

	mu     sync.Mutex
	rules  []*rule
	log    []Request
	active int // requests being answered
}

// Request is one request that a Proxy saw.
type Request struct {
	Method        string
	URL           string // path and query
	Authorization string
	Status        int
	Sent          int64 // bytes of the answer's body
	Received      int64 // bytes of the request's body
}

func (r Request) String() string { return fmt.Sprintf("%s %s → %d", r.Method, r.URL, r.Status) }

// Action answers a request in the backend's stead; next is the backend.
type Action func(w http.ResponseWriter, r *http.Request, next http.Handler)

type rule struct {
	method string
	path   *regexp.Regexp
	times  int // left; negative is any number
	do     Action
}

// Serve starts a Proxy in front of a backend. It ends with the test.
func Serve(t testing.TB, backend http.Handler) *Proxy {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &Proxy{backend: backend, ctx: ctx}
	p.server = httptest.NewServer(http.HandlerFunc(p.serve))
	p.Host = strings.TrimPrefix(p.server.URL, "http://")
	t.Cleanup(func() {
		cancel()
		p.server.CloseClientConnections()
		p.server.Close()
	})
	return p
}

// On lets an action answer every request of a method ("" is any) whose path and
// query match a regular expression. Later rules come first.
func (p *Proxy) On(method, pattern string, do Action) { p.OnTimes(-1, method, pattern, do) }

// OnTimes is On for the first matching requests only.
func (p *Proxy) OnTimes(times int, method, pattern string, do Action) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append([]*rule{{method, regexp.MustCompile(pattern), times, do}}, p.rules...)
}

// Requests gives what was asked since the last Forget.
func (p *Proxy) Requests() []Request {
	p.idle(time.Second)
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Request(nil), p.log...)
}

// Forget clears the list of requests.
func (p *Proxy) Forget() {
	p.idle(time.Second)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = nil
}

// Writes gives the requests that would change something.
func (p *Proxy) Writes() []Request {
	var list []Request
	for _, r := range p.Requests() {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			list = append(list, r)
		}
	}
	return list
}

func (p *Proxy) match(r *http.Request) Action {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, rule := range p.rules {
		if (rule.method == "" || rule.method == r.Method) && rule.times != 0 && rule.path.MatchString(r.URL.RequestURI()) {
			rule.times--
			return rule.do
		}
	}
	return nil
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	// A request whose body nobody reads does not notice that its client left.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	r = r.WithContext(ctx)
	p.begin()
	seen := &recorder{ResponseWriter: w, status: http.StatusOK}
	body := &counter{ReadCloser: r.Body}
	r.Body = body
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.active--
		p.log = append(p.log, Request{r.Method, r.URL.RequestURI(), r.Header.Get("Authorization"), seen.status, seen.sent, body.n})
	}()
	// The registry in memory stores what it got of a manifest when its client
	// left, even nothing; no real one does.
	if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
		whole, err := io.ReadAll(body)
		if err != nil {
			seen.WriteHeader(http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(whole))
	}
	if do := p.match(r); do != nil {
		do(seen, r, p.backend)
		return
	}
	p.backend.ServeHTTP(seen, r)
}

func (p *Proxy) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active++
}

// Settle waits until no request is being answered any more: a client that has
// given up leaves some behind.
func (p *Proxy) Settle(t testing.TB) {
	t.Helper()
	if !p.idle(10 * time.Second) {
		t.Error("requests are still being answered")
	}
}

// idle waits until no request is being answered, for a time at most. A client
// may have its answer before the server is done with the request.
func (p *Proxy) idle(most time.Duration) bool {
	for end := time.Now().Add(most); ; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		active := p.active
		p.mu.Unlock()
		if active == 0 {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

type counter struct {
	io.ReadCloser
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.n += int64(n)
	return n, err
}

type recorder struct {
	http.ResponseWriter
	status int
	sent   int64
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	n, err := r.ResponseWriter.Write(b)
	r.sent += int64(n)
	return n, err
}

func (r *recorder) Flush() { r.ResponseWriter.(http.Flusher).Flush() }

// Unwrap lets an action take the connection over.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Ask asks the backend itself, past all rules, and gives status and body.
func (p *Proxy) Ask(method, path string) (int, []byte) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, nil)
	for _, mediaType := range []string{release.MediaTypeManifest, release.MediaTypeIndex, DockerManifest, DockerList} {
		r.Header.Add("Accept", mediaType)
	}
	p.backend.ServeHTTP(w, r)
	return w.Code, w.Body.Bytes()
}

// PutBlob stores a blob in the backend itself, past all rules.
func (p *Proxy) PutBlob(t testing.TB, repository string, b []byte) release.Digest {
	t.Helper()
	d := release.DigestOf(b)
	w := httptest.NewRecorder()
	p.backend.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v2/"+repository+"/blobs/uploads/", nil))
	location := w.Header().Get("Location")
	if w.Code != http.StatusAccepted || location == "" {
		t.Fatalf("starting an upload: %d %s", w.Code, w.Body)
	}
	separator := "?"
	if strings.Contains(location, "?") {
		separator = "&"
	}
	w = httptest.NewRecorder()
	p.backend.ServeHTTP(w, httptest.NewRequest(http.MethodPut, location+separator+"digest="+d.String(), bytes.NewReader(b)))
	if w.Code != http.StatusCreated {
		t.Fatalf("storing blob %s: %d %s", d, w.Code, w.Body)
	}
	return d
}

// PutManifest stores a manifest in the backend itself, past all rules; an empty
// ref is its digest.
func (p *Proxy) PutManifest(t testing.TB, repository, ref, mediaType string, b []byte) release.Digest {
	t.Helper()
	d := release.DigestOf(b)
	if ref == "" {
		ref = d.String()
	}
	r := httptest.NewRequest(http.MethodPut, "/v2/"+repository+"/manifests/"+ref, bytes.NewReader(b))
	r.Header.Set("Content-Type", mediaType)
	w := httptest.NewRecorder()
	p.backend.ServeHTTP(w, r)
	if w.Code != http.StatusCreated {
		t.Fatalf("storing manifest %s: %d %s", ref, w.Code, w.Body)
	}
	return d
}
