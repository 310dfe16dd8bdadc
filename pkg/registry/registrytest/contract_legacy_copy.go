package registrytest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

// putLegacy makes an image with all that cosign wrote before bundles, and with
// a signature about its SBOM. It gives the tags.
func putLegacy(t testing.TB, p *Proxy, repository string) (release.Subject, []string) {
	t.Helper()
	s := p.Put(t, repository, "v1", NewImage(1, 100))
	p.PutLegacy(t, s, release.LegacySignature, NewSignature(s, "one"), NewSignature(s, "two"))
	p.PutLegacy(t, s, release.LegacyAttestation, LegacyLayer{release.MediaTypeDSSE, []byte(`{"payloadType":"x"}`), map[string]string{"predicateType": "y"}})
	sbom := s
	sbom.Digest = p.PutLegacy(t, s, release.LegacySBOM, LegacyLayer{"text/spdx+json", []byte(`{"spdx":1}`), nil})
	p.PutLegacy(t, sbom, release.LegacySignature, NewSignature(sbom, "three"))
	return s, []string{release.LegacyTag(s.Digest, release.LegacySignature), release.LegacyTag(s.Digest, release.LegacyAttestation),
		release.LegacyTag(s.Digest, release.LegacySBOM), release.LegacyTag(sbom.Digest, release.LegacySignature)}
}

// sameTag checks that two repositories serve the same bytes under a tag, with
// all blobs.
func sameTag(t testing.TB, p *Proxy, a string, q *Proxy, b, tag string) {
	t.Helper()
	status, want := p.Ask(http.MethodGet, "/v2/"+a+"/manifests/"+tag)
	if status != http.StatusOK {
		t.Fatalf("%s: %d", tag, status)
	}
	status, got := q.Ask(http.MethodGet, "/v2/"+b+"/manifests/"+tag)
	if status != http.StatusOK || !bytes.Equal(got, want) {
		t.Errorf("%s: %d, %s, want %s", tag, status, got, want)
	}
	for _, d := range decodeLayers(t, want) {
		if status, body := q.Ask(http.MethodGet, "/v2/"+b+"/blobs/"+d.String()); status != http.StatusOK || release.DigestOf(body) != d {
			t.Errorf("%s: blob %s: %d", tag, d, status)
		}
	}
}

// What stands under cosign's tags goes along, byte for byte.
func testCopyLegacy(t *testing.T, b Backend) {
	p, c := b.start(t)
	q := Serve(t, b.New(t))
	s, tags := putLegacy(t, p, "src")
	got := must(c.Copy(t.Context(), s, q.Host+"/dst", withReferrers))(t)
	if got.Legacy != 4 || got.Manifests != 5 || got.Referrers != 0 || len(got.Kept) != 0 {
		t.Errorf("got %+v, want four of cosign's tags", got)
	}
	for _, tag := range tags {
		sameTag(t, p, "src", q, "dst", tag)
	}
	writes := slices.DeleteFunc(q.Writes(), func(r Request) bool { return strings.Contains(r.URL, "/blobs/") })
	if first, last := writes[0].URL, writes[len(writes)-1].URL; first != "/v2/dst/manifests/"+s.Digest.String() || last != "/v2/dst/manifests/v1" {
		t.Errorf("the first write is %s and the last %s, want the image and its tag", first, last)
	}

	q.Forget()
	if got := must(c.Copy(t.Context(), s, q.Host+"/dst", withReferrers))(t); !got.Unchanged || len(q.Writes()) != 0 {
		t.Errorf("again: %+v, writes %v", got, q.Writes())
	}
	if got := must(c.Copy(t.Context(), s, q.Host+"/other", registry.CopyOptions{}))(t); got.Legacy != 0 {
		t.Errorf("without referrers: %+v", got)
	}

	for _, file := range []string{"oci:" + filepath.Join(t.TempDir(), "layout"), "oci-archive:" + filepath.Join(t.TempDir(), "image.tar")} {
		dry := must(c.Transfer(t.Context(), p.Host+"/src:v1", file, registry.CopyOptions{Referrers: true, DryRun: true}))(t)
		out := must(c.Transfer(t.Context(), p.Host+"/src:v1", file, withReferrers))(t)
		r := Serve(t, b.New(t))
		in := must(c.Transfer(t.Context(), file, r.Host+"/in", withReferrers))(t)
		if dry.Legacy != 4 || out.Legacy != 4 || in.Legacy != 4 {
			t.Errorf("%s: dry %+v, out %+v, in %+v", file, dry, out, in)
		}
		for _, tag := range tags {
			sameTag(t, p, "src", r, "in", tag)
		}
	}
}

