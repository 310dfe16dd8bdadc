package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

// memory is a registry in memory, by "repository@digest".
type memory map[string][]byte

func (m memory) put(repository string, raw []byte) release.Digest {
	d := release.DigestOf(raw)
	m[repository+"@"+d.String()] = raw
	return d
}

func (m memory) Manifest(_ context.Context, s release.Subject) (string, []byte, error) {
	raw, ok := m[s.String()]
	if !ok {
		return "", nil, release.Unavailable("", "%w: %s", release.ErrNotFound, s)
	}
	return release.MediaTypeManifest, raw, nil
}

func (m memory) OpenBlob(_ context.Context, repository string, d release.Digest, size int64, _ func(int64)) (io.ReadCloser, error) {
	raw, ok := m[repository+"@"+d.String()]
	if !ok || int64(len(raw)) != size {
		return nil, errors.New("no such blob")
	}
	return io.NopCloser(bytes.NewReader(raw)), nil
}

type object map[string]any

func encode(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// image puts an image of one layer.
func (m memory) image(t *testing.T, repository, layer string) (s release.Subject, config, blob release.Digest) {
	t.Helper()
	config, blob = m.put(repository, []byte(`{"of":"`+layer+`"}`)), m.put(repository, []byte(layer))
	raw := encode(t, object{"config": object{"digest": config, "size": len(layer) + 9}, "layers": []any{object{"digest": blob, "size": len(layer)}}})
	return release.Subject{Repository: repository, Digest: m.put(repository, raw)}, config, blob
}

func newView(t *testing.T, m memory) (v *view, get func(method, path string) (int, string)) {
	t.Helper()
	v = &view{source: m, secret: "s3cret", host: "127.0.0.1:5000", offered: map[string]content{}}
	server := httptest.NewServer(v)
	t.Cleanup(server.Close)
	return v, func(method, path string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, err.Error()
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return 0, err.Error()
		}
		return response.StatusCode, string(body)
	}
}

// A view holds what was offered, and nothing else of the same registry.
func TestAViewHoldsWhatWasOffered(t *testing.T) {
	m := memory{}
	const repository = "registry.example.com/agent/planner"
	s, config, layer := m.image(t, repository, "one")
	index := release.Subject{Repository: repository, Digest: m.put(repository, encode(t, object{"manifests": []any{
		object{"digest": s.Digest, "size": 1}, object{"digest": release.DigestOf([]byte("of another platform")), "size": 1},
	}}))}
	hidden, _, hiddenLayer := m.image(t, repository, "another")
	v, get := newView(t, m)
	name, err := v.offer(t.Context(), index)
	if err != nil {
		t.Fatal(err)
	}
	if want := "127.0.0.1:5000/s3cret/agent/planner@" + index.Digest.String(); name != want {
		t.Errorf("it is called %s, want %s", name, want)
	}
	const base = "/v2/s3cret/agent/planner/"
	cases := []struct {
		method, path string
		code         int
		body         string
	}{
		{"GET", "/v2/", 200, ""},
		{"GET", base + "manifests/" + index.Digest.String(), 200, string(m[index.String()])},
		{"GET", base + "manifests/" + s.Digest.String(), 200, string(m[s.String()])},
		{"HEAD", base + "manifests/" + s.Digest.String(), 200, ""},
		{"GET", base + "blobs/" + layer.String(), 200, "one"},
		{"GET", base + "blobs/" + config.String(), 200, `{"of":"one"}`},
		{"HEAD", base + "blobs/" + layer.String(), 200, ""},

		{"GET", base + "manifests/latest", 404, ""},
		{"GET", base + "tags/list", 404, ""},
		{"GET", "/v2/_catalog", 404, ""},
		{"GET", base + "manifests/" + hidden.Digest.String(), 404, ""},
		{"GET", base + "blobs/" + hiddenLayer.String(), 404, ""},
		{"GET", base + "manifests/" + layer.String(), 404, ""},
		{"GET", "/v2/agent/planner/blobs/" + layer.String(), 404, ""},
		{"GET", "/v2/s3crex/agent/planner/blobs/" + layer.String(), 404, ""},
		{"GET", "/v2/s3cret/agent/executor/blobs/" + layer.String(), 404, ""},
		{"GET", base + "../planner/blobs/" + layer.String(), 404, ""},
		{"PUT", base + "manifests/" + s.Digest.String(), 405, ""},
		{"POST", base + "blobs/uploads/", 405, ""},
		{"DELETE", base + "manifests/" + s.Digest.String(), 405, ""},
	}
	for _, c := range cases {
		code, body := get(c.method, c.path)
		if code != c.code || c.code == 200 && body != c.body {
			t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, code, body, c.code, c.body)
		}
	}
}

