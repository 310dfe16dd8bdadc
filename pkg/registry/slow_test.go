package registry_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// Case 11: slowness and silence.
func TestSlowRegistry(t *testing.T) {
	img := registrytest.NewImage(1, 50_000)
	large := registrytest.NewImage(2, 24<<20) // more than sockets buffer
	layer := `/v2/src/blobs/` + img.Blobs[1].Digest.String()
	cases := map[string]func(h hostile){
		"manifest a byte at a time": func(h hostile) { h.src.On("GET", anyManifest, registrytest.Drip(20*time.Millisecond)) },
		"blob a byte at a time":     func(h hostile) { h.src.On("GET", layer, registrytest.Drip(20*time.Millisecond)) },
		"no answer":                 func(h hostile) { h.src.On("GET", anyManifest, registrytest.Hang()) },
		"no answer about a blob":    func(h hostile) { h.src.On("GET", layer, registrytest.Hang()) },
		"no answer to a write":      func(h hostile) { h.dst.On("POST", ".", registrytest.Hang()) },
		"upload is not taken":       func(h hostile) { h.dst.On("PUT", "/blobs/", registrytest.Hang()) },
		"large upload is not taken": func(h hostile) { h.dst.On("PUT", "/blobs/", registrytest.Hang()) },
		"no answer to the manifest": func(h hostile) { h.dst.On("PUT", "/manifests/", registrytest.Hang()) },
	}
	for name, script := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t)
			h.c = registrytest.NewClient(t, registrytest.ImpatientLimits())
			s := h.src.Put(t, "src", "v1", img)
			if strings.Contains(name, "large") {
				l := registrytest.ImpatientLimits()
				l.Commit = time.Minute // it never gets that far
				h.c, s = registrytest.NewClient(t, l), h.src.Put(t, "src", "v1", large)
			}
			script(h)
			start := time.Now()
			_, err := h.c.Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}})
			if got := release.KindOf(err); got != release.KindUnavailable {
				t.Errorf("got %q: %v", got, err)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %s", took)
			}
			if status, _ := h.dst.Ask(http.MethodGet, "/v2/dst/manifests/v1"); status != http.StatusNotFound {
				t.Errorf("the tag is there: %d", status)
			}
		})
	}
}

// All that is read about one subject has one deadline, however many answers
// come just in time.
func TestSlowListing(t *testing.T) {
	h := newHostile(t)
	l := registrytest.ImpatientLimits()
	l.Header, l.Small = time.Minute, time.Minute
	h.c = registrytest.NewClient(t, l)
	s := h.src.Put(t, "src", "v1", registrytest.NewImage(1, 10))
	h.src.On("GET", "/referrers/", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		time.Sleep(50 * time.Millisecond)
		registrytest.Answer(200, []byte(`{"manifests":[]}`), "Content-Type", release.MediaTypeIndex, "Link", `<?again>; rel="next"`)(w, r, next)
	})
	start := time.Now()
	_, err := h.c.Attachments(t.Context(), s)
	h.check(t, err, release.KindUnavailable, "too slow")
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
}

// The caller's wish to stop is no failure of the registry's, and is heeded at once.
func TestInterrupted(t *testing.T) {
	h := newHostile(t)
	img := registrytest.NewImage(1, 100_000)
	s := h.src.Put(t, "src", "v1", img)
	h.src.On("GET", "/blobs/", registrytest.Hang())
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	_, err := h.c.Copy(ctx, s, h.dst.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}})
	if took := time.Since(start); release.KindOf(err) != release.KindInterrupted || took > 20*time.Second {
		t.Errorf("got %v after %s", err, took)
	}
}

// Case 12: failures that pass, and Retry-After.
func TestRetries(t *testing.T) {
	t.Run("500, 500, 200", func(t *testing.T) {
		h := newHostile(t)
		img := registrytest.NewImage(1, 10)
		s := h.src.Put(t, "src", "v1", img)
		h.src.On("GET", anyManifest, registrytest.Statuses([]int{500, 502}))
		h.src.On("GET", "/blobs/", registrytest.Statuses([]int{503, 500}))
		h.dst.On("", ".", registrytest.Statuses([]int{500, 500}))
		h.dst.On("PUT", ".", registrytest.Statuses([]int{504, 503}))
		if _, err := h.c.Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}}); err != nil {
			t.Fatal(err)
		}
		h.dst.Whole(t, "dst", img)
	})
	t.Run("429 with Retry-After", func(t *testing.T) {
		h := newHostile(t)
		s := h.src.Put(t, "src", "v1", registrytest.NewImage(1, 10))
		h.src.On("GET", anyManifest, registrytest.Statuses([]int{429}, "Retry-After", "1"))
		start := time.Now()
		if _, err := h.c.Resolve(t.Context(), s.String()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < time.Second {
			t.Errorf("waited %s, was asked to wait 1s", took)
		}
	})
	t.Run("patience is bounded", func(t *testing.T) {
		h := newHostile(t)
		s := h.src.Put(t, "src", "v1", registrytest.NewImage(1, 10))
		h.src.On("GET", anyManifest, registrytest.Answer(429, nil, "Retry-After", "3600"))
		start := time.Now()
		h.refuses(t, s, release.KindUnavailable, "1h")
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("took %s", took)
		}
	})
	t.Run("500 for ever", func(t *testing.T) {
		h := newHostile(t)
		s := h.src.Put(t, "src", "v1", registrytest.NewImage(1, 10))
		h.src.On("GET", anyManifest, registrytest.Answer(500, []byte(`{"errors":[{"code":"UNKNOWN","message":"disk on fire"}]}`)))
		h.refuses(t, s, release.KindUnavailable, "disk on fire")
		if n := count(h.src, "GET", "/manifests/sha256:"); n != 4 {
			t.Errorf("asked %d times, want 4", n)
		}
	})
	t.Run("no such repository at the destination", func(t *testing.T) {
		h := newHostile(t)
		s := h.src.Put(t, "src", "v1", registrytest.NewImage(1, 10))
		h.dst.On("POST", "/blobs/uploads/", registrytest.Answer(404, []byte(`{"errors":[{"code":"NAME_UNKNOWN","message":"no"}]}`)))
		h.refuses(t, s, release.KindUnavailable, h.dst.Host+"/dst does not exist")
	})
	t.Run("nobody there", func(t *testing.T) {
		h := newHostile(t)
		s := release.Subject{Repository: "127.0.0.1:1/src", Digest: release.DigestOf(nil)}
		h.refuses(t, s, release.KindUnavailable)
		_, err := h.c.Attachments(t.Context(), s)
		h.check(t, err, release.KindUnavailable)
		if errors.Is(err, registry.ErrNotFound) {
			t.Errorf("unreachable looks like absent: %v", err)
		}
	})
}
