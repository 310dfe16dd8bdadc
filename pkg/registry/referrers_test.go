package registry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// Cases 13 and 14: floods of referrers, and pages of them.
func TestReferrerPages(t *testing.T) {
	img := registrytest.NewImage(1, 10)
	page := func(items []registrytest.Descriptor) []byte {
		b, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeIndex, "manifests": items})
		return b
	}
	t.Run("the needed one is on the second page", func(t *testing.T) {
		h := newHostile(t)
		s := h.src.Put(t, "src", "v1", img)
		ref := registrytest.NewReferrer(img.Manifest, release.MediaTypeBundle, release.MediaTypeBundle, []byte(`{"needed":true}`))
		h.src.Put(t, "src", "", ref)
		h.src.On("GET", `/referrers/[^?]*$`, registrytest.Answer(200, page(nil), "Content-Type", release.MediaTypeIndex,
			"Link", `<?page=2>; rel="next"`))
		h.src.On("GET", `/referrers/.*page=2`, registrytest.Answer(200, page([]registrytest.Descriptor{registrytest.Describe(ref.Manifest)}), "Content-Type", release.MediaTypeIndex))
		list, err := h.c.Attachments(t.Context(), s)
		if err != nil || len(list) != 1 || string(list[0].Bundle) != `{"needed":true}` || list[0].PredicateType != release.PredicateProvenance {
			t.Errorf("got %+v, %v", list, err)
		}
		got, err := h.c.Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Referrers: true})
		if err != nil || got.Referrers != 1 {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	flood := func(perPage int) func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			n, _ := strconv.Atoi(r.URL.Query().Get("page"))
			var items []registrytest.Descriptor
			for i := n * perPage; i < min((n+1)*perPage, 10_000); i++ {
				items = append(items, registrytest.Descriptor{MediaType: release.MediaTypeManifest, Digest: release.DigestOf(fmt.Append(nil, i)), Size: 500, ArtifactType: release.MediaTypeBundle})
			}
			headers := []string{"Content-Type", release.MediaTypeIndex}
			if (n+1)*perPage < 10_000 {
				headers = append(headers, "Link", fmt.Sprintf(`<?page=%d>; rel="next"`, n+1))
			}
			registrytest.Answer(200, page(items), headers...)(w, r, next)
		}
	}
	for _, perPage := range []int{1, 100, 10_000} {
		t.Run(fmt.Sprintf("10,000 referrers, %d a page", perPage), func(t *testing.T) {
			h := newHostile(t)
			s := h.src.Put(t, "src", "v1", img)
			h.src.On("GET", `/referrers/`, flood(perPage))
			_, err := h.c.Attachments(t.Context(), s)
			h.check(t, err, release.KindDenied, s.Digest.String())
			if n := len(h.src.Requests()); n > 150 {
				t.Errorf("took %d requests", n)
			}
			h.dst.Forget()
			_, err = h.c.Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Referrers: true, Tags: []string{"v1"}})
			if release.KindOf(err) != release.KindDenied {
				t.Errorf("got %v", err)
			}
			if status, _ := h.dst.Ask(http.MethodGet, "/v2/dst/manifests/v1"); status != http.StatusNotFound {
				t.Errorf("the tag is there: %d", status)
			}
		})
	}
	t.Run("the next page is elsewhere", func(t *testing.T) {
		h := newHostile(t)
		elsewhere := registrytest.Serve(t, http.NotFoundHandler())
		s := h.src.Put(t, "src", "v1", img)
		h.src.On("GET", `/referrers/`, registrytest.Answer(200, page(nil), "Content-Type", release.MediaTypeIndex, "Link", `<http://`+elsewhere.Host+`/x>; rel="next"`))
		_, err := h.c.Attachments(t.Context(), s)
		if release.KindOf(err) != release.KindDenied || len(elsewhere.Requests()) > 0 {
			t.Errorf("got %v, asked %v", err, elsewhere.Requests())
		}
	})
	t.Run("the list is broken", func(t *testing.T) {
		h := newHostile(t)
		s := h.src.Put(t, "src", "v1", img)
		for _, body := range []string{`{"manifests":[`, `{}`, `[]`, `{"manifests":[],"manifests":[]}`} {
			h.src.On("GET", `/referrers/`, registrytest.Answer(200, []byte(body), "Content-Type", release.MediaTypeIndex))
			_, err := h.c.Attachments(t.Context(), s)
			h.check(t, err, release.KindUnavailable)
		}
	})
}

// Evidence that a list offers and that is about something else, or is not
// there, or ambiguous, counts for nothing and hides nothing.
func TestReferrersThatCountForNothing(t *testing.T) {
	h := newHostile(t)
	img, other := registrytest.NewImage(1, 10), registrytest.NewImage(2, 10)
	s := h.src.Put(t, "src", "v1", img)
	bundle := func(about registrytest.Image, text string) registrytest.Image {
		return registrytest.NewReferrer(about.Manifest, release.MediaTypeBundle, release.MediaTypeBundle, []byte(text))
	}
	good, alien := bundle(img, `{"good":1}`), bundle(other, `{"alien":1}`)
	h.src.Put(t, "src", "", good)
	h.src.Put(t, "src", "", alien)
	odd := bundle(img, `{"odd":1}`)
	odd.Manifest = registrytest.NewBlob(release.MediaTypeManifest, append(bytes.Clone(odd.Manifest.Bytes), ' ', '1'))
	h.src.Put(t, "src", "", odd)
	absent := bundle(img, `{"absent":1}`)
	var list []registrytest.Descriptor
	for _, r := range []registrytest.Image{absent, odd, alien, good, good} {
		list = append(list, registrytest.Describe(r.Manifest))
	}
	b, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeIndex, "manifests": list})
	h.src.On("GET", `/referrers/`+s.Digest.String(), registrytest.Answer(200, b, "Content-Type", release.MediaTypeIndex))
	got, err := h.c.Attachments(t.Context(), s)
	if err != nil || len(got) != 1 || string(got[0].Bundle) != `{"good":1}` {
		t.Errorf("got %+v, %v, want the good one", got, err)
	}
	copied, err := h.c.Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Referrers: true})
	if err != nil || copied.Referrers != 1 || copied.Manifests != 2 {
		t.Errorf("got %+v, %v, want the good one only", copied, err)
	}
	if status, _ := h.dst.Ask(http.MethodGet, "/v2/dst/manifests/"+alien.Manifest.Digest.String()); status != http.StatusNotFound {
		t.Errorf("another image's evidence was copied: %d", status)
	}
}
