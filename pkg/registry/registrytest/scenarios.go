package registrytest

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

// refuses copies and requires a refusal that leaves the destination as it was.
func (w *world) refuses(t *testing.T, s release.Subject, want release.Kind, words ...string) {
	t.Helper()
	w.dst.Put(t, "dst", "v1", NewImage(8, 10)) // what is there already stays
	before := w.dst.State(t)
	_, err := w.c.Copy(t.Context(), s, w.dst.Host+"/dst", registry.CopyOptions{Referrers: true, Tags: []string{"v1"}})
	refused(t, err, want, words...)
	Unchanged(t, before, w.dst.State(t))
}

func fast(t *testing.T, b Backend) *world {
	t.Helper()
	return newWorld(t, b, FastLimits())
}

// A tag that moves after it was resolved moves nothing.
func testTagMoves(t *testing.T, b Backend) {
	w := fast(t, b)
	s := must(w.c.Resolve(t.Context(), w.subject.Repository+":v1"))(t)
	w.src.Put(t, source, "v1", NewImage(5, 10))
	if _, err := NewClient(t, FastLimits()).Copy(t.Context(), s, w.dst.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}}); err != nil {
		t.Fatal(err)
	}
	if got := must(w.c.Resolve(t.Context(), w.dst.Host+"/dst:v1"))(t); got.Digest != w.subject.Digest {
		t.Errorf("copied %s, resolved %s", got.Digest, s)
	}
}

func testHeadAndGet(t *testing.T, b Backend) {
	w := fast(t, b)
	other := NewImage(5, 10).Manifest
	w.src.On("HEAD", exactly("/v2/src/manifests/v1"), Answer(http.StatusOK, nil, "Docker-Content-Digest", other.Digest.String(), "Content-Type", other.MediaType))
	before := w.dst.State(t)
	_, err := w.c.Resolve(t.Context(), w.subject.Repository+":v1")
	refused(t, err, denied, other.Digest.String(), w.subject.Digest.String())
	_, err = w.c.Transfer(t.Context(), w.subject.Repository+":v1", w.dst.Host+"/dst:v1", registry.CopyOptions{})
	refused(t, err, denied, other.Digest.String(), w.subject.Digest.String())
	Unchanged(t, before, w.dst.State(t))
}

func testHeaderAndBytes(t *testing.T, b Backend) {
	w := fast(t, b)
	other := NewImage(5, 10).Manifest.Digest
	w.src.On("GET", exactly("/v2/src/manifests/v1"), Change(func(h http.Header, body []byte) []byte {
		h.Set("Docker-Content-Digest", other.String())
		return body
	}))
	_, err := w.c.Resolve(t.Context(), w.subject.Repository+":v1")
	refused(t, err, denied, other.String(), w.subject.Digest.String())
}

func testChildSwapped(t *testing.T, b Backend) {
	w := fast(t, b)
	evil := NewPlatformImage(6, "amd64", 2000, 30)
	w.src.Put(t, source, "", evil)
	w.src.On("GET", exactly("/v2/src/manifests/"+w.amd.Manifest.Digest.String()), Answer(http.StatusOK, evil.Manifest.Bytes,
		"Content-Type", evil.Manifest.MediaType, "Docker-Content-Digest", w.amd.Manifest.Digest.String()))
	w.refuses(t, w.subject, denied, w.amd.Manifest.Digest.String(), evil.Manifest.Digest.String())
	_, err := w.c.Platform(t.Context(), w.subject, "linux/amd64")
	refused(t, err, denied, w.amd.Manifest.Digest.String(), evil.Manifest.Digest.String())
}

// What an index says of a child beside its digest must be true, too.
func testIndexLies(t *testing.T, b Backend) {
	for name, lie := range map[string]func(d *Descriptor){
		"size": func(d *Descriptor) { d.Size++ },
		"type": func(d *Descriptor) { d.MediaType = DockerManifest },
	} {
		t.Run(name, func(t *testing.T) {
			w := fast(t, b)
			d := Describe(w.amd.Manifest)
			d.Platform = map[string]string{"os": "linux", "architecture": "amd64"}
			lie(&d)
			index := listing([]Descriptor{d})
			s := w.subject
			s.Digest = w.src.PutManifest(t, source, "", index.MediaType, index.Bytes)
			w.refuses(t, s, denied, w.amd.Manifest.Digest.String())
			_, err := w.c.Platform(t.Context(), s, "linux/amd64")
			refused(t, err, denied, w.amd.Manifest.Digest.String())
		})
	}
}

