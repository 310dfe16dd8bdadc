package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
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

// Case 1: a manifest served as something else, with the digest echoed.
func TestManifestServedAsAnotherType(t *testing.T) {
	t.Run("other bytes", func(t *testing.T) {
		h := newHostile(t)
		s := h.src.Put(t, "src", "v1", registrytest.NewImage(1, 10))
		other := registrytest.NewIndex(registrytest.NewImage(2, 10)).Manifest
		h.src.On("GET", anyManifest, registrytest.Answer(200, other.Bytes, "Content-Type", other.MediaType, "Docker-Content-Digest", s.Digest.String()))
		h.refuses(t, s, release.KindDenied, s.Digest.String(), other.Digest.String())
	})
	for _, mediaType := range []string{release.MediaTypeIndex, registrytest.DockerManifest, "text/html", "application/vnd.docker.distribution.manifest.v1+prettyjws", ""} {
		t.Run("same bytes as "+mediaType, func(t *testing.T) {
			h := newHostile(t)
			s := h.src.Put(t, "src", "v1", registrytest.NewImage(1, 10))
			h.src.On("GET", anyManifest, registrytest.Change(func(header http.Header, body []byte) []byte {
				header["Content-Type"] = []string{mediaType}
				return body
			}))
			h.refuses(t, s, release.KindDenied, s.Digest.String())
			_, err := h.c.Resolve(t.Context(), s.String())
			h.check(t, err, release.KindDenied)
		})
	}
}

// Case 2: HEAD answers one thing, GET gives another.
func TestHeadAndGetDiffer(t *testing.T) {
	h := newHostile(t)
	a := h.src.Put(t, "src", "a", registrytest.NewImage(1, 10))
	b := h.src.Put(t, "src", "v1", registrytest.NewImage(2, 10))
	h.src.On("HEAD", anyManifest+"v1", registrytest.Answer(200, nil, "Docker-Content-Digest", a.Digest.String(), "Content-Type", release.MediaTypeManifest, "Content-Length", "400"))
	_, err := h.c.Resolve(t.Context(), h.src.Host+"/src:v1")
	h.check(t, err, release.KindDenied, a.Digest.String(), b.Digest.String())
	_, err = h.c.Transfer(t.Context(), h.src.Host+"/src:v1", h.dst.Host+"/dst:v1", registry.CopyOptions{})
	h.check(t, err, release.KindDenied, a.Digest.String(), b.Digest.String())
}

func TestHeaderAndBytesDiffer(t *testing.T) {
	h := newHostile(t)
	a := h.src.Put(t, "src", "a", registrytest.NewImage(1, 10))
	b := h.src.Put(t, "src", "v1", registrytest.NewImage(2, 10))
	h.src.On("GET", anyManifest+"v1", registrytest.Change(func(header http.Header, body []byte) []byte {
		header.Set("Docker-Content-Digest", a.Digest.String())
		return body
	}))
	_, err := h.c.Resolve(t.Context(), h.src.Host+"/src:v1")
	h.check(t, err, release.KindDenied, a.Digest.String(), b.Digest.String())
}

// Case 3: a write is accepted and lost, or something else is there afterwards.
func TestWriteIsLost(t *testing.T) {
	other := registrytest.NewImage(9, 10).Manifest
	cases := map[string]func(h hostile){
		"manifest": func(h hostile) { h.dst.On("PUT", `/v2/dst/manifests/`, registrytest.Swallow()) },
		"tag":      func(h hostile) { h.dst.On("PUT", `/v2/dst/manifests/v1`, registrytest.Swallow()) },
		"blob":     func(h hostile) { h.dst.On("PUT", `/v2/dst/blobs/`, registrytest.Swallow()) },
		"another's tag": func(h hostile) {
			h.dst.Put(t, "dst", "v1", registrytest.NewImage(8, 10))
			h.dst.On("PUT", `/v2/dst/manifests/v1`, registrytest.Swallow())
		},
		"other bytes by tag": func(h hostile) {
			h.dst.OnTimes(1, "GET", `/v2/dst/manifests/v1`, registrytest.Answer(404, nil))
			h.dst.On("PUT", `/v2/dst/manifests/v1`, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
				h.dst.On("GET", `/v2/dst/manifests/v1`, registrytest.Answer(200, other.Bytes, "Content-Type", other.MediaType))
				w.WriteHeader(http.StatusCreated)
			})
		},
	}
	for name, script := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t)
			s := h.src.Put(t, "src", "v1", registrytest.NewImage(1, 10))
			script(h)
			_, err := h.c.Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}})
			if got := release.KindOf(err); got != release.KindUnavailable || errors.Is(err, registry.ErrNotFound) {
				t.Errorf("got %q: %v, want unavailable and not a plain absence", got, err)
			}
		})
	}
}

