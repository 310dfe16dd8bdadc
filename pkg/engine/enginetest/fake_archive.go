package enginetest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"path"
	"slices"
)

// fakeEntry is one entry of a volume.
type fakeEntry struct {
	header tar.Header
	data   []byte
}

func emptyVolume() map[string]fakeEntry {
	return map[string]fakeEntry{".": {header: tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755, Format: tar.FormatPAX}}}
}

// WriteFile puts a file into a volume, as a service might.
func (f *Fake) WriteFile(volume, name, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.contents[volume][name] = fakeEntry{tar.Header{Typeflag: tar.TypeReg, Name: "./" + name, Mode: 0o600, Uid: 999, Size: int64(len(text)), Format: tar.FormatPAX}, []byte(text)}
}

// Files gives what a volume's files hold, by name.
func (f *Fake) Files(volume string) map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string]string{}
	for name, e := range f.contents[volume] {
		if e.header.Typeflag == tar.TypeReg {
			all[name] = string(e.data)
		}
	}
	return all
}

// ReadVolume gives what a volume holds as a tar stream.
func (f *Fake) ReadVolume(ctx context.Context, _, volume string) (out io.ReadCloser, err error) {
	err = f.call(ctx, "readVolume", volume, func() error {
		content, ok := f.contents[volume]
		if _, there := f.volumes[volume]; !ok || !there {
			return notFound("volume", volume)
		}
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, name := range slices.Sorted(maps.Keys(content)) {
			e := content[name]
			if err := errors.Join(w.WriteHeader(&e.header), just(w.Write(e.data))); err != nil {
				return err
			}
		}
		out = io.NopCloser(&b)
		if f.CutArchives {
			return w.Flush()
		}
		return w.Close()
	})
	return out, err
}

func just(_ int, err error) error { return err }

// FillVolume puts the entries of a tar stream into a volume. What came before an
// error of the stream is there, as with the real engine.
func (f *Fake) FillVolume(ctx context.Context, _, volume string, content io.Reader) error {
	return f.call(ctx, "fillVolume", volume, func() error {
		held, ok := f.contents[volume]
		if _, there := f.volumes[volume]; !ok || !there {
			return notFound("volume", volume)
		}
		r := tar.NewReader(content)
		for {
			header, err := r.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			data, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			held[path.Clean(header.Name)] = fakeEntry{*header, data}
		}
	})
}

// ClearVolume removes everything that a volume holds.
func (f *Fake) ClearVolume(ctx context.Context, _, volume string) error {
	return f.call(ctx, "clearVolume", volume, func() error {
		content, ok := f.contents[volume]
		if _, there := f.volumes[volume]; !ok || !there {
			return notFound("volume", volume)
		}
		top := content["."]
		clear(content)
		content["."] = top
		return nil
	})
}
