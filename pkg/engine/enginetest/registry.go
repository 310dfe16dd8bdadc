package enginetest

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Registry serves images that hold one program, by digest, on loopback, where
// engines take plain HTTP.
type Registry struct {
	host    string
	program Program
	binary  []byte

	mu    sync.Mutex
	blobs map[string][]byte // path suffix → content
}

// Program is what a registry's images hold. The directories /data and /state
// are always there for anybody to write.
type Program struct {
	Dir   string   // of a main package that needs the standard library only
	Path  string   // where it lies in the image: "/probe"
	Links []string // paths that are links to it: "/usr/bin/pip"
	Dirs  []string // more directories that anybody may write
}

// NewRegistry builds the probe and serves until the test ends.
func NewRegistry(t testing.TB) *Registry {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	return NewRegistryOf(t, Program{Dir: filepath.Join(filepath.Dir(here), "testdata", "probe"), Path: "/probe"})
}

// NewRegistryOf builds a program and serves images that hold it until the test
// ends.
func NewRegistryOf(t testing.TB, p Program) *Registry {
	t.Helper()
	r := &Registry{program: p, binary: build(t, p.Dir), blobs: map[string][]byte{}}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.host = strings.TrimPrefix(server.URL, "http://")
	return r
}

// build compiles the main package in a directory to a static program.
func build(t testing.TB, dir string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", "build", "-trimpath", "-o", out, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", dir, err, said)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Image is what differs between test images.
type Image struct {
	Version     string   // any word; another word is another digest
	Healthcheck bool     // the image has a health check that passes
	Volumes     []string // paths that the image declares as volumes
	Command     []string // nil is the program with the argument "run"
	Test        []string // the health check's command; nil is the program with "ok"
	User        string   // empty is 65532
	Index       bool     // its subject is an index, which names other platforms, too
}

// Push makes an image available and gives its subject and platform image.
func (r *Registry) Push(t testing.TB, repository string, i Image) (release.Subject, release.PlatformImage) {
	t.Helper()
	layer, diffID := r.layer(t)
	config := r.put("blobs", mustJSON(t, r.imageConfig(i, diffID)))
	compressed := r.put("blobs", layer)
	raw := mustJSON(t, map[string]any{
		"schemaVersion": 2,
		"mediaType":     release.MediaTypeManifest,
		"config":        descriptor("application/vnd.oci.image.config.v1+json", config, len(r.blobs["blobs/"+config.String()])),
		"layers":        []any{descriptor("application/vnd.oci.image.layer.v1.tar+gzip", compressed, len(layer))},
	})
	manifest := r.put("manifests", raw)
	subject := manifest
	if i.Index {
		subject = r.put("manifests", r.index(t, manifest, len(raw)))
	}
	s, err := release.NewSubject(r.host+"/"+repository, subject)
	if err != nil {
		t.Fatal(err)
	}
	return s, release.PlatformImage{
		Platform: "linux/" + runtime.GOARCH, Manifest: manifest, Config: config, User: cmp.Or(i.User, "65532"),
		Healthcheck: i.Healthcheck, Volumes: i.Volumes, Size: int64(len(layer)), Layers: []release.Digest{compressed},
		Defaults: r.defaults(i),
	}
}

// defaults are what imageConfig says, in release's words.
func (r *Registry) defaults(i Image) *release.ImageDefaults {
	command, test := i.Command, i.Test
	if command == nil {
		command = []string{r.program.Path, "run"}
	}
	if test == nil {
		test = []string{r.program.Path, "ok"}
	}
	d := &release.ImageDefaults{Environment: map[string]string{"PATH": "/"}, Command: command, Labels: map[string]string{"version": i.Version}}
	if i.Healthcheck {
		d.Health = &release.Health{Test: append([]string{"CMD"}, test...), Interval: 200 * time.Millisecond, Timeout: 5 * time.Second}
	}
	return d
}

