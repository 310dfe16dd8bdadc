package registrytest

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

// destinationFaults are the ways in which a destination may take what it does
// not keep, or not take it.
func destinationFaults() scenarios {
	const blobs, uploads, manifests, tag = "/v2/dst/blobs/sha256:", "/v2/dst/blobs/uploads/", "/v2/dst/manifests/sha256:", "/v2/dst/manifests/v1"
	list := scenarios{
		"manifest lost":  afterwards(func(p *Proxy, _ *world) { p.On("PUT", manifests, Swallow()) }),
		"tag lost":       afterwards(func(p *Proxy, _ *world) { p.On("PUT", tag, Swallow()) }),
		"blob lost":      afterwards(func(p *Proxy, _ *world) { p.On("PUT", uploads, Swallow()) }),
		"blob forgotten": afterwards(func(p *Proxy, _ *world) { p.On("HEAD", blobs, Answer(http.StatusNotFound, nil)) }),
		"other bytes by digest": afterwards(func(p *Proxy, w *world) {
			other := NewImage(5, 10).Manifest
			p.On("GET", manifests+w.index.Manifest.Digest.Hex(), After(1, Answer(http.StatusOK, other.Bytes, "Content-Type", other.MediaType)))
		}),
		"other bytes by tag": afterwards(func(p *Proxy, _ *world) {
			other := NewImage(5, 10).Manifest
			p.On("PUT", tag, func(rw http.ResponseWriter, _ *http.Request, _ http.Handler) {
				p.On("GET", tag, Answer(http.StatusOK, other.Bytes, "Content-Type", other.MediaType))
				rw.WriteHeader(http.StatusCreated)
			})
		}),
		"manifest gone on reading back": afterwards(func(p *Proxy, _ *world) { p.On("GET", manifests, Answer(http.StatusNotFound, nil)) }),
		"upload elsewhere": afterwards(func(p *Proxy, w *world) {
			// What is put there never arrives here.
			p.On("POST", uploads, Redirect(http.StatusAccepted, "http://"+w.elsewhere+"/upload"))
		}),
		"upload without a place": afterwards(func(p *Proxy, _ *world) { p.On("POST", uploads, Answer(http.StatusAccepted, nil)) }),
		"upload at no address":   afterwards(func(p *Proxy, _ *world) { p.On("POST", uploads, Redirect(http.StatusAccepted, "http://[::1")) }),
		"upload in a file":       afterwards(func(p *Proxy, _ *world) { p.On("POST", uploads, Redirect(http.StatusAccepted, "file:///tmp/x")) }),
		"a redirected write": afterwards(func(p *Proxy, w *world) {
			p.On("PUT", ".", Redirect(http.StatusTemporaryRedirect, "http://"+w.elsewhere+"/"))
		}),
		"evidence is taken, not listed": afterwards(func(p *Proxy, w *world) {
			p.On("GET", "/referrers/", Page(release.MediaTypeIndex, listing(nil).Bytes, ""))
			p.On("PUT", "/manifests/sha256-", Swallow())
		}),
		"commit says another digest":   harmless(func(p *Proxy) { p.On("PUT", uploads, saying(release.DigestOf(nil).String())) }),
		"manifest says another digest": harmless(func(p *Proxy) { p.On("PUT", manifests, saying(release.DigestOf(nil).String())) }),
		"done, not said: blob":         harmless(func(p *Proxy) { p.OnTimes(2, "PUT", uploads, Lose()) }),
		"done, not said: manifest":     harmless(func(p *Proxy) { p.OnTimes(2, "PUT", manifests, Lose()) }),
		"done, not said: tag":          harmless(func(p *Proxy) { p.OnTimes(1, "PUT", tag, Lose()) }),
		"HEAD lies":                    testHeadLies,
		"a mount that is none":         testMountLies,
		"the disk is full":             testFullDisk,
	}
	for name, pattern := range map[string]string{"opening an upload": uploads + "$", "a blob": uploads + ".", "a manifest": manifests, "a tag": tag} {
		for status, text := range map[int]string{403: "forbidden", 413: "too large", 507: "full", 500: "broken", 405: "read only"} {
			list[text+" "+name] = afterwards(func(p *Proxy, _ *world) {
				for _, method := range []string{"POST", "PUT", "PATCH"} {
					p.On(method, pattern, Answer(status, nil))
				}
			})
		}
	}
	return list
}

func saying(digest string) Action {
	return Change(func(h http.Header, body []byte) []byte {
		h.Set("Docker-Content-Digest", digest)
		return body
	})
}

