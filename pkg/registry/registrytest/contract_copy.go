package registrytest

import (
	"net/http"
	"slices"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

// Whole checks that a repository serves an image with everything below it,
// byte for byte.
func (p *Proxy) Whole(t testing.TB, repository string, img Image) {
	t.Helper()
	check := func(kind string, b release.Blob) {
		status, body := p.Ask(http.MethodGet, "/v2/"+repository+"/"+kind+"/"+b.Digest.String())
		if status != http.StatusOK || release.DigestOf(body) != b.Digest {
			t.Errorf("%s/%s: %d, %d bytes that are %s", kind, b.Digest, status, len(body), release.DigestOf(body))
		}
	}
	for _, b := range img.Blobs {
		check("blobs", b)
	}
	for _, child := range img.Children {
		p.Whole(t, repository, child)
	}
	check("manifests", img.Manifest)
}

func testCopy(t *testing.T, b Backend) {
	p, c := b.start(t)
	img := NewImage(1, 100_000, 500, 500)
	subject := p.Put(t, "src", "v1", img)
	o := registry.CopyOptions{Tags: []string{"v1", "latest"}}
	got := must(c.Copy(t.Context(), subject, p.Host+"/dst", o))(t)
	p.Whole(t, "dst", img)
	if b.Mounts && (got.Mounted != 4 || got.Blobs != 0 || got.Bytes != 0) {
		t.Errorf("got %+v, want every blob mounted", got)
	}
	if !b.Mounts && got.Mounted+got.Blobs != 4 {
		t.Errorf("got %+v", got)
	}
	for _, tag := range o.Tags {
		if d := must(c.Resolve(t.Context(), p.Host+"/dst:"+tag))(t); d.Digest != subject.Digest {
			t.Errorf("%s is %s", tag, d)
		}
	}

	// Nothing to do is one request a tag, one without a tag, even for a client
	// that knows nothing.
	fresh := NewClient(t, registry.Limits{})
	for _, tags := range [][]string{nil, {"v1"}, {"v1", "latest"}} {
		p.Forget()
		got := must(fresh.Copy(t.Context(), subject, p.Host+"/dst", registry.CopyOptions{Tags: tags}))(t)
		want := max(1, len(tags))
		if n := len(p.Requests()); n != want || got.Requests != int64(want) || !got.Unchanged {
			t.Errorf("nothing to do with tags %q: %d requests, %+v, want %d", tags, n, got, want)
		}
	}

	// One more tag: look for it, look for the manifest, read the source's
	// manifest, write the tag, read it back.
	p.Forget()
	got = must(fresh.Copy(t.Context(), subject, p.Host+"/dst", registry.CopyOptions{Tags: []string{"v3"}}))(t)
	if n := len(p.Requests()); n != 5 || got.Blobs+got.Mounted+got.Manifests != 0 {
		t.Errorf("one more tag took %v, %+v, want 5 requests and nothing moved", p.Requests(), got)
	}
}

func testCopyIndex(t *testing.T, b Backend) {
	p, c := b.start(t)
	shared := NewPlatformImage(1, "amd64", 2000)
	img := NewIndex(shared, NewIndex(NewPlatformImage(2, "arm64", 1000), shared))
	subject := p.Put(t, "src", "", img)
	got := must(c.Copy(t.Context(), subject, p.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}}))(t)
	p.Whole(t, "dst", img)
	if got.Manifests != 4 || got.Digest != subject.Digest {
		t.Errorf("got %+v", got)
	}
	if s := must(c.Resolve(t.Context(), p.Host+"/dst:v1"))(t); s.Digest != subject.Digest {
		t.Errorf("the tag is %s", s)
	}
}

