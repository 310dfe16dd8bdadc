package registrytest

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

func testDeep(t *testing.T, b Backend) {
	w := fast(t, b)
	img := NewPlatformImage(4, "amd64", 10)
	for range 50 {
		img = NewIndex(img)
		img.Platform = "amd64"
	}
	s := w.src.Put(t, source, "", img)
	w.refuses(t, s, denied, "nested")
	if n := len(w.src.Requests()); n > 20 {
		t.Errorf("it took %d requests to see", n)
	}
	_, err := w.c.Platform(t.Context(), s, "linux/amd64")
	refused(t, err, denied, "nested")
}

func testWide(t *testing.T, b Backend) {
	w := fast(t, b)
	list := make([]Descriptor, 10_000)
	for i := range list {
		list[i] = Descriptor{MediaType: release.MediaTypeManifest, Digest: release.DigestOf(fmt.Append(nil, i)), Size: 300}
	}
	wide := listing(list)
	w.src.On("GET", "/manifests/", Answer(http.StatusOK, wide.Bytes, "Content-Type", wide.MediaType))
	w.refuses(t, release.Subject{Repository: w.subject.Repository, Digest: wide.Digest}, denied, wide.Digest.String())
}

func testManyByFew(t *testing.T, b Backend) {
	w := fast(t, b)
	served := map[string]release.Blob{}
	serve := func(m release.Blob) Image {
		served["/v2/src/manifests/"+m.Digest.String()] = m
		return Image{Manifest: m}
	}
	var outer []Image
	for i := range 4 {
		var inner []Image
		for j := range 300 {
			inner = append(inner, serve(NewImage(uint64(i*300+j)).Manifest))
		}
		outer = append(outer, serve(NewIndex(inner...).Manifest))
	}
	root := serve(NewIndex(outer...).Manifest).Manifest
	w.src.On("GET", "/manifests/sha256:", func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		m := served[r.URL.Path]
		Answer(http.StatusOK, m.Bytes, "Content-Type", m.MediaType)(rw, r, next)
	})
	w.refuses(t, release.Subject{Repository: w.subject.Repository, Digest: root.Digest}, denied, "more than 1024")
}

// ambiguous are ways to write an image's manifest that can be read in two ways.
func ambiguous(img Image) map[string][]byte {
	text := string(img.Manifest.Bytes)
	return map[string][]byte{
		"layers and manifests": []byte(strings.Replace(text, `"layers":`, `"manifests":[],"layers":`, 1)),
		"duplicate key":        []byte(strings.Replace(text, `"layers":`, `"layers":[],"layers":`, 1)),
		"key in another case":  []byte(strings.Replace(text, `"layers":`, `"Layers":[],"layers":`, 1)),
		"trailing bytes":       []byte(text + "{}"),
		"invalid UTF-8":        []byte(strings.Replace(text, `{`, "{\"x\":\"\xff\",", 1)),
		"no JSON":              []byte("schemaVersion: 2"),
	}
}

// serveBytes lets the source serve bytes that no registry would take.
func (w *world) serveBytes(repository string, m release.Blob) {
	w.src.On("GET", exactly("/v2/"+repository+"/manifests/"+m.Digest.String()), Answer(http.StatusOK, m.Bytes, "Content-Type", m.MediaType, "Docker-Content-Digest", m.Digest.String()))
}

func testAmbiguous(t *testing.T, b Backend) {
	for name, raw := range ambiguous(NewImage(4, 10)) {
		t.Run(name, func(t *testing.T) {
			w := fast(t, b)
			m := NewBlob(release.MediaTypeManifest, raw)
			w.serveBytes(source, m)
			s := release.Subject{Repository: w.subject.Repository, Digest: m.Digest}
			w.refuses(t, s, denied, m.Digest.String())
			_, err := w.c.Resolve(t.Context(), s.String())
			refused(t, err, denied, m.Digest.String())
			_, _, err = w.c.Manifest(t.Context(), s)
			refused(t, err, denied, m.Digest.String())
			refused(t, w.c.Tag(t.Context(), s, "v3"), denied, m.Digest.String())
			_, err = w.c.PullRelease(t.Context(), s)
			refused(t, err, denied, m.Digest.String())
		})
	}
}

func testAmbiguousChild(t *testing.T, b Backend) {
	for name, raw := range ambiguous(NewImage(4, 10)) {
		t.Run(name, func(t *testing.T) {
			w := fast(t, b)
			m := NewBlob(release.MediaTypeManifest, raw)
			inner := NewIndex(Image{Manifest: m, Platform: "amd64"})
			inner.Platform = "amd64"
			root := NewIndex(inner)
			for _, blob := range []release.Blob{m, inner.Manifest, root.Manifest} {
				w.serveBytes(source, blob)
			}
			s := release.Subject{Repository: w.subject.Repository, Digest: root.Manifest.Digest}
			w.refuses(t, s, denied, m.Digest.String())
			_, err := w.c.Platform(t.Context(), s, "linux/amd64")
			refused(t, err, denied, m.Digest.String())
		})
	}
}

