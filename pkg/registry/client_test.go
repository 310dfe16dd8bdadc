package registry_test

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// Evidence that several goroutines attach at once is all there afterwards, also
// where the list is an index that each of them rewrites.
func TestAttachConcurrently(t *testing.T) {
	for _, referrers := range []bool{true, false} {
		t.Run(fmt.Sprintf("API %v", referrers), func(t *testing.T) {
			t.Parallel()
			p := registrytest.Serve(t, inMemory(referrers).New(t))
			c := registrytest.NewClient(t, registrytest.FastLimits())
			s := p.Put(t, "app", "v1", registrytest.NewImage(1, 10))
			var group sync.WaitGroup
			for i := range 8 {
				group.Go(func() {
					bundle := fmt.Appendf(nil, `{"n":%d}`, i)
					if err := c.Attach(t.Context(), s, release.Attachment{Bundle: bundle, PredicateType: release.PredicateCycloneDX}); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			if list, err := c.Attachments(t.Context(), s); err != nil || len(list) != 8 {
				t.Errorf("got %d, %v", len(list), err)
			}
		})
	}
}

// A list that the registry does not keep is noticed.
func TestAttachIsReadBack(t *testing.T) {
	h := newHostile(t)
	s := h.dst.Put(t, "app", "v1", registrytest.NewImage(1, 10))
	h.dst.On("GET", "/referrers/", registrytest.Answer(200, []byte(`{"manifests":[]}`), "Content-Type", release.MediaTypeIndex))
	if err := h.c.Attach(t.Context(), s, release.Attachment{Bundle: []byte("{}")}); release.KindOf(err) != release.KindUnavailable {
		t.Errorf("got %v", err)
	}
	h.dst.On("GET", "/referrers/", registrytest.Answer(404, nil))
	h.dst.On("PUT", "/manifests/sha256-", registrytest.Swallow())
	if err := h.c.Attach(t.Context(), s, release.Attachment{Bundle: []byte("{}")}); release.KindOf(err) != release.KindUnavailable {
		t.Errorf("got %v", err)
	}
}

func TestTagPages(t *testing.T) {
	h := newHostile(t)
	h.src.On("GET", "/tags/list", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		n, _ := strconv.Atoi(r.URL.Query().Get("last"))
		body, _ := json.Marshal(map[string]any{"tags": []string{fmt.Sprint("v", n)}})
		headers := []string{}
		if n < 3 {
			headers = []string{"Link", fmt.Sprintf(`</v2/src/tags/list?last=%d>; rel="next"`, n+1)}
		}
		registrytest.Answer(200, body, headers...)(w, r, next)
	})
	got, err := h.c.Tags(t.Context(), h.src.Host+"/src")
	if err != nil || !slices.Equal(got, []string{"v0", "v1", "v2", "v3"}) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestProgress(t *testing.T) {
	h := newHostile(t)
	img := registrytest.NewImage(1, 300_000)
	s := h.src.Put(t, "src", "v1", img)
	var mu sync.Mutex
	var events []event.Event
	ctx := event.With(t.Context(), func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, e)
	})
	for range 2 {
		if _, err := h.c.Copy(ctx, s, h.dst.Host+"/dst", registry.CopyOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	layer := img.Blobs[1].Digest.Short()
	if !slices.ContainsFunc(events, func(e event.Event) bool {
		return e.Type == event.Progress && e.Part == layer && e.Current == 300_000 && e.Total == 300_000 && e.Unit == "bytes"
	}) {
		t.Errorf("no progress of the layer: %+v", events)
	}
	if first, last := events[0], events[len(events)-1]; first.Type != event.Started || !strings.HasPrefix(first.Name, "[copy] ") || last.Type != event.Done || !last.Cached {
		t.Errorf("got %+v … %+v", first, last)
	}
}

// TLS is checked, plain HTTP is for loopback, and both can be said otherwise.
func TestTransportSecurity(t *testing.T) {
	backend := registrytest.Serve(t, inMemory(true).New(t))
	s := backend.Put(t, "app", "v1", registrytest.NewImage(1, 10))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, body := backend.Ask(r.Method, r.URL.Path)
		w.Header().Set("Content-Type", release.MediaTypeManifest)
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "https://")
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	resolve := func(o registry.Options, host string) error {
		o.Keychain, o.Limits = registrytest.Credentials{}, registrytest.FastLimits()
		c, err := registry.New(o)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Resolve(t.Context(), host+"/app@"+s.Digest.String())
		return err
	}
	tls := func(string) bool { return false }
	if err := resolve(registry.Options{PlainHTTP: tls, RootCAs: roots}, host); err != nil {
		t.Errorf("with its certificate trusted: %v", err)
	}
	if err := resolve(registry.Options{PlainHTTP: tls}, host); release.KindOf(err) != release.KindUnavailable || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with an unknown certificate: %v", err)
	}
	if err := resolve(registry.Options{PlainHTTP: tls}, backend.Host); release.KindOf(err) != release.KindUnavailable {
		t.Errorf("TLS to a server without: %v", err)
	}
	if err := resolve(registry.Options{}, backend.Host); err != nil {
		t.Errorf("plain HTTP on loopback: %v", err)
	}
}

// Manifests are not asked for twice, but presence always is.
func TestManifestsAreKept(t *testing.T) {
	h := newHostile(t)
	s := h.src.Put(t, "src", "v1", registrytest.NewImage(1, 10))
	for range 3 {
		if _, _, err := h.c.Manifest(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(h.src.Requests()); n != 1 {
		t.Errorf("%d requests for one manifest", n)
	}
	if _, err := h.c.Resolve(t.Context(), s.String()); err != nil {
		t.Fatal(err)
	}
	if n := len(h.src.Requests()); n != 2 {
		t.Error("resolving did not ask whether it is there")
	}
}
