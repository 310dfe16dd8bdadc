package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// guarded is a registry that wants a token for a scope, with its own token
// server, which wants a password.
type guarded struct {
	*registrytest.Proxy
	mu     sync.Mutex
	tokens []string // the scopes that tokens were asked for
}

const (
	alice  = "Basic YWxpY2U6c2VjcmV0" // alice:secret
	bearer = "Bearer the-token"
)

func newGuarded(t *testing.T, realm string) *guarded {
	g := &guarded{Proxy: registrytest.Serve(t, inMemory(true).New(t))}
	if realm == "" {
		realm = "http://" + g.Host + "/token"
	}
	g.On("", "^/v2/", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Header.Get("Authorization") == bearer {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="reg, istry",scope="ignored"`, realm))
		w.WriteHeader(http.StatusUnauthorized)
	})
	g.On("", "^/token", func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		if r.Header.Get("Authorization") != alice || r.URL.Query().Get("service") != "reg, istry" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		g.mu.Lock()
		g.tokens = append(g.tokens, strings.Join(r.URL.Query()["scope"], " "))
		g.mu.Unlock()
		fmt.Fprint(w, `{"token":"the-token","expires_in":300}`)
	})
	return g
}

func clientWith(t *testing.T, credentials registrytest.Credentials) *registry.Client {
	c, err := registry.New(registry.Options{Keychain: credentials, Limits: registrytest.FastLimits()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBearerToken(t *testing.T) {
	g := newGuarded(t, "")
	img := registrytest.NewImage(1, 100, 200, 300)
	s := g.Put(t, "src", "v1", img)
	c := clientWith(t, registrytest.Credentials{g.Host: {Username: "alice", Password: "secret"}})
	if _, err := c.Copy(t.Context(), s, g.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}}); err != nil {
		t.Fatal(err)
	}
	g.Whole(t, "dst", img)
	// One token a set of scopes, however many requests run at once.
	if len(g.tokens) != 2 || g.tokens[0] != "repository:dst:pull,push repository:src:pull" || g.tokens[1] != "repository:src:pull" {
		t.Errorf("tokens were asked for %q", g.tokens)
	}
	refused := 0
	for _, r := range g.Requests() {
		if r.Status == http.StatusUnauthorized {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("%d requests went out without a token, want the first only", refused)
	}

	g.Forget()
	_, err := clientWith(t, nil).Resolve(t.Context(), s.String())
	if n := count(g.Proxy, "GET", "/token"); n != 1 { // passwords get locked by insisting
		t.Errorf("the token server was asked %d times", n)
	}
	if !errors.Is(err, registry.ErrUnauthorized) || release.KindOf(err) != release.KindUnavailable || errors.Is(err, registry.ErrNotFound) {
		t.Errorf("without credentials: %v", err)
	}
	if strings.Contains(fmt.Sprintf("%v %+v", err, err), "secret") {
		t.Errorf("the error shows the password: %v", err)
	}
}

func TestExpiredToken(t *testing.T) {
	g := newGuarded(t, "")
	s := g.Put(t, "src", "v1", registrytest.NewImage(1, 10))
	c := clientWith(t, registrytest.Credentials{g.Host: {Username: "alice", Password: "secret"}})
	if _, err := c.Resolve(t.Context(), s.String()); err != nil {
		t.Fatal(err)
	}
	g.OnTimes(1, "GET", "/manifests/", registrytest.Answer(401, nil, "WWW-Authenticate", `Bearer realm="http://`+g.Host+`/token",service="reg, istry",error="invalid_token"`))
	if _, err := c.Resolve(t.Context(), s.String()); err != nil {
		t.Errorf("the token was not renewed: %v", err)
	}
	if len(g.tokens) != 2 {
		t.Errorf("asked for %q", g.tokens)
	}
}

func TestBasicAuthentication(t *testing.T) {
	p := registrytest.Serve(t, inMemory(true).New(t))
	s := p.Put(t, "src", "v1", registrytest.NewImage(1, 10))
	p.On("", "^/v2/", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Header.Get("Authorization") != alice {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
	c := clientWith(t, registrytest.Credentials{p.Host: {Username: "alice", Password: "secret"}})
	if _, err := c.Resolve(t.Context(), s.String()); err != nil {
		t.Fatal(err)
	}
	p.Forget()
	_, err := clientWith(t, registrytest.Credentials{p.Host: {Username: "alice", Password: "wrong"}}).Resolve(t.Context(), s.String())
	if !errors.Is(err, registry.ErrUnauthorized) || len(p.Requests()) > 2 {
		t.Errorf("a wrong password: %v after %v", err, p.Requests())
	}
	c = clientWith(t, registrytest.Credentials{p.Host: {RegistryToken: "YWxpY2U6c2VjcmV0"}})
	_, _ = c.Resolve(t.Context(), s.String())
	if r := p.Requests(); r[len(r)-1].Authorization != "Bearer YWxpY2U6c2VjcmV0" {
		t.Errorf("a registry token was sent as %q", r[len(r)-1].Authorization)
	}
}

// Whatever a registry says, its credentials reach nobody else.
func TestCredentialsStayHome(t *testing.T) {
	credentials := func(host string) registrytest.Credentials {
		return registrytest.Credentials{host: {Username: "alice", Password: "secret"}}
	}
	thief := func(t *testing.T) *registrytest.Proxy {
		p := registrytest.Serve(t, inMemory(true).New(t))
		t.Cleanup(func() {
			for _, r := range p.Requests() {
				if r.Authorization != "" {
					t.Errorf("%s got %q", r, r.Authorization)
				}
			}
		})
		return p
	}
	t.Run("token server elsewhere", func(t *testing.T) {
		evil := thief(t)
		g := newGuarded(t, "http://"+evil.Host+"/token")
		s := g.Put(t, "src", "v1", registrytest.NewImage(1, 10))
		_, err := clientWith(t, credentials(g.Host)).Resolve(t.Context(), s.String())
		if release.KindOf(err) != release.KindDenied || len(evil.Requests()) > 0 {
			t.Errorf("got %v, and %v", err, evil.Requests())
		}
	})
	t.Run("token server redirects", func(t *testing.T) {
		evil := thief(t)
		g := newGuarded(t, "")
		s := g.Put(t, "src", "v1", registrytest.NewImage(1, 10))
		g.On("", "^/token", registrytest.Answer(307, nil, "Location", "http://"+evil.Host+"/token"))
		for _, cred := range []registry.Credential{{Username: "alice", Password: "secret"}, {IdentityToken: "identity"}} {
			_, err := clientWith(t, registrytest.Credentials{g.Host: cred}).Resolve(t.Context(), s.String())
			if release.KindOf(err) != release.KindDenied || len(evil.Requests()) > 0 {
				t.Errorf("got %v, and %v", err, evil.Requests())
			}
		}
	})
	t.Run("reads are redirected", func(t *testing.T) {
		evil := thief(t)
		g := newGuarded(t, "")
		img := registrytest.NewImage(1, 10)
		s := g.Put(t, "src", "v1", img)
		evil.Put(t, "src", "v1", img)
		to := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			registrytest.Answer(307, nil, "Location", "http://"+evil.Host+r.URL.Path)(w, r, next)
		}
		c := clientWith(t, credentials(g.Host))
		if _, err := c.Resolve(t.Context(), s.String()); err != nil {
			t.Fatal(err)
		}
		g.On("GET", "/blobs/", to)
		if _, err := c.Platform(t.Context(), s, "linux/amd64"); err != nil {
			t.Errorf("a redirect to storage elsewhere must work: %v", err)
		}
		if len(evil.Requests()) != 1 {
			t.Errorf("asked %v", evil.Requests())
		}
		evil.On("", ".", registrytest.Answer(401, nil, "WWW-Authenticate", `Basic realm="give"`))
		if _, err := c.Blob(t.Context(), s.Repository, img.Blobs[0].Digest, 1000); !errors.Is(err, registry.ErrUnauthorized) {
			t.Errorf("got %v", err)
		}
		g.Forget() // and that other host's challenge is not taken for the registry's
		if _, err := c.Resolve(t.Context(), s.String()); err != nil || len(g.Requests()) != 1 {
			t.Errorf("afterwards: %v, %v", err, g.Requests())
		}
	})
	t.Run("upload goes elsewhere", func(t *testing.T) {
		evil := thief(t)
		g := newGuarded(t, "")
		g.On("POST", "/blobs/uploads/", registrytest.Answer(202, nil, "Location", "http://"+evil.Host+"/v2/dst/blobs/uploads/1"))
		b := registrytest.NewBlob("x/y", []byte("content"))
		_ = clientWith(t, credentials(g.Host)).PushBlob(t.Context(), g.Host+"/dst", b)
		if len(evil.Requests()) == 0 {
			t.Error("the case does not happen")
		}
	})
	t.Run("writes are redirected", func(t *testing.T) {
		evil := thief(t)
		p := registrytest.Serve(t, inMemory(true).New(t))
		p.On("POST", ".", registrytest.Answer(307, nil, "Location", "http://"+evil.Host+"/"))
		err := clientWith(t, credentials(p.Host)).PushBlob(t.Context(), p.Host+"/dst", registrytest.NewBlob("x/y", []byte("content")))
		if release.KindOf(err) != release.KindDenied || len(evil.Requests()) > 0 {
			t.Errorf("got %v, and %v", err, evil.Requests())
		}
	})
	t.Run("nobody asked", func(t *testing.T) {
		p := thief(t) // a registry that asks for nothing is told nothing
		s := p.Put(t, "src", "v1", registrytest.NewImage(1, 10))
		if _, err := clientWith(t, credentials(p.Host)).Resolve(t.Context(), s.String()); err != nil {
			t.Fatal(err)
		}
	})
}
