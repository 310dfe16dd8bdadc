package registrytest

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
)

// testManifestFirst copies with a client that may ask the registry once what it
// validates: the answer fits the registry, and the bytes are the same.
func testManifestFirst(t *testing.T, b Backend) {
	p := Serve(t, b.New(t))
	source := Serve(t, b.New(t))
	sizes := make([]int, 30)
	for i := range sizes {
		sizes[i] = 50 + i
	}
	img := NewIndex(NewPlatformImage(1, "amd64", sizes...), NewPlatformImage(2, "arm64", 70))
	subject := source.Put(t, "team/app", "v1", img)
	c, err := registry.New(registry.Options{Keychain: Credentials{}, Limits: FastLimits(),
		Capabilities: registry.RememberCapabilities(filepath.Join(t.TempDir(), "registries.json"))})
	if err != nil {
		t.Fatal(err)
	}
	got := must(c.Copy(t.Context(), subject, p.Host+"/app", registry.CopyOptions{Tags: []string{"v1"}}))(t)
	if got.Blobs != 33 || got.Manifests != 3 {
		t.Errorf("got %+v", got)
	}
	p.Whole(t, "app", img)

	heads, refused, removed := 0, 0, 0
	for _, r := range p.Requests() {
		switch {
		case r.Method == http.MethodHead && strings.Contains(r.URL, "/blobs/"):
			heads++
		case r.Method == http.MethodPut && strings.Contains(r.URL, "/manifests/") && r.Status == http.StatusBadRequest:
			refused++
		case r.Method == http.MethodDelete:
			removed++
		}
	}
	if b.Validates && (heads != 0 || refused != 3 || removed != 0) {
		t.Errorf("%d questions about blobs, %d refused manifests, %d removed; want none, the probe and two images, none", heads, refused, removed)
	}
	if !b.Validates && (heads != 2*33 || refused != 0 || removed != 1) {
		t.Errorf("%d questions about blobs, %d refused manifests, %d removed; want two a blob, none, the probe", heads, refused, removed)
	}
}