// Case 4: a child of an index is another than the index says.
func TestChildSwapped(t *testing.T) {
	child, evil := registrytest.NewImage(1, 10), registrytest.NewImage(2, 10)
	serve := func(h hostile) release.Subject {
		s := h.src.Put(t, "src", "v1", registrytest.NewIndex(child, registrytest.NewPlatformImage(3, "arm64", 10)))
		h.src.Put(t, "src", "", evil)
		h.src.On("GET", anyManifest+child.Manifest.Digest.String(), registrytest.Answer(200, evil.Manifest.Bytes,
			"Content-Type", evil.Manifest.MediaType, "Docker-Content-Digest", child.Manifest.Digest.String()))
		return s
	}
	t.Run("copy", func(t *testing.T) {
		h := newHostile(t)
		h.refuses(t, serve(h), release.KindDenied, child.Manifest.Digest.String(), evil.Manifest.Digest.String())
	})
	t.Run("platform", func(t *testing.T) {
		h := newHostile(t)
		_, err := h.c.Platform(t.Context(), serve(h), "linux/amd64")
		h.check(t, err, release.KindDenied, child.Manifest.Digest.String(), evil.Manifest.Digest.String())
	})
	t.Run("config", func(t *testing.T) {
		h := newHostile(t)
		s := h.src.Put(t, "src", "v1", child)
		h.src.On("GET", `/v2/src/blobs/`+child.Blobs[0].Digest.String(), registrytest.Change(func(_ http.Header, body []byte) []byte {
			return bytes.Replace(body, []byte("10001"), []byte("00000"), 1)
		}))
		_, err := h.c.Platform(t.Context(), s, "linux/amd64")
		h.check(t, err, release.KindDenied, child.Blobs[0].Digest.String())
	})
	t.Run("size in the index", func(t *testing.T) {
		h := newHostile(t)
		h.src.Put(t, "src", "", child)
		d := registrytest.Describe(child.Manifest)
		d.Size++
		index := registrytest.Encode(release.MediaTypeIndex, map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeIndex, "manifests": []any{d}})
		s := release.Subject{Repository: h.src.Host + "/src", Digest: h.src.PutManifest(t, "src", "", index.MediaType, index.Bytes)}
		h.refuses(t, s, release.KindDenied, child.Manifest.Digest.String())
	})
}

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

// Case 6: a huge manifest.
func TestHugeManifest(t *testing.T) {
	for _, announced := range []bool{true, false} {
		t.Run(fmt.Sprintf("announced %v", announced), func(t *testing.T) {
			h := newHostile(t)
			s := h.src.Put(t, "src", "v1", registrytest.NewImage(1, 10))
			h.src.On("GET", anyManifest, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
				w.Header().Set("Content-Type", release.MediaTypeManifest)
				if announced {
					w.Header().Set("Content-Length", strconv.Itoa(99<<20))
				}
				chunk := bytes.Repeat([]byte(" "), 1<<20)
				for range 99 {
					if _, err := w.Write(chunk); err != nil {
						return
					}
				}
			})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			h.refuses(t, s, release.KindDenied)
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
				t.Errorf("allocated %d bytes", grown)
			}
		})
	}
}

