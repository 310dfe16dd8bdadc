//go:build engine && goexperiment.jsonv2

package scan_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/scan"
)

// between serves the registry through a proxy that may change answers.
func between(t *testing.T, r registry, change func(*http.Response) error) registry {
	t.Helper()
	target, err := url.Parse("http://" + r.host)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(p *httputil.ProxyRequest) { p.SetURL(target) },
		ModifyResponse: change,
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	s := httptest.NewServer(proxy)
	t.Cleanup(s.Close)
	return registry{host: strings.TrimPrefix(s.URL, "http://"), prefix: r.prefix}
}

func (r registry) through(s release.Subject) release.Subject {
	return s.In(r.host + "/" + path(s.Repository))
}

func TestARegistryThatLies(t *testing.T) {
	r := theRegistry(t)
	db := r.database(t, "trivy-db", time.Now())
	s := r.push(t, r.repository("lied-about"), recipe{layers: [][]byte{python("langchain", "0.0.200").tar(t)}})
	replace := func(resp *http.Response, body []byte) {
		resp.Body = io.NopCloser(bytes.NewReader(body))
		resp.ContentLength = int64(len(body))
		resp.Header.Del("Content-Length")
	}
	for name, change := range map[string]func(*http.Response) error{
		"another layer": func(resp *http.Response) error {
			if strings.Contains(resp.Request.URL.Path, "/blobs/") {
				raw, err := io.ReadAll(resp.Body)
				if bytes.HasPrefix(raw, []byte{0x1f, 0x8b}) { // of the same size
					raw[len(raw)-1] ^= 1
				}
				replace(resp, raw)
				return err
			}
			return nil
		},
		"another manifest": func(resp *http.Response) error {
			if strings.Contains(resp.Request.URL.Path, "/manifests/") {
				raw, err := io.ReadAll(resp.Body)
				replace(resp, append(raw, '\n'))
				return err
			}
			return nil
		},
		"another media type": func(resp *http.Response) error {
			if strings.Contains(resp.Request.URL.Path, "/manifests/") {
				resp.Header.Set("Content-Type", release.MediaTypeIndex)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, db, between(t, r, change).through(s))
			got, err := scan.Image(t.Context(), o)
			if release.KindOf(err) != release.KindDenied {
				t.Errorf("result %s, %v; want a denial", got.Result, err)
			}
		})
	}
}

func TestARegistryThatBreaks(t *testing.T) {
	r := theRegistry(t)
	db := r.database(t, "trivy-db", time.Now())
	s := r.push(t, r.repository("broken"), recipe{layers: [][]byte{python("langchain", "0.0.200").tar(t)}})
	failures := 2
	flaky := between(t, r, func(resp *http.Response) error {
		if strings.Contains(resp.Request.URL.Path, "/blobs/") && failures > 0 {
			failures--
			some := make([]byte, 10)
			_, err := io.ReadFull(resp.Body, some)
			resp.Body.Close()
			resp.Body = io.NopCloser(bytes.NewReader(some))
			return err
		}
		return nil
	})
	if got, err := scan.Image(t.Context(), options(t, db, flaky.through(s))); err != nil || got.Summary["critical"] != 4 {
		t.Errorf("cut off twice, whole the third time: %v, %v", got.Summary, err)
	}
	gone := s
	gone.Digest = release.DigestOf([]byte("nowhere"))
	if _, err := scan.Image(t.Context(), options(t, db, gone)); release.KindOf(err) != release.KindUnavailable {
		t.Errorf("an image that is not there: %v", err)
	}
	down := httptest.NewServer(http.NotFoundHandler())
	host := strings.TrimPrefix(down.URL, "http://")
	down.Close()
	if _, err := scan.Image(t.Context(), options(t, db, s.In(host+"/image"))); release.KindOf(err) != release.KindUnavailable {
		t.Errorf("a registry that is down: %v", err)
	}
}

func TestFalseDiffIDsNeitherPassNorPoisonTheCache(t *testing.T) {
	r := theRegistry(t)
	db := r.database(t, "trivy-db", time.Now())
	bad, clean := python("langchain", "0.0.200").tar(t), files{"app/nothing": "to see here"}.tar(t)
	honest := r.push(t, r.repository("honest"), recipe{layers: [][]byte{debian().tar(t), bad}})
	// Its second layer is clean and claims to be the bad one.
	liar := r.push(t, r.repository("liar"), recipe{layers: [][]byte{debian().tar(t), clean}, lie: []release.Digest{release.DigestOf(debian().tar(t)), release.DigestOf(bad)}})
	o := options(t, db, liar)
	if _, err := scan.Image(t.Context(), o); release.KindOf(err) != release.KindDenied {
		t.Errorf("false diff IDs: %v", err)
	}
	o.Subject = honest
	if got, err := scan.Image(t.Context(), o); err != nil || got.Summary["critical"] != 4 {
		t.Errorf("the honest image, with the liar's cache: %v, %v", got.Summary, err)
	}
	// The other way round: a bad layer that hides behind a clean one's claim.
	hidden := r.push(t, r.repository("hidden"), recipe{layers: [][]byte{clean, bad}, lie: []release.Digest{release.DigestOf(clean), release.DigestOf(clean)}})
	o.Subject = hidden
	if got, err := scan.Image(t.Context(), o); release.KindOf(err) != release.KindDenied {
		t.Errorf("a layer hidden behind a twin: %s, %v", got.Result, err)
	}
	short := r.push(t, r.repository("short"), recipe{layers: [][]byte{clean, clean}})
	o.Subject = short
	if _, err := scan.Image(t.Context(), o); err != nil {
		t.Errorf("two layers that are the same: %v", err)
	}
}

