package registry_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// A stream goes on where it broke off, and ends with an error, never with
// io.EOF, when it is not what was asked for.
func TestOpenBlob(t *testing.T) {
	content := registrytest.Random(1, 300_000)
	d := release.DigestOf(content)
	read := func(h hostile, size int64) ([]byte, error) {
		r, err := h.c.OpenBlob(t.Context(), h.src.Host+"/src", d, size, nil)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	t.Run("breaks off", func(t *testing.T) {
		h := newHostile(t)
		h.src.PutBlob(t, "src", content)
		h.src.OnTimes(2, "GET", "/blobs/", registrytest.Cut(100_000))
		if got, err := read(h, 300_000); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("other bytes", func(t *testing.T) {
		h := newHostile(t)
		h.src.PutBlob(t, "src", content)
		h.src.On("GET", "/blobs/", registrytest.Answer(200, registrytest.Random(2, 300_000)))
		got, err := read(h, 300_000)
		wantFault(t, err, release.KindDenied, d.String())
		if len(got) == len(content) {
			t.Error("all of the wrong content was given out")
		}
	})
	t.Run("another size", func(t *testing.T) {
		h := newHostile(t)
		h.src.PutBlob(t, "src", content)
		_, err := read(h, 299_999)
		wantFault(t, err, release.KindUnavailable, "299999 bytes expected")
	})
	t.Run("absent", func(t *testing.T) {
		h := newHostile(t)
		_, err := read(h, 300_000)
		wantFault(t, err, release.KindUnavailable, "does not hold blob")
	})
}
