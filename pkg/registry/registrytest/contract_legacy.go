package registrytest

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

// LegacyLayer is a layer of one of cosign's tags.
type LegacyLayer struct {
	MediaType   string
	Content     []byte
	Annotations map[string]string
}

// NewSignature makes a layer as `cosign sign` does: what is signed is the same
// for every key, the signature is an annotation.
func NewSignature(about release.Subject, signature string) LegacyLayer {
	return LegacyLayer{release.MediaTypeSimpleSigning,
		[]byte(`{"critical":{"identity":{"docker-reference":"x"},"image":{"docker-manifest-digest":"` + about.Digest.String() + `"},"type":"cosign container image signature"},"optional":null}`),
		map[string]string{release.AnnotationLegacySignature: signature}}
}

// NewLegacy makes the manifest that cosign keeps under one of its tags.
func NewLegacy(layers ...LegacyLayer) Image {
	config := NewBlob(imageConfig, []byte(`{"architecture":"","os":"","config":{},"rootfs":{"type":"layers","diff_ids":[]}}`))
	img := Image{Blobs: []release.Blob{config}}
	list := []any{}
	for _, l := range layers {
		b := NewBlob(l.MediaType, l.Content)
		img.Blobs = append(img.Blobs, b)
		list = append(list, map[string]any{"mediaType": b.MediaType, "digest": b.Digest, "size": len(b.Bytes), "annotations": l.Annotations})
	}
	img.Manifest = Encode(release.MediaTypeManifest, map[string]any{
		"schemaVersion": 2, "mediaType": release.MediaTypeManifest, "config": Describe(config), "layers": list})
	return img
}

// PutLegacy stores layers under one of cosign's tags about a subject, in the
// backend itself.
func (p *Proxy) PutLegacy(t testing.TB, about release.Subject, kind release.LegacyKind, layers ...LegacyLayer) release.Digest {
	t.Helper()
	return p.Put(t, strings.TrimPrefix(about.Repository, p.Host+"/"), release.LegacyTag(about.Digest, kind), NewLegacy(layers...)).Digest
}

func testLegacyAttachments(t *testing.T, b Backend) {
	p, c := b.start(t)
	subject := p.Put(t, "app", "v1", NewImage(1, 100))
	p.Forget()
	for _, s := range []release.Subject{subject, subject.In(p.Host + "/nothing/here")} {
		if list, err := c.LegacyAttachments(t.Context(), s); err != nil || len(list) != 0 {
			t.Errorf("%s: got %v, %v, want none and no error", s, list, err)
		}
	}
	if n := len(p.Requests()); n != 6 {
		t.Errorf("finding nothing twice took %d requests, want 6", n)
	}

	envelope := LegacyLayer{release.MediaTypeDSSE, []byte(`{"payloadType":"x"}`), map[string]string{"predicateType": "y"}}
	sbom := LegacyLayer{"text/spdx+json", []byte(`{"spdx":1}`), nil}
	odd := LegacyLayer{"application/octet-stream", []byte("no signature"), nil}
	p.PutLegacy(t, subject, release.LegacySignature, NewSignature(subject, "two"), odd, NewSignature(subject, "one"))
	p.PutLegacy(t, subject, release.LegacyAttestation, envelope)
	p.PutLegacy(t, subject, release.LegacySBOM, sbom)
	p.Forget()
	list := must(c.LegacyAttachments(t.Context(), subject))(t)
	if n := len(p.Requests()); n != 6 { // a tag each, a content each
		t.Errorf("took %v, want 6 requests", p.Requests())
	}
	var got []string
	for _, a := range list {
		if release.DigestOf(a.Content) != a.Digest {
			t.Errorf("%+v: other bytes", a)
		}
		got = append(got, string(a.Kind)+" "+a.MediaType+" "+a.Annotations[release.AnnotationLegacySignature])
	}
	want := []string{"att " + release.MediaTypeDSSE + " ", "sbom text/spdx+json ",
		"sig " + release.MediaTypeSimpleSigning + " one", "sig " + release.MediaTypeSimpleSigning + " two"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}

	// What cannot be read in one way counts for nothing; other bytes, too many
	// and a registry that does not answer are errors.
	p.On(http.MethodGet, `\.att$`, Answer(http.StatusOK, []byte(`{"schemaVersion":2} x`), "Content-Type", release.MediaTypeManifest))
	if list, err := c.LegacyAttachments(t.Context(), subject); err != nil || len(list) != 3 {
		t.Errorf("got %v, %v, want the three others", list, err)
	}
	few := NewClient(t, registry.Limits{Attachments: 2})
	_, err := few.LegacyAttachments(t.Context(), subject)
	wantKind(t, err, release.KindDenied)
	small := NewClient(t, registry.Limits{AttachmentBytes: 20})
	_, err = small.LegacyAttachments(t.Context(), subject)
	wantKind(t, err, release.KindDenied)
	p.On(http.MethodGet, "/blobs/"+release.DigestOf(sbom.Content).String(), Answer(http.StatusOK, []byte(`{"spdx":2}`)))
	_, err = NewClient(t, FastLimits()).LegacyAttachments(t.Context(), subject)
	wantKind(t, err, release.KindDenied)
	p.On(http.MethodGet, `\.sig$`, Answer(http.StatusForbidden, nil))
	_, err = c.LegacyAttachments(t.Context(), subject)
	wantKind(t, err, release.KindUnavailable)
}
