package parts

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

var contentDigest = release.DigestOf([]byte("a layer"))

const (
	config = `{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":7}`
	layer  = `{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"%s","size":7}`
)

func image(config, layers string) string {
	return `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":` + config + `,"layers":[` + layers + `]}`
}

func descriptor(format string) string { return fmt.Sprintf(format, contentDigest) }

func TestParse(t *testing.T) {
	m, err := Parse([]byte(image(descriptor(config), descriptor(layer))))
	if err != nil || len(m.Layers) != 1 || m.Config.Digest != contentDigest || m.Layers[0].Size != 7 {
		t.Fatalf("%+v, %v", m, err)
	}
}

func TestParseRefuses(t *testing.T) {
	sound := image(descriptor(config), descriptor(layer))
	with := func(old, replacement string) string {
		s := strings.Replace(sound, old, replacement, 1)
		if s == sound {
			t.Fatalf("%q is not in %s", old, sound)
		}
		return s
	}
	for name, raw := range map[string]string{
		"not JSON":            "nonsense",
		"an artifact":         with(`"schemaVersion":2`, `"schemaVersion":2,"artifactType":"application/vnd.promote.release.v1+json"`),
		"other configuration": with("image.config", "helm.config"),
		"no layers":           with(`,"layers":[`+descriptor(layer)+`]`, ""),
		"foreign layer":       with("image.layer.v1", "image.layer.nondistributable.v1"),
		"layer with URLs":     with(`"size":7}]`, `"size":7,"urls":["https://evil.test/x"]}]`),
		"inline layer":        with(`"size":7}]`, `"size":7,"data":"YQ=="}]`),
		"negative size":       with(`"size":7}]`, `"size":-7}]`),
		"malformed digest":    with(contentDigest.Hex()+`","size":7}]`, `00","size":7}]`),
		"huge configuration":  with(`"size":7},"layers"`, `"size":99999999},"layers"`),
		"huge layer":          with(`"size":7}]`, `"size":99999999999}]`),
		"too many layers":     image(descriptor(config), strings.Repeat(descriptor(layer)+",", MaxLayers)+descriptor(layer)),
	} {
		if _, err := Parse([]byte(raw)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestUnpackedIsBoundedAndVerified(t *testing.T) {
	text := strings.Repeat("tar", 1000)
	for _, c := range []struct {
		name     string
		diff     release.Digest
		limit    int64
		complete bool
		ok       bool
	}{
		{"as promised", release.DigestOf([]byte(text)), 10_000, true, true},
		{"another content", contentDigest, 10_000, true, false},
		{"too much", release.DigestOf([]byte(text)), 100, true, false},
	} {
		u := NewUnpacked(io.NopCloser(bytes.NewReader([]byte(text))), c.diff, c.limit)
		_, err := io.Copy(io.Discard, u)
		if (err == nil) != c.ok || u.Verified() != c.ok {
			t.Errorf("%s: verified %v, %v", c.name, u.Verified(), err)
		}
		if !c.ok && u.Contradiction() == nil {
			t.Errorf("%s: no contradiction is remembered", c.name)
		}
	}
	u := NewUnpacked(io.NopCloser(strings.NewReader(text)), release.DigestOf([]byte(text)), 10_000)
	if _, err := u.Read(make([]byte, 10)); err != nil || u.Verified() {
		t.Error("a layer that was read in part counts as verified")
	}
}
