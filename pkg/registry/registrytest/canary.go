package registrytest

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

// thief is a host that wants everybody's credentials and writes down all that
// it is sent.
type thief struct {
	url  string
	mu   sync.Mutex
	seen []string
}

func newThief(t *testing.T) *thief {
	th := &thief{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dump, _ := httputil.DumpRequest(r, true)
		th.mu.Lock()
		th.seen = append(th.seen, string(dump))
		th.mu.Unlock()
		w.Header().Add("WWW-Authenticate", `Basic realm="give me"`)
		w.Header().Add("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="s"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(s.Close)
	th.url = s.URL
	return th
}

const (
	canaryUser     = "canary-user"
	canaryPassword = "canary-password"
	canaryToken    = "canary-token"
)

// check requires that nothing secret reached the thief.
func (th *thief) check(t *testing.T) (visits int) {
	t.Helper()
	th.mu.Lock()
	defer th.mu.Unlock()
	basic := base64.StdEncoding.EncodeToString([]byte(canaryUser + ":" + canaryPassword))
	for _, dump := range th.seen {
		for _, secret := range []string{canaryUser, canaryPassword, canaryToken, basic} {
			if strings.Contains(dump, secret) {
				t.Errorf("the thief got %q:\n%s", secret, dump)
			}
		}
	}
	return len(th.seen)
}

// guard lets a registry ask for credentials: by password or by a token of its
// own token server, which wants the password.
func (p *Proxy) guard(scheme, realm string) {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(canaryUser+":"+canaryPassword))
	want, challenge := basic, `Basic realm="registry"`
	if scheme == "Bearer" {
		want, challenge = "Bearer "+canaryToken, `Bearer realm="`+realm+`",service="registry"`
	}
	p.On("", "^/v2/", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Header.Get("Authorization") == want {
			next.ServeHTTP(w, r)
			return
		}
		Answer(http.StatusUnauthorized, nil, "WWW-Authenticate", challenge)(w, r, next)
	})
	p.On("", "^/token", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Header.Get("Authorization") == basic || r.PostFormValue("refresh_token") == canaryPassword {
			Answer(http.StatusOK, []byte(`{"token":"`+canaryToken+`","access_token":"`+canaryToken+`"}`))(w, r, next)
			return
		}
		Answer(http.StatusUnauthorized, nil)(w, r, next)
	})
}

// only answers authorized requests by an action, others by the guard below it.
func authorizedOnly(do Action) Action {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Header.Get("Authorization") == "" {
			Answer(http.StatusUnauthorized, nil, "WWW-Authenticate", `Basic realm="registry"`)(w, r, next)
			return
		}
		do(w, r, next)
	}
}

