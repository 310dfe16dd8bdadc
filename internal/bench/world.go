package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// World is where copies happen: a source and a destination registry, whose
// content lies below one directory.
type World struct {
	Source, Destination *Registry
	dir                 string
}

// NewWorld starts two empty registries; open makes the handler of one that
// keeps its content in a directory.
func NewWorld(dir string, open func(dir string) http.Handler) (*World, error) {
	w := &World{dir: dir}
	for _, r := range []struct {
		name string
		to   **Registry
	}{{"source", &w.Source}, {"destination", &w.Destination}} {
		front, err := NewFront()
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		*r.to = &Registry{Front: front, dir: filepath.Join(dir, r.name), open: open}
		if err := (*r.to).Empty(); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	return w, nil
}

// Close ends the registries and removes what they hold.
func (w *World) Close() error {
	var err error
	for _, r := range []*Registry{w.Source, w.Destination} {
		if r != nil {
			err = errors.Join(err, r.Close())
		}
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

// Registry is one behind a front. Its methods go past the front.
type Registry struct {
	*Front
	dir   string
	open  func(dir string) http.Handler
	times int
}

// Empty forgets everything: what is served from now on lies in a new directory.
func (r *Registry) Empty() error {
	old := r.root()
	r.times++
	if err := os.MkdirAll(r.root(), 0o755); err != nil {
		return err
	}
	r.Serve(r.open(r.root()))
	return os.RemoveAll(old)
}

func (r *Registry) root() string { return filepath.Join(r.dir, fmt.Sprint(r.times)) }

// Ref names a tag or digest in the registry.
func (r *Registry) Ref(repository, ref string) string {
	separator := ":"
	if strings.Contains(ref, ":") {
		separator = "@"
	}
	return r.Addr() + "/" + repository + separator + ref
}

// ask sends a request to the registry itself and hands the answer's body to w.
func (r *Registry) ask(method, path string, header map[string]string, body io.Reader, w io.Writer) (*answer, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+r.Addr()+path, body)
	if err != nil {
		return nil, err
	}
	req.RequestURI = path
	if req.Body == nil {
		req.Body = http.NoBody
	}
	for key, value := range header {
		req.Header.Set(key, value)
	}
	a := &answer{header: http.Header{}, status: http.StatusOK, body: w}
	(*r.backend.Load()).ServeHTTP(a, req)
	return a, nil
}

// answer is what a handler says.
type answer struct {
	header http.Header
	status int
	body   io.Writer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }
func (a *answer) Flush()                      {}

// expect makes any other status an error.
func (r *Registry) expect(status int, method, path string, header map[string]string, body io.Reader) (*answer, error) {
	var text bytes.Buffer
	a, err := r.ask(method, path, header, body, &text)
	if err == nil && a.status != status {
		err = fmt.Errorf("%s %s: status %d, want %d: %s", method, path, a.status, status, text.String())
	}
	return a, err
}

// Put stores an image with its blobs; an empty tag stores it under its digest.
func (r *Registry) Put(repository, tag string, i *Image) error {
	for _, b := range i.blobs {
		if err := r.upload(repository, b); err != nil {
			return err
		}
	}
	return r.PutManifest(repository, tag, i)
}

func (r *Registry) upload(repository string, b blob) error {
	a, err := r.expect(http.StatusAccepted, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", nil, nil)
	if err != nil {
		return err
	}
	at, err := url.Parse(a.header.Get("Location"))
	if err != nil {
		return err
	}
	content := b.open()
	defer content.Close()
	query := at.Query()
	query.Set("digest", b.Digest)
	_, err = r.expect(http.StatusCreated, http.MethodPut, at.Path+"?"+query.Encode(), nil, content)
	return err
}

// Mount lets a repository have an image's blobs, which another one holds.
func (r *Registry) Mount(repository, from string, i *Image) error {
	for _, b := range i.blobs {
		if _, err := r.expect(http.StatusCreated, http.MethodPost, "/v2/"+repository+"/blobs/uploads/?mount="+b.Digest+"&from="+url.QueryEscape(from), nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// PutManifest stores an image whose blobs are there.
func (r *Registry) PutManifest(repository, tag string, i *Image) error {
	return r.putManifest(repository, tag, i.parts.MediaType, i.Manifest)
}

func (r *Registry) putManifest(repository, tag, mediaType string, raw []byte) error {
	if tag == "" {
		tag = digest(raw)
	}
	_, err := r.expect(http.StatusCreated, http.MethodPut, "/v2/"+repository+"/manifests/"+tag, map[string]string{"Content-Type": mediaType}, bytes.NewReader(raw))
	return err
}

// Attach stores artifacts about an image, and lists them in its fallback tag.
func (r *Registry) Attach(repository string, about *Image, artifacts []*Image) error {
	index := manifest{SchemaVersion: 2, MediaType: typeIndex}
	for _, a := range artifacts {
		if err := r.Put(repository, "", a); err != nil {
			return err
		}
		d := a.descriptor()
		d.ArtifactType, d.Annotations = a.parts.ArtifactType, a.parts.Annotations
		index.Manifests = append(index.Manifests, d)
	}
	raw, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return r.putManifest(repository, fallback(about.Digest), typeIndex, raw)
}

// fallback is the tag that lists what refers to a digest.
func fallback(digest string) string { return "sha256-" + digest[len("sha256:"):] }

// get reads a manifest.
func (r *Registry) get(repository, ref string) (int, []byte, error) {
	var body bytes.Buffer
	a, err := r.ask(http.MethodGet, "/v2/"+repository+"/manifests/"+ref, map[string]string{"Accept": typeManifest + ", " + typeIndex}, nil, &body)
	if err != nil {
		return 0, nil, err
	}
	return a.status, body.Bytes(), nil
}

// Holds fails unless the repository serves the image's very bytes as a tag and
// has its blobs. With deep it reads and hashes them.
func (r *Registry) Holds(repository, tag string, i *Image, deep bool) error {
	status, raw, err := r.get(repository, tag)
	if err != nil {
		return err
	}
	if status != http.StatusOK || digest(raw) != i.Digest {
		return fmt.Errorf("%s:%s answers %d with %s, want %s", repository, tag, status, digest(raw), i.Digest)
	}
	for _, b := range i.blobs {
		method, sum := http.MethodHead, sha256.New()
		if deep {
			method = http.MethodGet
		}
		a, err := r.ask(method, "/v2/"+repository+"/blobs/"+b.Digest, nil, nil, sum)
		if err != nil {
			return err
		}
		if length := a.header.Get("Content-Length"); a.status != http.StatusOK || length != fmt.Sprint(b.Size) {
			return fmt.Errorf("%s: blob %s answers %d with %s bytes, want %d", repository, b.Digest, a.status, length, b.Size)
		}
		if deep && "sha256:"+hex.EncodeToString(sum.Sum(nil)) != b.Digest {
			return fmt.Errorf("%s: blob %s has other bytes", repository, b.Digest)
		}
	}
	return nil
}

// Lacks fails if a tag is there.
func (r *Registry) Lacks(repository, tag string) error {
	status, _, err := r.get(repository, tag)
	if err == nil && status != http.StatusNotFound {
		err = fmt.Errorf("%s:%s is there before the copy: status %d", repository, tag, status)
	}
	return err
}

// Lists fails unless the fallback tag of an image lists the artifacts, and they
// are there.
func (r *Registry) Lists(repository string, about *Image, artifacts []*Image) error {
	_, raw, err := r.get(repository, fallback(about.Digest))
	if err != nil {
		return err
	}
	for _, a := range artifacts {
		if !bytes.Contains(raw, []byte(a.Digest)) {
			return fmt.Errorf("%s: %s is not listed as a referrer of %s", repository, a.Digest, about.Digest)
		}
		if err := r.Holds(repository, a.Digest, a, false); err != nil {
			return err
		}
	}
	return nil
}
