package registrytest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

// Credentials is a keychain of a test: by host.
type Credentials map[string]registry.Credential

// Credential gives the credential of a host.
func (c Credentials) Credential(_ context.Context, host, _ string) (registry.Credential, error) {
	return c[host], nil
}

// attach attaches something that looks like a bundle.
func attach(t testing.TB, c *registry.Client, s release.Subject, content string) release.Attachment {
	t.Helper()
	raw := []byte(`{"mediaType":"` + release.MediaTypeBundle + `","content":"` + content + `"}`)
	a := release.Attachment{Digest: release.DigestOf(raw), PredicateType: release.PredicateProvenance, Bundle: raw}
	if err := c.Attach(t.Context(), s, a); err != nil {
		t.Fatal(err)
	}
	return a
}

func sameAttachments(t testing.TB, c *registry.Client, a, b release.Subject) {
	t.Helper()
	want, got := must(c.Attachments(t.Context(), a))(t), must(c.Attachments(t.Context(), b))(t)
	if len(want) == 0 || len(got) != len(want) {
		t.Fatalf("%s has %d attachments, %s has %d", a, len(want), b, len(got))
	}
	for i := range want {
		if !bytes.Equal(got[i].Bundle, want[i].Bundle) || got[i].PredicateType != want[i].PredicateType || got[i].Digest != want[i].Digest {
			t.Errorf("attachment %d: got %+v, want %+v", i, got[i], want[i])
		}
	}
}

func testAttach(t *testing.T, b Backend) {
	p, c := b.start(t)
	subject := p.Put(t, "app", "v1", NewImage(1, 100))
	// Another tool's referrer stays where it is and counts for nothing here.
	sbom := NewReferrer(NewImage(1, 100).Manifest, "application/spdx+json", "application/spdx+json", []byte(`{"spdx":1}`))
	p.Put(t, "app", "", sbom)
	if !b.Referrers {
		entry := Describe(sbom.Manifest)
		entry.ArtifactType = "application/spdx+json"
		index := Encode(release.MediaTypeIndex, map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeIndex,
			"manifests": []Descriptor{entry}, "annotations": map[string]string{"by": "another tool"}})
		p.PutManifest(t, "app", "sha256-"+subject.Digest.Hex(), release.MediaTypeIndex, index.Bytes)
	}

	one, two := attach(t, c, subject, "one"), attach(t, c, subject, "two")
	p.Forget()
	attach(t, NewClient(t, registry.Limits{}), subject, "one")
	if w := p.Writes(); len(w) != 0 {
		t.Errorf("attaching again wrote %v", w)
	}
	list := must(c.Attachments(t.Context(), subject))(t)
	if len(list) != 2 {
		t.Fatalf("got %d attachments, want 2", len(list))
	}
	for _, a := range list {
		if a.PredicateType != release.PredicateProvenance || a.Digest != one.Digest && a.Digest != two.Digest || release.DigestOf(a.Bundle) != a.Digest {
			t.Errorf("got %+v", a)
		}
	}
	if !b.Referrers {
		checkFallback(t, p, subject, sbom.Manifest.Digest)
	}

	absent := release.Subject{Repository: subject.Repository, Digest: release.DigestOf([]byte("absent"))}
	err := c.Attach(t.Context(), absent, release.Attachment{Bundle: []byte("{}")})
	if !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("attaching to what is not there: %v", err)
	}
	wantKind(t, c.Attach(t.Context(), subject, release.Attachment{Digest: release.DigestOf(nil), Bundle: []byte("{}")}), release.KindDenied)
}

// checkFallback reads the fallback tag's index as other tools do.
func checkFallback(t testing.TB, p *Proxy, s release.Subject, foreign release.Digest) {
	t.Helper()
	_, body := p.Ask(http.MethodGet, "/v2/app/manifests/sha256-"+s.Digest.Hex())
	var index struct {
		MediaType   string
		Annotations map[string]string
		Manifests   []struct {
			Digest       release.Digest
			MediaType    string
			Size         int64
			ArtifactType string
			Annotations  map[string]string
		}
	}
	if err := json.Unmarshal(body, &index); err != nil {
		t.Fatal(err)
	}
	if index.MediaType != release.MediaTypeIndex || index.Annotations["by"] != "another tool" || len(index.Manifests) != 3 {
		t.Fatalf("the fallback index is %s", body)
	}
	for _, m := range index.Manifests {
		if m.Digest == foreign {
			continue
		}
		if m.ArtifactType != release.MediaTypeBundle || m.MediaType != release.MediaTypeManifest || m.Size == 0 || m.Annotations[release.AnnotationPredicateType] == "" {
			t.Errorf("entry %+v", m)
		}
	}
}

func testNoAttachments(t *testing.T, b Backend) {
	p, c := b.start(t)
	subject := p.Put(t, "app", "v1", NewImage(1, 100))
	for _, s := range []release.Subject{subject, subject.In(p.Host + "/nothing/here")} {
		if list, err := c.Attachments(t.Context(), s); err != nil || len(list) != 0 {
			t.Errorf("%s: got %v, %v, want none and no error", s, list, err)
		}
	}
}

// NewRelease makes a release document.
func NewRelease() release.Document {
	model := []byte(`{"name":"openclaw","services":{"planner":{}}}`)
	return release.Document{
		Release: release.Release{
			SchemaVersion: 1, Name: "openclaw", Version: "1.0.0", Revision: "0123456789012345678901234567890123456789",
			Services: map[string]release.Service{"planner": {Path: "planner", Digest: release.DigestOf([]byte("image")), Origin: release.Built}},
			Models:   map[string]release.Digest{release.SmokeModel: release.DigestOf(model), "staging": release.DigestOf(model)},
		},
		Models: map[string][]byte{release.SmokeModel: model, "staging": model},
		Lock:   release.Lock{Models: map[string]release.Requirements{}},
	}
}
