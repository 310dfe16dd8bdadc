// Package bases turns the file systems that scripts/bases makes from Debian
// packages into OCI images, for machines that cannot pull the official base
// images. The same archive gives the same image, byte for byte.
package bases

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Names lists the bases that scripts/bases makes.
func Names() []string { return []string{"python", "redis", "postgres"} }

// Replaces gives the official image, as the example pins it, that a base
// stands in for: a repository and tag without a digest.
func Replaces(name string) string {
	return map[string]string{
		"python":   "debian:bookworm-slim",
		"redis":    "redis:7.2-bookworm",
		"postgres": "postgres:16-bookworm",
	}[name]
}

// Media types of the OCI image specification.
const (
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

const (
	maxArchive  = 512 << 20 // compressed
	maxUnpacked = 4 << 30
	searchPath  = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// made is the time of every image: what it contains says which version it is,
// and a clock in it would give every machine another digest. It is the time
// that scripts/bases writes into the archives.
var made = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// Image is one base as an image: a manifest, its config and its single layer.
type Image struct {
	Name     string
	Manifest release.Blob
	Config   release.Blob
	Layer    release.Blob
}

// Pusher is what a registry must do to take an image.
type Pusher interface {
	// PushBlob makes a blob present in a repository.
	PushBlob(ctx context.Context, repository string, b release.Blob) error
	// PushManifest stores a manifest whose blobs are present, under its digest
	// and a tag.
	PushManifest(ctx context.Context, repository, tag string, m release.Blob) error
}

// Directory gives where scripts/bases keeps its archives, from $PROMOTE_CACHE,
// $XDG_CACHE_HOME and $HOME as getenv answers for them.
func Directory(getenv func(string) string) string {
	if dir := getenv("PROMOTE_CACHE"); dir != "" {
		return dir
	}
	cache := getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(getenv("HOME"), ".cache")
	}
	return filepath.Join(cache, "promote", "bases")
}

// Load reads the archive of a base, "<directory>/<name>.tar.gz", and makes its
// image. A missing archive is KindUnavailable; one that is no gzip stream, or
// is larger than half a GiB (4 GiB unpacked), is KindIntegrity.
func Load(directory, name string) (Image, error) {
	path := filepath.Join(directory, name+".tar.gz")
	layer, err := readCapped(path)
	if err != nil {
		return Image{}, err
	}
	diffID, err := unpackedDigest(layer)
	if err != nil {
		return Image{}, &release.Fault{
			Kind: release.KindIntegrity, Op: "reading base archive", File: path, Err: err,
			Hint: "delete the file and run scripts/bases " + name,
		}
	}
	return assemble(name, layer, diffID)
}

// Push stores the image in a repository under a tag, blobs first.
func Push(ctx context.Context, to Pusher, repository, tag string, image Image) (release.Subject, error) {
	for _, blob := range []release.Blob{image.Layer, image.Config} {
		if err := to.PushBlob(ctx, repository, blob); err != nil {
			return release.Subject{}, err
		}
	}
	if err := to.PushManifest(ctx, repository, tag, image.Manifest); err != nil {
		return release.Subject{}, err
	}
	return release.NewSubject(repository, image.Manifest.Digest)
}

func readCapped(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, release.Unavailable("run scripts/bases, which makes the base images from Debian packages",
			"reading base archive: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, release.Unavailable("", "reading base archive: %w", err)
	}
	if info.Size() > maxArchive {
		return nil, release.Faultf(release.KindIntegrity, "delete the file and run scripts/bases",
			"reading base archive %s: %d bytes, the limit is %d", path, info.Size(), maxArchive)
	}
	content := make([]byte, info.Size())
	if _, err := io.ReadFull(file, content); err != nil {
		return nil, release.Unavailable("", "reading base archive %s: %w", path, err)
	}
	return content, nil
}

// unpackedDigest hashes the layer's tar stream: what a config calls diff_id.
func unpackedDigest(layer []byte) (release.Digest, error) {
	unpacked, err := gzip.NewReader(bytes.NewReader(layer))
	if err != nil {
		return release.Digest{}, err
	}
	hash := sha256.New()
	n, err := io.Copy(hash, io.LimitReader(unpacked, maxUnpacked+1))
	if err != nil {
		return release.Digest{}, err
	}
	if n > maxUnpacked {
		return release.Digest{}, fmt.Errorf("unpacks to more than %d bytes", int64(maxUnpacked))
	}
	return release.DigestFromSum([sha256.Size]byte(hash.Sum(nil))), nil
}

func assemble(name string, layer []byte, diffID release.Digest) (Image, error) {
	config, err := blob(typeConfig, imageConfig(name, diffID))
	if err != nil {
		return Image{}, err
	}
	image := Image{
		Name:   name,
		Config: config,
		Layer:  release.Blob{MediaType: typeLayer, Digest: release.DigestOf(layer), Bytes: layer},
	}
	image.Manifest, err = blob(typeManifest, map[string]any{
		"schemaVersion": 2,
		"mediaType":     typeManifest,
		"config":        descriptor(image.Config),
		"layers":        []any{descriptor(image.Layer)},
	})
	return image, err
}

func blob(mediaType string, v any) (release.Blob, error) {
	content, err := json.Marshal(v)
	if err != nil {
		return release.Blob{}, err
	}
	return release.Blob{MediaType: mediaType, Digest: release.DigestOf(content), Bytes: content}, nil
}

func descriptor(b release.Blob) map[string]any {
	return map[string]any{"mediaType": b.MediaType, "digest": b.Digest, "size": len(b.Bytes)}
}

func imageConfig(name string, diffID release.Digest) map[string]any {
	return map[string]any{
		"architecture": runtime.GOARCH, // mmdebstrap makes this machine's
		"os":           "linux",
		"created":      made,
		"config":       runConfig(name),
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []release.Digest{diffID}},
		"history": []any{map[string]any{
			"created": made, "created_by": "scripts/bases " + name,
			"comment": "made from Debian packages in place of " + Replaces(name),
		}},
	}
}

// runConfig says how a base's containers run, as the official image does where
// the example relies on it.
func runConfig(name string) map[string]any {
	config := map[string]any{
		"Env": []string{"PATH=" + searchPath},
		"Cmd": []string{"bash"},
		"Labels": map[string]string{
			"org.opencontainers.image.title":       name,
			"org.opencontainers.image.description": "Debian packages in place of " + Replaces(name),
		},
	}
	volume := func(path string) map[string]any { return map[string]any{path: struct{}{}} }
	switch name {
	case "redis":
		config["User"] = "999:999"
		config["Cmd"] = []string{"redis-server"}
		config["WorkingDir"] = "/data"
		config["Volumes"] = volume("/data")
		config["ExposedPorts"] = volume("6379/tcp")
	case "postgres":
		const data = "/var/lib/postgresql/data"
		config["User"] = "999:999"
		config["Entrypoint"] = []string{"docker-entrypoint.sh"}
		config["Cmd"] = []string{"postgres"}
		config["Env"] = []string{"PATH=" + searchPath + ":/usr/lib/postgresql/15/bin", "PGDATA=" + data}
		config["Volumes"] = volume(data)
		config["ExposedPorts"] = volume("5432/tcp")
		config["StopSignal"] = "SIGINT" // fast shutdown: clients are cut off, data is safe
	}
	return config
}
