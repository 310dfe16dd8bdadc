package registrytest

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

// world is a source that has everything that promote reads, a destination, and
// a client. What is done to the source is up to a case.
type world struct {
	b        Backend
	src, dst *Proxy
	c        *registry.Client

	amd, riscv    Image // a child, and a grandchild
	nested, index Image
	evidence      Image // refers to the index
	subject       release.Subject
	document      release.Blob
	documentBlobs []release.Blob
	release       release.Subject
	elsewhere     string // another host
}

const source, documents = "src", "rel"

// contents makes what the source will hold.
func contents(b Backend) *world {
	w := &world{b: b}
	w.amd, w.riscv = NewPlatformImage(1, "amd64", 2000, 30), NewPlatformImage(3, "riscv64", 40)
	w.nested = NewIndex(w.riscv)
	w.nested.Platform = "riscv64"
	w.index = NewIndex(w.amd, NewPlatformImage(2, "arm64", 50), w.nested)
	w.evidence = NewReferrer(w.index.Manifest, release.MediaTypeBundle, release.MediaTypeBundle, []byte(`{"evidence":"about the index"}`))
	top, blobs, err := NewRelease().Encode()
	if err != nil {
		panic(err)
	}
	w.document, w.documentBlobs = top, blobs
	return w
}

func newWorld(t *testing.T, b Backend, limits registry.Limits) *world {
	t.Helper()
	w := contents(b)
	w.src, w.dst, w.c = Serve(t, b.New(t)), Serve(t, b.New(t)), NewClient(t, limits)
	w.subject = w.src.Put(t, source, "v1", w.index)
	w.src.Refer(t, b, source, w.index.Manifest, w.evidence)
	w.release = w.src.Put(t, documents, "v1.0.0", Image{Manifest: w.document, Blobs: w.documentBlobs})
	return w
}

// Refer stores a referrer, and enters it in the fallback tag where there is no
// referrers API.
func (p *Proxy) Refer(t testing.TB, b Backend, repository string, about release.Blob, list ...Image) {
	t.Helper()
	var entries []Descriptor
	for _, img := range list {
		p.Put(t, repository, "", img)
		d := Describe(img.Manifest)
		d.ArtifactType = release.MediaTypeBundle
		entries = append(entries, d)
	}
	if !b.Referrers {
		index := listing(entries)
		p.PutManifest(t, repository, fallback(about.Digest), index.MediaType, index.Bytes)
	}
}

func listing(entries []Descriptor) release.Blob {
	if entries == nil {
		entries = []Descriptor{}
	}
	return Encode(release.MediaTypeIndex, map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeIndex, "manifests": entries})
}

func fallback(d release.Digest) string { return "sha256-" + d.Hex() }

// target is one thing that the source serves and that a case attacks.
type target struct {
	name    string
	kind    string // manifest, blob, listing, tags
	pattern string // of the URL
	blob    release.Blob
	// evidence: it belongs to what refers to the subject.
	evidence bool
}

const (
	aManifest = "manifest"
	aTag      = "tag" // a manifest that is asked for by its tag
	aBlob     = "blob"
	aListing  = "listing"
	aTagList  = "list of tags"
)

func (w *world) targets() []target {
	manifest := func(name, repository string, b release.Blob) target {
		return target{name: name, kind: aManifest, pattern: exactly("/v2/" + repository + "/manifests/" + b.Digest.String()), blob: b}
	}
	blob := func(name, repository string, b release.Blob) target {
		return target{name: name, kind: aBlob, pattern: exactly("/v2/" + repository + "/blobs/" + b.Digest.String()), blob: b}
	}
	list := []target{
		{name: "tag", kind: aTag, pattern: exactly("/v2/src/manifests/v1"), blob: w.index.Manifest},
		manifest("index", source, w.index.Manifest),
		manifest("child", source, w.amd.Manifest),
		manifest("nested index", source, w.nested.Manifest),
		manifest("grandchild", source, w.riscv.Manifest),
		blob("config", source, w.amd.Blobs[0]),
		blob("layer", source, w.amd.Blobs[1]),
		manifest("release", documents, w.document),
		blob("release layer", documents, w.documentBlobs[len(w.documentBlobs)-1]),
		{name: "tags", kind: aTagList, pattern: "^/v2/src/tags/list"},
	}
	ref := manifest("referrer", source, w.evidence.Manifest)
	layer := blob("referrer blob", source, w.evidence.Blobs[1])
	ref.evidence, layer.evidence = true, true
	list = append(list, ref, layer)
	if w.b.Referrers {
		return append(list, target{name: "referrers", kind: aListing, pattern: "^/v2/src/referrers/" + w.index.Manifest.Digest.String(), evidence: true})
	}
	return append(list, target{name: "fallback tag", kind: aTag, pattern: exactly("/v2/src/manifests/" + fallback(w.index.Manifest.Digest)),
		blob: listing([]Descriptor{func() Descriptor {
			d := Describe(w.evidence.Manifest)
			d.ArtifactType = release.MediaTypeBundle
			return d
		}()}), evidence: true})
}

func exactly(path string) string { return "^" + regexp.QuoteMeta(path) + "$" }

// operation is something that promote does with a registry.
type operation struct {
	name    string
	touches []string // targets
	// run does it and gives the state, which must not change if it is refused.
	run func(t *testing.T, w *world) (state func() State, do func() error)
}

