package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Options say how a Client reaches registries. The zero value is what people
// expect: their Docker credentials, TLS with the system's roots, plain HTTP on
// loopback only.
type Options struct {
	// Keychain gives credentials; nil is DefaultKeychain.
	Keychain Keychain
	// PlainHTTP says which hosts (with their port) are spoken to without TLS;
	// nil is Loopback.
	PlainHTTP func(host string) bool
	// RootCAs are trusted for TLS; nil is the system's.
	RootCAs *x509.CertPool
	// Limits bounds everything that is read.
	Limits Limits
	// Capabilities remembers what registries were proven to do; nil takes them
	// as they come, and asks nothing.
	Capabilities *Capabilities
	// UserAgent is sent with each request; empty is "promote".
	UserAgent string
}

// Client talks to any number of registries. It is safe for concurrent use and
// keeps connections, tokens and verified manifests between calls.
type Client struct {
	keychain  Keychain
	plainHTTP func(host string) bool
	limits    Limits
	agent     string
	transport http.RoundTripper

	capabilities *Capabilities

	mu       sync.Mutex
	sessions map[string]*session
	cache    cache
	linking  keyed
}

// New makes a Client. It does no I/O.
func New(o Options) (*Client, error) {
	c := &Client{
		keychain:  o.Keychain,
		plainHTTP: o.PlainHTTP,
		limits:    o.Limits.withDefaults(),
		agent:     o.UserAgent,
		sessions:  map[string]*session{},

		capabilities: o.Capabilities,
	}
	if c.keychain == nil {
		c.keychain = DefaultKeychain()
	}
	if c.plainHTTP == nil {
		c.plainHTTP = Loopback
	}
	if c.agent == "" {
		c.agent = "promote"
	}
	c.transport = newTransport(c.limits, o.RootCAs)
	return c, nil
}

// newTransport speaks HTTP/1.1 over a pool of connections: parallel blobs then
// don't share one connection's window. It asks for no compression, because
// what is hashed must be what was sent.
func newTransport(l Limits, roots *x509.CertPool) *http.Transport {
	dialer := &net.Dialer{Timeout: l.Dial, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    l.Dial,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    2 * l.Width,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 * kib,
	}
}

// Credentials gives the user name and secret that the user has configured for
// a registry host, both empty if there are none. For an identity token the
// user is "<token>", as credential helpers have it.
func (c *Client) Credentials(ctx context.Context, host string) (user, secret string, err error) {
	cred, err := c.keychain.Credential(ctx, host, "")
	if err != nil {
		return "", "", wrap(ctx, "reading the credentials for", host, err)
	}
	switch {
	case cred.IdentityToken != "":
		return "<token>", cred.IdentityToken, nil
	case cred.RegistryToken != "":
		return "<token>", cred.RegistryToken, nil
	}
	return cred.Username, cred.Password, nil
}

// cache keeps verified manifests by repository and digest: they cannot change,
// and a promotion reads each of them several times.
type cache struct {
	mu      sync.Mutex
	entries map[release.Subject]manifest
	order   []release.Subject
	bytes   int
}

const cacheBytes = 8 * mib

func (c *cache) get(s release.Subject) (manifest, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.entries[s]
	return m, ok
}

func (c *cache) put(s release.Subject, m manifest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = map[release.Subject]manifest{}
	}
	if _, ok := c.entries[s]; ok || len(m.raw) > cacheBytes/2 {
		return
	}
	c.entries[s] = m
	c.order = append(c.order, s)
	c.bytes += len(m.raw)
	for c.bytes > cacheBytes {
		oldest := c.order[0]
		c.order = c.order[1:]
		c.bytes -= len(c.entries[oldest].raw)
		delete(c.entries, oldest)
	}
}

// keyed is one mutex a key.
type keyed struct {
	mu    sync.Mutex
	locks map[string]*sync.Mutex
}

func (k *keyed) lock(key string) (unlock func()) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*sync.Mutex{}
	}
	l, ok := k.locks[key]
	if !ok {
		l = &sync.Mutex{}
		k.locks[key] = l
	}
	k.mu.Unlock()
	l.Lock()
	return l.Unlock
}
