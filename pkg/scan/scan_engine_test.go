//go:build engine && goexperiment.jsonv2

package scan_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/data/osv"
	"github.com/promote-dev/promote/internal/advisories"
	client "github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/scan"
)

// registry is the real one that the tests push to.
type registry struct {
	host, prefix string
	pushed       *[]string // URLs of manifests, to remove in the end
}

// theRegistry gives a reachable registry with names of this run's own.
func theRegistry(t *testing.T) registry {
	t.Helper()
	host := os.Getenv("PROMOTE_TEST_REGISTRY")
	if host == "" {
		host = "127.0.0.1:5000"
	}
	resp, err := http.Get("http://" + host + "/v2/")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no registry at %s: %v", host, err)
		}
		t.Skipf("no registry at %s (set PROMOTE_TEST_REGISTRY): %v", host, err)
	}
	resp.Body.Close()
	var b [6]byte
	if _, err := rand.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	r := registry{host: host, prefix: "scan-test-" + hex.EncodeToString(b[:]), pushed: &[]string{}}
	t.Cleanup(func() {
		for _, url := range *r.pushed {
			_, _ = r.do(http.MethodDelete, url, "", nil) // not every registry can
		}
	})
	return r
}

func (r registry) repository(name string) string { return r.host + "/" + r.prefix + "/" + name }

func path(repository string) string { return repository[strings.IndexByte(repository, '/')+1:] }

func (r registry) do(method, url, mediaType string, body []byte) (*http.Response, error) {
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s", method, url, resp.Status)
	}
	return resp, nil
}

func (r registry) PushBlob(_ context.Context, repository string, b release.Blob) error {
	base := "http://" + r.host
	resp, err := r.do(http.MethodPost, base+"/v2/"+path(repository)+"/blobs/uploads/", "", nil)
	if err != nil {
		return err
	}
	location, err := resp.Request.URL.Parse(resp.Header.Get("Location"))
	if err != nil {
		return err
	}
	q := location.Query()
	q.Set("digest", b.Digest.String())
	location.RawQuery = q.Encode()
	_, err = r.do(http.MethodPut, location.String(), "application/octet-stream", b.Bytes)
	return err
}

func (r registry) PushManifest(_ context.Context, repository, tag string, b release.Blob) (release.Digest, error) {
	manifests := "http://" + r.host + "/v2/" + path(repository) + "/manifests/"
	_, err := r.do(http.MethodPut, manifests+url.PathEscape(tag), b.MediaType, b.Bytes)
	*r.pushed = append(*r.pushed, manifests+b.Digest.String())
	return b.Digest, err
}

// files is one layer: path → content. A name that starts with ".wh." deletes a file.

type files map[string]string

func (f files) tar(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(mapKeys(f)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(f[name])), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func mapKeys(f files) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range f {
			if !yield(k) {
				return
			}
		}
	}
}

