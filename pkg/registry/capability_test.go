package registry_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// remembering gives a client with a capability file, and the file.
func remembering(t *testing.T) (*registry.Client, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cache", "registries.json")
	return rememberingIn(t, file), file
}

func rememberingIn(t *testing.T, file string) *registry.Client {
	t.Helper()
	c, err := registry.New(registry.Options{Keychain: registrytest.Credentials{}, Limits: registrytest.FastLimits(),
		Capabilities: registry.RememberCapabilities(file)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const manifests = `/v2/[a-z]+/manifests/`

// layered is an image with n layers.
func layered(seed uint64, n int) registrytest.Image {
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = 100 + i
	}
	return registrytest.NewImage(seed, sizes...)
}

// A registry that names what it lacks is offered the manifest first.
func TestManifestFirst(t *testing.T) {
	h := newHostile(t)
	h.dst.On("PUT", manifests, registrytest.Validate())
	c, file := remembering(t)
	img := layered(1, 10)
	s := h.src.Put(t, "src", "v1", img)
	h.dst.PutBlob(t, "dst", img.Blobs[3].Bytes)

	copying := func(c *registry.Client, tag string) (registry.CopyResult, int64) {
		t.Helper()
		before := len(h.dst.Requests())
		got, err := c.Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Tags: []string{tag}})
		if err != nil {
			t.Fatal(err)
		}
		h.dst.Whole(t, "dst", img)
		return got, int64(len(h.dst.Requests()) - before)
	}
	got, asked := copying(c, "v1")
	if got.Present != 1 || got.Blobs != 10 || got.Manifests != 1 {
		t.Errorf("got %+v", got)
	}
	// Two looks, the probe, the offer, two for each blob, the manifest and the look at it.
	if want := int64(2 + 1 + 1 + 2*10 + 2); asked != want {
		t.Errorf("it took %d requests, want %d: %v", asked, want, h.dst.Requests())
	}
	raw, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(raw), `"validates":true`) {
		t.Errorf("remembered %q, %v", raw, err)
	}

	// Everything is there but this manifest.
	img.Manifest = registrytest.Encode(release.MediaTypeManifest, map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeManifest,
		"config": registrytest.Describe(img.Blobs[0]), "layers": describe(img.Blobs[1:]), "annotations": map[string]string{"a": "b"}})
	s = h.src.Put(t, "src", "v2", img)
	got, asked = copying(rememberingIn(t, file), "v2")
	if got.Present != 11 || got.Blobs != 0 || got.Manifests != 1 {
		t.Errorf("got %+v", got)
	}
	// Two looks, the manifest, the look at it, and one at a blob.
	if asked != 5 {
		t.Errorf("it took %d requests, want 5", asked)
	}
}

func describe(blobs []release.Blob) (list []registrytest.Descriptor) {
	for _, b := range blobs {
		list = append(list, registrytest.Describe(b))
	}
	return list
}

// A registry that takes anything is asked once, and keeps nothing of it.
func TestManifestsThatNobodyChecks(t *testing.T) {
	h := newHostile(t)
	c, _ := remembering(t)
	for i, want := range []int{1, 0} {
		img := layered(uint64(i), 5)
		s := h.src.Put(t, "src", "v1", img)
		h.dst.Forget()
		if _, err := c.Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}}); err != nil {
			t.Fatal(err)
		}
		h.dst.Whole(t, "dst", img)
		if n := count(h.dst, "DELETE", "/manifests/"); n != want {
			t.Errorf("copy %d removed %d probes, want %d", i, n, want)
		}
		if n := count(h.dst, "PUT", "/manifests/"); n != want+1 {
			t.Errorf("copy %d wrote %d manifests, want %d", i, n, want+1)
		}
	}
}

// A registry that is proven to validate and doesn't any more: what it took is
// looked at, and it gets the blobs after all. It is not believed a second time.
func TestManifestFirstIsChecked(t *testing.T) {
	h := newHostile(t)
	file := filepath.Join(t.TempDir(), "capabilities.json")
	proven := fmt.Sprintf(`{%q:{"validates":true,"asked":%q}}`, h.dst.Host, time.Now().Format(time.RFC3339))
	if err := os.WriteFile(file, []byte(proven), 0o600); err != nil {
		t.Fatal(err)
	}
	img := layered(1, 5)
	s := h.src.Put(t, "src", "v1", img)
	c := rememberingIn(t, file)
	if _, err := c.Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}}); err != nil {
		t.Fatal(err)
	}
	h.dst.Whole(t, "dst", img)
	if raw, _ := os.ReadFile(file); !strings.Contains(string(raw), `"validates":false`) {
		t.Errorf("remembered %q", raw)
	}
}

func wantFault(t *testing.T, err error, kind release.Kind, words string) {
	t.Helper()
	if release.KindOf(err) != kind || !strings.Contains(err.Error(), words) {
		t.Errorf("got %q: %v, want %q with %q", release.KindOf(err), err, kind, words)
	}
}

