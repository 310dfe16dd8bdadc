package registrytest

import (
	"bytes"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

// Backend is a kind of registry.
type Backend struct {
	// New makes an empty registry that lives as long as the test.
	New func(t testing.TB) http.Handler
	// Referrers: it has the referrers API.
	Referrers bool
	// Mounts: it mounts blobs from one repository into another.
	Mounts bool
	// Validates: it refuses a manifest whose blobs it lacks, and names them.
	Validates bool

	nth int // of Hostile
}

// FastLimits waits for moments only between attempts, so that tests of failures
// are quick. Deadlines are as long as ever.
func FastLimits() registry.Limits {
	return registry.Limits{Pause: time.Millisecond, Wait: 3 * time.Second}
}

// ImpatientLimits gives up on slow registries within moments. Only cases that
// end in such a failure should use it: a busy machine is slow, too.
func ImpatientLimits() registry.Limits {
	l := FastLimits()
	l.Dial, l.Header, l.Commit, l.Small = time.Second, 200*time.Millisecond, 200*time.Millisecond, 300*time.Millisecond
	l.Window, l.Rate, l.Listing = 150*time.Millisecond, 32<<10, 500*time.Millisecond
	return l
}

// NewClient makes a client without anybody's credentials.
func NewClient(t testing.TB, limits registry.Limits) *registry.Client {
	t.Helper()
	c, err := registry.New(registry.Options{Keychain: Credentials{}, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Contract runs the cases that hold for every registry.
func Contract(t *testing.T, b Backend) {
	cases := map[string]func(*testing.T, Backend){
		"resolve":          testResolve,
		"platform":         testPlatform,
		"blob":             testBlob,
		"push":             testPush,
		"tag":              testTag,
		"copy":             testCopy,
		"file":             testFile,
		"copy index":       testCopyIndex,
		"copy registries":  testCopyRegistries,
		"copy dry run":     testCopyDryRun,
		"manifest first":   testManifestFirst,
		"copy referrers":   testCopyReferrers,
		"nested referrers": testCopyNestedReferrers,
		"evidence counted": testEvidenceRequests,
		"evidence refused": testEvidenceRefused,
		"evidence circle":  testEvidenceCircle,
		"attach":           testAttach,
		"attachments none": testNoAttachments,
		"cosign's tags":    testLegacyAttachments,
		"tags written":     testAttachLegacy,
		"tags kept":        testAttachLegacyKeeps,
		"tags refused":     testAttachLegacyRefuses,
		"tags raced for":   testAttachLegacyRace,
		"tags copied":      testCopyLegacy,
		"tags that meet":   testCopyLegacyMeets,
		"tags counted":     testLegacyRequests,
		"tags that change": testLegacyRace,
		"release":          testRelease,
		"layout":           testLayout,
		"archive":          testArchive,
	}
	for name, run := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, b)
		})
	}
}

// start serves a registry, with a client that knows nothing of it yet.
func (b Backend) start(t *testing.T) (*Proxy, *registry.Client) {
	return Serve(t, b.New(t)), NewClient(t, registry.Limits{})
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wantKind checks the kind that decides the exit code.
func wantKind(t testing.TB, err error, want release.Kind) {
	t.Helper()
	if got := release.KindOf(err); got != want {
		t.Fatalf("got kind %q (%v), want %q", got, err, want)
	}
}

func testResolve(t *testing.T, b Backend) {
	p, c := b.start(t)
	want := p.Put(t, "team/app", "v1", NewImage(1, 100))
	for _, ref := range []string{":v1", "@" + want.Digest.String(), ":v2@" + want.Digest.String()} {
		if got := must(c.Resolve(t.Context(), p.Host+"/team/app"+ref))(t); got != want {
			t.Errorf("%s: got %s, want %s", ref, got, want)
		}
	}
	for _, ref := range []string{"/team/app:v2", "/team/app@" + release.DigestOf(nil).String(), "/team/other:v1"} {
		_, err := c.Resolve(t.Context(), p.Host+ref)
		if !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("%s: got %v, want not found", ref, err)
		}
	}
	for _, ref := range []string{"/team/app@sha256:12", "/team/app@sha512:" + want.Digest.Hex(), "/team/../app:v1", "/Team/app:v1", "/team/app:", "/team/app:-x", ""} {
		_, err := c.Resolve(t.Context(), p.Host+ref)
		wantKind(t, err, release.KindUsage)
	}
}

