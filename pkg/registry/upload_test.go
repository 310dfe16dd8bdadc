package registry_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
)

const (
	uploads = `/v2/dst/blobs/uploads/`
	size    = 20<<20 + 5
	half    = 10<<20 + 3
)

// brokenUpload copies an image whose one large layer is cut off half way. kept
// is what the registry keeps of it, answer what it says that it keeps.
func brokenUpload(t *testing.T, kept int64, answer registrytest.Action) (h hostile, ranges []string) {
	h = newHostile(t)
	l := registrytest.FastLimits()
	l.Chunk = 8 << 20
	h.c = registrytest.NewClient(t, l)
	img := registrytest.NewImage(1, size)
	s := h.src.Put(t, "src", "v1", img)
	layer := img.Blobs[1].Digest.String()
	h.dst.OnTimes(1, "PUT", uploads+".*"+strings.TrimPrefix(layer, "sha256:"), registrytest.Break(half, func(r *http.Request, next http.Handler, some []byte) {
		if kept == 0 {
			return
		}
		patch := httptest.NewRequest(http.MethodPatch, r.URL.Path, bytes.NewReader(some[:kept]))
		patch.Header.Set("Content-Range", fmt.Sprintf("0-%d", kept-1))
		next.ServeHTTP(httptest.NewRecorder(), patch)
	}))
	h.dst.OnTimes(1, "GET", uploads, answer)
	h.src.On("GET", layer, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		ranges = append(ranges, r.Header.Get("Range"))
		next.ServeHTTP(w, r)
	})
	if _, err := h.c.Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}}); err != nil {
		t.Fatal(err)
	}
	h.dst.Whole(t, "dst", img)
	return h, ranges
}

// sent is how many bytes of blobs the destination was sent.
func sent(p *registrytest.Proxy) (n int64) {
	for _, r := range p.Requests() {
		if strings.Contains(r.URL, "/blobs/uploads/") {
			n += r.Received
		}
	}
	return n
}

func says(headers ...string) registrytest.Action {
	return registrytest.Answer(http.StatusNoContent, nil, headers...)
}

// An upload that broke off goes on where the registry says that it is.
func TestUploadGoesOn(t *testing.T) {
	h, ranges := brokenUpload(t, half, says("Range", fmt.Sprintf("0-%d", half-1)))
	if got := sent(h.dst); got < size || got > size+1000 { // with the configuration
		t.Errorf("%d bytes were sent of %d", got, size)
	}
	if want := []string{"", fmt.Sprintf("bytes=%d-%d", 8<<20, size-1)}; !slices.Equal(ranges, want) {
		t.Errorf("the source was asked for %q, want %q", ranges, want)
	}
	if n := count(h.dst, "PATCH", uploads); n != 0 {
		t.Errorf("%d chunks were sent, want none", n)
	}
}

// A registry that keeps nothing of a broken upload gets chunks.
func TestUploadInChunks(t *testing.T) {
	h, _ := brokenUpload(t, 0, says("Range", "0-0"))
	if n := count(h.dst, "PATCH", uploads); n != 2 {
		t.Errorf("%d chunks were sent, want 2 of 8 MiB and the rest with the commit", n)
	}
}

// Registries that say something else get the blob from its beginning.
func TestUploadBeginsAnew(t *testing.T) {
	for name, answer := range map[string]registrytest.Action{
		"no such upload":   registrytest.Answer(http.StatusNotFound, nil),
		"no range":         says(),
		"not a range":      says("Range", "0-x"),
		"more than all":    says("Range", fmt.Sprintf("0-%d", size)),
		"a middle":         says("Range", "5-9"),
		"more than it has": says("Range", fmt.Sprintf("0-%d", half+99)),
		"less than it has": says("Range", fmt.Sprintf("0-%d", half-99)),
	} {
		t.Run(name, func(t *testing.T) { brokenUpload(t, half, answer) })
	}
}
