package registrytest

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

const fileType = "application/vnd.promote.test.v1"

// testFile brings a file through a registry, a layout and an archive, and takes
// nothing for it that it is not.
func testFile(t *testing.T, b Backend) {
	p, c := b.start(t)
	content := bytes.Repeat([]byte("a line of a log\n"), 40_000)
	f := registry.File{Path: filepath.Join(t.TempDir(), "log"), Digest: release.DigestOf(content), Size: int64(len(content)), Type: fileType, Title: "ledger"}
	if err := os.WriteFile(f.Path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	places := []string{p.Host + "/acme/openclaw:ledger", "oci:" + filepath.Join(t.TempDir(), "layout") + ":ledger", "oci-archive:" + filepath.Join(t.TempDir(), "a.tar")}
	var first release.Digest
	for _, place := range places {
		pushed := must(c.PushFile(t.Context(), place, f))(t)
		if first.IsZero() {
			first = pushed.Digest
		}
		var got bytes.Buffer
		if d := must(c.PullFile(t.Context(), place, fileType, 1<<20, &got))(t); d != first || d != pushed.Digest || !bytes.Equal(got.Bytes(), content) {
			t.Errorf("%s: %d bytes of %s, want those of %s", place, got.Len(), d, first)
		}
		_, err := c.PullFile(t.Context(), place, "application/vnd.promote.other.v1", 1<<20, io.Discard)
		wantKind(t, err, release.KindDenied)
		_, err = c.PullFile(t.Context(), place, fileType, f.Size-1, io.Discard)
		wantKind(t, err, release.KindDenied)
	}
	p.Forget()
	must(c.PushFile(t.Context(), places[0], f))(t)
	if w := p.Writes(); len(w) != 0 {
		t.Errorf("pushing again wrote %v", w)
	}
	p.Put(t, "acme/openclaw", "image", NewImage(1, 10))
	_, err := c.PullFile(t.Context(), p.Host+"/acme/openclaw:image", fileType, 1<<20, io.Discard)
	wantKind(t, err, release.KindDenied)
	// A file that is another one than was said is not stored.
	f.Digest = release.DigestOf([]byte("another"))
	if _, err := c.PushFile(t.Context(), p.Host+"/acme/other:ledger", f); err == nil {
		t.Error("a file that changed was pushed")
	}
	if _, err := c.PullFile(t.Context(), p.Host+"/acme/other:ledger", fileType, 1<<20, io.Discard); err == nil {
		t.Error("and read back")
	}
}