// Case 7: indexes nested deep, or wide.
func TestIndexBombs(t *testing.T) {
	t.Run("deep", func(t *testing.T) {
		h := newHostile(t)
		img := registrytest.NewImage(1, 10)
		for range 50 {
			img = registrytest.NewIndex(img)
		}
		s := h.src.Put(t, "src", "v1", img)
		h.src.Forget()
		h.refuses(t, s, release.KindDenied, "nested")
		if n := len(h.src.Requests()); n > 20 {
			t.Errorf("it took %d requests to see", n)
		}
		_, err := h.c.Platform(t.Context(), s, "linux/amd64")
		h.check(t, err, release.KindDenied)
	})
	t.Run("wide", func(t *testing.T) {
		h := newHostile(t)
		list := make([]registrytest.Descriptor, 10_000)
		for i := range list {
			list[i] = registrytest.Descriptor{MediaType: release.MediaTypeManifest, Digest: release.DigestOf(fmt.Append(nil, i)), Size: 300}
		}
		b := registrytest.Encode(release.MediaTypeIndex, map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeIndex, "manifests": list})
		h.src.On("GET", anyManifest, registrytest.Answer(200, b.Bytes, "Content-Type", b.MediaType))
		h.refuses(t, release.Subject{Repository: h.src.Host + "/src", Digest: b.Digest}, release.KindDenied, "10000")
	})
	t.Run("many by few", func(t *testing.T) {
		h := newHostile(t)
		var outer []registrytest.Image
		for i := range 4 {
			var inner []registrytest.Image
			for j := range 300 {
				inner = append(inner, registrytest.NewImage(uint64(i*300+j)))
			}
			outer = append(outer, registrytest.NewIndex(inner...))
		}
		h.refuses(t, h.src.Put(t, "src", "v1", registrytest.NewIndex(outer...)), release.KindDenied, "more than 1024")
	})
}

// Case 8: manifests that can be read in two ways. More of them in parse_test.go.
func TestAmbiguousManifest(t *testing.T) {
	img := registrytest.NewImage(1, 10)
	text := string(img.Manifest.Bytes)
	cases := map[string]string{
		"layers and manifests": strings.Replace(text, `"layers":`, `"manifests":[],"layers":`, 1),
		"duplicate key":        strings.Replace(text, `"layers":`, `"layers":[],"layers":`, 1),
		"trailing bytes":       text + "{}",
	}
	for name, body := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t)
			h.src.Put(t, "src", "", img)
			s := release.Subject{Repository: h.src.Host + "/src", Digest: h.src.PutManifest(t, "src", "v1", release.MediaTypeManifest, []byte(body))}
			h.refuses(t, s, release.KindDenied, s.Digest.String())
			_, err := h.c.Resolve(t.Context(), h.src.Host+"/src:v1")
			h.check(t, err, release.KindDenied)
		})
	}
}

// Case 9: a malformed digest is the caller's mistake.
func TestMalformedDigest(t *testing.T) {
	h := newHostile(t)
	for _, digest := range []string{"sha256:xyz", "sha256:" + strings.Repeat("A", 64), "md5:d41d8cd98f00b204e9800998ecf8427e", ""} {
		_, err := h.c.Resolve(t.Context(), h.src.Host+"/src@"+digest)
		h.check(t, err, release.KindUsage)
		_, err = h.c.Transfer(t.Context(), h.src.Host+"/src@"+digest, h.dst.Host+"/dst", registry.CopyOptions{})
		h.check(t, err, release.KindUsage)
	}
	if n := len(h.src.Requests()); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

// Case 10: layers that name addresses elsewhere.
func TestForeignURLs(t *testing.T) {
	for _, mediaType := range []string{"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "application/vnd.oci.image.layer.v1.tar+gzip"} {
		for _, held := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s held %v", mediaType, held), func(t *testing.T) {
				h := newHostile(t)
				elsewhere := registrytest.Serve(t, http.NotFoundHandler())
				img := registrytest.NewImage(1, 10)
				layer := registrytest.NewBlob(mediaType, []byte("foreign"))
				d := registrytest.Describe(layer)
				d.URLs = []string{"http://" + elsewhere.Host + "/layer"}
				elsewhere.On("", ".", registrytest.Answer(200, layer.Bytes))
				img.Manifest = registrytest.Encode(release.MediaTypeManifest, map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeManifest,
					"config": registrytest.Describe(img.Blobs[0]), "layers": []any{d}})
				if held {
					h.src.PutBlob(t, "src", layer.Bytes)
				}
				s := h.src.Put(t, "src", "v1", img)
				got, err := h.c.Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{})
				foreign := strings.Contains(mediaType, "foreign")
				switch {
				case held && (err != nil || got.Foreign != 0 || got.Blobs != 2):
					t.Errorf("got %+v, %v", got, err)
				case !held && foreign && (err != nil || got.Foreign != 1):
					t.Errorf("got %+v, %v", got, err)
				case !held && !foreign && release.KindOf(err) != release.KindUnavailable:
					t.Errorf("got %+v, %v", got, err)
				}
				if asked := elsewhere.Requests(); len(asked) > 0 {
					t.Errorf("asked elsewhere: %v", asked)
				}
			})
		}
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
