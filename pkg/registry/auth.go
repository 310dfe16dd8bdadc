package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/net/publicsuffix"

	"github.com/promote-dev/promote/pkg/release"
)

// session is what is known about authorization at one registry. It starts
// without: registries that ask nothing are never told anything, and those that
// do are asked for one token a set of scopes.
type session struct {
	client   *Client
	endpoint string

	mu          sync.Mutex
	challenge   *challenge
	credentials map[string]Credential // by repository path
	tokens      map[string]*token     // by set of scopes
}

// token is a bearer token; its lock makes concurrent requests wait for one
// exchange instead of making their own.
type token struct {
	mu      sync.Mutex
	value   string
	expires time.Time
}

func (c *Client) session(endpoint string) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.sessions[endpoint]
	if !ok {
		s = &session{client: c, endpoint: endpoint, credentials: map[string]Credential{}, tokens: map[string]*token{}}
		c.sessions[endpoint] = s
	}
	return s
}

// authorization gives the value of the Authorization header, or "" as long as
// the registry has asked for none.
func (s *session) authorization(ctx context.Context, repo repository, scopes []string) (string, error) {
	s.mu.Lock()
	ch := s.challenge
	s.mu.Unlock()
	if ch == nil {
		return "", nil
	}
	cred, err := s.credential(ctx, repo)
	if err != nil {
		return "", err
	}
	switch {
	case cred.RegistryToken != "":
		return "Bearer " + cred.RegistryToken, nil
	case ch.scheme == "basic" && cred.Username != "":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(cred.Username+":"+cred.Password)), nil
	case ch.scheme == "bearer":
		return s.bearer(ctx, ch, cred, scopes)
	}
	return "", nil
}

func (s *session) credential(ctx context.Context, repo repository) (Credential, error) {
	s.mu.Lock()
	cred, ok := s.credentials[repo.path]
	s.mu.Unlock()
	if ok {
		return cred, nil
	}
	cred, err := s.client.keychain.Credential(ctx, repo.host, repo.path)
	if err != nil {
		return Credential{}, err
	}
	s.mu.Lock()
	s.credentials[repo.path] = cred
	s.mu.Unlock()
	return cred, nil
}

// challenged takes a registry's 401. It reports whether asking again makes
// sense: the registry said something new, or the token may have expired.
func (s *session) challenged(headers []string, used string, scopes []string) bool {
	ch := parseChallenges(headers)
	if ch == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.challenge = ch
	if t, ok := s.tokens[scopeSet(scopes)]; ok {
		t.mu.Lock()
		if used == "Bearer "+t.value {
			t.value = ""
		}
		t.mu.Unlock()
	}
	return used == "" || ch.scheme == "bearer"
}

func scopeSet(scopes []string) string { return strings.Join(scopes, " ") }

func (s *session) bearer(ctx context.Context, ch *challenge, cred Credential, scopes []string) (string, error) {
	s.mu.Lock()
	t, ok := s.tokens[scopeSet(scopes)]
	if !ok {
		t = &token{}
		s.tokens[scopeSet(scopes)] = t
	}
	s.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.value == "" || time.Now().After(t.expires) {
		fresh, err := s.exchange(ctx, ch, cred, scopes)
		if err != nil {
			return "", err
		}
		t.value, t.expires = fresh.value, fresh.expires
	}
	return "Bearer " + t.value, nil
}

// exchange asks the registry's token server for a token, as the distribution
// specification's token and OAuth2 documents say.
func (s *session) exchange(ctx context.Context, ch *challenge, cred Credential, scopes []string) (token, error) {
	realm, err := url.Parse(ch.parameters["realm"])
	if err != nil || realm.Host == "" {
		return token{}, release.Unavailable("", "registry %s names no usable token server: %q", s.endpoint, printable(ch.parameters["realm"], 200))
	}
	if err := s.client.allowHop(s.endpoint, realm); err != nil {
		return token{}, err
	}
	auth := authn.Anonymous
	if !cred.empty() {
		if !sameOwner(s.endpoint, realm.Host) {
			return token{}, release.Denied("your credentials go to their own registry only; if this token server is the right one, ask for a registry that names one under its own domain",
				"registry %s wants its credentials sent to %s", s.endpoint, printable(realm.Host, 100))
		}
		auth = authn.FromConfig(authn.AuthConfig{Username: cred.Username, Password: cred.Password, IdentityToken: cred.IdentityToken})
	}
	reg, err := name.NewRegistry(s.endpoint, name.WeakValidation)
	if err != nil {
		return token{}, fmt.Errorf("registry %q: %w", s.endpoint, err)
	}
	lane, err := s.client.lane(s.endpoint, realm)
	if err != nil {
		return token{}, err
	}
	guard := &tokenTransport{client: s.client, origin: s.endpoint, realm: realm, lane: lane}
	fresh, err := transport.Exchange(ctx, reg, auth, guard, scopes, &transport.Challenge{
		Scheme: "bearer", Parameters: ch.parameters, Insecure: s.client.scheme(s.endpoint) == "http"})
	if err != nil {
		return token{}, s.exchangeFault(err, realm, guard)
	}
	value := fresh.Token
	if fresh.AccessToken != "" {
		value = fresh.AccessToken
	}
	// The token specification's default life is a minute.
	life := 60 * time.Second
	if fresh.ExpiresIn > 0 {
		life = time.Duration(min(fresh.ExpiresIn, 3600)) * time.Second
	}
	return token{value: value, expires: time.Now().Add(life * 9 / 10)}, nil
}