// A tag of cosign's that the destination has moves only if nothing is lost.
func testCopyLegacyMeets(t *testing.T, b Backend) {
	cases := map[string]struct {
		source, there []string
		moves, kept   bool
	}{
		"the same":           {[]string{"one"}, []string{"one"}, false, false},
		"more there":         {[]string{"one"}, []string{"one", "two"}, false, false},
		"more at the source": {[]string{"one", "two"}, []string{"two"}, true, false},
		"another order":      {[]string{"one", "two"}, []string{"two", "one"}, false, false},
		"each has another":   {[]string{"one", "two"}, []string{"two", "three"}, false, true},
		"something else":     {[]string{"one"}, nil, false, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p, client := b.start(t)
			q := Serve(t, b.New(t))
			signatures := func(s release.Subject, list []string) (layers []LegacyLayer) {
				for _, signature := range list {
					layers = append(layers, NewSignature(s, signature))
				}
				return layers
			}
			s := p.Put(t, "src", "v1", NewImage(1, 100))
			want := p.PutLegacy(t, s, release.LegacySignature, signatures(s, c.source)...)
			at := s.In(q.Host + "/dst")
			tag := release.LegacyTag(s.Digest, release.LegacySignature)
			var old release.Digest
			if c.there != nil {
				old = q.PutLegacy(t, at, release.LegacySignature, signatures(at, c.there)...)
			} else {
				old = q.Put(t, "dst", tag, NewIndex(NewImage(5, 10))).Digest
			}
			if !c.moves {
				want = old
			}
			for i := range 2 {
				got := must(client.Copy(t.Context(), s, q.Host+"/dst", withReferrers))(t)
				if moved := got.Legacy == 1; moved != (c.moves && i == 0) || (len(got.Kept) == 1 && got.Kept[0] == tag) != c.kept {
					t.Errorf("copy %d: %+v", i+1, got)
				}
				if _, body := q.Ask(http.MethodGet, "/v2/dst/manifests/"+tag); release.DigestOf(body) != want {
					t.Errorf("copy %d: the tag is %s, want %s", i+1, release.DigestOf(body), want)
				}
			}
		})
	}
}

// One page of tags tells which of cosign's there are. Where it doesn't, each is
// asked for.
func testLegacyRequests(t *testing.T, b Backend) {
	many := `{"name":"src","tags":["v1"` + strings.Repeat(`,"x"`, 999) + `]}`
	cases := map[string]struct {
		answer Action
		asked  int // of the source, for cosign's tags
	}{
		"as it is":     {nil, 4},
		"another page": {Answer(http.StatusOK, []byte(`{"name":"src","tags":["v1"]}`), "Link", `</v2/src/tags/list?last=v1>; rel="next"`), 3 * 5},
		"a full page":  {Answer(http.StatusOK, []byte(many)), 3 * 5},
		"not found":    {Answer(http.StatusNotFound, nil), 3 * 5},
		"forbidden":    {Answer(http.StatusForbidden, nil), 3 * 5},
		"broken":       {Answer(http.StatusInternalServerError, nil), 3 * 5},
		"no list":      {Answer(http.StatusOK, []byte(`<html>`)), 3 * 5},
		"another list": {Answer(http.StatusOK, []byte(`{"repositories":[]}`)), 3 * 5},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p, client := b.start(t)
			q := Serve(t, b.New(t))
			s, tags := putLegacy(t, p, "src")
			if c.answer != nil {
				p.On(http.MethodGet, "/tags/list", c.answer)
			}
			got := must(client.Copy(t.Context(), s, q.Host+"/dst", withReferrers))(t)
			if got.Legacy != 4 {
				t.Errorf("got %+v", got)
			}
			for _, tag := range tags {
				sameTag(t, p, "src", q, "dst", tag)
			}
			asked := count(p.Requests(), ".sig") + count(p.Requests(), ".att") + count(p.Requests(), ".sbom")
			if lists := count(p.Requests(), "/tags/list"); asked != c.asked || lists != 1 {
				t.Errorf("asked %d times for tags and %d times for a list of them, want %d and 1: %v", asked, lists, c.asked, p.Requests())
			}
			// The destination is asked for each, asked again after streaming,
			// written and read back.
			for _, tag := range tags {
				if n := count(q.Requests(), tag); n != 4 {
					t.Errorf("%s: %d requests to the destination, want 4", tag, n)
				}
			}
		})
	}
}

// What somebody adds at the destination while the copy is under way stays.
func testLegacyRace(t *testing.T, b Backend) {
	p, c := b.start(t)
	q := Serve(t, b.New(t))
	s := p.Put(t, "src", "v1", NewImage(1, 100))
	p.PutLegacy(t, s, release.LegacySignature, NewSignature(s, "one"))
	at := s.In(q.Host + "/dst")
	var theirs release.Digest
	q.OnTimes(1, http.MethodPut, "/v2/dst/manifests/sha256:", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		theirs = q.PutLegacy(t, at, release.LegacySignature, NewSignature(at, "theirs"))
		next.ServeHTTP(w, r)
	})
	got := must(c.Copy(t.Context(), s, q.Host+"/dst", withReferrers))(t)
	if _, body := q.Ask(http.MethodGet, "/v2/dst/manifests/"+release.LegacyTag(s.Digest, release.LegacySignature)); release.DigestOf(body) != theirs || len(got.Kept) != 1 {
		t.Errorf("the tag is %s, want %s; %+v", release.DigestOf(body), theirs, got)
	}
}

func decodeLayers(t testing.TB, raw []byte) (list []release.Digest) {
	t.Helper()
	var m struct {
		Layers []Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(raw, &m); err != nil || len(m.Layers) == 0 {
		t.Fatalf("no layers in %s: %v", raw, err)
	}
	for _, l := range m.Layers {
		list = append(list, l.Digest)
	}
	return list
}