// testCanary plants credentials and lets registries try to send them elsewhere
// in every way that HTTP has.
func testCanary(t *testing.T, b Backend) {
	here := func(th *thief) Action {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			Redirect(http.StatusTemporaryRedirect, th.url+r.URL.RequestURI())(w, r, next)
		}
	}
	attacks := map[string]func(w *world, th *thief){
		"location of an upload": func(w *world, th *thief) {
			w.dst.On("POST", "/blobs/uploads/", authorizedOnly(Redirect(http.StatusAccepted, th.url+"/upload?_state=x")))
		},
		"next page of tags": func(w *world, th *thief) {
			w.src.On("GET", "/tags/list", authorizedOnly(Page("application/json", []byte(`{"tags":["a"]}`), th.url+"/v2/src/tags/list")))
		},
		"next page of referrers": func(w *world, th *thief) {
			w.src.On("GET", "/referrers/", authorizedOnly(Page(release.MediaTypeIndex, listing(nil).Bytes, th.url+"/next")))
		},
		"next page without a scheme": func(w *world, th *thief) {
			w.src.On("GET", "/tags/list", authorizedOnly(Page("application/json", []byte(`{"tags":["a"]}`), strings.TrimPrefix(th.url, "http:"))))
		},
		"token server elsewhere": func(w *world, th *thief) {
			w.src.guard("Bearer", th.url+"/token")
			w.dst.guard("Bearer", th.url+"/token")
		},
		"token server redirects": func(w *world, th *thief) {
			w.src.guard("Bearer", "http://"+w.src.Host+"/token")
			w.src.On("", "^/token", here(th))
		},
		"token server with credentials in its address": func(w *world, th *thief) {
			w.src.guard("Bearer", strings.Replace(th.url, "http://", "http://"+w.src.Host+"@", 1)+"/token")
		},
		"another challenge afterwards": func(w *world, th *thief) {
			w.src.On("GET", "/blobs/", Answer(http.StatusUnauthorized, nil, "WWW-Authenticate", `Bearer realm="`+th.url+`/token"`))
		},
	}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		attacks[method+" redirected"] = func(w *world, th *thief) {
			w.src.On(method, "^/v2/", authorizedOnly(here(th)))
			w.dst.On(method, "^/v2/dst/", authorizedOnly(here(th)))
		}
	}
	for name, attack := range attacks {
		for _, scheme := range []string{"Basic", "Bearer"} {
			for kind, cred := range map[string]registry.Credential{
				"password":       {Username: canaryUser, Password: canaryPassword},
				"identity token": {IdentityToken: canaryPassword},
				"registry token": {RegistryToken: canaryToken},
			} {
				if b.nth > 1 && (kind != "password" || !b.Referrers) {
					continue
				}
				t.Run(name+"/"+scheme+"/"+kind, func(t *testing.T) {
					t.Parallel()
					w, th := fast(t, b), newThief(t)
					w.src.guard(scheme, "http://"+w.src.Host+"/token")
					w.dst.guard(scheme, "http://"+w.dst.Host+"/token")
					attack(w, th)
					c, err := registry.New(registry.Options{Limits: FastLimits(), Keychain: Credentials{w.src.Host: cred, w.dst.Host: cred}})
					if err != nil {
						t.Fatal(err)
					}
					w.c = c
					everything(t, w)
					visits := th.check(t)
					if visits > 0 && (strings.HasPrefix(name, "next page") || strings.HasPrefix(name, "token server")) {
						t.Errorf("the thief was asked %d times", visits)
					}
				})
			}
		}
	}
}

// everything does all that a client can do, and minds no failure.
func everything(t *testing.T, w *world) {
	_, _ = w.c.Resolve(t.Context(), w.subject.Repository+":v1")
	_, _ = w.c.Tags(t.Context(), w.subject.Repository)
	_, _ = w.c.Attachments(t.Context(), w.subject)
	_, _ = w.c.LegacyAttachments(t.Context(), w.subject)
	_, _ = w.c.Platform(t.Context(), w.subject, "linux/amd64")
	_, _ = w.c.Blob(t.Context(), w.subject.Repository, w.amd.Blobs[1].Digest, 1<<20)
	_, _ = w.c.PullRelease(t.Context(), w.release)
	_ = w.copy(t)
	_ = w.c.PushBlob(t.Context(), w.dst.Host+"/dst", NewBlob("x/y", []byte("content")))
	_ = w.c.Tag(t.Context(), w.subject, "v7")
	_ = w.c.Attach(t.Context(), w.subject, release.Attachment{PredicateType: release.PredicateProvenance, Bundle: []byte(`{"a":"bundle"}`)})
}

// What a client remembers between its runs changes how it asks, never what it
// answers: not when it is gone, or garbage, or a lie.
func testCaches(t *testing.T, b Backend) {
	for name, content := range map[string]string{
		"absent": "", "garbage": "\x00{", "another form": `[1,2]`, "huge": strings.Repeat(" ", 2<<20), "null": "null",
		"a lie": `{"HOST":{"validates":true,"asked":"NOW"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := fast(t, b)
			file := filepath.Join(t.TempDir(), "capabilities.json")
			if name != "absent" {
				if err := os.WriteFile(file, []byte(strings.NewReplacer("HOST", w.dst.Host, "NOW", time.Now().UTC().Format(time.RFC3339)).Replace(content)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c, err := registry.New(registry.Options{Limits: FastLimits(), Keychain: Credentials{}, Capabilities: registry.RememberCapabilities(file)})
			if err != nil {
				t.Fatal(err)
			}
			w.c = c
			if err := w.copy(t); err != nil {
				t.Fatal(err)
			}
			w.dst.Whole(t, "dst", w.index)
			w.dst.Whole(t, "dst", w.evidence)
		})
	}
}
