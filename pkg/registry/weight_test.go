package registry

import (
	"bytes"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/promote-dev/promote/pkg/release"
)

func TestValues(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "1": 0, "[]": 1, "[1,2,3]": 3, `{"a":1}`: 2, `{"a,b:[{":"\",\\"}`: 2, `[{},{"a":[]}]`: 6,
	} {
		if got := values([]byte(text)); got != want {
			t.Errorf("%s: got %d, want %d", text, got, want)
		}
	}
}

// Small JSON that is large once it is parsed is refused before it is.
func TestTooRich(t *testing.T) {
	bomb := manifestText(`,"x":[` + strings.Repeat("{},", mostValues/2) + `0]`)
	limits := Limits{}.withDefaults()
	if _, err := parse(typeManifest, []byte(bomb), limits); release.KindOf(err) != release.KindDenied || !strings.Contains(err.Error(), "values") {
		t.Errorf("got %v", err)
	}
	if _, err := parse(typeManifest, []byte(manifestText(`,"x":[`+strings.Repeat("{},", mostValues/4)+`0]`)), limits); err != nil {
		t.Errorf("half of it: %v", err)
	}
}

// What a copy holds has a weight: what is announced counts before it is read,
// what is in it afterwards.
func TestTreeTooHeavy(t *testing.T) {
	c, err := New(Options{Limits: Limits{ManifestBytes: 30_000}})
	if err != nil {
		t.Fatal(err)
	}
	limits := Limits{}.withDefaults()
	child, err := parse(typeManifest, []byte(manifestText(`,"annotations":{"a":"`+strings.Repeat("x", 20_000)+`"}`)), limits)
	if err != nil {
		t.Fatal(err)
	}
	list := []descriptor{{MediaType: typeManifest, Digest: child.digest, Size: int64(len(child.raw))}}
	index, err := encode(body{SchemaVersion: 2, MediaType: typeIndex, Manifests: list}, limits)
	if err != nil {
		t.Fatal(err)
	}
	list = append(list, descriptor{MediaType: typeManifest, Digest: release.DigestOf(nil), Size: 10_000})
	announced, err := encode(body{SchemaVersion: 2, MediaType: typeIndex, Manifests: list}, limits)
	if err != nil {
		t.Fatal(err)
	}
	rich, err := parse(typeManifest, []byte(manifestText(`,"x":[`+strings.Repeat("0,", 500)+`0]`)), limits)
	if err != nil {
		t.Fatal(err)
	}
	src := newMemory("memory", child)
	for _, m := range []manifest{index, announced, rich} {
		src.manifests[m.digest.String()] = m
	}
	for d, want := range map[release.Digest]release.Kind{index.digest: "", announced.digest: release.KindDenied, rich.digest: release.KindDenied} {
		_, err := c.newTransfer(t.Context(), src, src, CopyOptions{}, nil).tree(t.Context(), d)
		if got := release.KindOf(err); got != want {
			t.Errorf("%s: got %q: %v", d, got, err)
		}
	}
}

func TestReadAll(t *testing.T) {
	content := bytes.Repeat([]byte("x"), 3000)
	for _, size := range []int64{-1, 0, 10, 3000, 5000} {
		for _, most := range []int64{2999, 3000, 4000} {
			got, err := readAll(iotest.OneByteReader(bytes.NewReader(content)), size, most)
			if want := min(3000, most+1); err != nil || int64(len(got)) != want {
				t.Errorf("expecting %d, at most %d: got %d bytes, %v", size, most, len(got), err)
			}
		}
	}
}