func testPlatform(t *testing.T, b Backend) {
	p, c := b.start(t)
	amd, arm := NewPlatformImage(1, "amd64", 100, 50), NewPlatformImage(2, "arm64", 70)
	subject := p.Put(t, "app", "", NewIndex(amd, arm))
	got := must(c.Platform(t.Context(), subject, "linux/amd64"))(t)
	if got.Manifest != amd.Manifest.Digest || got.Config != amd.Blobs[0].Digest || got.Size != 150 || len(got.Layers) != 2 ||
		got.User != "10001" || !got.Healthcheck || !slices.Equal(got.Volumes, []string{"/data"}) || got.Platform != "linux/amd64" {
		t.Errorf("got %+v", got)
	}
	if _, err := c.Platform(t.Context(), subject, "linux/s390x"); err == nil {
		t.Error("found an image for a platform that is not there")
	} else {
		wantKind(t, err, release.KindDenied)
	}
	_, err := c.Platform(t.Context(), subject, "")
	wantKind(t, err, release.KindUsage)

	single := p.Put(t, "app", "", arm)
	if got := must(c.Platform(t.Context(), single, ""))(t); got.Manifest != single.Digest || got.Platform != "linux/arm64" {
		t.Errorf("got %+v", got)
	}
	_, err = c.Platform(t.Context(), single, "linux/amd64")
	wantKind(t, err, release.KindDenied)
}

func testBlob(t *testing.T, b Backend) {
	p, c := b.start(t)
	content := Random(1, 5000)
	d := p.PutBlob(t, "app", content)
	if got := must(c.Blob(t.Context(), p.Host+"/app", d, 5000))(t); !bytes.Equal(got, content) {
		t.Error("other bytes")
	}
	_, err := c.Blob(t.Context(), p.Host+"/app", d, 4999)
	wantKind(t, err, release.KindDenied)
	_, err = c.Blob(t.Context(), p.Host+"/app", release.DigestOf(nil), 10)
	if !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
}

func testPush(t *testing.T, b Backend) {
	p, c := b.start(t)
	img := NewImage(3, 1000, 0)
	for range 2 { // again changes nothing
		for _, blob := range img.Blobs {
			if err := c.PushBlob(t.Context(), p.Host+"/app", blob); err != nil {
				t.Fatal(err)
			}
		}
		if got := must(c.PushManifest(t.Context(), p.Host+"/app", "v1", img.Manifest))(t); got != img.Manifest.Digest {
			t.Errorf("got %s", got)
		}
	}
	if status, body := p.Ask(http.MethodGet, "/v2/app/manifests/v1"); status != http.StatusOK || !bytes.Equal(body, img.Manifest.Bytes) {
		t.Errorf("the registry answers %d %q", status, body)
	}
	if got := must(c.Tags(t.Context(), p.Host+"/app"))(t); !slices.Equal(got, []string{"v1"}) {
		t.Errorf("got tags %q", got)
	}
	wrong := img.Blobs[1]
	wrong.Bytes = append([]byte("x"), wrong.Bytes...)
	wantKind(t, c.PushBlob(t.Context(), p.Host+"/app", wrong), release.KindDenied)
	_, err := c.PushManifest(t.Context(), p.Host+"/app", "v2", NewBlob(release.MediaTypeManifest, []byte(`{"schemaVersion":2}`)))
	wantKind(t, err, release.KindDenied)
}

