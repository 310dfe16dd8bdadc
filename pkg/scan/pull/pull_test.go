package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

const content = "a layer"

var contentDigest = release.DigestOf([]byte(content))

// get asks a guarded server for a path and reads the whole answer.
func get(t *testing.T, g *Guard, url string) (string, error) {
	t.Helper()
	resp, err := (&http.Client{Transport: g}).Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func serve(t *testing.T, handler http.HandlerFunc) (*Guard, string) {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	g := NewGuard(t.Context(), NewTransport(), strings.TrimPrefix(s.URL, "http://"), nil)
	g.window = 200 * time.Millisecond
	return g, s.URL
}

func TestGuardVerifiesBlobs(t *testing.T) {
	blob := "/v2/app/blobs/" + contentDigest.String()
	for _, c := range []struct {
		name   string
		answer func(http.ResponseWriter)
		denied bool
		ok     bool
	}{
		{"as promised", func(w http.ResponseWriter) { fmt.Fprint(w, content) }, false, true},
		{"other bytes", func(w http.ResponseWriter) { fmt.Fprint(w, "A LAYER") }, true, false},
		{"too long, announced", func(w http.ResponseWriter) { fmt.Fprint(w, content+"!") }, false, false},
		{"too long, in chunks", func(w http.ResponseWriter) {
			fmt.Fprint(w, content)
			w.(http.Flusher).Flush()
			fmt.Fprint(w, strings.Repeat("x", 1<<20))
		}, false, false},
		{"truncated", func(w http.ResponseWriter) { fmt.Fprint(w, content[:3]) }, false, false},
		{"an error", func(w http.ResponseWriter) { http.Error(w, "gone", http.StatusNotFound) }, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, url := serve(t, func(w http.ResponseWriter, _ *http.Request) { c.answer(w) })
			g.Expect(contentDigest, int64(len(content)))
			_, err := get(t, g, url+blob)
			if (err == nil) != c.ok {
				t.Errorf("error %v", err)
			}
			if denial := g.Denial(); (denial != nil) != c.denied || c.denied && release.KindOf(denial) != release.KindDenied {
				t.Errorf("denial %v, want one: %v", denial, c.denied)
			}
		})
	}
}

func TestGuardFetchesNothingUnnamed(t *testing.T) {
	asked := false
	g, url := serve(t, func(http.ResponseWriter, *http.Request) { asked = true })
	if _, err := get(t, g, url+"/v2/app/blobs/"+contentDigest.String()); err == nil || asked || g.Denial() == nil {
		t.Errorf("a blob that no manifest names was asked for: %v, %v", asked, err)
	}
}

func TestGuardVerifiesManifests(t *testing.T) {
	manifest := "{}"
	g, url := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, manifest) })
	if _, err := get(t, g, url+"/v2/app/manifests/latest"); err != nil {
		t.Errorf("by tag: %v", err)
	}
	if _, err := get(t, g, url+"/v2/app/manifests/"+release.DigestOf([]byte(manifest)).String()); err != nil {
		t.Errorf("by its digest: %v", err)
	}
	if _, err := get(t, g, url+"/v2/app/manifests/"+contentDigest.String()); err == nil || g.Denial() == nil {
		t.Error("another manifest than the one asked for was taken")
	}
	manifest = strings.Repeat(" ", MaxManifest+1)
	g, url = serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, manifest) })
	if _, err := get(t, g, url+"/v2/app/manifests/latest"); err == nil || g.Denial() == nil {
		t.Errorf("an endless manifest: %v", err)
	}
}

func TestGuardLooksThroughRedirects(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("credentials went to another host")
		}
		fmt.Fprint(w, "A LAYER")
	}))
	t.Cleanup(elsewhere.Close)
	g, url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/signed", http.StatusTemporaryRedirect)
	})
	g.Expect(contentDigest, int64(len(content)))
	if _, err := get(t, g, url+"/v2/app/blobs/"+contentDigest.String()); err == nil || g.Denial() == nil {
		t.Error("other bytes from behind a redirect were taken")
	}
}

