//go:build engine

package localregistry_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
)

// A registry on disk keeps what came before a connection broke: only the rest
// is sent again, however often it breaks.
func TestBrokenUploadsGoOn(t *testing.T) {
	const size, breaks, piece = 96 << 20, 5, 16 << 20
	src := registrytest.Serve(t, handler(serve(t, t.TempDir()).Addr()))
	dst := registrytest.Serve(t, handler(serve(t, t.TempDir()).Addr()))
	img := registrytest.NewImage(1, size)
	s := src.Put(t, "src", "v1", img)
	layer := strings.TrimPrefix(img.Blobs[1].Digest.String(), "sha256:")
	dst.OnTimes(breaks, "PUT", layer, registrytest.Break(piece, func(r *http.Request, next http.Handler, some []byte) {
		// The registry sees a body that ends before its length.
		cut := httptest.NewRequest(http.MethodPut, r.URL.RequestURI(), io.NopCloser(bytes.NewReader(some)))
		cut.ContentLength, cut.Header = r.ContentLength, r.Header
		next.ServeHTTP(httptest.NewRecorder(), cut)
	}))
	c := registrytest.NewClient(t, registry.Limits{})
	if _, err := c.Copy(t.Context(), s, dst.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}}); err != nil {
		t.Fatal(err)
	}
	dst.Whole(t, "dst", img)
	var sent int64
	begun := 0
	for _, r := range dst.Requests() {
		if strings.Contains(r.URL, "/blobs/uploads/") {
			sent += r.Received
		}
		if r.Method == http.MethodPost {
			begun++
		}
	}
	if sent > size+1<<20 || begun != 2 {
		t.Errorf("%d bytes of %d were sent in %d uploads, want each once, in one upload a blob", sent, size, begun)
	}
}
