package registrytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

// attachment gives the signature that NewSignature stores, as it is attached.
func (l LegacyLayer) attachment() release.LegacyAttachment {
	return release.LegacyAttachment{Kind: release.LegacySignature, MediaType: l.MediaType, Digest: release.DigestOf(l.Content), Content: l.Content, Annotations: l.Annotations}
}

// signatures reads which signatures stand under a subject's tag of cosign's.
func signatures(t testing.TB, c *registry.Client, s release.Subject) (list []string) {
	t.Helper()
	for _, a := range must(c.LegacyAttachments(t.Context(), s))(t) {
		list = append(list, a.Annotations[release.AnnotationLegacySignature])
	}
	return list
}

// Signatures come one after the other under one tag, each once, whatever the
// registry loses on the way.
func testAttachLegacy(t *testing.T, b Backend) {
	p, c := b.start(t)
	s := p.Put(t, "app", "v1", NewImage(1, 100))
	tag := release.LegacyTag(s.Digest, release.LegacySignature)
	if err := c.AttachLegacy(t.Context(), s, NewSignature(s, "one").attachment()); err != nil {
		t.Fatal(err)
	}
	if w := p.Writes(); !strings.HasSuffix(w[len(w)-1].URL, "/manifests/"+tag) || count(w, tag) != 1 {
		t.Errorf("the tag is not written last and once: %v", w)
	}
	p.OnTimes(1, http.MethodPut, "/manifests/"+tag, Lose())
	p.OnTimes(1, http.MethodPut, "/blobs/uploads/", Lose())
	if err := c.AttachLegacy(t.Context(), s, NewSignature(s, "two").attachment()); err != nil {
		t.Fatal(err)
	}
	p.Forget()
	for _, signature := range []string{"one", "two"} {
		if err := c.AttachLegacy(t.Context(), s, NewSignature(s, signature).attachment()); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.Writes()) != 0 || len(p.Requests()) > 3 {
		t.Errorf("attaching again took %v", p.Requests())
	}
	if got := signatures(t, c, s); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("signatures %q", got)
	}
	_, raw := p.Ask(http.MethodGet, "/v2/app/manifests/"+tag)
	var m struct {
		Config Descriptor `json:"config"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	_, config := p.Ask(http.MethodGet, "/v2/app/blobs/"+m.Config.Digest.String())
	if content := release.DigestOf(NewSignature(s, "").Content).String(); strings.Count(string(config), content) != 2 {
		t.Errorf("the configuration does not count its layers: %s", config)
	}
}

// What others wrote under the tag stays as it is.
func testAttachLegacyKeeps(t *testing.T, b Backend) {
	p, c := b.start(t)
	s := p.Put(t, "app", "v1", NewImage(1, 100))
	theirs := NewSignature(s, "theirs")
	theirs.Annotations[release.AnnotationLegacyCertificate] = "their certificate"
	theirs.Annotations["com.example"] = "unknown"
	p.PutLegacy(t, s, release.LegacySignature, theirs, NewSignature(s, "others"))
	layers := func() (list []json.RawMessage) {
		_, raw := p.Ask(http.MethodGet, "/v2/app/manifests/"+release.LegacyTag(s.Digest, release.LegacySignature))
		var m struct{ Layers []json.RawMessage }
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		return m.Layers
	}
	before := layers()
	if err := c.AttachLegacy(t.Context(), s, NewSignature(s, "mine").attachment()); err != nil {
		t.Fatal(err)
	}
	after := layers()
	if len(after) != 3 || !slices.EqualFunc(before, after[:2], func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
		t.Errorf("layers were %s and are %s", before, after)
	}
}

// Where something else stands under the tag, it stays, and nothing is written.
func testAttachLegacyRefuses(t *testing.T, b Backend) {
	type place = func(t *testing.T, p *Proxy, s release.Subject, tag string)
	odd := LegacyLayer{"application/vnd.oci.image.layer.v1.tar+gzip", []byte("an image's layer"), nil}
	for name, c := range map[string]struct {
		there place
		want  release.Kind
	}{
		"an image": {func(t *testing.T, p *Proxy, _ release.Subject, tag string) { p.Put(t, "app", tag, NewImage(5, 10)) }, release.KindDenied},
		"an index": {func(t *testing.T, p *Proxy, _ release.Subject, tag string) {
			p.Put(t, "app", tag, NewIndex(NewImage(5, 10)))
		}, release.KindDenied},
		"among signatures": {func(t *testing.T, p *Proxy, s release.Subject, _ string) {
			p.PutLegacy(t, s, release.LegacySignature, NewSignature(s, "one"), odd)
		}, release.KindDenied},
		"no layers": {func(t *testing.T, p *Proxy, s release.Subject, _ string) { p.PutLegacy(t, s, release.LegacySignature) }, release.KindDenied},
		"too many": {func(t *testing.T, p *Proxy, s release.Subject, _ string) {
			p.PutLegacy(t, s, release.LegacySignature, NewSignature(s, "one"), NewSignature(s, "two"), NewSignature(s, "three"))
		}, release.KindDenied},
		"ambiguous": {func(t *testing.T, p *Proxy, _ release.Subject, tag string) {
			p.On(http.MethodGet, tag, Answer(http.StatusOK, []byte(`{"schemaVersion":2} x`), "Content-Type", release.MediaTypeManifest))
		}, release.KindDenied},
		"no answer": {func(t *testing.T, p *Proxy, _ release.Subject, tag string) {
			p.On(http.MethodGet, tag, Answer(http.StatusForbidden, nil))
		}, release.KindUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := b.start(t)
			l := FastLimits()
			l.Attachments = 3
			client := NewClient(t, l)
			s := p.Put(t, "app", "v1", NewImage(1, 100))
			c.there(t, p, s, release.LegacyTag(s.Digest, release.LegacySignature))
			p.Forget()
			wantKind(t, client.AttachLegacy(t.Context(), s, NewSignature(s, "mine").attachment()), c.want)
			if len(p.Writes()) != 0 {
				t.Errorf("wrote %v", p.Writes())
			}
		})
	}
	p, client := b.start(t)
	s := p.Put(t, "app", "v1", NewImage(1, 100))
	absent := s
	absent.Digest = release.DigestOf([]byte("nobody has this"))
	p.Forget()
	if err := client.AttachLegacy(t.Context(), absent, NewSignature(absent, "mine").attachment()); err == nil {
		t.Error("attached to a subject that is not there")
	}
	other := NewSignature(s, "mine").attachment()
	other.Content = append(other.Content, ' ')
	wantKind(t, client.AttachLegacy(t.Context(), s, other), release.KindDenied)
	if len(p.Writes()) != 0 {
		t.Errorf("wrote %v", p.Writes())
	}
}

// Several at once, and one that overwrites: who looks again loses nothing.
func testAttachLegacyRace(t *testing.T, b Backend) {
	p, c := b.start(t)
	s := p.Put(t, "app", "v1", NewImage(1, 100))
	tag := release.LegacyTag(s.Digest, release.LegacySignature)
	p.OnTimes(1, http.MethodPut, "/manifests/"+tag, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(w, r)
		p.PutLegacy(t, s, release.LegacySignature, NewSignature(s, "theirs"))
	})
	if err := c.AttachLegacy(t.Context(), s, NewSignature(s, "mine").attachment()); err != nil {
		t.Fatal(err)
	}
	if got := signatures(t, c, s); !slices.Equal(got, []string{"mine", "theirs"}) {
		t.Errorf("signatures %q", got)
	}
	var all sync.WaitGroup
	want := []string{"mine", "theirs"}
	for i := range 4 {
		client, name := NewClient(t, FastLimits()), fmt.Sprint("zz", i)
		want = append(want, name)
		all.Go(func() {
			if err := client.AttachLegacy(t.Context(), s, NewSignature(s, name).attachment()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := signatures(t, c, s); !slices.Equal(got, want) {
		t.Errorf("signatures %q", got)
	}
}