func TestGuardKeepsCredentials(t *testing.T) {
	var sent []string
	g := NewGuard(t.Context(), roundTrip(func(r *http.Request) (*http.Response, error) {
		sent = append(sent, r.URL.Host+" "+r.Header.Get("Authorization"))
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
	}), "index.docker.io", nil)
	for _, url := range []string{"https://index.docker.io/v2/", "https://auth.docker.io/token", "http://auth.docker.io/token", "https://evil.test/token", "https://docker.io.evil.test/"} {
		req, _ := http.NewRequest(http.MethodGet, url, nil)
		req.Header.Set("Authorization", "Basic x")
		if _, err := g.RoundTrip(req); err != nil {
			t.Error(err)
		}
	}
	want := []string{"index.docker.io Basic x", "auth.docker.io Basic x", "auth.docker.io ", "evil.test ", "docker.io.evil.test "}
	if !slices.Equal(sent, want) {
		t.Errorf("sent %q, want %q", sent, want)
	}
	req, _ := http.NewRequest(http.MethodPost, "https://evil.test/token", strings.NewReader("refresh_token=x"))
	if _, err := g.RoundTrip(req); err == nil || len(sent) != len(want) {
		t.Error("a form with credentials went to another host")
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestGuardGivesUpOnSilence(t *testing.T) {
	for name, handler := range map[string]func(http.ResponseWriter, *http.Request){
		"silence": func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"drops": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				fmt.Fprint(w, "x")
				w.(http.Flusher).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, url := serve(t, handler)
			g.Expect(contentDigest, 1<<30)
			start := time.Now()
			_, err := get(t, g, url+"/v2/app/blobs/"+contentDigest.String())
			if !errors.Is(err, errStalled) || time.Since(start) > 5*time.Second {
				t.Errorf("after %s: %v", time.Since(start), err)
			}
			if g.Denial() != nil {
				t.Error("silence is no denial")
			}
		})
	}
}

