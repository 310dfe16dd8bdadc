package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// A lane is a pool of connections that were all made under the same rules. What
// a registry sends us to travels on other lanes than the registry itself, so
// that a connection which was allowed for one purpose is never found in the
// pool by another: a hop into this machine or its network would otherwise need
// no dialling, and pass the guard.
type laneKey struct {
	// own: the registry that was asked for; else a hop to where it sends us.
	own bool
	// certs are the hosts whose certificates are in use, "" for none.
	certs string
	// reach is how far inside a hop may lead: as far as its registry is.
	reach reach
}

// lane dials directly, or through the proxy of the environment. The two are
// apart because the guard sees the proxy's address only: where a proxy stands
// between, it is the proxy that decides who is reached.
type lane struct {
	client          *Client
	direct, proxied *http.Transport
}

func (l *lane) RoundTrip(req *http.Request) (*http.Response, error) {
	proxy, err := l.client.proxyOf(req)
	if err != nil {
		return nil, err
	}
	if proxy != nil {
		return l.proxied.RoundTrip(req)
	}
	return l.direct.RoundTrip(req)
}

// lane gives the way to u for a registry.
func (c *Client) lane(origin string, u *url.URL) (*lane, error) {
	from := c.host(origin)
	if from.err != nil {
		return nil, from.err
	}
	key := laneKey{own: c.home(origin, u)}
	roots, client := from.roots, from.client
	if from.own() {
		key.certs = origin
	}
	if !key.own {
		// The registry vouches for where it sends us, so its CA counts there too.
		// Our own certificates are for whom they were made.
		client = nil
		key.reach = c.reachOf(origin)
		if to := c.host(u.Host); to.own() {
			key.certs += " " + u.Host
			roots = append(roots[:len(roots):len(roots)], to.roots...)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.lanes[key]; l != nil {
		return l, nil
	}
	config, err := c.tlsConfig(roots, client)
	if err != nil {
		return nil, err
	}
	l := c.newLane(key, config)
	if len(c.lanes) < mostHosts {
		c.lanes[key] = l
	}
	return l, nil
}

// home reports whether a URL is the registry's own.
func (c *Client) home(origin string, u *url.URL) bool {
	return u.Host == origin && u.Scheme == c.scheme(origin) && u.User == nil
}

// tlsConfig trusts the base and these certificates.
func (c *Client) tlsConfig(roots []*x509.Certificate, client []tls.Certificate) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.roots, Certificates: client}
	if len(roots) == 0 {
		return config, nil
	}
	if config.RootCAs == nil {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, release.Unavailable("look at the system's certificates", "reading them: %w", err)
		}
		config.RootCAs = pool
	} else {
		config.RootCAs = config.RootCAs.Clone()
	}
	for _, root := range roots {
		config.RootCAs.AddCert(root)
	}
	return config, nil
}

// newLane makes transports that speak HTTP/1.1 over a pool of connections:
// parallel blobs then don't share one connection's window. They ask for no
// compression, because what is hashed must be what was sent.
func (c *Client) newLane(key laneKey, config *tls.Config) *lane {
	plain := c.dialer(nil)
	transport := func(dial dialFunc) *http.Transport {
		return &http.Transport{
			DialContext:         dial,
			TLSClientConfig:     config,
			TLSHandshakeTimeout: c.limits.Dial,
			// Blobs are long: fewer, larger reads and writes.
			ReadBufferSize:         64 * kib,
			WriteBufferSize:        64 * kib,
			DisableCompression:     true,
			MaxIdleConnsPerHost:    2 * c.limits.Width,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 64 * kib,
		}
	}
	l := &lane{client: c, proxied: transport(plain.DialContext)}
	l.proxied.Proxy, l.proxied.OnProxyConnectResponse = c.proxyOf, proxyAnswer
	if key.own {
		l.direct = transport(func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := plain.DialContext(ctx, network, address)
			if err == nil {
				c.saw(address, conn.RemoteAddr())
			}
			return conn, err
		})
	} else {
		l.direct = transport(c.dialer(c.guard(key.reach)).DialContext)
	}
	return l
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

type controlFunc func(ctx context.Context, network, address string, conn syscall.RawConn) error

func (c *Client) dialer(control controlFunc) *net.Dialer {
	return &net.Dialer{Timeout: c.limits.Dial, KeepAlive: 30 * time.Second, ControlContext: control, Resolver: c.resolver}
}