// Whoever only asks whether it is there costs the registry nothing.
func TestAViewReadsWhatIsFetchedOnly(t *testing.T) {
	m := memory{}
	s, _, layer := m.image(t, "registry.example.com/agent/planner", "one")
	v, get := newView(t, m)
	if _, err := v.offer(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	v.source = nil // asking it would not go well
	if code, body := get("HEAD", "/v2/s3cret/agent/planner/blobs/"+layer.String()); code != 200 || body != "" {
		t.Errorf("got %d %q", code, body)
	}
}

// An index of indexes is followed so far and no further.
func TestAViewIsNotDeep(t *testing.T) {
	m := memory{}
	const repository = "registry.example.com/agent/planner"
	s, _, _ := m.image(t, repository, "one")
	for range mostLevels {
		s.Digest = m.put(repository, encode(t, object{"manifests": []any{object{"digest": s.Digest, "size": 1}}}))
	}
	v, _ := newView(t, m)
	if _, err := v.offer(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if len(v.offered) != mostLevels {
		t.Errorf("%d things: %v", len(v.offered), v.offered)
	}
}

// What breaks off at the registry is not whole here either.
func TestAViewDoesNotHideWhatIsMissing(t *testing.T) {
	m := memory{}
	s, _, layer := m.image(t, "registry.example.com/agent/planner", "one")
	v, get := newView(t, m)
	if _, err := v.offer(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	delete(m, "registry.example.com/agent/planner@"+layer.String())
	if code, body := get("GET", "/v2/s3cret/agent/planner/blobs/"+layer.String()); code == 200 {
		t.Errorf("got %q", body)
	}
	if _, err := v.offer(t.Context(), release.Subject{Repository: s.Repository, Digest: layer}); !errors.Is(err, release.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestAViewIsBounded(t *testing.T) {
	m := memory{}
	const repository = "registry.example.com/agent/planner"
	var many []any
	for i := range mostContents + 1 {
		many = append(many, object{"digest": release.DigestOf(fmt.Append(nil, i)), "size": 1})
	}
	v, _ := newView(t, m)
	for _, key := range []string{"layers", "manifests"} {
		d := m.put(repository, encode(t, object{key: many}))
		if _, err := v.offer(t.Context(), release.Subject{Repository: repository, Digest: d}); release.KindOf(err) != release.KindDenied {
			t.Errorf("%s: got %v", key, err)
		}
	}
}

func TestCutOff(t *testing.T) {
	for text, want := range map[string]bool{
		`Get "https://registry.test/v2/": dial tcp: lookup registry.test: no such host`:                   true,
		`Get "https://10.0.0.9/v2/": net/http: request canceled while waiting for connection`:             true,
		`Get "http://127.0.0.1:5000/v2/": dial tcp 127.0.0.1:5000: connect: connection refused`:           true,
		`manifest for registry.test/a@sha256:0 not found: manifest unknown`:                               false,
		`unauthorized: authentication required`:                                                           false,
		`no space left on device`:                                                                         false,
		`Get "https://registry.test/v2/": http: server gave HTTP response to HTTPS client`:                false,
		`Get "https://registry.test/v2/": tls: failed to verify certificate: signed by unknown authority`: false,
	} {
		if got := cutOff(errors.New(text)); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}

func TestKeptNamesAreTags(t *testing.T) {
	name := kept(release.Subject{Repository: "registry.example.com:5000/agent/planner", Digest: release.DigestOf([]byte("x"))})
	_, tag, ok := strings.Cut(name, "planner:")
	if !ok || len(tag) > 128 {
		t.Errorf("%s", name)
	}
}
