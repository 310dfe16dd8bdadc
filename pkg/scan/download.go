//go:build goexperiment.jsonv2

package scan

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/scan/findings"
	"github.com/promote-dev/promote/pkg/scan/parts"
)

const (
	databaseMediaType = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"
	maxDatabase       = 2 << 30 // compressed
	maxMetadata       = 1 << 20
)

const databaseHint = "check scan.database.repository and that its registry answers, then run promote db update"

// download brings the repository's newest database into the cache, unless it
// is there, and gives its artifact's digest.
func download(ctx context.Context, o Options) (_ release.Digest, err error) {
	step := event.Start(ctx, "[database] %s", o.Database.Repository)
	present := false
	defer func() {
		if present && err == nil {
			step.Cached()
			return
		}
		step.Done(err)
	}()
	reference, err := databaseReference(o.Database.Repository)
	if err != nil {
		return release.Digest{}, err
	}
	src := newSource(ctx, o, step)
	artifact, err := o.Registry.Resolve(ctx, reference)
	if err != nil {
		return release.Digest{}, src.fault(downloading, databaseHint, err)
	}
	dir := filepath.Join(o.databases(), artifact.Digest.Hex())
	if _, err := atHandIn(dir); err == nil {
		present = true
		return artifact.Digest, nil
	}
	layer, err := src.describe(artifact)
	if err != nil {
		return release.Digest{}, err
	}
	return artifact.Digest, src.unpackTo(artifact.Repository, layer, dir)
}

const downloading = "downloading the vulnerability database"

// databaseReference adds the tag under which trivy-db is published.
func databaseReference(repository string) (string, error) {
	if strings.TrimSpace(repository) == "" {
		return "", release.Faultf(release.KindConfig, "set scan.database.repository", "no database repository")
	}
	if strings.Contains(repository, "@") || strings.LastIndexByte(repository, ':') > strings.LastIndexByte(repository, '/') {
		return repository, nil
	}
	return fmt.Sprintf("%s:%d", repository, schemaVersion), nil
}

// describe reads the artifact's manifest: one layer of trivy-db's type.
func (s *source) describe(artifact release.Subject) (parts.Descriptor, error) {
	var none parts.Descriptor
	_, raw, err := s.registry.Manifest(s.ctx, artifact)
	if err != nil {
		return none, s.fault(downloading, databaseHint, err)
	}
	var manifest struct {
		Layers []parts.Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(raw, &manifest); err != nil {
		return none, release.Denied(databaseHint, "%s: %s: %w", downloading, artifact, err)
	}
	if len(manifest.Layers) != 1 || manifest.Layers[0].MediaType != databaseMediaType || len(manifest.Layers[0].URLs) > 0 {
		return none, release.Denied(databaseHint, "%s: %s is no trivy-db artifact", downloading, artifact.Digest)
	}
	layer := manifest.Layers[0]
	if layer.Size <= 0 || layer.Size > maxDatabase {
		return none, release.Denied(databaseHint, "%s: %d bytes, at most %d are read", downloading, layer.Size, int64(maxDatabase))
	}
	return layer, nil
}

// unpackTo downloads and unpacks the artifact's layer beside dir and renames it
// when it is whole.
func (s *source) unpackTo(repository string, layer parts.Descriptor, dir string) error {
	content, err := s.blob(repository, layer.Digest, layer.Size)
	if err != nil {
		return s.fault(downloading, databaseHint, err)
	}
	defer content.Close()
	work, err := os.MkdirTemp(filepath.Dir(dir), ".new-")
	if err != nil {
		return cacheFault(err)
	}
	defer os.RemoveAll(work)
	if err := s.unpack(content, work, parts.UnpackLimit(layer.Size)); err != nil {
		return err
	}
	if err := describeContent(work); err != nil {
		return release.Unavailable(databaseHint, "opening the vulnerability database: %w", err)
	}
	if err := errors.Join(os.RemoveAll(dir), os.Rename(work, dir)); err != nil {
		return cacheFault(err)
	}
	return nil
}

// unpack takes the two files out of the archive, and nothing else.
func (s *source) unpack(content io.Reader, dir string, limit int64) error {
	unzipped, err := gzip.NewReader(content)
	if err != nil {
		return s.fault(downloading, databaseHint, err)
	}
	archive := tar.NewReader(unzipped)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			// What follows the archive must still be read: its digest is
			// checked at the end.
			if _, err := io.Copy(io.Discard, content); err != nil {
				return s.fault(downloading, databaseHint, err)
			}
			return nil
		}
		if err != nil {
			return s.fault(downloading, databaseHint, err)
		}
		name := strings.TrimPrefix(header.Name, "./")
		most := limit
		switch {
		case header.Typeflag == tar.TypeDir:
			continue
		case header.Typeflag != tar.TypeReg || name != databaseFile && name != metadataFile:
			return release.Denied(databaseHint, "unpacking the vulnerability database: unexpected entry %.80q", header.Name)
		case name == metadataFile:
			most = maxMetadata
		}
		if header.Size > most {
			return release.Denied(databaseHint, "unpacking the vulnerability database: %s has %d bytes, at most %d are unpacked", name, header.Size, most)
		}
		if err := s.extract(archive, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
}

func (s *source) extract(content io.Reader, file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return cacheFault(err)
	}
	_, err = io.Copy(f, content)
	closeErr := f.Close()
	if err != nil {
		return s.fault(downloading, databaseHint, err)
	}
	if closeErr != nil {
		return cacheFault(closeErr)
	}
	return nil
}

// describeContent opens what was unpacked and records what it is.
func describeContent(dir string) error {
	var m metadata
	if err := readJSON(filepath.Join(dir, metadataFile), &m); err != nil {
		return err
	}
	if m.Version != schemaVersion {
		return fmt.Errorf("schema %d, this promote reads %d", m.Version, schemaVersion)
	}
	file := filepath.Join(dir, databaseFile)
	names, err := buckets(file)
	if err != nil {
		return err
	}
	r := record{Covers: findings.Covers(names)}
	if len(r.Covers) == 0 {
		return errors.New("it holds no advisories")
	}
	if r.Content, err = hashFile(file); err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	r.Size, r.Modified = info.Size(), info.ModTime()
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, recordFile), raw, 0o600)
}

// atHandIn reads the record of a database's directory and checks it.
func atHandIn(dir string) (record, error) {
	var r record
	if err := readJSON(filepath.Join(dir, recordFile), &r); err != nil {
		return r, err
	}
	return r, intact(dir, r)
}

func hashFile(file string) (release.Digest, error) {
	f, err := os.Open(file)
	if err != nil {
		return release.Digest{}, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return release.Digest{}, err
	}
	var sum [sha256.Size]byte
	copy(sum[:], h.Sum(nil))
	return release.DigestFromSum(sum), nil
}
