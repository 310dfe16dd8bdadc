package registry

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/promote-dev/promote/pkg/release"
)

// directory is an image layout's directory. Nothing outside of it is reached,
// whatever links lie in it.
type directory struct{ root *os.Root }

var _ files = directory{}

func (d directory) read(name string, most int64) ([]byte, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAtMost(f, name, most)
}

func readAtMost(r io.Reader, name string, most int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(raw)) > most {
		return nil, release.Denied("nothing legitimate is that large", "%s: more than %d bytes", name, most)
	}
	return raw, err
}

func (d directory) open(name string, offset int64) (io.ReadCloser, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (d directory) size(name string) (int64, error) {
	info, err := d.root.Stat(name)
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s: %w as a file", name, fs.ErrNotExist)
	}
	return info.Size(), nil
}

func (d directory) create(name string, _ int64, content io.Reader) (err error) {
	if err := d.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	temporary := name + ".partial-" + rand.Text()
	f, err := d.root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.root.Remove(temporary))
		}
	}()
	_, err = io.Copy(f, content)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return d.root.Rename(temporary, name)
}

func (d directory) replace(name string, content []byte) error {
	return d.create(name, int64(len(content)), bytes.NewReader(content))
}

func (d directory) parallel() bool { return true }