// A reader that is slow must not be blamed on the registry.
func TestGuardWaitsForTheReader(t *testing.T) {
	g, url := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, content) })
	g.window = 30 * time.Millisecond
	g.Expect(contentDigest, int64(len(content)))
	resp, err := (&http.Client{Transport: g}).Get(url + "/v2/app/blobs/" + contentDigest.String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	one := make([]byte, 1)
	for range 3 {
		if _, err := resp.Body.Read(one); err != nil {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Millisecond)
	}
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != len(content)-3 {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
}

func TestGuardWaitsWhenAsked(t *testing.T) {
	tries := 0
	g, url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if tries++; tries < 3 {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		fmt.Fprint(w, "{}")
	})
	if _, err := get(t, g, url+"/v2/app/manifests/latest"); err != nil || tries != 3 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestGuardStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	g := NewGuard(ctx, NewTransport(), strings.TrimPrefix(s.URL, "http://"), nil)
	if _, err := get(t, g, s.URL+"/v2/"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

const (
	config = `{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":7}`
	layer  = `{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"%s","size":7}`
)

func image(config, layers string) string {
	return `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":` + config + `,"layers":[` + layers + `]}`
}

func descriptor(format string) string { return fmt.Sprintf(format, contentDigest) }

func child(platform string) string {
	return fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":7%s}`, contentDigest, platform)
}

func index(children ...string) string {
	return `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[` + strings.Join(children, ",") + `]}`
}

func TestParse(t *testing.T) {
	m, err := Parse([]byte(image(descriptor(config), descriptor(layer))), "application/vnd.oci.image.manifest.v1+json; charset=utf-8")
	if err != nil || m.Index || len(m.Layers) != 1 || m.Config.Digest != contentDigest {
		t.Fatalf("%+v, %v", m, err)
	}
	const amd, arm, unknown = `,"platform":{"os":"linux","architecture":"amd64"}`, `,"platform":{"os":"linux","architecture":"arm64","variant":"v8"}`, `,"platform":{"os":"unknown","architecture":"unknown"}`
	m, err = Parse([]byte(index(child(amd), child(arm), child(unknown))), "")
	if err != nil || !m.Index || len(m.Images) != 2 {
		t.Fatalf("%+v, %v", m, err)
	}
	for platforms, want := range map[string]int{"linux/amd64": 1, "linux/arm64": 1, "linux/arm64/v8": 1, "linux/amd64 linux/arm64": 2, "windows/amd64": -1, "linux/amd64 linux/s390x": -1} {
		got, err := m.Select(strings.Fields(platforms))
		if want < 0 && err == nil || want >= 0 && len(got) != want {
			t.Errorf("%s: %d images, %v", platforms, len(got), err)
		}
	}
	twice, err := Parse([]byte(index(child(amd), child(amd))), "")
	if _, selected := twice.Select([]string{"linux/amd64"}); err != nil || selected == nil {
		t.Errorf("two images for one platform: %v, %v", err, selected)
	}
}

func TestParseRefuses(t *testing.T) {
	sound := image(descriptor(config), descriptor(layer))
	with := func(old, replacement string) string {
		s := strings.Replace(sound, old, replacement, 1)
		if s == sound {
			t.Fatalf("%q is not in %s", old, sound)
		}
		return s
	}
	for name, raw := range map[string]string{
		"image and index":     with(`"layers"`, `"manifests":[],"layers"`),
		"duplicate key":       with(`"schemaVersion":2`, `"schemaVersion":2,"schemaVersion":2`),
		"trailing bytes":      sound + "{}",
		"not JSON":            "nonsense",
		"schema 1":            with(`"schemaVersion":2`, `"schemaVersion":1`),
		"an artifact":         with(`"schemaVersion":2`, `"schemaVersion":2,"artifactType":"application/vnd.promote.release.v1+json"`),
		"other configuration": with("image.config", "helm.config"),
		"no layers":           with(`,"layers":[`+descriptor(layer)+`]`, ""),
		"foreign layer":       with("image.layer.v1", "image.layer.nondistributable.v1"),
		"layer with URLs":     with(`"size":7}]`, `"size":7,"urls":["https://evil.test/x"]}]`),
		"inline layer":        with(`"size":7}]`, `"size":7,"data":"YQ=="}]`),
		"negative size":       with(`"size":7}]`, `"size":-7}]`),
		"malformed digest":    with(contentDigest.Hex()+`","size":7}]`, `00","size":7}]`),
		"huge configuration":  with(`"size":7},"layers"`, `"size":99999999},"layers"`),
		"huge layer":          with(`"size":7}]`, `"size":99999999999}]`),
		"unknown type":        `{"schemaVersion":2,"mediaType":"text/plain"}`,
		"nested index":        index(strings.Replace(child(""), "image.manifest", "image.index", 1)),
		"empty index":         index(),
		"ten thousand":        index(slices.Repeat([]string{child("")}, 10_000)...),
		"too many layers":     image(descriptor(config), strings.Repeat(descriptor(layer)+",", MaxLayers)+descriptor(layer)),
	} {
		if _, err := Parse([]byte(raw), ""); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := Parse([]byte(sound), "application/vnd.oci.image.index.v1+json"); err == nil {
		t.Error("an image served as an index was accepted")
	}
}

func TestUnpackedIsBoundedAndVerified(t *testing.T) {
	text := strings.Repeat("tar", 1000)
	for _, c := range []struct {
		name     string
		diff     release.Digest
		limit    int64
		complete bool
		ok       bool
	}{
		{"as promised", release.DigestOf([]byte(text)), 10_000, true, true},
		{"another content", contentDigest, 10_000, true, false},
		{"too much", release.DigestOf([]byte(text)), 100, true, false},
	} {
		u := NewUnpacked(io.NopCloser(bytes.NewReader([]byte(text))), c.diff, c.limit)
		_, err := io.Copy(io.Discard, u)
		if (err == nil) != c.ok || u.Verified() != c.ok {
			t.Errorf("%s: verified %v, %v", c.name, u.Verified(), err)
		}
		if !c.ok && u.Contradiction() == nil {
			t.Errorf("%s: no contradiction is remembered", c.name)
		}
	}
	u := NewUnpacked(io.NopCloser(strings.NewReader(text)), release.DigestOf([]byte(text)), 10_000)
	if _, err := u.Read(make([]byte, 10)); err != nil || u.Verified() {
		t.Error("a layer that was read in part counts as verified")
	}
}
