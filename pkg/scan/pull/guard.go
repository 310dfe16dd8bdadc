package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Bounds of what a registry may send.
const (
	MaxManifest = 4 << 20
	maxAnswer   = 1 << 20 // tokens, pings, errors
	maxWait     = 30 * time.Second
	maxTries    = 4
)

// The least a body must bring, and how long a reader waits for less: slower
// than this is as good as silence.
const (
	stallWindow = 20 * time.Second
	stallBytes  = 20 << 10
)

// Guard is an http.RoundTripper for one registry. Bytes that contradict a
// digest or a limit are remembered as a denial, because the error that reaches
// the caller has passed through a library that does not tell it from a broken
// connection.
type Guard struct {
	ctx      context.Context
	base     http.RoundTripper
	host     string // the registry, host:port
	progress func(part string, current, total int64)
	window   time.Duration

	mu       sync.Mutex
	expected map[release.Digest]int64
	denial   error
}

// NewGuard guards requests for a registry host. Every request is made in ctx.
// progress, which may be nil, is told how much of each expected blob has come.
func NewGuard(ctx context.Context, base http.RoundTripper, host string, progress func(part string, current, total int64)) *Guard {
	if progress == nil {
		progress = func(string, int64, int64) {}
	}
	return &Guard{ctx: ctx, base: base, host: host, progress: progress, window: stallWindow, expected: map[release.Digest]int64{}}
}

// NewTransport is a transport with deadlines on everything but bodies, which a
// Guard watches.
func NewTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       30 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
	}
}

// Expect allows a blob to be fetched: a manifest that was hashed names it with
// this size. Other blobs are refused.
func (g *Guard) Expect(d release.Digest, size int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.expected[d] = size
}

// Denial gives the first contradiction that was seen, or nil.
func (g *Guard) Denial() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.denial
}

// Deny remembers a contradiction found further up, and gives it back.
func (g *Guard) Deny(format string, args ...any) error {
	err := release.Denied("the registry or whoever pushed this is broken or hostile; do not use the image", format, args...)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.denial == nil {
		g.denial = err
	}
	return err
}

var resourcePath = regexp.MustCompile(`^/v2/.+/(manifests|blobs)/([^/]+)$`)

// RoundTrip makes a request, waiting where the registry asks for it.
func (g *Guard) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(g.ctx)
	if err := g.restrain(req); err != nil {
		return nil, err
	}
	kind, digest := resource(req)
	size := int64(-1)
	if kind == "blobs" {
		var ok bool
		if size, ok = g.size(digest); !ok {
			return nil, g.Deny("fetching blob %s: no manifest names it", digest)
		}
	}
	resp, err := g.patiently(req)
	if err != nil {
		return nil, err
	}
	return g.guard(resp, kind, digest, size)
}

func (g *Guard) size(d release.Digest) (int64, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	size, ok := g.expected[d]
	return size, ok
}

// resource says what the request is for, looking through redirects: a blob
// often comes from another host than the registry.
func resource(req *http.Request) (kind string, digest release.Digest) {
	origin := req
	for origin.Response != nil && origin.Response.Request != nil {
		origin = origin.Response.Request
	}
	m := resourcePath.FindStringSubmatch(origin.URL.Path)
	if m == nil {
		return "", release.Digest{}
	}
	d, err := release.ParseDigest(m[2])
	if err != nil {
		d = release.Digest{} // a tag
	}
	return m[1], d
}

// restrain keeps credentials with the registry: another host gets them only if
// it is of the same organisation and reached by TLS, as token services are.
func (g *Guard) restrain(req *http.Request) error {
	if req.Method != http.MethodGet && req.Method != http.MethodHead && req.Method != http.MethodPost {
		return fmt.Errorf("%s is no way to read from a registry", req.Method)
	}
	if req.URL.Host == g.host || req.URL.Scheme == "https" && sameOrganisation(req.URL.Hostname(), hostname(g.host)) {
		return nil
	}
	if req.Method == http.MethodPost {
		return g.Deny("registry %s sends credentials to %s", g.host, req.URL.Host)
	}
	req.Header.Del("Authorization")
	return nil
}

func hostname(host string) string {
	u := url.URL{Host: host}
	return u.Hostname()
}

// sameOrganisation compares the last two labels of host names: auth.docker.io
// serves index.docker.io.
func sameOrganisation(a, b string) bool {
	if net.ParseIP(a) != nil || net.ParseIP(b) != nil {
		return a == b
	}
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	if len(x) < 2 || len(y) < 2 {
		return a == b
	}
	return x[len(x)-1] == y[len(y)-1] && x[len(x)-2] == y[len(y)-2]
}

// patiently repeats a read that the registry asks to be repeated later.
func (g *Guard) patiently(req *http.Request) (*http.Response, error) {
	for try := 1; ; try++ {
		resp, err := g.base.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		wait, asked := retryAfter(resp)
		if !asked || try == maxTries || req.Body != nil {
			return resp, nil
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
		resp.Body.Close()
		select {
		case <-time.After(wait):
		case <-g.ctx.Done():
			return nil, g.ctx.Err()
		}
	}
}

func retryAfter(resp *http.Response) (time.Duration, bool) {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return 0, false
	}
	n, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || n < 0 || time.Duration(n)*time.Second > maxWait {
		return 0, false
	}
	return time.Duration(n) * time.Second, true
}

// guard bounds and hashes the body of an answer.
func (g *Guard) guard(resp *http.Response, kind string, digest release.Digest, size int64) (*http.Response, error) {
	limit := int64(maxAnswer)
	b := bounds{name: name(kind, digest), size: -1, head: resp.Request != nil && resp.Request.Method == http.MethodHead}
	if resp.StatusCode == http.StatusOK && kind != "" {
		b.digest, b.size = digest, size
		if limit = size; kind == "manifests" {
			limit = MaxManifest
		}
	}
	b.limit = limit
	switch announced := resp.ContentLength; {
	case b.size >= 0 && announced >= 0 && announced != b.size && !b.head:
		resp.Body.Close()
		return nil, fmt.Errorf("reading %s: %d bytes announced, %d expected", b.name, announced, b.size)
	case announced > limit:
		resp.Body.Close()
		return nil, g.Deny("reading %s: %d bytes announced, at most %d are read", b.name, announced, limit)
	}
	resp.Body = newBody(g, resp.Body, b)
	return resp, nil
}

func name(kind string, digest release.Digest) string {
	switch {
	case kind == "":
		return "an answer"
	case digest.IsZero():
		return strings.TrimSuffix(kind, "s")
	}
	return strings.TrimSuffix(kind, "s") + " " + digest.String()
}

var errStalled = errors.New("the registry has stopped sending")
