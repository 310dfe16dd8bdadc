package registry

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/promote-dev/promote/pkg/release"
)

// File is a file as an OCI artifact: a manifest whose only layer it is, and
// whose artifact type says what it is.
type File struct {
	Path   string
	Digest release.Digest
	Size   int64
	Type   string // media type of the layer, and artifact type
	Title  string // what the layer is called
}

const titleAnnotation = "org.opencontainers.image.title"

// artifact gives the manifest of a file.
func (f File) artifact(l Limits) (manifest, error) {
	empty := []byte("{}")
	return encode(body{
		SchemaVersion: 2, MediaType: release.MediaTypeManifest, ArtifactType: f.Type,
		Config: &descriptor{MediaType: release.MediaTypeEmpty, Digest: release.DigestOf(empty), Size: int64(len(empty))},
		Layers: []descriptor{{MediaType: f.Type, Digest: f.Digest, Size: f.Size, Annotations: map[string]string{titleAnnotation: f.Title}}},
	}, l)
}

// PushFile stores a file as an artifact where a location names it: a reference,
// "oci:DIR[:TAG]" or "oci-archive:FILE[:TAG]". The file is read from disk while
// it is sent, hashed on the way, and read back.
func (c *Client) PushFile(ctx context.Context, destination string, f File) (CopyResult, error) {
	result, err := c.pushFile(ctx, destination, f)
	return result, wrap(ctx, "pushing", f.Title+" to "+clip(destination), err)
}

func (c *Client) pushFile(ctx context.Context, destination string, f File) (result CopyResult, err error) {
	to, err := parseLocation(destination)
	if err != nil {
		return CopyResult{}, err
	}
	m, err := f.artifact(c.limits)
	if err != nil {
		return CopyResult{}, err
	}
	if err := to.agrees(m.digest); err != nil {
		return CopyResult{}, err
	}
	src := &onDisk{memory: newMemory(f.Title, m, release.Blob{Digest: release.DigestOf([]byte("{}")), Bytes: []byte("{}")}), file: f}
	dst, finish, err := c.openDestination(to, src, false)
	if err != nil {
		return CopyResult{}, err
	}
	defer func() { err = errors.Join(err, finish(err == nil)) }()
	return c.copyStores(ctx, src, dst, m.digest, CopyOptions{Tags: destinationTags(nil, to.tag, "latest")}, nil)
}

// onDisk is a store of one file and its manifest. It is only read from.
type onDisk struct {
	*memory
	file File
}

var _ store = (*onDisk)(nil)

func (s *onDisk) has(ctx context.Context, d descriptor) (bool, error) {
	if d.Digest == s.file.Digest {
		return true, nil
	}
	return s.memory.has(ctx, d)
}

func (s *onDisk) open(ctx context.Context, d descriptor, offset int64) (io.ReadCloser, error) {
	if d.Digest != s.file.Digest {
		return s.memory.open(ctx, d, offset)
	}
	f, err := os.Open(s.file.Path)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// PullFile reads the file of an artifact of a type from where a location names
// it, and gives the artifact's digest. Nothing is written to w that was not
// there: at its end the bytes have turned out to be what the manifest names. An
// artifact of another type, or one of more than most bytes, is a denial.
func (c *Client) PullFile(ctx context.Context, source, artifactType string, most int64, w io.Writer) (release.Digest, error) {
	d, err := c.pullFile(ctx, source, artifactType, most, w)
	return d, wrap(ctx, "reading", clip(source), err)
}

func (c *Client) pullFile(ctx context.Context, source, artifactType string, most int64, w io.Writer) (release.Digest, error) {
	from, err := parseLocation(source)
	if err != nil {
		return release.Digest{}, err
	}
	src, closeSource, err := c.openSource(from)
	if err != nil {
		return release.Digest{}, err
	}
	defer closeSource()
	d, _, err := c.rootOf(ctx, src, from)
	if err != nil {
		return release.Digest{}, err
	}
	m, err := src.manifest(ctx, d.String())
	if err != nil {
		return release.Digest{}, err
	}
	if m.artifactType() != artifactType || len(m.body.Layers) != 1 || m.body.Layers[0].MediaType != artifactType {
		return d, release.Denied("name an artifact that promote ledger export made", "%s is an artifact of type %s, want %s in one layer", d, printable(m.artifactType(), 100), artifactType)
	}
	layer := m.body.Layers[0]
	if layer.Size > most {
		return d, release.Denied("nothing legitimate is that large", "%d bytes, at most %d are read", layer.Size, most)
	}
	v := verifying(ctx, src, layer, c.limits, nil)(0)
	defer v.Close()
	n, err := io.Copy(w, v)
	if err == nil && n != layer.Size {
		err = release.Unavailable("try again", "%d of %d bytes came: %w", n, layer.Size, fs.ErrClosed)
	}
	return d, err
}
