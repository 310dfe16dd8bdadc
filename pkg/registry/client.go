package registry

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Options say how a Client reaches registries. The zero value is what people
// expect: their Docker credentials and certificates, TLS with the system's
// roots, plain HTTP on loopback only, the proxy that $HTTPS_PROXY, $HTTP_PROXY
// and $NO_PROXY name.
type Options struct {
	// Keychain gives credentials; nil is DefaultKeychain.
	Keychain Keychain
	// PlainHTTP says which hosts (with their port) are spoken to without TLS
	// where Hosts and certificates don't; nil is Loopback.
	PlainHTTP func(host string) bool
	// RootCAs are trusted for TLS; nil is the system's, for which Go also reads
	// $SSL_CERT_FILE and $SSL_CERT_DIR.
	RootCAs *x509.CertPool
	// Hosts are the settings of registry hosts, by host with its port.
	Hosts map[string]Host
	// CertDirs hold further certificates by host, as Docker's certs.d; nil is
	// DefaultCertDirs.
	CertDirs []string
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
	roots     *x509.CertPool
	given     map[string]*settings // by lower-case endpoint
	certDirs  []string
	proxy     func(*http.Request) (*url.URL, error)
	resolver  *net.Resolver
	locate    func(netip.Addr) reach

	capabilities *Capabilities

	mu       sync.Mutex
	sessions map[string]*session
	hosts    map[string]*settings // given, with what lies in certDirs
	lanes    map[laneKey]*lane
	seen     map[string]reach // by the address dialled
	// resting are mirrors that are not asked before a time; distrusted is what
	// is read from its origin only.
	resting    map[string]time.Time
	distrusted map[release.Digest]bool
	mirrorRest time.Duration
	patience   Limits // with mirrors
	cache      cache
	linking    keyed
	asking     flights[[]release.Attachment]
	resolving  flights[manifest] // by digest: a tag may move between two who ask
	byTag      sync.Map          // endpoints that answered without the referrers API
	attached   contents
}

// Format writes what a Client is and nothing of what it holds: credentials,
// tokens, and hosts that registries named.
func (c *Client) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "a client for registries") }

// New makes a Client. It does no I/O; settings that cannot be are KindConfig.
func New(o Options) (*Client, error) {
	c := &Client{
		keychain:  o.Keychain,
		plainHTTP: o.PlainHTTP,
		limits:    o.Limits.withDefaults(),
		agent:     o.UserAgent,
		roots:     o.RootCAs,
		certDirs:  o.CertDirs,
		proxy:     http.ProxyFromEnvironment, // never for loopback
		locate:    reachOf,
		sessions:  map[string]*session{},
		lanes:     map[laneKey]*lane{},
		seen:      map[string]reach{},

		resting:    map[string]time.Time{},
		distrusted: map[release.Digest]bool{},
		mirrorRest: mirrorRest,
		patience:   o.Limits.withDefaults().ofMirror(),

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
	if c.certDirs == nil {
		c.certDirs = DefaultCertDirs()
	}
	if err := c.configure(o.Hosts); err != nil {
		return nil, err
	}
	return c, nil
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
	bytes   int64
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
	if _, ok := c.entries[s]; ok || m.weight() > cacheBytes/2 {
		return
	}
	c.entries[s] = m
	c.order = append(c.order, s)
	c.bytes += m.weight()
	for c.bytes > cacheBytes {
		oldest := c.order[0]
		c.order = c.order[1:]
		c.bytes -= c.entries[oldest].weight()
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