func testCopyRegistries(t *testing.T, b Backend) {
	p, c := b.start(t)
	q := Serve(t, b.New(t))
	img := NewImage(7, 300_000, 0, 10)
	img.Manifest.MediaType = DockerManifest // keeps its type on the way
	img.Manifest = Encode(DockerManifest, map[string]any{"schemaVersion": 2, "mediaType": DockerManifest,
		"config": Describe(img.Blobs[0]), "layers": []Descriptor{Describe(img.Blobs[1]), Describe(img.Blobs[2]), Describe(img.Blobs[3])}})
	subject := p.Put(t, "src", "", img)
	got := must(c.Copy(t.Context(), subject, q.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}}))(t)
	q.Whole(t, "dst", img)
	if got.Blobs != 4 || got.Bytes != int64(len(img.Blobs[0].Bytes))+300_010 {
		t.Errorf("got %+v", got)
	}
	mediaType, _, err := c.Manifest(t.Context(), subject.In(q.Host+"/dst"))
	if err != nil || mediaType != DockerManifest {
		t.Errorf("the copy is a %q: %v", mediaType, err)
	}
	writes := q.Writes()
	if last := writes[len(writes)-1]; last.URL != "/v2/dst/manifests/v1" {
		t.Errorf("the last write is %s, want the tag", last)
	}
	if !slices.ContainsFunc(q.Requests(), func(r Request) bool {
		return r.Method == http.MethodGet && r.URL == "/v2/dst/manifests/"+subject.Digest.String()
	}) {
		t.Error("the manifest was not read back")
	}
}

func testCopyDryRun(t *testing.T, b Backend) {
	p, c := b.start(t)
	q := Serve(t, b.New(t))
	subject := p.Put(t, "src", "", NewIndex(NewImage(1, 100), NewPlatformImage(2, "arm64", 200)))
	attach(t, c, subject, "one")
	got := must(c.Copy(t.Context(), subject, q.Host+"/dst", registry.CopyOptions{Referrers: true, Tags: []string{"v1"}, DryRun: true}))(t)
	if w := q.Writes(); len(w) != 0 {
		t.Errorf("a dry run wrote %v", w)
	}
	done := must(c.Copy(t.Context(), subject, q.Host+"/dst", registry.CopyOptions{Referrers: true, Tags: []string{"v1"}}))(t)
	if got.Manifests != done.Manifests || got.Blobs != done.Blobs || got.Bytes != done.Bytes || got.Referrers != done.Referrers {
		t.Errorf("the dry run said %+v, it was %+v", got, done)
	}
}

func testCopyReferrers(t *testing.T, b Backend) {
	p, c := b.start(t)
	q := Serve(t, b.New(t))
	child := NewImage(1, 100)
	index := NewIndex(child, NewPlatformImage(2, "arm64", 200))
	subject := p.Put(t, "src", "v1", index)
	attach(t, c, subject, "one")
	attach(t, c, subject, "two")
	inner := subject
	inner.Digest = child.Manifest.Digest
	attach(t, c, inner, "about the child")

	o := registry.CopyOptions{Referrers: true, Tags: []string{"v1"}}
	got := must(c.Copy(t.Context(), subject, q.Host+"/dst", o))(t)
	if got.Referrers != 3 {
		t.Errorf("got %+v, want three referrers", got)
	}
	copied := subject.In(q.Host + "/dst")
	sameAttachments(t, c, subject, copied)
	sameAttachments(t, c, inner, inner.In(q.Host+"/dst"))
	writes := q.Writes()
	if last := writes[len(writes)-1]; last.URL != "/v2/dst/manifests/v1" {
		t.Errorf("the last write is %s, want the tag", last)
	}

	// What came later follows; nothing else is written again.
	attach(t, c, subject, "three")
	q.Forget()
	if got := must(c.Copy(t.Context(), subject, q.Host+"/dst", o))(t); got.Referrers != 1 || got.Unchanged {
		t.Errorf("got %+v, want one referrer", got)
	}
	sameAttachments(t, c, subject, copied)
	q.Forget()
	if got := must(c.Copy(t.Context(), subject, q.Host+"/dst", o))(t); !got.Unchanged || len(q.Writes()) != 0 {
		t.Errorf("got %+v and writes %v, want nothing", got, q.Writes())
	}
}