// Evidence that can be read in two ways counts for nothing, and hides nothing.
func testAmbiguousEvidence(t *testing.T, b Backend) {
	good := NewReferrer(contents(b).index.Manifest, release.MediaTypeBundle, release.MediaTypeBundle, []byte(`{"good":true}`))
	for name, raw := range ambiguous(NewReferrer(contents(b).index.Manifest, release.MediaTypeBundle, release.MediaTypeBundle, []byte(`{"bad":true}`))) {
		t.Run(name, func(t *testing.T) {
			w := fast(t, b)
			w.src.Put(t, source, "", good)
			bad := NewBlob(release.MediaTypeManifest, raw)
			w.serveBytes(source, bad)
			w.lists(Describe(bad), Describe(good.Manifest))
			got := must(w.c.Attachments(t.Context(), w.subject))(t)
			if len(got) != 1 || string(got[0].Bundle) != `{"good":true}` {
				t.Errorf("got %d attachments", len(got))
			}
			if err := w.copy(t); err != nil {
				t.Fatal(err)
			}
			w.dst.Whole(t, "dst", good)
			if status, _ := w.dst.Ask(http.MethodGet, "/v2/dst/manifests/"+bad.Digest.String()); status != http.StatusNotFound {
				t.Errorf("ambiguous evidence was copied: %d", status)
			}
		})
	}
}

// lists lets the source say what refers to the subject.
func (w *world) lists(entries ...Descriptor) {
	for i := range entries {
		entries[i].ArtifactType = release.MediaTypeBundle
	}
	list := listing(entries)
	w.src.On("GET", "^/v2/src/(referrers/"+w.subject.Digest.String()+"|manifests/"+fallback(w.subject.Digest)+")", Answer(http.StatusOK, list.Bytes, "Content-Type", list.MediaType))
}

func testMalformedInside(t *testing.T, b Backend) {
	text := string(NewImage(4, 10).Manifest.Bytes)
	at := strings.Index(text, "sha256:")
	for _, digest := range []string{"", "sha256:..", "../../../../etc/passwd", "sha512:" + strings.Repeat("0", 128), "sha256:" + strings.Repeat("F", 64)} {
		w := fast(t, b)
		m := NewBlob(release.MediaTypeManifest, []byte(text[:at]+digest+text[at+71:]))
		w.serveBytes(source, m)
		w.refuses(t, release.Subject{Repository: w.subject.Repository, Digest: m.Digest}, denied, m.Digest.String())
	}
}

func testForeign(t *testing.T, b Backend) {
	const foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	for _, mediaType := range []string{foreign, imageLayer} {
		for _, held := range []bool{true, false} {
			w := fast(t, b)
			elsewhere := Serve(t, http.NotFoundHandler())
			img, layer := NewImage(4, 10), NewBlob(mediaType, []byte("foreign"))
			elsewhere.On("", ".", Answer(http.StatusOK, layer.Bytes))
			d := Describe(layer)
			d.URLs = []string{"http://" + elsewhere.Host + "/layer"}
			m := Encode(release.MediaTypeManifest, map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeManifest, "config": Describe(img.Blobs[0]), "layers": []any{d}})
			w.src.PutBlob(t, source, img.Blobs[0].Bytes)
			if held {
				w.src.PutBlob(t, source, layer.Bytes)
			}
			w.serveBytes(source, m)
			// A destination may refuse a manifest without its layer, which is
			// not the point here.
			w.dst.On("PUT", "/manifests/", Swallow())
			w.dst.On("GET", "/manifests/", Answer(http.StatusOK, m.Bytes, "Content-Type", m.MediaType))
			w.dst.OnTimes(1, "GET", "/manifests/", Answer(http.StatusNotFound, nil))
			got, err := w.c.Copy(t.Context(), release.Subject{Repository: w.subject.Repository, Digest: m.Digest}, w.dst.Host+"/dst", registry.CopyOptions{})
			switch {
			case held && (err != nil || got.Foreign != 0 || got.Blobs != 2):
				t.Errorf("held: got %+v, %v", got, err)
			case !held && mediaType == foreign && (err != nil || got.Foreign != 1):
				t.Errorf("not held: got %+v, %v", got, err)
			case !held && mediaType != foreign && release.KindOf(err) != unavailable:
				t.Errorf("missing: got %+v, %v", got, err)
			}
			if asked := elsewhere.Requests(); len(asked) > 0 {
				t.Errorf("asked elsewhere: %v", asked)
			}
		}
	}
}

