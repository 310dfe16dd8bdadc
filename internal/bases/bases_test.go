package bases_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/promote-dev/promote/internal/bases"
	"github.com/promote-dev/promote/pkg/release"
)

func TestLoadGivesAnImageThatHangsTogether(t *testing.T) {
	directory, unpacked := archive(t, "redis")
	image, err := bases.Load(directory, "redis")
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		Config struct{ Digest release.Digest }
		Layers []struct {
			Digest release.Digest
			Size   int
		}
	}
	decode(t, image.Manifest, &manifest)
	if manifest.Config.Digest != image.Config.Digest || release.DigestOf(image.Config.Bytes) != image.Config.Digest {
		t.Errorf("manifest's config is %s, the blob is %s", manifest.Config.Digest, image.Config.Digest)
	}
	if len(manifest.Layers) != 1 || manifest.Layers[0].Digest != release.DigestOf(image.Layer.Bytes) ||
		manifest.Layers[0].Size != len(image.Layer.Bytes) {
		t.Errorf("manifest's layers are %+v", manifest.Layers)
	}
	var config struct {
		Architecture, OS string
		Config           struct {
			User    string
			Env     []string
			Volumes map[string]any
		}
		RootFS struct {
			DiffIDs []release.Digest `json:"diff_ids"`
		}
	}
	decode(t, image.Config, &config)
	if config.Architecture == "" || config.OS != "linux" {
		t.Errorf("platform is %q/%q: BuildKit refuses a base without one", config.OS, config.Architecture)
	}
	if len(config.RootFS.DiffIDs) != 1 || config.RootFS.DiffIDs[0] != release.DigestOf(unpacked) {
		t.Errorf("diff ids are %v, want the digest of the unpacked archive", config.RootFS.DiffIDs)
	}
	if config.Config.User != "999:999" || len(config.Config.Env) == 0 || config.Config.Volumes["/data"] == nil {
		t.Errorf("redis runs as %+v", config.Config)
	}
}

func TestLoadGivesTheSameImageEveryTime(t *testing.T) {
	directory, _ := archive(t, "python")
	first, err := bases.Load(directory, "python")
	if err != nil {
		t.Fatal(err)
	}
	second, err := bases.Load(directory, "python")
	if err != nil {
		t.Fatal(err)
	}
	if first.Manifest.Digest != second.Manifest.Digest {
		t.Errorf("%s, then %s", first.Manifest.Digest, second.Manifest.Digest)
	}
}

func TestLoadTellsMissingFromBroken(t *testing.T) {
	directory := t.TempDir()
	_, err := bases.Load(directory, "python")
	if got := release.KindOf(err); got != release.KindUnavailable {
		t.Errorf("missing archive: kind %q (%v)", got, err)
	}
	if err := os.WriteFile(filepath.Join(directory, "python.tar.gz"), []byte("not gzip"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = bases.Load(directory, "python")
	if got := release.KindOf(err); got != release.KindIntegrity {
		t.Errorf("broken archive: kind %q (%v)", got, err)
	}
}

func TestPushStoresBlobsBeforeTheManifest(t *testing.T) {
	directory, _ := archive(t, "postgres")
	image, err := bases.Load(directory, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	to := &recorder{}
	subject, err := bases.Push(t.Context(), to, "127.0.0.1:5000/base/postgres", "bookworm", image)
	if err != nil {
		t.Fatal(err)
	}
	if want := "127.0.0.1:5000/base/postgres@" + image.Manifest.Digest.String(); subject.String() != want {
		t.Errorf("subject is %s, want %s", subject, want)
	}
	if n := len(to.pushed); n != 3 || to.pushed[n-1] != image.Manifest.Digest {
		t.Errorf("pushed %v, want layer and config before %s", to.pushed, image.Manifest.Digest)
	}

	refusing := &recorder{refuse: image.Config.Digest}
	if _, err := bases.Push(t.Context(), refusing, "127.0.0.1:5000/base/postgres", "bookworm", image); err == nil {
		t.Error("a refused blob was no error")
	}
	for _, d := range refusing.pushed {
		if d == image.Manifest.Digest {
			t.Error("the manifest was pushed although a blob was refused")
		}
	}
}

func TestDirectoryFollowsTheEnvironment(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"PROMOTE_CACHE": "/p", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/p"},
		{map[string]string{"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/promote/bases"},
		{map[string]string{"HOME": "/h"}, "/h/.cache/promote/bases"},
	} {
		if got := bases.Directory(func(key string) string { return c.env[key] }); got != c.want {
			t.Errorf("%v: got %s, want %s", c.env, got, c.want)
		}
	}
}

// archive writes a small base archive and gives its directory and the tar
// stream inside.
func archive(t *testing.T, name string) (directory string, unpacked []byte) {
	t.Helper()
	var stream, packed bytes.Buffer
	w := tar.NewWriter(&stream)
	content := []byte("ID=debian\n")
	err := errors.Join(
		w.WriteHeader(&tar.Header{Name: "etc/os-release", Mode: 0o644, Size: int64(len(content))}),
		second(w.Write(content)), w.Close(),
	)
	z := gzip.NewWriter(&packed)
	directory = t.TempDir()
	err = errors.Join(err, second(z.Write(stream.Bytes())), z.Close(),
		os.WriteFile(filepath.Join(directory, name+".tar.gz"), packed.Bytes(), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	return directory, stream.Bytes()
}

func second(_ int, err error) error { return err }

func decode(t *testing.T, b release.Blob, v any) {
	t.Helper()
	if err := json.Unmarshal(b.Bytes, v); err != nil {
		t.Fatal(err)
	}
}

// recorder is a registry that remembers what was pushed, in order.
type recorder struct {
	refuse release.Digest
	pushed []release.Digest
}

func (r *recorder) PushBlob(_ context.Context, _ string, b release.Blob) error {
	if b.Digest == r.refuse {
		return errors.New("refused")
	}
	r.pushed = append(r.pushed, b.Digest)
	return nil
}

func (r *recorder) PushManifest(_ context.Context, _, _ string, m release.Blob) error {
	r.pushed = append(r.pushed, m.Digest)
	return nil
}
