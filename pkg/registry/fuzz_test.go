package registry

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// The readers of what comes from outside, beside parse (parse_test.go). Whatever
// the bytes: no panic, and what is taken is what it is taken for.

func FuzzListing(f *testing.F) {
	for _, text := range []string{indexText(""), `{"manifests":null}`, `{"manifests":[]}`, `{"manifests":[{"digest":"sha256:1"}],"x":{}}`, `{"manifests":[null,1,"x"]}`, `{"manifests":[],"manifests":[]}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := parseListing(raw)
		for _, d := range list {
			if err != nil || d.Digest.IsZero() || !isManifest(d.MediaType) {
				t.Errorf("%q gives %+v, %v", raw, d, err)
			}
		}
	})
}

func FuzzNextPage(f *testing.F) {
	for _, link := range []string{`</v2/app/tags/list?last=a>; rel="next"`, `<?n=1>; rel="next", <http://evil/>; rel="next"`, `<//evil/x>;rel="next"`, `<http://user@127.0.0.1/>; rel="next"`, `<>`, `;rel="next"`, `<\x00>; rel="next"`, "<http://127.0.0.1:5000@evil/>; rel=\"next\""} {
		f.Add(link)
	}
	c, err := New(Options{})
	if err != nil {
		f.Fatal(err)
	}
	s := c.reading(repository{"127.0.0.1:5000", "app"})
	current := c.api(s.repo, "tags", "list")
	f.Fuzz(func(t *testing.T, link string) {
		next, err := s.nextPage(current, http.Header{"Link": {link}})
		if err != nil && release.KindOf(err) != release.KindDenied {
			t.Errorf("%q: %v", link, err)
		}
		if next != nil && (next.Host != current.Host || next.Scheme != current.Scheme) {
			t.Errorf("%q leads to %s", link, next)
		}
	})
}

func FuzzChallenges(f *testing.F) {
	for _, header := range []string{`Bearer realm="https://auth.example/token",service="a \"b\", c",scope=plain`, `Basic realm=x`, `bearer realm="`, `Digest x=y`, "Bearer ,,=,=\"\\", "Bearer realm=\"a\",realm=\"b\""} {
		f.Add(header, header)
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		ch := parseChallenges([]string{one, two})
		if ch != nil && (ch.scheme != "basic" && ch.scheme != "bearer" || ch.parameters == nil) {
			t.Errorf("%q, %q give %+v", one, two, ch)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, value := range []string{"", "7", "-1", "+7", "999999999999999999999", "1e9", now.Add(time.Minute).Format(http.TimeFormat), "Fri, 31 Dec 9999 23:59:59 GMT"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if d := retryAfter(value, now); d < 0 {
			t.Errorf("%q: %s", value, d)
		}
	})
}

func FuzzKept(f *testing.F) {
	for _, value := range []string{"0-0", "0-41", "bytes=0-1", "1-2", "-", "0--1", "0-9223372036854775807", "0-x"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if n, err := parseKept(value); err == nil && n < 0 {
			t.Errorf("%q: %d", value, n)
		}
	})
}

func FuzzReference(f *testing.F) {
	for _, text := range []string{"redis", "docker.io/acme/app:v1", "localhost:5000/a/b@" + digestA, "oci:dir:v1", "oci-archive:/x.tar@" + digestA, "a/../b", "a%2f..%2fb", "[::1]:5000/app", "user:secret@ghcr.io/a", "oci://x", ":", "@"} {
		f.Add(text)
	}
	c, err := New(Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := parseLocation(text)
		if err != nil {
			if release.KindOf(err) != release.KindUsage {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if l.kind != "" {
			return
		}
		u := c.api(l.repo, "manifests", "x")
		if strings.Contains(u.Path, "/../") || u.Path != u.EscapedPath() || u.User != nil || strings.ContainsAny(u.Host, "/?#@ ") || u.Host == "" {
			t.Errorf("%q is asked for at %s", text, u)
		}
		if again, err := parseReference(l.repo.String()); err != nil || again.repository != l.repo {
			t.Errorf("%q is %s, which is %s: %v", text, l.repo, again.repository, err)
		}
	})
}

func FuzzConfig(f *testing.F) {
	for _, text := range []string{`{"os":"linux","architecture":"amd64","config":{"User":"1","Volumes":{"/a":{}},"Healthcheck":{"Test":["NONE"]}}}`, `{"OS":"x"}`, `{"os":"linux","architecture":"amd64","config":{"user":"root"}}`, `{"config":null}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		config, err := parseConfig(raw)
		if err == nil && (config.OS == "" || config.Architecture == "") {
			t.Errorf("%q is taken as %+v", raw, config)
		}
	})
}

// What is counted is never less than what there is.
func FuzzValues(f *testing.F) {
	for _, text := range []string{`[1,{"a":[]},"\",[{:"]`, `{"a":"\\","b":[[],[]]}`, `"\"`, `[`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		counted := values(raw)
		var tree any
		if json.Unmarshal(raw, &tree) != nil {
			return
		}
		if n := countValues(tree); counted+1 < n {
			t.Errorf("%q has %d values, %d were counted", raw, n, counted)
		}
	})
}

func countValues(v any) int {
	n := 1
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			n += countValues(item)
		}
	case map[string]any:
		for _, item := range v {
			n += countValues(item)
		}
	}
	return n
}

func FuzzLayout(f *testing.F) {
	for _, text := range []string{`{"manifests":[` + describe(typeManifest, digestA) + `]}`, `{}`, `{"manifests":[{}]}`, `{"manifests":[{"annotations":{"` + refAnnotation + `":"v1"},"digest":"` + digestA + `"}]}`} {
		f.Add([]byte(text), []byte(manifestText("")))
	}
	f.Fuzz(func(t *testing.T, index, blob []byte) {
		dir := t.TempDir()
		d := release.DigestOf(blob)
		if err := os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string][]byte{indexFile: index, blobFile(d): blob} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		s := &layout{label: "oci:x", files: directory{root}, limits: Limits{}.withDefaults()}
		if _, _, err := s.entries(); err != nil && release.KindOf(err) != release.KindDenied {
			t.Errorf("%q: %v", index, err)
		}
		for _, ref := range []string{"v1", d.String()} {
			if m, err := s.manifest(t.Context(), ref); err == nil && m.digest != release.DigestOf(m.raw) {
				t.Errorf("%s gives %s", ref, m.digest)
			}
		}
		_, _, _ = s.only()
	})
}

func FuzzArchive(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range map[string]string{indexFile: `{"manifests":[]}`, layoutFile: layoutContent, "./blobs/sha256/" + strings.Repeat("0", 64): "x", "../outside": "y"} {
		_ = w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o600})
		_, _ = io.WriteString(w, content)
	}
	_ = w.Close()
	f.Add(b.Bytes())
	f.Add([]byte{})
	f.Add(b.Bytes()[:700])
	f.Fuzz(func(t *testing.T, raw []byte) {
		name := filepath.Join(t.TempDir(), "image.tar")
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		a, err := readArchive(file)
		if err != nil {
			if k := release.KindOf(err); !slices.Contains([]release.Kind{release.KindDenied, release.KindUsage}, k) {
				t.Errorf("kind %q: %v", k, err)
			}
			return
		}
		for name, s := range a.entries {
			if !layoutName(name) || s.offset < 0 || s.size < 0 {
				t.Errorf("%q at %+v", name, s)
			}
			if content, err := a.read(name, 1000); err == nil && len(content) > 1000 {
				t.Errorf("%q: %d bytes", name, len(content))
			}
		}
	})
}