// testFlood is ten thousand referrers, in pages of different sizes, or under
// the fallback tag.
func testFlood(t *testing.T, b Backend) {
	entry := func(i int) Descriptor {
		return Descriptor{MediaType: release.MediaTypeManifest, Digest: release.DigestOf(fmt.Append(nil, i)), Size: 500, ArtifactType: release.MediaTypeBundle}
	}
	const all = 10_000
	for _, perPage := range []int{1, 100, all} {
		t.Run(strconv.Itoa(perPage)+" a page", func(t *testing.T) {
			w := fast(t, b)
			w.src.On("GET", "/(referrers/|manifests/sha256-)", func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
				n, _ := strconv.Atoi(r.URL.Query().Get("page"))
				var items []Descriptor
				for i := n * perPage; i < min((n+1)*perPage, all); i++ {
					items = append(items, entry(i))
				}
				link := ""
				if (n+1)*perPage < all {
					link = "?page=" + strconv.Itoa(n+1)
				}
				if strings.Contains(r.URL.Path, "manifests") { // a fallback tag has no pages
					items, link = nil, ""
					for i := range all {
						items = append(items, entry(i))
					}
				}
				Page(release.MediaTypeIndex, listing(items).Bytes, link)(rw, r, next)
			})
			start := time.Now()
			_, err := w.c.Attachments(t.Context(), w.subject)
			refused(t, err, denied)
			if n, took := len(w.src.Requests()), time.Since(start); n > 150 || took > 10*time.Second {
				t.Errorf("it took %d requests and %s", n, took)
			}
			w.src.Forget()
			w.refuses(t, w.subject, denied)
			if n := len(w.src.Requests()); n > 150 {
				t.Errorf("copying took %d requests", n)
			}
		})
	}
}

func testPages(t *testing.T, b Backend) {
	w := fast(t, b)
	list := listing([]Descriptor{Describe(w.evidence.Manifest)}).Bytes
	w.src.On("GET", "/referrers/[^?]*$", Page(release.MediaTypeIndex, listing(nil).Bytes, "?page=2"))
	w.src.On("GET", "/referrers/.*page=2", Page(release.MediaTypeIndex, list, ""))
	got := must(w.c.Attachments(t.Context(), w.subject))(t)
	if len(got) != 1 || string(got[0].Bundle) != string(w.evidence.Blobs[1].Bytes) {
		t.Errorf("got %d attachments", len(got))
	}
	if err := w.copy(t); err != nil {
		t.Fatal(err)
	}
	w.dst.Whole(t, "dst", w.evidence)
}

// Evidence about a child says nothing about its index, and the reverse.
func testOtherSubject(t *testing.T, b Backend) {
	w := fast(t, b)
	child := w.subject
	child.Digest = w.amd.Manifest.Digest
	about := NewReferrer(w.riscv.Manifest, release.MediaTypeBundle, release.MediaTypeBundle, []byte(`{"about":"the grandchild"}`))
	w.src.Refer(t, b, source, w.riscv.Manifest, about)
	if got := must(w.c.Attachments(t.Context(), child))(t); len(got) != 0 {
		t.Errorf("a child has the evidence of its index: %+v", got)
	}
	if got := must(w.c.Attachments(t.Context(), w.subject))(t); len(got) != 1 || strings.Contains(string(got[0].Bundle), "grandchild") {
		t.Errorf("an index has the evidence of what lies below it: %d", len(got))
	}
}

// A list that offers another subject's evidence gives none.
func testLyingList(t *testing.T, b Backend) {
	w := fast(t, b)
	for _, about := range []release.Blob{NewImage(6, 10).Manifest, NewImage(5, 10).Manifest} {
		other := NewReferrer(about, release.MediaTypeBundle, release.MediaTypeBundle, []byte(`{"about":"another"}`))
		w.src.Put(t, source, "", other)
		w.lists(Describe(other.Manifest), Describe(w.amd.Manifest), Describe(w.index.Manifest))
		if got := must(w.c.Attachments(t.Context(), w.subject))(t); len(got) != 0 {
			t.Errorf("took %+v", got)
		}
		if err := w.copy(t); err != nil {
			t.Fatal(err)
		}
		if status, _ := w.dst.Ask(http.MethodGet, "/v2/dst/manifests/"+other.Manifest.Digest.String()); status != http.StatusNotFound {
			t.Errorf("another subject's evidence was copied: %d", status)
		}
	}
}