// What is remembered may be damaged, old, or impossible to keep.
func TestCapabilityFile(t *testing.T) {
	for name, content := range map[string]string{
		"damaged": `{"`, "null": "null", "a list": "[]", "old": `{"HOST":{"validates":true,"asked":"2020-01-01T00:00:00Z"}}`,
		"from the future": `{"HOST":{"validates":true,"asked":"2999-01-01T00:00:00Z"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t)
			file := filepath.Join(t.TempDir(), "registries.json")
			if err := os.WriteFile(file, []byte(strings.ReplaceAll(content, "HOST", h.dst.Host)), 0o600); err != nil {
				t.Fatal(err)
			}
			img := layered(1, 5)
			s := h.src.Put(t, "src", "v1", img)
			if _, err := rememberingIn(t, file).Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}}); err != nil {
				t.Fatal(err)
			}
			h.dst.Whole(t, "dst", img)
			if n := count(h.dst, "PUT", "/manifests/"); n != 2 {
				t.Errorf("%d manifests were written, want a probe and the image", n)
			}
		})
	}
	t.Run("no directory", func(t *testing.T) {
		h := newHostile(t)
		img := layered(1, 5)
		s := h.src.Put(t, "src", "v1", img)
		if _, err := rememberingIn(t, "/dev/null/registries.json").Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}}); err != nil {
			t.Fatal(err)
		}
		h.dst.Whole(t, "dst", img)
	})
}

// A registry that names one missing blob at a time gets them all in the end; it
// is not taken for one that names them all.
func TestReluctantRegistry(t *testing.T) {
	h := newHostile(t)
	h.dst.On("PUT", manifests, registrytest.Reluctantly(registrytest.Validate()))
	c, file := remembering(t)
	img := layered(1, 5)
	s := h.src.Put(t, "src", "v1", img)
	if _, err := c.Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}}); err != nil {
		t.Fatal(err)
	}
	h.dst.Whole(t, "dst", img)
	if raw, _ := os.ReadFile(file); !strings.Contains(string(raw), `"validates":false`) {
		t.Errorf("remembered %q", raw)
	}

	// Nor does it matter if it was.
	proven := fmt.Sprintf(`{%q:{"validates":true,"asked":%q}}`, h.dst.Host, time.Now().Format(time.RFC3339))
	if err := os.WriteFile(file, []byte(proven), 0o600); err != nil {
		t.Fatal(err)
	}
	img = layered(2, 5)
	s = h.src.Put(t, "src", "v2", img)
	if _, err := rememberingIn(t, file).Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Tags: []string{"v2"}}); err != nil {
		t.Fatal(err)
	}
	h.dst.Whole(t, "dst", img)
}

// A blob that a proven registry took and lost is missed when the manifest comes.
func TestLostBlobIsMissed(t *testing.T) {
	h := newHostile(t)
	h.dst.On("PUT", manifests, registrytest.Validate())
	h.dst.OnTimes(1, "PUT", "/blobs/uploads/", registrytest.Swallow())
	c, _ := remembering(t)
	s := h.src.Put(t, "src", "v1", layered(1, 5))
	_, err := c.Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}})
	wantFault(t, err, release.KindUnavailable, "does not have it")
	if status, _ := h.dst.Ask("GET", "/v2/dst/manifests/v1"); status != 404 {
		t.Errorf("the tag is there: %d", status)
	}
}

// What a tag costs where everything is there: the least number of requests.
func TestRequestsOfTags(t *testing.T) {
	h := newHostile(t)
	h.dst.On("PUT", manifests, registrytest.Validate())
	c, _ := remembering(t)
	img := layered(1, 20)
	s := h.src.Put(t, "src", "v1", img)
	transfer := func(source, destination string, o registry.CopyOptions, want int) {
		t.Helper()
		h.src.Forget()
		h.dst.Forget()
		got, err := c.Transfer(t.Context(), source, h.dst.Host+destination, o)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(h.src.Requests()) + len(h.dst.Requests()); n != want || got.Requests != int64(want) {
			t.Errorf("%s to %s took %d requests and says %d, want %d: %v %v", source, destination, n, got.Requests, want, h.src.Requests(), h.dst.Requests())
		}
	}
	tag := h.src.Host + "/src:v1"
	// HEAD and GET of the tag, a look, the probe, the refused offer, two a blob
	// and one at its source, the manifest, and the look at it.
	transfer(tag, "/dst:v1", registry.CopyOptions{}, 2+2+1+1+3*21+2)
	// Nothing to do: one request where the digest is known.
	transfer(s.String(), "/dst:v1", registry.CopyOptions{}, 1)
	transfer(tag, "/dst:v1", registry.CopyOptions{}, 3)
	// A new tag: HEAD and GET, a look, the tag, the looks at it and at a blob.
	transfer(tag, "/dst:v2", registry.CopyOptions{}, 6)
}

// A registry that its owner does not want asked is asked for each blob.
func TestManifestFirstSwitchedOff(t *testing.T) {
	h := newHostile(t)
	h.dst.On("PUT", manifests, registrytest.Validate())
	no := false
	c, err := registry.New(registry.Options{Keychain: registrytest.Credentials{}, Hosts: map[string]registry.Host{h.dst.Host: {ManifestFirst: &no}},
		Capabilities: registry.RememberCapabilities(filepath.Join(t.TempDir(), "capabilities.json"))})
	if err != nil {
		t.Fatal(err)
	}
	s := h.src.Put(t, "src", "v1", layered(1, 10))
	if _, err := c.Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Tags: []string{"v1"}}); err != nil {
		t.Fatal(err)
	}
	if n := count(h.dst, "PUT", "/manifests/"); n != 1 {
		t.Errorf("%d manifests were written, want the image's", n)
	}
}