// afterwards lets a destination misbehave and requires that the copy could not
// be done, that this is no plain absence, and that everything which was there
// is as it was, the tag above all.
func afterwards(script func(p *Proxy, w *world)) func(t *testing.T, b Backend) {
	return func(t *testing.T, b Backend) {
		w := fast(t, b)
		sink := Serve(t, http.NotFoundHandler())
		sink.On("", ".", Swallow())
		w.elsewhere = sink.Host
		w.dst.Put(t, "dst", "v1", NewImage(8, 10))
		before := w.dst.State(t)
		script(w.dst, w)
		err := w.copy(t)
		if got := release.KindOf(err); got != unavailable && got != denied || isAbsence(err) {
			t.Errorf("got %q: %v", got, err)
		}
		if !strings.Contains(t.Name(), "elsewhere") && !strings.Contains(t.Name(), "redirected") && !strings.Contains(t.Name(), "file") && release.KindOf(err) == denied {
			t.Errorf("this is breakage, not a denial: %v", err)
		}
		_, list := w.dst.Ask(http.MethodGet, "/v2/dst/manifests/"+fallback(w.subject.Digest))
		after := w.dst.State(t)
		// The list of referrers goes before the tag.
		maps.DeleteFunc(after, func(name string, _ release.Digest) bool { return strings.Contains(name, "/sha256-") })
		UnchangedButParts(t, before, after, append(w.parts(target{}), release.DigestOf(list)))
	}
}

// harmless lets a destination say something wrong about what it does right.
func harmless(script func(p *Proxy)) func(t *testing.T, b Backend) {
	return func(t *testing.T, b Backend) {
		w := fast(t, b)
		script(w.dst)
		if err := w.copy(t); err != nil {
			t.Fatal(err)
		}
		w.dst.Whole(t, "dst", w.index)
		w.dst.Whole(t, "dst", w.evidence)
		if status, body := w.dst.Ask(http.MethodGet, "/v2/dst/manifests/v1"); status != http.StatusOK || release.DigestOf(body) != w.index.Manifest.Digest {
			t.Errorf("the tag: %d, %s", status, release.DigestOf(body))
		}
	}
}

// A destination that says it has every blob is believed, and found out when it
// validates the manifest; the copy then heals it or fails.
func testHeadLies(t *testing.T, b Backend) {
	w := fast(t, b)
	w.dst.On("HEAD", "/v2/dst/blobs/", Answer(http.StatusOK, nil))
	before := w.dst.State(t)
	if err := w.copy(t); err != nil {
		UnchangedButParts(t, before, w.dst.State(t), w.parts(target{}))
		return
	}
	if b.Mounts { // the kind that validates
		w.dst.Whole(t, "dst", w.index)
	}
}

func testMountLies(t *testing.T, b Backend) {
	w := fast(t, b)
	before := w.src.State(t)
	w.src.On("POST", "mount=", Answer(http.StatusCreated, nil))
	w.src.On("HEAD", "/v2/mounted/blobs/", Answer(http.StatusNotFound, nil))
	w.src.On("PUT", "/v2/mounted/blobs/", Swallow())
	_, err := w.c.Copy(t.Context(), w.subject, w.src.Host+"/mounted", registry.CopyOptions{Tags: []string{"v1"}})
	refused(t, err, unavailable)
	UnchangedButParts(t, before, w.src.State(t), w.parts(target{}))
}

// A layout on a disk that cannot be written is this machine's failure, and
// leaves what was there.
func testFullDisk(t *testing.T, b Backend) {
	if os.Geteuid() == 0 {
		testFullDevice(t, b)
		return
	}
	w := fast(t, b)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"oci:", "oci-archive:"} {
		_, err := w.c.Transfer(t.Context(), w.subject.String(), kind+filepath.Join(dir, "image"), registry.CopyOptions{})
		refused(t, err, unavailable)
	}
}

// Permissions don't stop root; a file where a directory must be does.
func testFullDevice(t *testing.T, b Backend) {
	w := fast(t, b)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "blobs"), []byte("in the way"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := Files(t, dir)
	_, err := w.c.Transfer(t.Context(), w.subject.String(), "oci:"+dir, registry.CopyOptions{})
	refused(t, err, unavailable)
	Unchanged(t, before, Files(t, dir))
	_, err = w.c.Transfer(t.Context(), w.subject.String(), "oci-archive:"+filepath.Join(dir, "blobs", "image.tar"), registry.CopyOptions{})
	refused(t, err, unavailable)
	Unchanged(t, before, Files(t, dir))
}
