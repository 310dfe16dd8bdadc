package enginetest

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// archives: what a volume holds comes out as it went in, with its owners and
// modes, also while nothing that mounts it was ever started.
func (s *suite) archives(t *testing.T) {
	volume := s.Prefix + "_kept"
	if _, err := s.Engine.ReadVolume(s.ctx, s.project(), volume); !errors.Is(err, release.ErrNotFound) {
		t.Errorf("a volume that is not there: %v", err)
	}
	seen, err := s.Engine.Observe(s.ctx, s.project())
	s.must(err)
	if _, made := seen.Volume(volume); made {
		t.Error("reading made the volume")
	}
	s.must(s.Engine.CreateVolume(s.ctx, s.project(), release.VolumeSpec{Key: "kept", Name: volume}, s.labels()))
	if got := s.entries(volume); len(got) != 1 || !strings.HasPrefix(got[0], ". 5 ") {
		t.Errorf("a new volume holds %q", got)
	}
	text := strings.Repeat("learned ", 100000)
	entries := []tar.Header{
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o750, Uid: 999, Gid: 998},
		{Typeflag: tar.TypeReg, Name: "./big", Mode: 0o640, Uid: 999, Gid: 998, Size: int64(len(text))},
		{Typeflag: tar.TypeDir, Name: "./deep/", Mode: 0o700, Uid: 7},
		{Typeflag: tar.TypeReg, Name: "./deep/empty", Mode: 0o400, Uid: 7},
		{Typeflag: tar.TypeSymlink, Name: "./link", Linkname: "../../etc/passwd", Mode: 0o777},
		{Typeflag: tar.TypeLink, Name: "./same", Linkname: "./big", Mode: 0o640, Uid: 999, Gid: 998},
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		h.ModTime = time.Unix(1700000000, 0)
		s.must(w.WriteHeader(&h))
		if h.Size > 0 {
			_, err := io.WriteString(w, text)
			s.must(err)
		}
	}
	s.must(w.Close())
	want := []string{
		". 5 750 999:998 0 ", "big 0 640 999:998 800000 ", "deep 5 700 7:0 0 ", "deep/empty 0 400 7:0 0 ", "link 2 777 0:0 0 ../../etc/passwd", "same 1 640 999:998 0 big",
	}
	for range 2 { // filled, emptied, filled again
		s.must(s.Engine.FillVolume(s.ctx, s.project(), volume, bytes.NewReader(b.Bytes())))
		if got := s.entries(volume); !slices.Equal(got, want) {
			t.Errorf("it holds\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		s.must(s.Engine.ClearVolume(s.ctx, s.project(), volume))
		if got := s.entries(volume); len(got) != 1 {
			t.Errorf("emptied, it holds %q", got)
		}
		s.must(s.Engine.ClearVolume(s.ctx, s.project(), volume))
	}
	if err := s.Engine.FillVolume(s.ctx, s.project(), volume, iotestError()); err == nil {
		t.Error("a stream that breaks off was taken")
	}
	left, err := s.Engine.ListLabelled(s.ctx, release.LabelArchive+"="+s.project())
	s.must(err)
	if len(left.Containers) > 0 {
		t.Errorf("left: %q", left.Containers)
	}
	s.must(s.Engine.RemoveVolume(s.ctx, volume))
}

// iotestError is an archive that breaks off behind its first entry.
func iotestError() io.Reader {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "./half", Size: 100})
	_, _ = w.Write([]byte("only so much"))
	return io.MultiReader(&b, failing{})
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("broken off") }

// entries describes what a volume holds, a line each.
func (s *suite) entries(volume string) []string {
	s.t.Helper()
	stream, err := s.Engine.ReadVolume(s.ctx, s.project(), volume)
	s.must(err)
	defer func() { s.must(stream.Close()) }()
	var list []string
	for r := tar.NewReader(stream); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		s.must(err)
		link := h.Linkname
		if h.Typeflag == tar.TypeLink {
			link = path.Clean(link)
		}
		list = append(list, fmt.Sprintf("%s %c %o %d:%d %d %s", path.Clean(h.Name), h.Typeflag, h.Mode&0o7777, h.Uid, h.Gid, h.Size, link))
	}
}
