// Package store keeps analysed layers on disk: one file a value, written
// whole or not at all, so that several processes share a directory without a
// lock. A file that is damaged counts as absent and is made again.
package store

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/promote-dev/promote/pkg/release"
)

// MaxValue bounds one value.
const MaxValue = 256 << 20

// Dir is a directory of values.
type Dir struct{ path string }

// Open gives the store in a directory, which need not exist yet.
func Open(path string) Dir { return Dir{path: path} }

func (d Dir) file(key string) string {
	name := release.DigestOf([]byte(key)).Hex()
	return filepath.Join(d.path, name[:2], name)
}

// A file is a line with the digest of the rest, so that bits that rotted are
// noticed.
const header = len("sha256:") + 64 + 1

// Get gives the value of a key; ok is false if it is absent, damaged or
// cannot be read.
func (d Dir) Get(key string) (value []byte, ok bool) {
	f, err := os.Open(d.file(key))
	if err != nil {
		return nil, false
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, MaxValue+int64(header)+1))
	if err != nil || len(raw) < header || len(raw) > MaxValue+header {
		return nil, false
	}
	value = raw[header:]
	if string(raw[:header-1]) != release.DigestOf(value).String() {
		return nil, false
	}
	return value, true
}

// Put stores a value.
func (d Dir) Put(key string, value []byte) error {
	if len(value) > MaxValue {
		return errors.New("the value is too large to keep")
	}
	file := d.file(key)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString(release.DigestOf(value).String())
	b.WriteByte('\n')
	b.Write(value)
	return WriteFile(file, b.Bytes())
}

// Delete removes a key's value, if there is one.
func (d Dir) Delete(key string) error {
	if err := os.Remove(d.file(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// WriteFile writes a file so that a reader finds the old or the new content,
// never a part.
func WriteFile(file string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
