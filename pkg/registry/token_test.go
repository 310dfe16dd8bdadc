package registry_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
)

// issuer is a registry with a token server whose tokens can be revoked.
type issuer struct {
	*registrytest.Proxy
	mu     sync.Mutex
	issued []string // the scopes, by token
	least  int      // number of the oldest token that counts
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{Proxy: registrytest.Serve(t, inMemory(true).New(t))}
	i.On("", "^/v2/", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if i.valid(r) {
			next.ServeHTTP(w, r)
			return
		}
		i.challenge(w)
	})
	i.On("", "^/token", func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		if r.Header.Get("Authorization") != alice {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		i.issued = append(i.issued, strings.Join(r.URL.Query()["scope"], " "))
		fmt.Fprintf(w, `{"token":"token-%d","expires_in":300}`, len(i.issued))
	})
	return i
}

func (i *issuer) challenge(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="x"`, i.Host))
	w.WriteHeader(http.StatusUnauthorized)
}

func (i *issuer) valid(r *http.Request) bool {
	var n int
	_, err := fmt.Sscanf(r.Header.Get("Authorization"), "Bearer token-%d", &n)
	i.mu.Lock()
	defer i.mu.Unlock()
	return err == nil && n >= i.least && n <= len(i.issued)
}

// Sixteen blobs at once take one token a registry; when the source's is revoked
// under them, they take one more.
func TestOneTokenForManyBlobs(t *testing.T) {
	for _, revoked := range []bool{false, true} {
		t.Run(fmt.Sprintf("revoked %v", revoked), func(t *testing.T) {
			src, dst := newIssuer(t), newIssuer(t)
			sizes := make([]int, 16)
			for n := range sizes {
				sizes[n] = 1000 + n
			}
			img := registrytest.NewImage(1, sizes...)
			s := src.Put(t, "src", "v1", img)
			limits := registrytest.FastLimits()
			limits.Width = 17
			credentials := registrytest.Credentials{src.Host: {Username: "alice", Password: "secret"}, dst.Host: {Username: "alice", Password: "secret"}}
			c, err := registry.New(registry.Options{Keychain: credentials, Limits: limits})
			if err != nil {
				t.Fatal(err)
			}
			if revoked {
				src.revokeUnder(4)
			}
			if _, err := c.Copy(t.Context(), s, dst.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}}); err != nil {
				t.Fatal(err)
			}
			dst.Whole(t, "dst", img)
			want := 1
			if revoked {
				want = 2
			}
			for _, scopes := range src.issued {
				if scopes != "repository:src:pull" {
					t.Errorf("asked for %q", scopes)
				}
			}
			if len(src.issued) != want {
				t.Errorf("%d tokens of the source, want %d", len(src.issued), want)
			}
			if len(dst.issued) != 1 || dst.issued[0] != "repository:dst:pull,push" {
				t.Errorf("tokens of the destination: %q", dst.issued)
			}
		})
	}
}

// revokeUnder revokes the first token once some requests for blobs carry it, and
// only then answers them.
func (i *issuer) revokeUnder(requests int) {
	var mu sync.Mutex
	waiting, go_ := 0, make(chan struct{})
	i.On("GET", "/blobs/", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Header.Get("Authorization") == "Bearer token-1" {
			mu.Lock()
			if waiting++; waiting == requests {
				i.mu.Lock()
				i.least = 2
				i.mu.Unlock()
				close(go_)
			}
			mu.Unlock()
			select {
			case <-go_:
			case <-time.After(10 * time.Second):
			}
		}
		if !i.valid(r) {
			i.challenge(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// A token that has run out is not tried.
func TestTokensRunOut(t *testing.T) {
	i := newIssuer(t)
	s := i.Put(t, "src", "v1", registrytest.NewImage(1, 10))
	c := clientWith(t, registrytest.Credentials{i.Host: {Username: "alice", Password: "secret"}})
	for range 2 {
		if _, err := c.Resolve(t.Context(), s.String()); err != nil {
			t.Fatal(err)
		}
	}
	if len(i.issued) != 1 {
		t.Fatalf("asked for %q", i.issued)
	}
	c.ExpireTokens()
	i.least = 2
	i.Forget()
	if _, err := c.Resolve(t.Context(), s.String()); err != nil || len(i.issued) != 2 {
		t.Errorf("asked for %q: %v", i.issued, err)
	}
	for _, r := range i.Requests() {
		if r.Status == http.StatusUnauthorized {
			t.Errorf("%s", r)
		}
	}
}

// An identity token is exchanged as OAuth2 has it, and never sent to the
// registry itself.
func TestIdentityToken(t *testing.T) {
	i := newIssuer(t)
	s := i.Put(t, "src", "v1", registrytest.NewImage(1, 10))
	var form url.Values
	i.On("", "^/token", func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_ = r.ParseForm()
		if form = r.PostForm; r.Method != http.MethodPost || form.Get("refresh_token") != "the-identity" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		i.issued = append(i.issued, form.Get("scope"))
		fmt.Fprintf(w, `{"access_token":"token-%d","expires_in":300}`, len(i.issued))
	})
	c := clientWith(t, registrytest.Credentials{i.Host: {IdentityToken: "the-identity"}})
	if _, err := c.Resolve(t.Context(), s.String()); err != nil {
		t.Fatal(err)
	}
	if form.Get("grant_type") != "refresh_token" || form.Get("service") != "x" || form.Get("scope") != "repository:src:pull" {
		t.Errorf("asked for %v", form)
	}
	for _, r := range i.Requests() {
		if strings.Contains(r.Authorization+r.URL, "the-identity") {
			t.Errorf("%s carries the identity token", r)
		}
	}
}