func TestABombIsDenied(t *testing.T) {
	r := theRegistry(t)
	db := r.database(t, "trivy-db", time.Now())
	bomb := files{"app/data.json": strings.Repeat("\x00", 400<<20)}.tar(t)
	s := r.push(t, r.repository("bomb"), recipe{layers: [][]byte{bomb}})
	start := time.Now()
	if _, err := scan.Image(t.Context(), options(t, db, s)); release.KindOf(err) != release.KindDenied {
		t.Errorf("400 MiB in %d kB: %v", len(zip(t, bomb))>>10, err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestPlatforms(t *testing.T) {
	r := theRegistry(t)
	db := r.database(t, "trivy-db", time.Now())
	repository := r.repository("platforms")
	amd := r.pushManifest(t, repository, recipe{layers: [][]byte{python("requests", "2.31.0").tar(t)}})
	arm := r.pushManifest(t, repository, recipe{layers: [][]byte{python("langchain", "0.0.200").tar(t)}, architecture: "arm64"})
	entry := func(b release.Blob, architecture string) map[string]any {
		return map[string]any{"mediaType": b.MediaType, "digest": b.Digest, "size": len(b.Bytes), "platform": map[string]any{"os": "linux", "architecture": architecture}}
	}
	raw, err := release.Canonical(map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeIndex, "manifests": []any{entry(amd, "amd64"), entry(arm, "arm64")}})
	if err != nil {
		t.Fatal(err)
	}
	index := release.Blob{MediaType: release.MediaTypeIndex, Digest: release.DigestOf(raw), Bytes: raw}
	if _, err := r.PushManifest(t.Context(), repository, index.Digest.String(), index); err != nil {
		t.Fatal(err)
	}
	o := options(t, db, release.Subject{Repository: repository, Digest: index.Digest})
	if got, err := scan.Image(t.Context(), o); err != nil || got.Summary["critical"] != 0 {
		t.Errorf("amd64 alone: %v, %v", got.Summary, err)
	}
	o.Platforms = []string{"linux/amd64", "linux/arm64"}
	got, err := scan.Image(t.Context(), o)
	if err != nil || got.Summary["critical"] != 4 || got.Subject.Digest != index.Digest {
		t.Errorf("both: %v, %v", got.Summary, err)
	}
	if !strings.Contains(string(got.SBOM), "langchain") || !strings.Contains(string(got.SBOM), "requests") {
		t.Error("the SBOM does not list both platforms' packages")
	}
	o.Platforms = []string{"linux/amd64", "linux/riscv64"}
	if _, err := scan.Image(t.Context(), o); release.KindOf(err) != release.KindDenied {
		t.Errorf("a platform that is not there: %v", err)
	}
}

func TestScansStopSoon(t *testing.T) {
	r := theRegistry(t)
	db := r.database(t, "trivy-db", time.Now())
	s := r.push(t, r.repository("slow"), recipe{layers: [][]byte{python("langchain", "0.0.200").tar(t)}})
	ctx, cancel := context.WithCancel(t.Context())
	slow := between(t, r, func(resp *http.Response) error {
		if strings.Contains(resp.Request.URL.Path, "/blobs/") {
			cancel()
			<-resp.Request.Context().Done()
		}
		return nil
	})
	start := time.Now()
	if _, err := scan.Image(ctx, options(t, db, slow.through(s))); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s to stop", took)
	}
}

// Two images at once share a cache directory and a database; a third uses
// another database. None waits for a lock that another holds for long.
func TestScansSideBySide(t *testing.T) {
	r := theRegistry(t)
	one, two := r.database(t, "trivy-db", time.Now()), r.database(t, "other-db", time.Now().Add(-time.Hour))
	cache := t.TempDir()
	var wg sync.WaitGroup
	for i, db := range []string{one, one, two, one} {
		s := r.push(t, r.repository("beside"), recipe{layers: [][]byte{debian().tar(t), python("langchain", "0.0.200").tar(t), files{"app/n": strings.Repeat("x", i)}.tar(t)}})
		o := options(t, db, s)
		o.CacheDir = cache
		wg.Add(1)
		go func() {
			defer wg.Done()
			if got, err := scan.Image(t.Context(), o); err != nil || got.Summary["critical"] != 4 {
				t.Errorf("%d: %v, %v", i, got.Summary, err)
			}
		}()
	}
	wg.Wait()
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "trivy-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range left {
		if entries, _ := os.ReadDir(dir); len(entries) > 0 && changedSince(dir, time.Minute) {
			t.Errorf("%s is left behind", dir)
		}
	}
}

func changedSince(dir string, age time.Duration) bool {
	info, err := os.Stat(dir)
	return err == nil && time.Since(info.ModTime()) < age
}
