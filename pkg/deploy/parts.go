package deploy

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// partSize is how much of a snapshot lies in one file, and in memory at once: a
// tar entry says its size before its bytes, and an encrypted stream's is not
// known before its end. The parts, one behind the other, are one file of the
// age format.
const partSize = 4 << 20

func partName(n int) string { return fmt.Sprintf("part-%06d", n) }

// partWriter cuts a stream into entries of a tar.
type partWriter struct {
	w      *tar.Writer
	buffer []byte
	n      int
}

func newPartWriter(w io.Writer) *partWriter {
	return &partWriter{w: tar.NewWriter(w), buffer: make([]byte, 0, partSize)}
}

func (p *partWriter) Write(b []byte) (int, error) {
	written := 0
	for len(b) > 0 {
		n := min(len(b), partSize-len(p.buffer))
		p.buffer = append(p.buffer, b[:n]...)
		b, written = b[n:], written+n
		if len(p.buffer) == partSize {
			if err := p.flush(); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}

func (p *partWriter) flush() error {
	if len(p.buffer) == 0 {
		return nil
	}
	err := p.w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: partName(p.n), Mode: 0o600, Size: int64(len(p.buffer))})
	if err == nil {
		_, err = p.w.Write(p.buffer)
	}
	p.n, p.buffer = p.n+1, p.buffer[:0]
	return err
}

// Close writes what is left, and the end of the tar.
func (p *partWriter) Close() error { return errors.Join(p.flush(), p.w.Close()) }

// partReader puts the parts together again.
type partReader struct {
	r  *tar.Reader
	n  int
	in bool
}

func (p *partReader) Read(b []byte) (int, error) {
	for {
		if p.in {
			n, err := p.r.Read(b)
			if n > 0 || !errors.Is(err, io.EOF) {
				return n, ignoreEOF(err)
			}
			p.in = false
		}
		header, err := p.r.Next()
		if err != nil {
			return 0, err
		}
		name := path.Clean(header.Name)
		if name == "." && header.Typeflag == tar.TypeDir {
			continue
		}
		if name != partName(p.n) || header.Typeflag != tar.TypeReg {
			return 0, release.Faultf(release.KindIntegrity, "", "a snapshot holds %.100q where %s was expected", header.Name, partName(p.n))
		}
		p.n, p.in = p.n+1, true
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// contents is what a tar of a volume holds: how many entries, and a digest of
// their names, kinds, modes, owners, links, attributes and bytes. Times are not
// in it, nor how the tar is written.
type contents struct {
	entries int64
	digest  release.Digest
}

// entry is what contents are told apart by.
type entry struct {
	Name, Link   string
	Type         byte
	Mode, Size   int64
	UID, GID     int
	Major, Minor int64
	Attributes   map[string]string
	Data         string
}

// readContents reads a tar to its last entry.
func readContents(r *tar.Reader) (contents, error) {
	var c contents
	all := sha256.New()
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			c.digest = digestOf(all)
			return c, nil
		}
		if err != nil {
			return c, err
		}
		data := sha256.New()
		if _, err := io.Copy(data, r); err != nil {
			return c, err
		}
		e := entry{Name: path.Clean(h.Name), Link: h.Linkname, Type: h.Typeflag, Mode: h.Mode & 0o7777, Size: h.Size, UID: h.Uid, GID: h.Gid,
			Major: h.Devmajor, Minor: h.Devminor, Attributes: map[string]string{}, Data: hex.EncodeToString(data.Sum(nil))}
		if h.Typeflag == tar.TypeLink {
			e.Link = path.Clean(h.Linkname)
		}
		for key, value := range h.PAXRecords {
			if strings.HasPrefix(key, "SCHILY.xattr.") {
				e.Attributes[key] = hex.EncodeToString([]byte(value))
			}
		}
		line, err := json.Marshal(e)
		if err != nil {
			return c, err
		}
		all.Write(append(line, '\n'))
		c.entries++
	}
}

func digestOf(h hash.Hash) release.Digest {
	d, _ := release.ParseDigest("sha256:" + hex.EncodeToString(h.Sum(nil)))
	return d
}

// ending remembers how many zero bytes a stream ends with: a whole tar ends with
// two blocks of them, one that was cut off does not.
type ending struct{ zeros, size int64 }

func (e *ending) Write(b []byte) (int, error) {
	e.size += int64(len(b))
	n := len(b)
	for n > 0 && b[n-1] == 0 {
		n--
	}
	if n == 0 {
		e.zeros += int64(len(b))
	} else {
		e.zeros = int64(len(b) - n)
	}
	return len(b), nil
}

func (e *ending) whole() bool { return e.zeros >= 1024 }
