//go:build engine

package advisories

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

var builtAt = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

const record = `{"id":"PYSEC-1","aliases":["CVE-2030-1"],"modified":"2029-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"PyPI","name":"leftpad"},` +
	`"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"2.0"}]}]}],"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]}`

func zipped(t *testing.T, lines ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type memory struct {
	blobs    map[release.Digest][]byte
	manifest release.Blob
	tag      string
	lie      bool
}

func (m *memory) PushBlob(_ context.Context, _ string, b release.Blob) error {
	m.blobs[b.Digest] = b.Bytes
	return nil
}

func (m *memory) PushManifest(_ context.Context, _, tag string, b release.Blob) (release.Digest, error) {
	m.manifest, m.tag = b, tag
	if m.lie {
		return release.DigestOf([]byte("other")), nil
	}
	return b.Digest, nil
}

func TestBuildAndPush(t *testing.T) {
	out := filepath.Join(t.TempDir(), "db")
	records := fstest.MapFS{"a.ndjson.gz": {Data: zipped(t, record, "")}}
	err := Build(t.Context(), records, out, builtAt)
	if release.KindOf(err) == release.KindUnavailable && strings.Contains(err.Error(), "without its scanner") {
		t.Skip("built without GOEXPERIMENT=jsonv2")
	}
	if err != nil {
		t.Fatal(err)
	}
	var meta struct {
		Version               int
		UpdatedAt, NextUpdate time.Time
	}
	raw, err := os.ReadFile(filepath.Join(out, "metadata.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &meta); err != nil || meta.Version != Schema || !meta.UpdatedAt.Equal(builtAt) {
		t.Errorf("metadata %s, %v", raw, err)
	}
	data, err := os.ReadFile(filepath.Join(out, "trivy.db"))
	if err != nil || !bytes.Contains(data, []byte("leftpad")) || !bytes.Contains(data, []byte("CVE-2030-1")) {
		t.Errorf("the record is not in the database: %v", err)
	}
	m := &memory{blobs: map[release.Digest][]byte{}}
	first, err := Push(t.Context(), m, out, "registry.test/trivy-db")
	if err != nil || m.tag != "2" || len(m.blobs) != 2 {
		t.Fatalf("pushed %d blobs as %q, %v", len(m.blobs), m.tag, err)
	}
	if !strings.Contains(string(m.manifest.Bytes), Label) {
		t.Error("the artifact does not say that it is the demo's")
	}
	if again, _ := Push(t.Context(), m, out, "registry.test/trivy-db"); again != first {
		t.Errorf("the same files give %s and %s", first, again)
	}
	m.lie = true
	if _, err := Push(t.Context(), m, out, "registry.test/trivy-db"); release.KindOf(err) != release.KindDenied {
		t.Errorf("a registry that stores something else: %v", err)
	}
}

func TestBuildRefusesWhatItCannotReadWhole(t *testing.T) {
	sound := zipped(t, record)
	for name, files := range map[string]fs.FS{
		"nothing":          fstest.MapFS{"README.md": {Data: []byte("x")}},
		"empty":            fstest.MapFS{"a.ndjson.gz": {Data: zipped(t, "")}},
		"not gzip":         fstest.MapFS{"a.ndjson.gz": {Data: []byte("plain")}},
		"truncated":        fstest.MapFS{"a.ndjson.gz": {Data: sound[:len(sound)-9]}},
		"not JSON":         fstest.MapFS{"a.ndjson.gz": {Data: zipped(t, record, "{")}},
		"without an id":    fstest.MapFS{"a.ndjson.gz": {Data: zipped(t, `{"aliases":[]}`)}},
		"an endless line":  fstest.MapFS{"a.ndjson.gz": {Data: zipped(t, `{"id":"`+strings.Repeat("x", maxRecord)+`"}`)}},
		"a broken second":  fstest.MapFS{"a.ndjson.gz": {Data: sound}, "b.ndjson.gz": {Data: []byte("x")}},
		"records and dirt": fstest.MapFS{"a.ndjson.gz": {Data: zipped(t, record, "dirt")}},
	} {
		if _, err := unpack(t.Context(), files, t.TempDir()); release.KindOf(err) != release.KindUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnpackStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := unpack(ctx, fstest.MapFS{"a.ndjson.gz": {Data: zipped(t, record)}}, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