var image = []string{"index", "child", "nested index", "grandchild", "config", "layer", "referrer", "referrer blob", "referrers", "fallback tag"}

func operations() []operation {
	read := func(do func(t *testing.T, w *world) error) func(t *testing.T, w *world) (func() State, func() error) {
		return func(t *testing.T, w *world) (func() State, func() error) {
			return func() State { return w.src.State(t) }, func() error { return do(t, w) }
		}
	}
	file := func(kind string, full bool) func(t *testing.T, w *world) (func() State, func() error) {
		return func(t *testing.T, w *world) (func() State, func() error) {
			dir := t.TempDir()
			path := filepath.Join(dir, "image")
			if full { // something else is there already
				other := w.src.Put(t, "other", "", NewImage(9, 10))
				must(NewClient(t, FastLimits()).Transfer(t.Context(), other.String(), kind+path+":old", registry.CopyOptions{}))(t)
			} else if kind == "oci:" {
				if err := os.Mkdir(path, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			return func() State { return Files(t, dir) }, func() error {
				_, err := w.c.Transfer(t.Context(), w.subject.String(), kind+path+":v1", registry.CopyOptions{Referrers: true})
				return err
			}
		}
	}
	return []operation{
		{"resolve tag", []string{"tag"}, read(func(t *testing.T, w *world) error {
			_, err := w.c.Resolve(t.Context(), w.subject.Repository+":v1")
			return err
		})},
		{"resolve digest", []string{"index"}, read(func(t *testing.T, w *world) error {
			_, err := w.c.Resolve(t.Context(), w.subject.String())
			return err
		})},
		{"manifest", []string{"index"}, read(func(t *testing.T, w *world) error {
			_, _, err := w.c.Manifest(t.Context(), w.subject)
			return err
		})},
		{"platform", []string{"index", "child", "config"}, read(func(t *testing.T, w *world) error {
			_, err := w.c.Platform(t.Context(), w.subject, "linux/amd64")
			return err
		})},
		{"nested platform", []string{"nested index", "grandchild"}, read(func(t *testing.T, w *world) error {
			_, err := w.c.Platform(t.Context(), w.subject, "linux/riscv64")
			return err
		})},
		{"blob", []string{"layer"}, read(func(t *testing.T, w *world) error {
			_, err := w.c.Blob(t.Context(), w.subject.Repository, w.amd.Blobs[1].Digest, 2000)
			return err
		})},
		{"attachments", []string{"referrer", "referrer blob", "referrers", "fallback tag"}, read(func(t *testing.T, w *world) error {
			list, err := w.c.Attachments(t.Context(), w.subject)
			if err == nil && len(list) == 0 {
				return errNothing
			}
			return err
		})},
		{"attach", []string{"index", "fallback tag", "referrers"}, read(func(t *testing.T, w *world) error {
			raw := []byte(`{"mediaType":"` + release.MediaTypeBundle + `","content":"more"}`)
			return w.c.Attach(t.Context(), w.subject, release.Attachment{PredicateType: release.PredicateProvenance, Bundle: raw})
		})},
		{"release", []string{"release", "release layer"}, read(func(t *testing.T, w *world) error {
			_, err := w.c.PullRelease(t.Context(), w.release)
			return err
		})},
		{"retag", []string{"index"}, read(func(t *testing.T, w *world) error { return w.c.Tag(t.Context(), w.subject, "v2") })},
		{"list tags", []string{"tags"}, read(func(t *testing.T, w *world) error {
			_, err := w.c.Tags(t.Context(), w.subject.Repository)
			return err
		})},
		{"copy", image, func(t *testing.T, w *world) (func() State, func() error) {
			return func() State { return w.dst.State(t) }, func() error { return w.copy(t) }
		}},
		{"copy over another", image, func(t *testing.T, w *world) (func() State, func() error) {
			w.dst.Put(t, "dst", "v1", NewImage(8, 10))
			return func() State { return w.dst.State(t) }, func() error { return w.copy(t) }
		}},
		{"copy by tag", append([]string{"tag"}, image[1:]...), func(t *testing.T, w *world) (func() State, func() error) {
			return func() State { return w.dst.State(t) }, func() error {
				_, err := w.c.Transfer(t.Context(), w.subject.Repository+":v1", w.dst.Host+"/dst:v1", registry.CopyOptions{Referrers: true})
				return err
			}
		}},
		{"copy to directory", image, file("oci:", false)},
		{"copy to full directory", image, file("oci:", true)},
		{"copy to archive", image, file("oci-archive:", false)},
	}
}

// errNothing is no failure of reading: the evidence is not there for whoever
// reads, and a policy that needs it denies.
var errNothing = errors.New("no evidence")

func (w *world) copy(t *testing.T) error {
	_, err := w.c.Copy(t.Context(), w.subject, w.dst.Host+"/dst", registry.CopyOptions{Referrers: true, Tags: []string{"v1"}})
	return err
}

func isAbsence(err error) bool { return errors.Is(err, registry.ErrNotFound) }

// refused checks an error: its kind, words in it, and a hint for the person.
func refused(t testing.TB, err error, want release.Kind, words ...string) {
	t.Helper()
	if got := release.KindOf(err); got != want {
		t.Fatalf("got kind %q (%v), want %q", got, err, want)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the message lacks %q: %v", word, err)
		}
	}
	var fault *release.Fault
	if errors.As(err, &fault) && fault.Hint == "" {
		t.Errorf("no hint: %v", err)
	}
}