func (r *Registry) imageConfig(i Image, diffID release.Digest) map[string]any {
	command, test := i.Command, i.Test
	if command == nil {
		command = []string{r.program.Path, "run"}
	}
	if test == nil {
		test = []string{r.program.Path, "ok"}
	}
	config := map[string]any{
		"Cmd": command, "User": cmp.Or(i.User, "65532"), "Env": []string{"PATH=/"}, "Labels": map[string]string{"version": i.Version},
	}
	if i.Healthcheck {
		config["Healthcheck"] = map[string]any{"Test": append([]string{"CMD"}, test...), "Interval": 200_000_000, "Timeout": 5_000_000_000}
	}
	volumes := map[string]any{}
	for _, v := range i.Volumes {
		volumes[v] = map[string]any{}
	}
	if len(volumes) > 0 {
		config["Volumes"] = volumes
	}
	return map[string]any{
		"os": "linux", "architecture": runtime.GOARCH, "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{diffID.String()}},
	}
}

// index names a manifest for this platform beside one for another, which the
// registry does not hold, and the provenance of this one, which it does.
func (r *Registry) index(t testing.TB, manifest release.Digest, size int) []byte {
	t.Helper()
	of := func(os, architecture string, d release.Digest, size int) map[string]any {
		m := descriptor(release.MediaTypeManifest, d, size)
		m["platform"] = map[string]string{"os": os, "architecture": architecture}
		return m
	}
	statement := mustJSON(t, map[string]string{"subject": manifest.String()})
	config := mustJSON(t, map[string]any{"os": "unknown", "architecture": "unknown", "rootfs": map[string]any{"type": "layers", "diff_ids": []string{release.DigestOf(statement).String()}}})
	attestation := mustJSON(t, map[string]any{
		"schemaVersion": 2,
		"mediaType":     release.MediaTypeManifest,
		"config":        descriptor("application/vnd.oci.image.config.v1+json", r.put("blobs", config), len(config)),
		"layers":        []any{descriptor("application/vnd.in-toto+json", r.put("blobs", statement), len(statement))},
	})
	provenance := of("unknown", "unknown", r.put("manifests", attestation), len(attestation))
	provenance["annotations"] = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": manifest.String()}
	return mustJSON(t, map[string]any{
		"schemaVersion": 2,
		"mediaType":     release.MediaTypeIndex,
		"manifests":     []any{of("linux", "s390x", release.DigestOf([]byte(manifest.String())), 7), of("linux", runtime.GOARCH, manifest, size), provenance},
	})
}

func descriptor(mediaType string, d release.Digest, size int) map[string]any {
	return map[string]any{"mediaType": mediaType, "digest": d.String(), "size": size}
}

// layer holds the program, and directories that anybody may write.
func (r *Registry) layer(t testing.TB) (compressed []byte, diffID release.Digest) {
	t.Helper()
	var plain, zipped bytes.Buffer
	w := tar.NewWriter(&plain)
	write := func(h *tar.Header, content []byte) {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	path := strings.TrimPrefix(r.program.Path, "/")
	write(&tar.Header{Name: path, Mode: 0o755, Size: int64(len(r.binary)), Typeflag: tar.TypeReg}, r.binary)
	for _, link := range r.program.Links {
		write(&tar.Header{Name: strings.TrimPrefix(link, "/"), Linkname: path, Mode: 0o755, Typeflag: tar.TypeLink}, nil)
	}
	for _, dir := range append([]string{"data", "state"}, r.program.Dirs...) {
		write(&tar.Header{Name: strings.Trim(dir, "/") + "/", Mode: 0o777, Typeflag: tar.TypeDir, Uid: 65532, Gid: 65532}, nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	z, _ := gzip.NewWriterLevel(&zipped, gzip.BestSpeed)
	if _, err := z.Write(plain.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return zipped.Bytes(), release.DigestOf(plain.Bytes())
}

func (r *Registry) put(kind string, content []byte) release.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := release.DigestOf(content)
	r.blobs[kind+"/"+d.String()] = content
	return d
}

// ServeHTTP answers the two reads of the distribution specification that a
// pull by digest needs; every repository holds everything.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path == "/v2/" {
		return
	}
	parts := strings.Split(req.URL.Path, "/")
	kind, digest := parts[len(parts)-2], parts[len(parts)-1]
	r.mu.Lock()
	content, ok := r.blobs[kind+"/"+digest]
	r.mu.Unlock()
	if !ok {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`))
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if kind == "manifests" {
		var said struct {
			MediaType string `json:"mediaType"`
		}
		_ = json.Unmarshal(content, &said) // it was marshalled here
		w.Header().Set("Content-Type", said.MediaType)
	}
	w.Header().Set("Docker-Content-Digest", digest)
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(content))
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
