package registrytest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

const (
	typeSPDX   = "application/spdx+json"
	typeNotary = "application/vnd.cncf.notary.signature"
)

// PutReferrer stores a referrer in the backend itself, with the fallback tag
// where the backend has no list of its own.
func (b Backend) PutReferrer(t testing.TB, p *Proxy, repository string, about release.Blob, artifactType, content string) Image {
	t.Helper()
	img := NewReferrer(about, artifactType, artifactType, []byte(content))
	p.Put(t, repository, "", img)
	if b.Referrers {
		return img
	}
	tag := "sha256-" + about.Digest.Hex()
	var list []Descriptor
	if status, body := p.Ask(http.MethodGet, "/v2/"+repository+"/manifests/"+tag); status == http.StatusOK {
		list = decodeIndex(t, body)
	}
	entry := Describe(img.Manifest)
	entry.ArtifactType = artifactType
	index := Encode(release.MediaTypeIndex, map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeIndex, "manifests": append(list, entry)})
	p.PutManifest(t, repository, tag, index.MediaType, index.Bytes)
	return img
}

func decodeIndex(t testing.TB, raw []byte) []Descriptor {
	t.Helper()
	var index struct {
		Manifests []Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	return index.Manifests
}

// listed gives what a repository lists as the referrers of a digest.
func (b Backend) listed(t testing.TB, p *Proxy, repository string, d release.Digest) []release.Digest {
	t.Helper()
	path := "/v2/" + repository + "/referrers/" + d.String()
	if !b.Referrers {
		path = "/v2/" + repository + "/manifests/sha256-" + d.Hex()
	}
	status, body := p.Ask(http.MethodGet, path)
	if status == http.StatusNotFound {
		return nil
	}
	var list []release.Digest
	for _, entry := range decodeIndex(t, body) {
		list = append(list, entry.Digest)
	}
	return list
}

// said is an image with what is said about it.
type said struct {
	subject               release.Subject
	image                 Image
	signature, sbom, deep Image // the last one is about the SBOM
}

func (b Backend) putSaid(t testing.TB, p *Proxy, repository string) said {
	t.Helper()
	s := said{image: NewImage(1, 1000, 20)}
	s.subject = p.Put(t, repository, "v1", s.image)
	s.signature = b.PutReferrer(t, p, repository, s.image.Manifest, release.MediaTypeBundle, `{"signature":1}`)
	s.sbom = b.PutReferrer(t, p, repository, s.image.Manifest, typeSPDX, `{"spdx":1}`)
	s.deep = b.PutReferrer(t, p, repository, s.sbom.Manifest, typeNotary, `signature about the SBOM`)
	return s
}

// whole checks that a repository serves all of it, and lists what it should.
func (s said) whole(t testing.TB, b Backend, p *Proxy, repository string) {
	t.Helper()
	for _, img := range []Image{s.image, s.signature, s.sbom, s.deep} {
		p.Whole(t, repository, img)
	}
	list := b.listed(t, p, repository, s.subject.Digest)
	if len(list) != 2 || !slices.Contains(list, s.signature.Manifest.Digest) || !slices.Contains(list, s.sbom.Manifest.Digest) {
		t.Errorf("%s lists %v about the image", repository, list)
	}
	if list := b.listed(t, p, repository, s.sbom.Manifest.Digest); !slices.Equal(list, []release.Digest{s.deep.Manifest.Digest}) {
		t.Errorf("%s lists %v about the SBOM", repository, list)
	}
}

var withReferrers = registry.CopyOptions{Referrers: true, Tags: []string{"v1"}}

// What is about evidence goes along, too.
func testCopyNestedReferrers(t *testing.T, b Backend) {
	p, c := b.start(t)
	s := b.putSaid(t, p, "src")
	q := Serve(t, b.New(t))
	got := must(c.Copy(t.Context(), s.subject, q.Host+"/dst", withReferrers))(t)
	if got.Referrers != 3 || got.Manifests != 4 {
		t.Errorf("got %+v, want three referrers", got)
	}
	s.whole(t, b, q, "dst")
	if writes := q.Writes(); writes[len(writes)-1].URL != "/v2/dst/manifests/v1" {
		t.Errorf("the last write is %s, want the tag", writes[len(writes)-1])
	}
	// The list of an image that the destination has is written once, however
	// many entries it gets.
	if n := count(q.Writes(), "/manifests/sha256-"+s.subject.Digest.Hex()); !b.Referrers && n != 1 {
		t.Errorf("the list was written %d times", n)
	}

	for _, file := range []string{"oci:" + filepath.Join(t.TempDir(), "layout"), "oci-archive:" + filepath.Join(t.TempDir(), "image.tar")} {
		out := must(c.Transfer(t.Context(), q.Host+"/dst:v1", file, withReferrers))(t)
		r := Serve(t, b.New(t))
		in := must(c.Transfer(t.Context(), file, r.Host+"/in", withReferrers))(t)
		if out.Referrers != 3 || in.Referrers != 3 {
			t.Errorf("%s: out %+v, in %+v", file, out, in)
		}
		s.whole(t, b, r, "in")
	}
}

func count(list []Request, part string) (n int) {
	for _, r := range list {
		if strings.Contains(r.URL, part) {
			n++
		}
	}
	return n
}

// Looking for evidence takes as many requests as there are questions.
func testEvidenceRequests(t *testing.T, b Backend) {
	p, _ := b.start(t)
	q := Serve(t, b.New(t))
	copying := func(s release.Subject) (reads, writes, asked []Request) {
		t.Helper()
		p.Forget()
		q.Forget()
		must(NewClient(t, registry.Limits{}).Copy(t.Context(), s, q.Host+"/dst", withReferrers))(t)
		asked = slices.DeleteFunc(q.Requests(), func(r Request) bool { return strings.Contains(r.URL, "/blobs/") })
		return slices.DeleteFunc(p.Requests(), func(r Request) bool { return strings.Contains(r.URL, "/blobs/") }), q.Writes(), asked
	}
	check := func(what string, list []Request, want int) {
		t.Helper()
		if len(list) != want {
			t.Errorf("%s: %d requests, want %d:\n%v", what, len(list), want, list)
		}
	}

	// Nothing is said: the manifest, the list in both forms, the tags.
	plain := p.Put(t, "plain", "v1", NewImage(9, 10))
	reads, _, asked := copying(plain)
	check("source without evidence", reads, 4)
	if n := count(asked, "referrers") + count(asked, "/manifests/sha256-"); n != 0 {
		t.Errorf("the destination was asked for evidence %d times: %v", n, asked)
	}

	// Four manifests, what refers to each of them, the other form of the
	// first list, the tags.
	s := b.putSaid(t, p, "src")
	reads, _, asked = copying(s.subject)
	check("source", reads, 4+4+1+1)
	// The tag, the digest; four manifests, each read back; two lists; the tag,
	// read back. How the destination lists is asked once, in both ways. A list
	// without API is read, written, and read back.
	want := 2 + 4*2 + 2 + 2 + 1
	if !b.Referrers {
		want += 2 * 2
	}
	check("destination", asked, want)

	// Nothing to do: the destination tells its tag, the digest and two lists, and
	// nothing that it has is read.
	reads, writes, asked := copying(s.subject)
	check("writes when nothing is to be done", writes, 0)
	check("source when nothing is to be done", reads, 1+4+1+1)
	want = 2 + 2
	if !b.Referrers {
		want += 2
	}
	check("destination when nothing is to be done", asked, want)
}

// Evidence that is too much, or other than its digest says, refuses the copy
// before the destination is touched.
func testEvidenceRefused(t *testing.T, b Backend) {
	img := NewImage(1, 100)
	cases := map[string]struct {
		limits registry.Limits
		bad    func(p *Proxy, sbom Image)
		kind   release.Kind
	}{
		"too many":         {registry.Limits{Evidence: 3}, nil, release.KindDenied},
		"too many for one": {registry.Limits{Referrers: 2, Children: 2}, nil, release.KindDenied},
		"too deep":         {registry.Limits{EvidenceDepth: 1}, nil, release.KindDenied},
		"too large":        {registry.Limits{ManifestBytes: 1500}, nil, release.KindDenied},
		"other bytes": {registry.Limits{}, func(p *Proxy, sbom Image) {
			p.On("GET", "/manifests/"+sbom.Manifest.Digest.String(), Answer(http.StatusOK, img.Manifest.Bytes, "Content-Type", release.MediaTypeManifest))
		}, release.KindDenied},
		"no answer": {FastLimits(), func(p *Proxy, sbom Image) {
			p.On("GET", "/manifests/"+sbom.Manifest.Digest.String(), Answer(http.StatusInternalServerError, nil))
		}, release.KindUnavailable},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p, q := Serve(t, b.New(t)), Serve(t, b.New(t))
			s := p.Put(t, "src", "v1", img)
			for i := range 2 {
				b.PutReferrer(t, p, "src", img.Manifest, typeSPDX, fmt.Sprint(i))
			}
			sbom := b.PutReferrer(t, p, "src", img.Manifest, typeSPDX, "sbom")
			b.PutReferrer(t, p, "src", sbom.Manifest, typeNotary, "about the SBOM")
			if c.bad != nil {
				c.bad(p, sbom)
			}
			_, err := NewClient(t, c.limits).Copy(t.Context(), s, q.Host+"/dst", withReferrers)
			wantKind(t, err, c.kind)
			if n := count(q.Writes(), "/manifests/"); n != 0 {
				t.Errorf("the destination was changed: %v", q.Writes())
			}
		})
	}
}

// A source that lists what is about something else, or a manifest about itself,
// is followed no further.
func testEvidenceCircle(t *testing.T, b Backend) {
	p, c := b.start(t)
	q := Serve(t, b.New(t))
	s := b.putSaid(t, p, "src")
	lie := Encode(release.MediaTypeIndex, map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeIndex,
		"manifests": []Descriptor{Describe(s.image.Manifest), Describe(s.sbom.Manifest), Describe(s.deep.Manifest)}})
	answer := Answer(http.StatusOK, lie.Bytes, "Content-Type", release.MediaTypeIndex)
	p.On("GET", "/referrers/"+s.sbom.Manifest.Digest.String(), answer)
	p.On("GET", "/manifests/sha256-"+s.sbom.Manifest.Digest.Hex(), answer)
	got := must(c.Copy(t.Context(), s.subject, q.Host+"/dst", withReferrers))(t)
	if got.Referrers != 3 {
		t.Errorf("got %+v, want three referrers", got)
	}
	s.whole(t, b, q, "dst")
}
