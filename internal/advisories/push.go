package advisories

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// Push uploads the database in dir (trivy.db and metadata.json, as Build
// leaves them) to a repository, tagged with its schema version, and gives the
// manifest's digest. The same files give the same digest.
func Push(ctx context.Context, registry Registry, dir, repository string) (_ release.Digest, err error) {
	step := event.Start(ctx, "[database] pushing to %s:%s", repository, Tag)
	defer func() { step.Done(err) }()
	layer, err := pack(dir)
	if err != nil {
		return release.Digest{}, err
	}
	config := release.Blob{MediaType: mediaTypeConfig, Bytes: []byte("{}")}
	config.Digest = release.DigestOf(config.Bytes)
	manifest, err := manifestOf(config, layer)
	if err != nil {
		return release.Digest{}, err
	}
	for _, b := range []release.Blob{config, layer} {
		if err := registry.PushBlob(ctx, repository, b); err != nil {
			return release.Digest{}, fmt.Errorf("pushing the database: %w", err)
		}
	}
	got, err := registry.PushManifest(ctx, repository, Tag, manifest)
	if err != nil {
		return release.Digest{}, fmt.Errorf("pushing the database: %w", err)
	}
	if got != manifest.Digest {
		return release.Digest{}, release.Denied("the registry is broken or hostile",
			"pushing the database: the registry says %s, the manifest is %s", got, manifest.Digest)
	}
	return got, nil
}

func manifestOf(config, layer release.Blob) (release.Blob, error) {
	describe := func(b release.Blob, annotations map[string]string) map[string]any {
		d := map[string]any{"mediaType": b.MediaType, "digest": b.Digest, "size": len(b.Bytes)}
		if annotations != nil {
			d["annotations"] = annotations
		}
		return d
	}
	raw, err := release.Canonical(map[string]any{
		"schemaVersion": 2,
		"mediaType":     release.MediaTypeManifest,
		"config":        describe(config, nil),
		"layers":        []any{describe(layer, map[string]string{"org.opencontainers.image.title": "db.tar.gz"})},
		"annotations": map[string]string{
			"org.opencontainers.image.title":    Label,
			"org.opencontainers.image.licenses": "CC-BY-4.0",
		},
	})
	if err != nil {
		return release.Blob{}, fmt.Errorf("encoding the database's manifest: %w", err)
	}
	return release.Blob{MediaType: release.MediaTypeManifest, Digest: release.DigestOf(raw), Bytes: raw}, nil
}

// pack makes the layer: a tar of the two files, without times or owners.
func pack(dir string) (release.Blob, error) {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	archive := tar.NewWriter(zip)
	for _, name := range []string{"trivy.db", "metadata.json"} {
		if err := packFile(archive, filepath.Join(dir, name), name); err != nil {
			return release.Blob{}, fmt.Errorf("packing the database: %w", err)
		}
	}
	if err := archive.Close(); err != nil {
		return release.Blob{}, fmt.Errorf("packing the database: %w", err)
	}
	if err := zip.Close(); err != nil {
		return release.Blob{}, fmt.Errorf("packing the database: %w", err)
	}
	return release.Blob{MediaType: mediaTypeLayer, Digest: release.DigestOf(out.Bytes()), Bytes: out.Bytes()}, nil
}

func packFile(archive *tar.Writer, path, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: info.Size(), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err = io.Copy(archive, f)
	return err
}
