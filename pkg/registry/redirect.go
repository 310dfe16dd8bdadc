package registry

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/promote-dev/promote/pkg/release"
)

// mostHops bounds a chain of redirects.
const mostHops = 5

// follow sends a request and follows the redirects of reads. Authorization goes
// to the registry's own endpoint only, whatever a redirect or an upload
// location says.
func (c *Client) follow(ctx context.Context, r *request, authorization string, w *watch) (*http.Response, error) {
	origin := r.repo.endpoint()
	for u, hop := r.url, 0; ; hop++ {
		if err := c.allowHop(origin, u); err != nil {
			return nil, err
		}
		lane, err := c.lane(origin, u)
		if err != nil {
			return nil, err
		}
		req, err := newRequest(ctx, r, u, w)
		if err != nil {
			return nil, err
		}
		req.Header.Set("User-Agent", c.agent)
		if authorization != "" && c.home(origin, u) {
			req.Header.Set("Authorization", authorization)
		}
		count(ctx)
		resp, err := lane.RoundTrip(req)
		if err != nil {
			return nil, explain(origin, u, err)
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
			return nil, release.Unavailable("look at what the registry, or a proxy before it, answers", "registry %s: more than %d redirects", r.repo.host, mostHops)
		}
		if u, err = u.Parse(location); err != nil {
			return nil, release.Unavailable("look at what the registry, or a proxy before it, answers", "registry %s redirects to a malformed address", r.repo.host)
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
// where we would not go ourselves, and further into this machine or its network
// than the registry is itself. Names are judged when they are dialled, by the
// guard of their lane.
func (c *Client) allowHop(origin string, u *url.URL) error {
	if c.home(origin, u) {
		return nil
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return refuseHop(origin, u, "not an HTTP address")
	case u.User != nil:
		return refuseHop(origin, u, "with credentials in the address")
	case u.Scheme == "http" && (c.scheme(u.Host) != "http" || c.scheme(origin) != "http"):
		return refuseHop(origin, u, "without TLS")
	}
	to := outside
	if ip, err := netip.ParseAddr(hostname(u.Host)); err == nil {
		to = c.locate(ip)
	}
	if Loopback(u.Host) {
		to = machine
	}
	if to > c.reachOf(origin) {
		return refuseHop(origin, u, to.String())
	}
	return nil
}

func refuseHop(origin string, u *url.URL, why string) error {
	return release.Denied("if this is how the registry is meant to work, name the other host directly",
		"registry %s sends us to %s://%s: %s", origin, printable(u.Scheme, 20), printable(u.Host, 100), why)
}