// proxyOf asks the environment for a proxy. What it finds there may hold a
// password, and is never repeated.
func (c *Client) proxyOf(req *http.Request) (*url.URL, error) {
	proxy, err := c.proxy(req)
	if err != nil {
		return nil, release.Faultf(release.KindConfig, "write $HTTPS_PROXY as http://HOST:PORT, with USER:PASSWORD@ before the host where it is needed",
			"the proxy for %s is not an address", req.URL.Host)
	}
	return proxy, nil
}

// proxyAnswer judges what a proxy says to CONNECT, without its own words.
func proxyAnswer(_ context.Context, proxy *url.URL, connect *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	hint := "look at the proxy, or name the host in $NO_PROXY"
	if answer.StatusCode == http.StatusProxyAuthRequired {
		hint = "the proxy wants other credentials: repair $HTTPS_PROXY"
	}
	err := release.Unavailable(hint, "proxy %s answers %d to CONNECT %s", proxy.Host, answer.StatusCode, connect.Host)
	if answer.StatusCode >= http.StatusInternalServerError {
		return &transient{err: err}
	}
	return err
}

// reach says how far inside an address is. A registry may send us as far inside
// as it is itself, and no further.
type reach int

const (
	outside reach = iota // the internet
	site                 // this machine's network
	machine              // this machine
	nowhere              // where no registry is: nobody may send us there
)

func (r reach) String() string {
	switch r {
	case site:
		return "a private address"
	case machine:
		return "this machine"
	case nowhere:
		return "an address of no registry"
	}
	return "a public address"
}

// Ranges that Go's own classification leaves out.
var (
	sharedSpace = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	reserved    = netip.MustParsePrefix("240.0.0.0/4")
	siteLocal   = netip.MustParsePrefix("fec0::/10")
	nat64       = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052: an IPv4 address in its end
	sixToFour   = netip.MustParsePrefix("2002::/16")    // RFC 3056: one in its beginning
	ipv4Like    = netip.MustParsePrefix("::/96")
)

// reachOf classifies an address.
func reachOf(a netip.Addr) reach {
	a = a.Unmap().WithZone("")
	switch {
	case a.IsLoopback():
		return machine
	case !a.IsValid(), a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocalUnicast(), thisNetwork.Contains(a), reserved.Contains(a), ipv4Like.Contains(a):
		return nowhere
	case a.IsPrivate(), sharedSpace.Contains(a), siteLocal.Contains(a):
		return site
	case nat64.Contains(a):
		b := a.As16()
		return reachOf(netip.AddrFrom4([4]byte(b[12:])))
	case sixToFour.Contains(a):
		b := a.As16()
		return reachOf(netip.AddrFrom4([4]byte(b[2:6])))
	}
	return outside
}

// reachOf says how far inside a registry is: by its number, or by where the
// connections to it went. One that went outside decides for good. Nothing is
// known of a registry behind a proxy; it counts as outside.
func (c *Client) reachOf(origin string) reach {
	if Loopback(origin) {
		return machine
	}
	r := outside
	if ip, err := netip.ParseAddr(hostname(origin)); err == nil {
		r = c.locate(ip)
	} else {
		address := dialled(c.scheme(origin), origin)
		c.mu.Lock()
		r = c.seen[address]
		c.mu.Unlock()
	}
	if r == nowhere {
		return outside
	}
	return r
}

// saw remembers where a connection to a registry went.
func (c *Client) saw(address string, remote net.Addr) {
	r := outside
	if tcp, ok := remote.(*net.TCPAddr); ok {
		r = c.locate(tcp.AddrPort().Addr())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before, known := c.seen[address]
	switch {
	case known:
		c.seen[address] = min(before, r)
	case len(c.seen) < mostHosts:
		c.seen[address] = r
	}
}

// dialled is the address that is dialled for a host.
func dialled(scheme, host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	port := "443"
	if scheme == "http" {
		port = "80"
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// guard refuses addresses that lie further inside than may be reached. It
// judges the address that is about to be connected to, so no name and no second
// answer of a name server gets around it.
func (c *Client) guard(most reach) controlFunc {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return &refusedHop{address, nowhere}
		}
		if r := c.locate(to.Addr()); r > most || r == nowhere {
			return &refusedHop{to.Addr().String(), r}
		}
		return nil
	}
}

// refusedHop is the guard's no.
type refusedHop struct {
	address string
	reach   reach
}

func (e *refusedHop) Error() string { return fmt.Sprintf("%s is %s", e.address, e.reach) }

// explain makes the guard's no a denial.
func explain(origin string, u *url.URL, err error) error {
	var refused *refusedHop
	if errors.As(err, &refused) {
		return refuseHop(origin, u, refused.Error())
	}
	return err
}