func testTag(t *testing.T, b Backend) {
	p, c := b.start(t)
	one, two := p.Put(t, "app", "v1", NewImage(1, 10)), p.Put(t, "app", "v2", NewImage(2, 10))
	for _, tag := range []string{"v2", "new"} {
		if err := c.Tag(t.Context(), one, tag); err != nil {
			t.Fatal(err)
		}
		if got := must(c.Resolve(t.Context(), p.Host+"/app:"+tag))(t); got != one {
			t.Errorf("%s is %s, want %s", tag, got, one)
		}
	}
	p.Forget()
	if err := c.Tag(t.Context(), one, "v2"); err != nil {
		t.Fatal(err)
	}
	if got := p.Requests(); len(got) != 1 {
		t.Errorf("tagging what is tagged took %v, want one request", got)
	}
	wantKind(t, c.Tag(t.Context(), two, "../v3"), release.KindUsage)
	err := c.Tag(t.Context(), two.In(p.Host+"/other"), "v1")
	if !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
}

func testRelease(t *testing.T, b Backend) {
	p, c := b.start(t)
	doc := NewRelease()
	repo := p.Host + "/acme/openclaw"
	subject := must(c.PushRelease(t.Context(), repo, doc, []string{"v1.0.0", "release-x"}))(t)
	if want := must(doc.Identity())(t); subject.Digest != want {
		t.Errorf("pushed %s, want %s", subject.Digest, want)
	}
	got := must(c.PullRelease(t.Context(), subject))(t)
	if again := must(got.Identity())(t); again != subject.Digest || got.Release.Version != doc.Release.Version {
		t.Errorf("read back %+v", got.Release)
	}
	p.Forget()
	must(c.PushRelease(t.Context(), repo, doc, []string{"v1.0.0", "release-x"}))(t)
	if n, w := len(p.Requests()), p.Writes(); n != 2 || len(w) != 0 {
		t.Errorf("pushing again took %d requests and wrote %v, want a request a tag", n, w)
	}
	image := p.Put(t, "acme/openclaw", "", NewImage(1, 10))
	_, err := c.PullRelease(t.Context(), image)
	wantKind(t, err, release.KindDenied)
}

func testLayout(t *testing.T, b Backend) {
	throughFile(t, b, "oci:"+filepath.Join(t.TempDir(), "layout"))
}

func testArchive(t *testing.T, b Backend) {
	throughFile(t, b, "oci-archive:"+filepath.Join(t.TempDir(), "image.tar"))
}

// throughFile hands an image with its evidence from one registry to another
// through a file.
func throughFile(t *testing.T, b Backend, file string) {
	p, c := b.start(t)
	subject := p.Put(t, "app", "v1", NewIndex(NewPlatformImage(1, "amd64", 3000, 20), NewPlatformImage(2, "arm64", 500)))
	attach(t, c, subject, "one")
	source, o := p.Host+"/app:v1", registry.CopyOptions{Referrers: true}

	if dry := must(c.Transfer(t.Context(), source, file, registry.CopyOptions{Referrers: true, DryRun: true}))(t); dry.Manifests != 4 {
		t.Errorf("the dry run counts %+v", dry)
	}
	out := must(c.Transfer(t.Context(), source, file, o))(t)
	if out.Digest != subject.Digest || out.Unchanged || out.Referrers != 1 || out.Manifests != 4 || out.Blobs != 7 {
		t.Errorf("out: %+v", out)
	}
	if again := must(c.Transfer(t.Context(), source, file, o))(t); !again.Unchanged {
		t.Errorf("again: %+v", again)
	}

	other := Serve(t, b.New(t))
	in := must(c.Transfer(t.Context(), file, other.Host+"/mirror/app:v9", o))(t)
	if in.Digest != subject.Digest || in.Referrers != 1 {
		t.Errorf("in: %+v", in)
	}
	copied := must(c.Resolve(t.Context(), other.Host+"/mirror/app:v9"))(t)
	sameAttachments(t, c, subject, copied)

	_, err := c.Transfer(t.Context(), file+":nope", other.Host+"/app:v1", o)
	if !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
	_, err = c.Transfer(t.Context(), "oci:"+filepath.Join(t.TempDir(), "absent"), other.Host+"/app:v1", o)
	wantKind(t, err, release.KindUsage)
	if strings.HasPrefix(file, "oci-archive:") {
		p.Put(t, "app", "v2", NewImage(9, 10))
		_, err = c.Transfer(t.Context(), p.Host+"/app:v2", file, o)
		wantKind(t, err, release.KindUsage)
	}
}
