package registry

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// archive is an image layout's tar archive. It is never unpacked: blobs are
// read at their place. The same content in the same order gives the same bytes.
type archive struct {
	f        *os.File
	writable bool

	mu      sync.Mutex
	entries map[string]span
	small   map[string][]byte // written last, since they change until then
	end     int64             // where the next entry goes
}

var _ files = (*archive)(nil)

// span is where a file's bytes lie in the archive.
type span struct{ offset, size int64 }

const mostEntries = 100_000

// readArchive finds the files of an archive. What is no regular file of a
// layout is left out; a name that occurs twice is a denial.
func readArchive(f *os.File) (*archive, error) {
	a := &archive{f: f, entries: map[string]span{}}
	r := tar.NewReader(f)
	older := false
	for count := 0; ; count++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) && older && a.entries[indexFile] == (span{}) {
			return nil, release.Misuse("save it with Docker 25 or later, or turn it into an oci-archive with `skopeo copy docker-archive:FILE oci-archive:FILE`",
				"%s is an archive of an older `docker save`, which is no image layout", f.Name())
		}
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil || count == mostEntries {
			return nil, release.Denied("this is no uncompressed tar archive of an image layout", "%s, entry %d: %w", f.Name(), count, cmpErr(err))
		}
		name := path.Clean(h.Name)
		older = older || name == "manifest.json"
		if h.Typeflag != tar.TypeReg || !layoutName(name) {
			continue
		}
		if _, twice := a.entries[name]; twice {
			return nil, release.Denied("tools would disagree about what this is", "%s holds %q twice", f.Name(), name)
		}
		offset, err := f.Seek(0, io.SeekCurrent) // tar reads no further than the header
		if err != nil {
			return nil, err
		}
		a.entries[name] = span{offset, h.Size}
	}
}

func cmpErr(err error) error {
	if err == nil {
		return errors.New("too many entries")
	}
	return err
}

func layoutName(name string) bool {
	return name == indexFile || name == layoutFile || strings.HasPrefix(name, "blobs/sha256/")
}

// newArchive starts an archive in a file that it owns.
func newArchive(f *os.File) *archive {
	return &archive{f: f, writable: true, entries: map[string]span{}, small: map[string][]byte{}}
}

func (a *archive) span(name string) (span, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, ok := a.entries[name]
	if !ok {
		return span{}, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return s, nil
}

func (a *archive) read(name string, most int64) ([]byte, error) {
	a.mu.Lock()
	content, ok := a.small[name]
	a.mu.Unlock()
	if ok {
		return content, nil
	}
	s, err := a.span(name)
	if err != nil {
		return nil, err
	}
	return readAtMost(io.NewSectionReader(a.f, s.offset, s.size), name, most)
}

func (a *archive) open(name string, offset int64) (io.ReadCloser, error) {
	s, err := a.span(name)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(io.NewSectionReader(a.f, s.offset+offset, max(s.size-offset, 0))), nil
}

func (a *archive) size(name string) (int64, error) {
	s, err := a.span(name)
	return s.size, err
}

func (a *archive) refuseWrite() error {
	return release.Misuse("remove it, or choose another name: an archive is not changed once it is complete", "%s exists and does not hold this", a.f.Name())
}

func (a *archive) create(name string, size int64, content io.Reader) error {
	if !a.writable {
		return a.refuseWrite()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.entries[name]; ok {
		return nil // content-addressed
	}
	s, end, err := a.appendEntry(name, size, content)
	if err != nil {
		// The next entry overwrites what there is of this one.
		return err
	}
	a.entries[name], a.end = s, end
	return nil
}

func (a *archive) appendEntry(name string, size int64, content io.Reader) (s span, end int64, err error) {
	if _, err := a.f.Seek(a.end, io.SeekStart); err != nil {
		return s, 0, err
	}
	w := tar.NewWriter(a.f)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}); err != nil {
		return s, 0, err
	}
	if s.offset, err = a.f.Seek(0, io.SeekCurrent); err != nil {
		return s, 0, err
	}
	if s.size, err = io.Copy(w, content); err != nil {
		return s, 0, err
	}
	if err := w.Flush(); err != nil { // also says if content was short
		return s, 0, err
	}
	end, err = a.f.Seek(0, io.SeekCurrent)
	return s, end, err
}

func (a *archive) replace(name string, content []byte) error {
	if !a.writable {
		return a.refuseWrite()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.small[name] = slices.Clone(content)
	return nil
}

func (a *archive) parallel() bool { return false }

// finish writes what was kept back, and the end of the archive.
func (a *archive) finish() error {
	for _, name := range []string{indexFile, layoutFile} {
		content := a.small[name]
		if err := a.create(name, int64(len(content)), bytes.NewReader(content)); err != nil {
			return err
		}
	}
	if _, err := a.f.Seek(a.end, io.SeekStart); err != nil {
		return err
	}
	if err := tar.NewWriter(a.f).Close(); err != nil {
		return err
	}
	end, err := a.f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if err := a.f.Truncate(end); err != nil {
		return err
	}
	return a.f.Sync()
}
