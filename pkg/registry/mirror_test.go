package registry_test

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// mirrored is a registry with a mirror, and a destination with one too.
type mirrored struct {
	c                        *registry.Client
	origin, mirror, dst, own *registrytest.Proxy // own is the destination's mirror
	ctx                      context.Context
	mu                       sync.Mutex
	events                   []event.Event
}

func newMirrored(t *testing.T, limits registry.Limits, credentials registrytest.Credentials) *mirrored {
	t.Helper()
	serve := func() *registrytest.Proxy { return registrytest.Serve(t, inMemory(true).New(t)) }
	m := &mirrored{origin: serve(), mirror: serve(), dst: serve(), own: serve()}
	if credentials == nil {
		credentials = registrytest.Credentials{}
	}
	var err error
	m.c, err = registry.New(registry.Options{Keychain: credentials, Limits: limits, CertDirs: []string{}, Hosts: map[string]registry.Host{
		m.origin.Host: {Mirrors: []string{m.mirror.Host + "/hub"}},
		m.dst.Host:    {Mirrors: []string{m.own.Host}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	m.ctx = event.With(t.Context(), func(e event.Event) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.events = append(m.events, e)
	})
	return m
}

// put stores an image at the origin and, by its digests, at the mirror.
func (m *mirrored) put(t *testing.T, tag string, img registrytest.Image) release.Subject {
	m.mirror.Put(t, "hub/src", "", img)
	return m.origin.Put(t, "src", tag, img)
}

func (m *mirrored) warnings() (list []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.events {
		if e.Type == event.Warning {
			list = append(list, e.Message)
		}
	}
	return list
}

func paths(p *registrytest.Proxy) (list []string) {
	for _, r := range p.Requests() {
		list = append(list, r.Method+" "+r.URL)
	}
	return list
}

func TestMirror(t *testing.T) {
	m := newMirrored(t, registrytest.FastLimits(), nil)
	img := registrytest.NewIndex(registrytest.NewPlatformImage(1, "amd64", 1000, 70_000), registrytest.NewPlatformImage(2, "arm64", 2000))
	s := m.put(t, "v1", img)
	referrer := registrytest.NewReferrer(img.Manifest, "application/x", "application/x", []byte("{}"))
	m.origin.Put(t, "src", "", referrer)
	m.mirror.Put(t, "hub/src", "", registrytest.NewReferrer(img.Manifest, "application/y", "application/y", []byte("only at the mirror")))
	if got, err := m.c.Resolve(m.ctx, m.origin.Host+"/src:v1"); err != nil || got != s {
		t.Fatal(got, err)
	}
	if _, err := m.c.Copy(m.ctx, s, m.dst.Host+"/dst", registry.CopyOptions{Referrers: true, Tags: []string{"v1"}}); err != nil {
		t.Fatal(err)
	}
	m.dst.Whole(t, "dst", img)
	m.dst.Whole(t, "dst", referrer)
	for _, path := range paths(m.origin) {
		// What the mirror has not got may come from the origin, too.
		of := strings.Contains(path, referrer.Manifest.Digest.String()) || strings.Contains(path, referrer.Blobs[0].Digest.String()) || strings.Contains(path, referrer.Blobs[1].Digest.String())
		if !of && !strings.Contains(path, "/manifests/v1") && !strings.Contains(path, "/tags/list") && !strings.Contains(path, "/referrers/") && !strings.Contains(path, "/manifests/sha256-") {
			t.Errorf("the origin was asked %s", path)
		}
	}
	if len(m.mirror.Requests()) < 7 {
		t.Errorf("the mirror was asked %q", paths(m.mirror))
	}
	for _, path := range paths(m.mirror) {
		if !strings.HasPrefix(path, "GET /v2/hub/src/manifests/sha256:") && !strings.HasPrefix(path, "GET /v2/hub/src/blobs/sha256:") {
			t.Errorf("the mirror was asked %s", path)
		}
	}
	if n := len(m.own.Requests()); n > 0 {
		t.Errorf("the destination's mirror was asked %q", paths(m.own))
	}
	if w := m.warnings(); len(w) > 0 {
		t.Errorf("warned: %q", w)
	}
	// Somebody who reads by digest needs no origin.
	m.origin.On("", ".", registrytest.Answer(500, nil))
	if _, err := m.c.Resolve(m.ctx, s.String()); err != nil {
		t.Error(err)
	}
	if _, err := m.c.Blob(m.ctx, s.Repository, img.Children[0].Blobs[0].Digest, 1<<20); err != nil {
		t.Error(err)
	}
	if _, err := m.c.Platform(m.ctx, s, "linux/arm64"); err != nil {
		t.Error(err)
	}
}

// Whatever a mirror does, the copy is right, and somebody is told why it was slow.
func TestMirrorsThatFail(t *testing.T) {
	img := registrytest.NewImage(1, 1000, 200_000)
	layer := `/blobs/` + img.Blobs[2].Digest.String()
	flip := func(at int) registrytest.Action {
		return registrytest.Change(func(_ http.Header, b []byte) []byte {
			b = append([]byte(nil), b...)
			b[at] ^= 1
			return b
		})
	}
	for name, test := range map[string]struct {
		method, path string
		do           registrytest.Action
		warned       string // "" for not at all
		asked        int    // most requests to the mirror
		slow         bool
	}{
		"absent":                 {"", ".", registrytest.Answer(404, nil), "", 99, false},
		"broken":                 {"", ".", registrytest.Answer(500, nil), "500", 1, false},
		"busy":                   {"", ".", registrytest.Answer(429, nil, "Retry-After", "3600"), "429", 1, false},
		"wants credentials":      {"", ".", registrytest.Answer(401, nil, "WWW-Authenticate", `Basic realm="x"`), "401", 2, false},
		"no answer":              {"", ".", registrytest.Hang(), "is left alone", 1, true},
		"a byte at a time":       {"", "/manifests/", registrytest.Drip(50 * time.Millisecond), "is left alone", 1, true},
		"other manifest":         {"", "/manifests/", flip(20), "other bytes than " + img.Manifest.Digest.String(), 99, false},
		"other media type":       {"", "/manifests/", registrytest.Change(func(h http.Header, b []byte) []byte { h.Set("Content-Type", release.MediaTypeIndex); return b }), "mirror", 1, false},
		"huge manifest":          {"", "/manifests/", registrytest.Answer(200, make([]byte, 5<<20)), "at most", 1, false},
		"redirect inside":        {"", ".", registrytest.Answer(307, nil, "Location", "http://169.254.169.254/"), "169.254.169.254", 1, false},
		"other layer":            {"", layer, flip(100), "other bytes than " + img.Blobs[2].Digest.String(), 99, false},
		"other end":              {"", layer, flip(199_999), "other bytes than " + img.Blobs[2].Digest.String(), 99, false},
		"longer layer":           {"", layer, registrytest.Change(func(_ http.Header, b []byte) []byte { return append(b, 1) }), "200001", 99, false},
		"longer layer, unsaid":   {"", layer, unsaid(1), "other bytes than " + img.Blobs[2].Digest.String(), 99, false},
		"shorter layer, unsaid":  {"", layer, unsaid(-1), "broke off", 99, false},
		"layer breaks off":       {"", layer, registrytest.Cut(100_000), "broke off", 99, false},
		"layer stalls":           {"", layer, stall(100_000), "is left alone", 99, true},
		"wrong half, then a cut": {"", layer, wrongAndCut(100_000), "broke off", 99, false},
	} {
		for _, kind := range []string{"registry", "oci", "oci-archive"} {
			t.Run(name+" to "+kind, func(t *testing.T) {
				t.Parallel()
				m := newMirrored(t, registrytest.FastLimits(), nil)
				if test.slow {
					m.c.Patience(registrytest.ImpatientLimits())
					var cancel func()
					m.ctx, cancel = context.WithTimeout(m.ctx, 15*time.Second) // less than a registry has
					defer cancel()
				}
				s := m.put(t, "v1", img)
				m.mirror.On(test.method, test.path, test.do)
				destination := m.dst.Host + "/dst:v1"
				if kind != "registry" {
					destination = kind + ":" + filepath.Join(t.TempDir(), "image") + ":v1"
				}
				if _, err := m.c.Transfer(m.ctx, s.String(), destination, registry.CopyOptions{}); err != nil {
					t.Fatal(err)
				}
				if kind == "registry" {
					m.dst.Whole(t, "dst", img)
				} else if _, err := m.c.Transfer(m.ctx, destination, m.dst.Host+"/dst:v1", registry.CopyOptions{}); err != nil {
					t.Error(err)
				}
				warned := strings.Join(m.warnings(), "\n")
				if test.warned == "" && warned != "" || !strings.Contains(warned, test.warned) || warned != "" && !strings.Contains(warned, m.mirror.Host) {
					t.Errorf("warned %q, want %q", warned, test.warned)
				}
				if n := len(m.mirror.Requests()); n > test.asked || n == 0 {
					t.Errorf("the mirror was asked %d times", n)
				}
			})
		}
	}
}

// unsaid sends more or fewer bytes without announcing how many.
func unsaid(more int) registrytest.Action {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		registrytest.Change(func(h http.Header, b []byte) []byte {
			h.Del("Content-Length")
			if more > 0 {
				return append(b, make([]byte, more)...)
			}
			return b[:len(b)+more]
		})(w, r, next)
	}
}

// stall sends the beginning and then nothing.
func stall(n int) registrytest.Action {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		registrytest.Change(func(h http.Header, b []byte) []byte {
			w.Header().Set("Content-Length", h.Get("Content-Length"))
			_, _ = w.Write(b[:n])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		})(w, r, next)
	}
}

// wrongAndCut sends a wrong beginning, which the origin then completes.
func wrongAndCut(n int) registrytest.Action {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		registrytest.Change(func(h http.Header, b []byte) []byte {
			w.Header().Set("Content-Length", h.Get("Content-Length"))
			b = append([]byte(nil), b[:n]...)
			b[0] ^= 1
			_, _ = w.Write(b)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})(w, r, next)
	}
}

