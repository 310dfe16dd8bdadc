package registry_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// What was copied to this machine is read there, with all that is attached to
// it, and the registry is not asked.
func TestHeld(t *testing.T) {
	p, c := start(t)
	subject := p.Put(t, "app", "v1", registrytest.NewImage(1, 100))
	attached := map[release.Digest]bool{}
	for _, content := range []string{"one", "two"} {
		a := release.Attachment{PredicateType: "https://example.com/" + content, Bundle: []byte(`{"` + content + `":1}`)}
		if err := c.Attach(t.Context(), subject, a); err != nil {
			t.Fatal(err)
		}
		attached[release.DigestOf(a.Bundle)] = true
	}
	p.PutLegacy(t, subject, release.LegacySignature, registrytest.NewSignature(subject, "MEQ="))
	dir := t.TempDir()
	for _, place := range []string{"oci:" + filepath.Join(dir, "layout"), "oci-archive:" + filepath.Join(dir, "app.tar")} {
		if _, err := c.Transfer(t.Context(), subject.Repository+":v1", place, referrersToo); err != nil {
			t.Fatal(err)
		}
		p.Forget()
		for _, source := range []string{place, place + ":v1", place + "@" + subject.Digest.String()} {
			got, err := c.Held(t.Context(), source)
			if err != nil || got.Subject.Digest != subject.Digest || got.Subject.Repository != place || len(got.Attachments) != 2 || len(got.Legacy) != 1 {
				t.Fatalf("%s: got %+v, %v", source, got, err)
			}
			for _, a := range got.Attachments {
				if !attached[a.Digest] || release.DigestOf(a.Bundle) != a.Digest {
					t.Errorf("%s: %+v", source, a)
				}
			}
		}
		if asked := p.Requests(); len(asked) != 0 {
			t.Errorf("%s: the registry was asked %v", place, asked)
		}
	}
}

func TestHeldRefuses(t *testing.T) {
	p, c := start(t)
	subject := p.Put(t, "app", "v1", registrytest.NewImage(1, 100))
	layout := filepath.Join(t.TempDir(), "layout")
	if _, err := c.Transfer(t.Context(), subject.Repository+":v1", "oci:"+layout, referrersToo); err != nil {
		t.Fatal(err)
	}
	p.Forget()
	other := "@" + release.DigestOf([]byte("other")).String()
	for source, want := range map[string]release.Kind{
		subject.Repository + ":v1":  release.KindUsage,
		"oci:":                      release.KindUsage,
		"oci:" + layout + "-none":   release.KindUsage,
		"oci:" + layout + ":v2":     release.KindUnavailable,
		"oci:" + layout + other:     release.KindUnavailable,
		"oci:" + layout + "@sha256": release.KindUsage,
	} {
		if got, err := c.Held(t.Context(), source); release.KindOf(err) != want || !got.Subject.Digest.IsZero() {
			t.Errorf("%s: %+v, %v of kind %q, want %q", source, got, err, release.KindOf(err), want)
		}
	}
	blob := filepath.Join(layout, "blobs", "sha256", subject.Digest.Hex())
	text, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, []byte(strings.Replace(string(text), "2", "3", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Held(t.Context(), "oci:"+layout+":v1"); release.KindOf(err) != release.KindDenied {
		t.Errorf("a changed manifest: %v", err)
	}
	if asked := p.Requests(); len(asked) != 0 {
		t.Errorf("the registry was asked %v", asked)
	}
}

var referrersToo = registry.CopyOptions{Referrers: true}

func start(t *testing.T) (*registrytest.Proxy, *registry.Client) {
	t.Helper()
	return registrytest.Serve(t, inMemory(true).New(t)), registrytest.NewClient(t, registrytest.FastLimits())
}
