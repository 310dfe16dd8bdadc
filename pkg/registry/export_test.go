package registry

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Pretend makes names resolve as a resolver says, and an address of this
// machine count as another: "outside", "site".
func (c *Client) Pretend(resolver *net.Resolver, as map[string]string) {
	c.resolver = resolver
	c.proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	c.locate = func(a netip.Addr) reach {
		switch as[a.Unmap().String()] {
		case "outside":
			return outside
		case "site":
			return site
		}
		return reachOf(a)
	}
}

// Proxy makes another proxy than the environment's.
func (c *Client) Proxy(f func(*http.Request) (*url.URL, error)) { c.proxy = f }

// Patience changes how long mirrors are waited for.
func (c *Client) Patience(l Limits) { c.patience = l.withDefaults() }

// MirrorRest changes for how long a mirror that failed is left alone.
func (c *Client) MirrorRest(d time.Duration) { c.mirrorRest = d }

// ExpireTokens lets every token run out.
func (c *Client) ExpireTokens() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sessions {
		for _, t := range s.tokens {
			t.expires = time.Now().Add(-time.Second)
		}
	}
}

// HostError gives what is wrong with the settings and certificates of a host.
func (c *Client) HostError(host string) error { return c.host(endpoint(host)).err }

// Waiting counts who waits for the attestations about a subject.
func (c *Client) Waiting(s release.Subject) int { return waiting(&c.asking, s) }

// Resolving counts who waits to hear whether a digest is there.
func (c *Client) Resolving(s release.Subject) int { return waiting(&c.resolving, s) }

func waiting[T any](f *flights[T], s release.Subject) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one := f.all[s]; one != nil {
		return one.waiting
	}
	return 0
}
