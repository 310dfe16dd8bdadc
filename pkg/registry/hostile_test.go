package registry_test

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// hostile is a source that may misbehave, a destination that doesn't, and a
// client that gives up quickly.
type hostile struct {
	src, dst *registrytest.Proxy
	c        *registry.Client
}

func newHostile(t *testing.T) hostile {
	t.Parallel()
	return hostile{
		src: registrytest.Serve(t, inMemory(true).New(t)),
		dst: registrytest.Serve(t, inMemory(true).New(t)),
		c:   registrytest.NewClient(t, registrytest.FastLimits()),
	}
}

// refuses copies and requires an error of a kind, words in it, and a
// destination without manifests and tags.
func (h hostile) refuses(t *testing.T, s release.Subject, want release.Kind, words ...string) {
	t.Helper()
	_, err := h.c.Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Referrers: true, Tags: []string{"v1"}})
	h.check(t, err, want, words...)
}

func (h hostile) check(t *testing.T, err error, want release.Kind, words ...string) {
	t.Helper()
	if got := release.KindOf(err); got != want {
		t.Fatalf("got kind %q (%v), want %q", got, err, want)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the message lacks %q: %v", word, err)
		}
	}
	var fault *release.Fault
	if errors.As(err, &fault) && fault.Hint == "" {
		t.Errorf("no hint: %v", err)
	}
	for _, w := range h.dst.Writes() {
		if strings.Contains(w.URL, "/manifests/") {
			t.Errorf("the destination was changed: %s", w)
		}
	}
	if status, _ := h.dst.Ask(http.MethodGet, "/v2/dst/manifests/v1"); status != http.StatusNotFound {
		t.Errorf("the tag is there: %d", status)
	}
}

const anyManifest = `/v2/src/manifests/`

// Case 5: a blob that ends early, is too long, or has other bytes.
func TestBlobBroken(t *testing.T) {
	img := registrytest.NewImage(1, 200_000)
	layer := img.Blobs[1].Digest.String()
	cases := map[string]struct {
		do   registrytest.Action
		kind release.Kind
	}{
		"breaks off":        {registrytest.Cut(1000), release.KindUnavailable},
		"announced shorter": {registrytest.Change(func(_ http.Header, b []byte) []byte { return b[:1000] }), release.KindUnavailable},
		"announced longer":  {registrytest.Change(func(_ http.Header, b []byte) []byte { return append(b, 'x') }), release.KindUnavailable},
		"longer without announcement": {func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			_, _ = w.Write(append(bytes.Clone(img.Blobs[1].Bytes), "and more"...))
		}, release.KindUnavailable},
		"other bytes": {registrytest.Change(func(_ http.Header, b []byte) []byte { b = bytes.Clone(b); b[len(b)-1] ^= 1; return b }), release.KindDenied},
		"gone":        {registrytest.Answer(404, nil), release.KindUnavailable},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t)
			s := h.src.Put(t, "src", "v1", img)
			h.src.On("GET", `/v2/src/blobs/`+layer, c.do)
			h.refuses(t, s, c.kind, layer)
			if status, _ := h.dst.Ask(http.MethodGet, "/v2/dst/blobs/"+layer); status != http.StatusNotFound {
				t.Errorf("the broken blob is at the destination: %d", status)
			}
			if n := count(h.src, "GET", `/blobs/`+layer); n > 8 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// A small blob is held to its digest and to the caller's limit, whatever length
// is announced.
func TestSmallBlob(t *testing.T) {
	h := newHostile(t)
	content := registrytest.Random(1, 1000)
	d := h.src.PutBlob(t, "src", content)
	h.src.On("GET", "/blobs/", registrytest.Change(func(_ http.Header, b []byte) []byte { b = bytes.Clone(b); b[7] ^= 1; return b }))
	_, err := h.c.Blob(t.Context(), h.src.Host+"/src", d, 1000)
	h.check(t, err, release.KindDenied, d.String())
	h.src.On("GET", "/blobs/", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		_, _ = w.Write(content)
	})
	_, err = h.c.Blob(t.Context(), h.src.Host+"/src", d, 999)
	h.check(t, err, release.KindDenied, "at most 999")
}

// The destination must not hold a complete blob that is wrong even if it does
// not check anything itself.
func TestWrongBlobIsNeverComplete(t *testing.T) {
	h := newHostile(t)
	img := registrytest.NewImage(1, 100_000)
	s := h.src.Put(t, "src", "v1", img)
	h.src.On("GET", `/v2/src/blobs/`+img.Blobs[1].Digest.String(), registrytest.Change(func(_ http.Header, b []byte) []byte {
		b = bytes.Clone(b)
		b[0] ^= 1
		return b
	}))
	h.dst.On("HEAD", `/v2/dst/blobs/`+img.Blobs[0].Digest.String(), registrytest.Answer(200, nil))
	complete := make(chan int64, 10)
	h.dst.On("PUT", `/v2/dst/blobs/uploads/`, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		var b bytes.Buffer
		n, err := b.ReadFrom(r.Body)
		if err == nil && n == 100_000 {
			complete <- n
		}
		w.WriteHeader(http.StatusCreated)
	})
	h.refuses(t, s, release.KindDenied)
	if len(complete) > 0 {
		t.Error("the destination was sent all the bytes of a wrong blob")
	}
}

// A source that breaks off half-way is resumed, not restarted.
func TestBlobResumed(t *testing.T) {
	h := newHostile(t)
	img := registrytest.NewImage(1, 400_000)
	s := h.src.Put(t, "src", "v1", img)
	h.src.OnTimes(1, "GET", `/v2/src/blobs/`+img.Blobs[1].Digest.String(), registrytest.Cut(300_000))
	if _, err := h.c.Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}}); err != nil {
		t.Fatal(err)
	}
	h.dst.Whole(t, "dst", img)
	var sent int64
	for _, r := range h.src.Requests() {
		if strings.Contains(r.URL, img.Blobs[1].Digest.String()) {
			sent += r.Sent
		}
	}
	if sent > 410_000 {
		t.Errorf("the source sent %d bytes for 400,000", sent)
	}
}

func count(p *registrytest.Proxy, method, part string) int {
	n := 0
	for _, r := range p.Requests() {
		if r.Method == method && strings.Contains(r.URL, part) {
			n++
		}
	}
	return n
}