// A mirror that failed is left alone, then asked again.
func TestMirrorsRest(t *testing.T) {
	m := newMirrored(t, registrytest.FastLimits(), nil)
	s := m.put(t, "v1", registrytest.NewImage(1, 10))
	m.mirror.OnTimes(1, "", ".", registrytest.Answer(503, nil))
	for range 3 {
		if _, err := m.c.Resolve(m.ctx, s.String()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(m.mirror.Requests()); n != 1 {
		t.Errorf("a dead mirror was asked %d times", n)
	}
	if w := m.warnings(); len(w) != 1 {
		t.Errorf("warned %q", w)
	}
	again := newMirrored(t, registrytest.FastLimits(), nil)
	again.c.MirrorRest(0)
	s = again.put(t, "v1", registrytest.NewImage(1, 10))
	again.mirror.OnTimes(1, "", ".", registrytest.Answer(503, nil))
	for range 2 {
		if _, err := again.c.Resolve(again.ctx, s.String()); err != nil {
			t.Fatal(err)
		}
	}
	if mirror, origin := len(again.mirror.Requests()), len(again.origin.Requests()); mirror != 2 || origin != 1 {
		t.Errorf("asked the mirror %d times, the origin %d times", mirror, origin)
	}
}

// Where both fail, the origin's answer counts.
func TestMirrorAndOriginFail(t *testing.T) {
	m := newMirrored(t, registrytest.FastLimits(), nil)
	s := m.put(t, "v1", registrytest.NewImage(1, 10))
	m.mirror.On("", ".", registrytest.Answer(403, nil))
	m.origin.On("GET", "/manifests/", registrytest.Change(func(_ http.Header, b []byte) []byte { return append(b, ' ') }))
	if _, err := m.c.Resolve(m.ctx, s.String()); release.KindOf(err) != release.KindDenied || !strings.Contains(err.Error(), m.origin.Host) {
		t.Errorf("got %v", err)
	}
}

// A mirror has its own credentials and gets nobody else's.
func TestMirrorCredentials(t *testing.T) {
	credentials := registrytest.Credentials{}
	m := newMirrored(t, registrytest.FastLimits(), credentials)
	credentials[m.origin.Host] = registry.Credential{Username: "alice", Password: "secret"}
	s := m.put(t, "v1", registrytest.NewImage(1, 10))
	guard := func(want string) registrytest.Action {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Header.Get("Authorization") != want {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		}
	}
	const bob = "Basic Ym9iOmhpZGRlbg==" // bob:hidden
	m.origin.On("", ".", guard(alice))
	m.mirror.On("", ".", guard(bob))
	if _, err := m.c.Resolve(m.ctx, s.String()); err != nil {
		t.Fatal(err)
	}
	for _, r := range m.mirror.Requests() {
		if r.Authorization != "" {
			t.Errorf("the mirror got %q", r.Authorization)
		}
	}
	other := newMirrored(t, registrytest.FastLimits(), credentials)
	credentials[other.mirror.Host] = registry.Credential{Username: "bob", Password: "hidden"}
	s = other.put(t, "v1", registrytest.NewImage(1, 10))
	other.mirror.On("", ".", guard(bob))
	if _, err := other.c.Resolve(other.ctx, s.String()); err != nil || len(other.origin.Requests()) > 0 {
		t.Errorf("got %v, the origin was asked %q", err, paths(other.origin))
	}
}
