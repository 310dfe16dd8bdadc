//go:build engine

package registry_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// Case 11 with the limits that users have: whatever is slow, and however, ends
// within a minute, and the tag is absent.
func TestSlowForReal(t *testing.T) {
	img := registrytest.NewImage(1, 5000)
	layer := "/v2/src/blobs/" + img.Blobs[1].Digest.String()
	second := registrytest.Drip(time.Second)
	cases := map[string]func(src, dst *registrytest.Proxy){
		"manifest a byte a second":  func(src, _ *registrytest.Proxy) { src.On("GET", "/manifests/", second) },
		"referrers a byte a second": func(src, _ *registrytest.Proxy) { src.On("GET", "/referrers/", second) },
		"blob a byte a second":      func(src, _ *registrytest.Proxy) { src.On("GET", layer, second) },
		"silence":                   func(src, _ *registrytest.Proxy) { src.On("GET", ".", registrytest.Hang()) },
		"silence about a blob":      func(src, _ *registrytest.Proxy) { src.On("GET", layer, registrytest.Hang()) },
		"no upload is opened":       func(_, dst *registrytest.Proxy) { dst.On("POST", ".", registrytest.Hang()) },
		"an upload is not taken":    func(_, dst *registrytest.Proxy) { dst.On("PUT", "/blobs/", registrytest.Hang()) },
		"a manifest is not taken":   func(_, dst *registrytest.Proxy) { dst.On("PUT", "/manifests/", registrytest.Hang()) },
		"reading back is slow":      func(_, dst *registrytest.Proxy) { dst.On("GET", "/manifests/sha256:", registrytest.After(1, second)) },
		"429 for ever": func(src, _ *registrytest.Proxy) {
			src.On("GET", ".", registrytest.Answer(429, nil, "Retry-After", "5"))
		},
	}
	for name, script := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, dst := registrytest.Serve(t, inMemory(true).New(t)), registrytest.Serve(t, inMemory(true).New(t))
			s := src.Put(t, "src", "v1", img)
			src.Refer(t, registrytest.Backend{Referrers: true}, "src", img.Manifest, registrytest.NewReferrer(img.Manifest, release.MediaTypeBundle, release.MediaTypeBundle, []byte("{}")))
			script(src, dst)
			start := time.Now()
			_, err := registrytest.NewClient(t, registry.Limits{}).Copy(t.Context(), s, dst.Host+"/dst", registry.CopyOptions{Referrers: true, Tags: []string{"v1"}})
			took := time.Since(start)
			t.Logf("after %s: %v", took.Round(time.Millisecond), err)
			if got := release.KindOf(err); got != release.KindUnavailable || took > time.Minute {
				t.Errorf("got %q after %s: %v", got, took, err)
			}
			if status, _ := dst.Ask(http.MethodGet, "/v2/dst/manifests/v1"); status != http.StatusNotFound {
				t.Errorf("the tag is there: %d", status)
			}
		})
	}
}