// exchangeFault never repeats what a token server said in full: it may be a token.
func (s *session) exchangeFault(err error, realm *url.URL, guard *tokenTransport) error {
	var fault *release.Fault
	if errors.As(err, &fault) {
		return fault
	}
	var answered *transport.Error
	if errors.As(err, &answered) {
		status := &statusError{method: http.MethodGet, url: realm.Host + realm.Path, status: answered.StatusCode}
		return retryable(status, guard.header)
	}
	var address *url.Error
	if errors.As(err, &address) { // its text holds the query; its cause doesn't
		return address.Err
	}
	return release.Unavailable("look at the registry's token server", "registry %s: the answer of token server %s is not understandable", s.endpoint, printable(realm.Host, 100))
}

// tokenTransport keeps an exchange at the token server that was agreed to.
type tokenTransport struct {
	client *Client
	origin string
	realm  *url.URL
	lane   *lane
	header http.Header // of the last answer
}

func (t *tokenTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := t.stay(req.URL); err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", t.client.agent)
	count(req.Context())
	resp, err := t.lane.RoundTrip(req)
	if err != nil {
		return nil, explain(t.origin, t.realm, err)
	}
	t.header = resp.Header
	if location, err := resp.Location(); err == nil && redirects(resp.StatusCode) {
		if err := t.stay(location); err != nil {
			drain(resp)
			return nil, err
		}
	}
	return resp, nil
}

func (t *tokenTransport) stay(u *url.URL) error {
	if u.Scheme == t.realm.Scheme && u.Host == t.realm.Host {
		return nil
	}
	return release.Denied("your credentials go to their own registry only", "token server %s redirects to %s", printable(t.realm.Host, 100), printable(u.Host, 100))
}

// sameOwner reports whether a token server may have a registry's credentials:
// it is the registry itself, or a host under the same registrable domain
// (auth.docker.io for index.docker.io). Numbers and localhost have no domain.
func sameOwner(registry, realm string) bool {
	if registry == realm {
		return true
	}
	a, b := hostname(registry), hostname(realm)
	if Loopback(a) || Loopback(b) || net.ParseIP(a) != nil || net.ParseIP(b) != nil {
		return false
	}
	domainA, errA := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(a))
	domainB, errB := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(b))
	return errA == nil && errB == nil && domainA == domainB
}

// challenge is what a registry answers to a request without authorization
// (RFC 9110 section 11.6.1).
type challenge struct {
	scheme     string // "basic" or "bearer"
	parameters map[string]string
}

// parseChallenges gives the first challenge that we know how to meet, or nil.
func parseChallenges(headers []string) *challenge {
	for _, header := range headers {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(header), " ")
		scheme = strings.ToLower(scheme)
		if slices.Contains([]string{"basic", "bearer"}, scheme) {
			return &challenge{scheme: scheme, parameters: parseParameters(rest)}
		}
	}
	return nil
}

// parseParameters reads name="value" pairs; what it cannot read it leaves out.
func parseParameters(s string) map[string]string {
	parameters := map[string]string{}
	for len(s) > 0 {
		key, rest, ok := strings.Cut(s, "=")
		if !ok {
			break
		}
		var value string
		value, s = parseValue(rest)
		parameters[strings.ToLower(strings.Trim(key, " ,"))] = value
	}
	return parameters
}

func parseValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		value, rest, _ = strings.Cut(s, ",")
		return strings.TrimSpace(value), rest
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == '"':
			return b.String(), s[i+1:]
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}
