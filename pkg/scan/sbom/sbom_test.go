package sbom

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/promote-dev/promote/pkg/release"
)

var subject = release.Subject{Repository: "registry.test/app", Digest: release.DigestOf([]byte("image"))}

func randomRef() string {
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", rand.Uint32(), rand.Uint32N(1<<16), rand.Uint32N(1<<12), rand.Uint32N(1<<12), rand.Uint64N(1<<48))
}

// document is what a scanner gives for the same image on any day: other random
// references, another order, another time.
func document(platform string) *cdx.BOM {
	root, system, lib := randomRef(), randomRef(), "pkg:pypi/redis@4.0"
	b := cdx.NewBOM()
	b.SerialNumber = "urn:uuid:" + randomRef()
	b.Metadata = &cdx.Metadata{Timestamp: fmt.Sprint(rand.Int()), Component: &cdx.Component{BOMRef: root, Type: cdx.ComponentTypeContainer, Name: "x", Version: platform}}
	components := []cdx.Component{
		{BOMRef: system, Type: cdx.ComponentTypeOS, Name: "debian", Version: "12"},
		{BOMRef: lib, Type: cdx.ComponentTypeLibrary, Name: "redis", Version: "4.0", PackageURL: lib},
		{BOMRef: "pkg:deb/" + platform, Type: cdx.ComponentTypeLibrary, Name: "libc", Version: platform},
	}
	rand.Shuffle(len(components), func(i, j int) { components[i], components[j] = components[j], components[i] })
	b.Components = &components
	b.Dependencies = &[]cdx.Dependency{
		{Ref: root, Dependencies: &[]string{system, lib}},
		{Ref: system, Dependencies: &[]string{"pkg:deb/" + platform}},
	}
	b.Vulnerabilities = &[]cdx.Vulnerability{{ID: "CVE-1"}}
	return b
}

func TestDeterministic(t *testing.T) {
	for _, platforms := range [][]string{{"amd64"}, {"amd64", "arm64"}} {
		make := func() []byte {
			var documents []*cdx.BOM
			for _, p := range platforms {
				documents = append(documents, document(p))
			}
			raw, err := Deterministic(subject, documents)
			if err != nil {
				t.Fatal(err)
			}
			return raw
		}
		first := make()
		for range 20 {
			if again := make(); !bytes.Equal(first, again) {
				t.Fatalf("%v: two documents of one image differ:\n%s\n%s", platforms, first, again)
			}
		}
		var b cdx.BOM
		if err := json.Unmarshal(first, &b); err != nil {
			t.Fatal(err)
		}
		if got, want := len(*b.Components), 2+len(platforms); got != want {
			t.Errorf("%v: %d components, want %d", platforms, got, want)
		}
		if b.Vulnerabilities != nil || b.Metadata.Timestamp != "" || b.Metadata.Component.Name != subject.String() {
			t.Errorf("%v: something of the day is left: %s", platforms, first)
		}
		refs := map[string]bool{b.Metadata.Component.BOMRef: true}
		for _, c := range *b.Components {
			refs[c.BOMRef] = true
		}
		for _, d := range *b.Dependencies {
			for _, ref := range append([]string{d.Ref}, *d.Dependencies...) {
				if !refs[ref] {
					t.Errorf("%v: %s is depended on and not there", platforms, ref)
				}
			}
		}
	}
}

func TestSerialNamesTheSubject(t *testing.T) {
	other := release.Subject{Repository: "registry.test/app", Digest: release.DigestOf([]byte("other"))}
	a, _ := Deterministic(subject, []*cdx.BOM{document("amd64")})
	b, _ := Deterministic(other, []*cdx.BOM{document("amd64")})
	serial := func(raw []byte) string {
		var d struct{ SerialNumber string }
		if err := json.Unmarshal(raw, &d); err != nil {
			t.Fatal(err)
		}
		return d.SerialNumber
	}
	if serial(a) == serial(b) || !random(strings.TrimPrefix(serial(a), "urn:uuid:")) {
		t.Errorf("serial numbers %s and %s", serial(a), serial(b))
	}
	if _, err := Deterministic(subject, nil); err == nil {
		t.Error("an SBOM of nothing was made")
	}
}