func zip(t *testing.T, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// recipe makes an image.
type recipe struct {
	layers [][]byte // uncompressed tars
	config map[string]any
	// lie replaces the diff IDs.
	lie []release.Digest
	// architecture is amd64 unless set.
	architecture string
}

func blob(raw []byte) release.Blob {
	return release.Blob{Digest: release.DigestOf(raw), Bytes: raw}
}

func (r registry) push(t *testing.T, repository string, c recipe) release.Subject {
	t.Helper()
	m := r.pushManifest(t, repository, c)
	return release.Subject{Repository: repository, Digest: m.Digest}
}

func (r registry) pushManifest(t *testing.T, repository string, c recipe) release.Blob {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	var layers []any
	var diffs []any
	var history []any
	for _, raw := range c.layers {
		l := blob(zip(t, raw))
		must(r.PushBlob(t.Context(), repository, l))
		layers = append(layers, map[string]any{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": l.Digest, "size": len(l.Bytes)})
		diffs = append(diffs, release.DigestOf(raw))
		// What follows a CMD looks like a layer over a base image.
		history = append(history, map[string]any{"created_by": "COPY"}, map[string]any{"created_by": "CMD [\"sh\"]", "empty_layer": true})
	}
	for i, d := range c.lie {
		diffs[i] = d
	}
	if c.architecture == "" {
		c.architecture = "amd64"
	}
	config := map[string]any{
		"os": "linux", "architecture": c.architecture, "created": "2030-01-01T00:00:00Z",
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs}, "history": append(history, map[string]any{"created_by": "COPY"})[:len(history)],
		"config": c.config,
	}
	raw, err := json.Marshal(config)
	must(err)
	cb := blob(raw)
	must(r.PushBlob(t.Context(), repository, cb))
	raw, err = json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeManifest,
		"config": map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": cb.Digest, "size": len(cb.Bytes)}, "layers": layers})
	must(err)
	m := blob(raw)
	m.MediaType = release.MediaTypeManifest
	_, err = r.PushManifest(t.Context(), repository, m.Digest.String(), m)
	must(err)
	return m
}

// The demo's database, built once: it takes seconds.
var demo struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if demo.dir != "" {
		os.RemoveAll(demo.dir)
	}
	os.Exit(code)
}

// database pushes the demo's database, dated updated, to the registry.
func (r registry) database(t *testing.T, name string, updated time.Time) string {
	t.Helper()
	demo.once.Do(func() {
		if demo.dir, demo.err = os.MkdirTemp("", "promote-scan-test-"); demo.err == nil {
			demo.err = advisories.Build(context.Background(), osv.Files, demo.dir, time.Now())
		}
	})
	if demo.err != nil {
		t.Fatal(demo.err)
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(demo.dir, "trivy.db"), filepath.Join(dir, "trivy.db")); err != nil {
		t.Fatal(err)
	}
	meta := fmt.Sprintf(`{"Version":2,"NextUpdate":%q,"UpdatedAt":%q}`, updated.Add(24*time.Hour).UTC().Format(time.RFC3339), updated.UTC().Format(time.RFC3339))
	if err := os.WriteFile(filepath.Join(dir, "metadata.json"), []byte(meta), 0o600); err != nil {
		t.Fatal(err)
	}
	repository := r.repository(name)
	if _, err := advisories.Push(t.Context(), r, dir, repository); err != nil {
		t.Fatal(err)
	}
	return repository
}

const osRelease = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n"

// debian is the least that is recognised as one: a release file and one package.
func debian() files {
	return files{
		"etc/os-release":      osRelease,
		"etc/debian_version":  "12.5\n",
		"var/lib/dpkg/status": "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9\nMaintainer: x\n\n",
	}
}

// python plants a package's dist-info, as pip would leave it.
func python(name, version string) files {
	return files{fmt.Sprintf("app/lib/python3.11/site-packages/%s-%s.dist-info/METADATA", name, version): fmt.Sprintf("Metadata-Version: 2.1\nName: %s\nVersion: %s\n", name, version)}
}

// secret is a private key that never was one: the text between the lines is
// random letters.
const secret = "-----BEGIN RSA PRIVATE KEY-----\n" +
	"MIIEpAIBAAKCAQEAq5Zt0mB4oT7uXfVwPz8kQn3sYhLrJ6dGcE1aKfNvR2xWbU9i\n" +
	"T4yPqZ7wSgHm5LcXoJ8nDk3vBfRuA6eYtQ1sMhWp0GzKxVjNlCi2OaUrEqFbTd9I\n" +
	"-----END RSA PRIVATE KEY-----\n"

var aYear = time.Now().Add(365 * 24 * time.Hour)

func options(t *testing.T, database string, s release.Subject) scan.Options {
	c, err := client.New(client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return scan.Options{
		Registry: c, Subject: s, CacheDir: t.TempDir(), Database: scan.DatabaseRef{Repository: database, MaxAge: 24 * time.Hour},
		Waive: []scan.Waiver{{Distribution: "debian 12", Statement: "the demo's database has no Debian advisories", Expires: aYear}},
	}
}

func find(s release.Scan, class string) []release.Finding {
	var list []release.Finding
	for _, f := range s.Findings {
		if f.Class == class {
			list = append(list, f)
		}
	}
	return list
}

func TestLangchainHasFourCriticalVulnerabilities(t *testing.T) {
	r := theRegistry(t)
	db := r.database(t, "trivy-db", time.Now().Add(-time.Hour))
	s := r.push(t, r.repository("langchain"), recipe{layers: [][]byte{debian().tar(t), python("langchain", "0.0.200").tar(t)}})
	o := options(t, db, s)
	got, err := scan.Image(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var critical []string
	for _, f := range find(got, release.ClassVulnerability) {
		if f.Severity == "critical" {
			critical = append(critical, f.ID)
			if f.Package != "langchain" || f.Version != "0.0.200" || f.FixedIn == "" || f.Layer == "" || !strings.Contains(f.Path, "METADATA") {
				t.Errorf("finding %+v", f)
			}
		}
	}
	if want := []string{"CVE-2023-36095", "CVE-2023-38860", "CVE-2023-39631", "CVE-2023-39659"}; !slices.Equal(critical, want) {
		t.Errorf("critical %q, want %q", critical, want)
	}
	if got.Result != release.Failed || got.Summary["critical"] != 4 || got.Distribution != "debian 12.5" {
		t.Errorf("result %s, summary %v, distribution %q", got.Result, got.Summary, got.Distribution)
	}
	if gaps := find(got, release.ClassCoverage); len(gaps) != 1 || gaps[0].ID != "debian 12" || gaps[0].Suppressed == "" {
		t.Errorf("coverage %+v", gaps)
	}
	if !slices.Equal(got.Database.Covers, []string{"go", "pip"}) || got.Database.Digest.IsZero() || got.Database.Version != 2 {
		t.Errorf("database %+v", got.Database)
	}
	evidence := release.Evidence{Subject: s, PredicateType: release.PredicateVulnerability, Predicate: got.Predicate, Verified: true,
		Digest: release.DigestOf(got.Predicate), Signer: release.Signer{Roles: []release.Role{release.Scanner}}}
	facts, err := release.FactsFromScan(evidence, s.Digest, release.Limits{MaxAgeSeconds: 86400, FailOn: "critical"}, time.Now())
	if err != nil || facts.Result != "failed" || len(facts.Findings) != 4 || len(facts.Waived) != 1 {
		t.Errorf("facts %+v, %v", facts, err)
	}
	var doc struct {
		BOMFormat  string
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(got.SBOM, &doc); err != nil || doc.BOMFormat != "CycloneDX" {
		t.Fatalf("SBOM: %v", err)
	}
	if !slices.ContainsFunc(doc.Components, func(c struct{ Name, Version string }) bool { return c.Name == "langchain" && c.Version == "0.0.200" }) {
		t.Errorf("langchain is not in the SBOM: %+v", doc.Components)
	}
	o.CacheDir = t.TempDir()
	again, err := scan.Image(t.Context(), o)
	if err != nil || !bytes.Equal(again.SBOM, got.SBOM) {
		t.Errorf("a second look with an empty cache gives another SBOM: %v", err)
	}
}