func testBoundedRetries(t *testing.T, b Backend) {
	w := fast(t, b)
	layer := "/v2/src/blobs/" + w.amd.Blobs[1].Digest.String()
	w.src.On("GET", layer, Cut(1))
	w.dst.Put(t, "dst", "v1", NewImage(8, 10))
	before := w.dst.State(t)
	refused(t, w.copy(t), unavailable, w.amd.Blobs[1].Digest.String())
	UnchangedButParts(t, before, w.dst.State(t), w.parts(target{blob: w.amd.Blobs[1]}))
	asked := 0
	for _, r := range w.src.Requests() {
		if r.Method == http.MethodGet && r.URL == layer {
			asked++
		}
	}
	if asked > 20 {
		t.Errorf("asked %d times", asked)
	}
}

func testMalformedReference(t *testing.T, b Backend) {
	w := fast(t, b)
	for _, digest := range []string{"sha256:xyz", "sha256:" + strings.Repeat("A", 64), "md5:d41d8cd98f00b204e9800998ecf8427e", "", "sha256:" + strings.Repeat("0", 63), "sha256:" + strings.Repeat("0", 65)} {
		_, err := w.c.Resolve(t.Context(), w.subject.Repository+"@"+digest)
		refused(t, err, release.KindUsage)
		_, err = w.c.Transfer(t.Context(), w.subject.Repository+"@"+digest, w.dst.Host+"/dst", registry.CopyOptions{})
		refused(t, err, release.KindUsage)
	}
	if n := len(w.src.Requests()) + len(w.dst.Requests()); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

func testPassingFailure(t *testing.T, b Backend) {
	w := fast(t, b)
	w.src.On("GET", "/manifests/", Statuses([]int{500, 502}))
	w.src.On("GET", "/blobs/", Statuses([]int{503, 500}))
	w.dst.On("", ".", Statuses([]int{500, 500}))
	w.dst.On("PUT", ".", Statuses([]int{504, 503}))
	if err := w.copy(t); err != nil {
		t.Fatal(err)
	}
	w.dst.Whole(t, "dst", w.index)
	w.dst.Whole(t, "dst", w.evidence)
}

func testRetryAfter(t *testing.T, b Backend) {
	w := fast(t, b)
	w.src.On("GET", "/manifests/", Statuses([]int{429}, "Retry-After", "1"))
	start := time.Now()
	if _, err := w.c.Resolve(t.Context(), w.subject.String()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < time.Second {
		t.Errorf("waited %s, was asked to wait 1s", took)
	}
}

// A registry that asks for more patience than there is, in words or by asking
// again and again, is given up.
func testEndlessPatience(t *testing.T, b Backend) {
	for _, after := range []string{"3600", "0", "1"}[:min(3, 2+2/b.nth)] {
		w := fast(t, b)
		w.src.On("GET", "/manifests/", Answer(http.StatusTooManyRequests, nil, "Retry-After", after))
		w.refuses(t, w.subject, unavailable)
		if n := len(w.src.Requests()); n > 30 {
			t.Errorf("Retry-After %s: asked %d times", after, n)
		}
	}
}

func testDies(t *testing.T, b Backend) {
	w := fast(t, b)
	before := w.dst.State(t)
	evidence := exactly("/v2/dst/manifests/" + w.evidence.Manifest.Digest.String())
	w.dst.On("PUT", evidence, func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		w.dst.On("", ".", Raw()) // from now on it is dead
		Raw()(rw, r, next)
	})
	refused(t, w.copy(t), unavailable)
	after := w.dst.State(t)
	for name := range after {
		if _, old := before[name]; !old && (strings.Contains(name, "/v1") || strings.Contains(name, "/tags/")) {
			t.Errorf("the tag is there: %s", name)
		}
	}
	if len(after) == len(before) {
		t.Error("the case does not happen: the image is not there")
	}
	_, err := NewClient(t, FastLimits()).Resolve(t.Context(), w.dst.Host+"/dst:v1")
	if release.KindOf(err) != unavailable || errors.Is(err, registry.ErrNotFound) {
		t.Errorf("a dead registry answers %v", err)
	}
}
