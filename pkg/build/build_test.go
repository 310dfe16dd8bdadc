package build

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

func TestPushedDigest(t *testing.T) {
	d := release.DigestOf([]byte("image"))
	answer := func(digest, mediaType string, inner release.Digest) map[string]string {
		descriptor := fmt.Sprintf(`{"mediaType":%q,"digest":%q}`, mediaType, inner)
		return map[string]string{"containerimage.digest": digest, "containerimage.descriptor": base64.StdEncoding.EncodeToString([]byte(descriptor))}
	}
	if got, err := pushedDigest(answer(d.String(), release.MediaTypeManifest, d), 1); err != nil || got != d {
		t.Errorf("manifest: %s, %v", got, err)
	}
	if got, err := pushedDigest(answer(d.String(), release.MediaTypeIndex, d), 2); err != nil || got != d {
		t.Errorf("index: %s, %v", got, err)
	}
	for name, bad := range map[string]struct {
		answer    map[string]string
		platforms int
	}{
		"one platform, wrapped":     {answer(d.String(), release.MediaTypeIndex, d), 1},
		"two platforms, a manifest": {answer(d.String(), release.MediaTypeManifest, d), 2},
		"Docker's media type":       {answer(d.String(), "application/vnd.docker.distribution.manifest.v2+json", d), 1},
		"two digests":               {answer(d.String(), release.MediaTypeManifest, release.DigestOf([]byte("other"))), 1},
		"malformed digest":          {answer("sha256:abc", release.MediaTypeManifest, d), 1},
		"no answer":                 {nil, 1},
		"no descriptor":             {map[string]string{"containerimage.digest": d.String()}, 1},
	} {
		if got, err := pushedDigest(bad.answer, bad.platforms); err == nil {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

func jobFor(t *testing.T, dockerfile string, change func(*Options)) (*job, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{Context: dir, Repository: "registry.example:5000/acme/planner"}
	if change != nil {
		change(&o)
	}
	return newJob("planner", o)
}

func TestJobDescribesTheImage(t *testing.T) {
	base := release.DigestOf([]byte("base")).String()
	j, err := jobFor(t, "ARG BASE=nothing\nFROM ${BASE} AS deps\nFROM deps AS final\nFROM busybox\n", func(o *Options) {
		o.Target = "final"
		o.Args = map[string]string{"BASE": "python:3@" + base}
		o.Labels = map[string]string{"org.opencontainers.image.title": "mine", "x": "y"}
		o.Platforms = []string{"linux/x86_64", "amd64", "linux/arm64/v8"}
		o.Version = "1.2.3"
		o.Epoch = time.Unix(0, 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	attrs := j.frontendAttrs()
	for key, want := range map[string]string{
		"label:org.opencontainers.image.title":       "mine",
		"label:org.opencontainers.image.version":     "1.2.3",
		"label:org.opencontainers.image.created":     "1970-01-01T00:00:00Z",
		"label:org.opencontainers.image.base.name":   "python:3",
		"label:org.opencontainers.image.base.digest": base,
		"label:x":                     "y",
		"target":                      "final",
		"platform":                    "linux/amd64,linux/arm64",
		"filename":                    "Dockerfile",
		"build-arg:BASE":              "python:3@" + base,
		"no-cache":                    "",
		"build-arg:EPOCH":             "",
		"build-arg:SOURCE_DATE_EPOCH": "",
		"label:org.opencontainers.image.revision": "",
	} {
		if attrs[key] != want {
			t.Errorf("%s: got %q, want %q", key, attrs[key], want)
		}
	}
	export := j.exporterAttrs()
	for key, want := range map[string]string{
		"name": "registry.example:5000/acme/planner", "push": "true", "push-by-digest": "true", "oci-mediatypes": "true",
		"rewrite-timestamp": "true", "source-date-epoch": "315619200", "registry.insecure": "",
		"annotation.org.opencontainers.image.version": "1.2.3", "annotation-index.org.opencontainers.image.version": "1.2.3",
	} {
		if export[key] != want {
			t.Errorf("%s: got %q, want %q", key, export[key], want)
		}
	}
}

func TestJobRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		dockerfile string
		change     func(*Options)
		want       string
	}{
		"syntax error":      {"FROM a\nCOPY\n", nil, "Dockerfile:2: parsing Dockerfile: "},
		"relative context":  {"FROM a\n", func(o *Options) { o.Context = "." }, "not an absolute path"},
		"no repository":     {"FROM a\n", func(o *Options) { o.Repository = "" }, "building planner: repository"},
		"frontend argument": {"FROM a\n", func(o *Options) { o.Args = map[string]string{"BUILDKIT_SYNTAX": "evil"} }, "BUILDKIT_SYNTAX"},
		"huge Dockerfile":   {"FROM a\n" + strings.Repeat("#", maxDockerfile), nil, "larger than"},
	} {
		if _, err := jobFor(t, c.dockerfile, c.change); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1:5000": true, "127.8.0.1": true, "localhost": true, "localhost:80": true, "[::1]:5000": true, "[::1]": true,
		"10.0.0.1:5000": false, "localhost.evil.example": false, "127.0.0.1.evil.example:80": false, "ghcr.io": false, "": false,
	} {
		if loopback(host) != want {
			t.Errorf("%s: want %v", host, want)
		}
	}
}

func TestContextIsNormalised(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]fs.FileMode{"private": 0o600, "shared": 0o666, "script": 0o700, "setuid": 0o755 | fs.ModeSetuid} {
		path := filepath.Join(dir, "sub", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("private", filepath.Join(dir, "sub", "link")); err != nil {
		t.Fatal(err)
	}
	files, err := contextFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	err = files.Walk(t.Context(), "", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			got[path] = info.Mode().String()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"sub": "drwxr-xr-x", "sub/private": "-rw-r--r--", "sub/shared": "-rw-r--r--",
		"sub/script": "-rwxr-xr-x", "sub/setuid": "-rwxr-xr-x", "sub/link": "Lrwxrwxrwx"} {
		if got[path] != want {
			t.Errorf("%s: got %s, want %s", path, got[path], want)
		}
	}
}

func TestReplaceFileThatChanged(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(file, []byte("read before"), []byte("ours")); err == nil {
		t.Error("what somebody wrote meanwhile was replaced")
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("f", link); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(link, []byte("theirs"), []byte("ours")); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Lstat(link); info.Mode().Type() != fs.ModeSymlink {
		t.Error("the link was replaced, not its file")
	}
	if got, _ := os.ReadFile(file); string(got) != "ours" {
		t.Errorf("got %q", got)
	}
}

func TestSecretNames(t *testing.T) {
	for name, want := range map[string]bool{
		"API_TOKEN": true, "NPM_TOKEN": true, "password": true, "DB_PASS": true, "AWS_SECRET_ACCESS_KEY": true, "OPENAI_API_KEY": true, "PRIVATE_KEY": true,
		"TOKEN_FILE": false, "SECRET_NAME": false, "PATH": false, "TOKENIZER": false, "MAX_TOKENS": false, "COMPASS": false, "KEY": false, "AUTHOR": false,
	} {
		if secretName(name) != want {
			t.Errorf("%s: want %v", name, want)
		}
	}
}
