package registry

import (
	"context"
	"net"
	"net/http"
	"net/url"

	"github.com/promote-dev/promote/pkg/release"
)

// mostHops bounds a chain of redirects.
const mostHops = 5

// follow sends a request and follows the redirects of reads. Authorization goes
// to the registry's own endpoint only, whatever a redirect or an upload
// location says.
func (c *Client) follow(ctx context.Context, r *request, authorization string, w *watch) (*http.Response, error) {
	registry := c.scheme(r.repo.endpoint()) + "://" + r.repo.endpoint()
	for u, hop := r.url, 0; ; hop++ {
		if err := c.allowHop(r.repo.endpoint(), u); err != nil {
			return nil, err
		}
		req, err := newRequest(ctx, r, u, w)
		if err != nil {
			return nil, err
		}
		req.Header.Set("User-Agent", c.agent)
		if authorization != "" && u.Scheme+"://"+u.Host == registry {
			req.Header.Set("Authorization", authorization)
		}
		count(ctx)
		resp, err := c.transport.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		resp.Request = req
		location := resp.Header.Get("Location")
		if !redirects(resp.StatusCode) || location == "" {
			return resp, nil
		}
		drain(resp)
		if r.method != http.MethodGet && r.method != http.MethodHead {
			return nil, release.Denied("a registry has no reason to send a write elsewhere", "registry %s redirects %s %s", r.repo.host, r.method, u.Path)
		}
		if hop == mostHops {
			return nil, release.Unavailable("", "registry %s: more than %d redirects", r.repo.host, mostHops)
		}
		if u, err = u.Parse(location); err != nil {
			return nil, release.Unavailable("", "registry %s redirects to a malformed address", r.repo.host)
		}
	}
}

func redirects(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// allowHop refuses addresses to which a registry must not send us: without TLS
// where we would not go ourselves, and into this machine or its network from a
// registry that is outside of it. Names that resolve to such addresses are the
// network's to guard.
func (c *Client) allowHop(origin string, u *url.URL) error {
	if u.Host == origin && u.Scheme == c.scheme(origin) && u.User == nil {
		return nil
	}
	refuse := func(why string) error {
		return release.Denied("if this is how the registry is meant to work, name the other host directly",
			"registry %s sends us to %s://%s: %s", origin, printable(u.Scheme, 20), printable(u.Host, 100), why)
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return refuse("not an HTTP address")
	case u.User != nil:
		return refuse("with credentials in the address")
	case u.Scheme == "http" && (c.scheme(u.Host) != "http" || c.scheme(origin) != "http"):
		return refuse("without TLS")
	case Loopback(u.Host) && !Loopback(origin):
		return refuse("this machine")
	}
	ip := net.ParseIP(hostname(u.Host))
	switch {
	case ip == nil:
		return nil
	case ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified():
		return refuse("an address of no registry")
	case ip.IsPrivate() && !private(origin):
		return refuse("a private address")
	}
	return nil
}

// private reports whether a host is one of this machine or its network by its
// number.
func private(host string) bool {
	ip := net.ParseIP(hostname(host))
	return Loopback(host) || ip != nil && ip.IsPrivate()
}
