package registry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

var (
	digestA = release.DigestOf([]byte("a")).String()
	digestB = release.DigestOf([]byte("b")).String()
)

func describe(mediaType, digest string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, mediaType, digest)
}

const layerType = "application/vnd.oci.image.layer.v1.tar+gzip"

func manifestText(extra string) string {
	return `{"schemaVersion":2,"mediaType":"` + typeManifest + `","config":` + describe("application/vnd.oci.image.config.v1+json", digestA) +
		`,"layers":[` + describe(layerType, digestB) + `]` + extra + `}`
}

func indexText(extra string) string {
	return `{"schemaVersion":2,"mediaType":"` + typeIndex + `","manifests":[` + describe(typeManifest, digestA) + `]` + extra + `}`
}

func TestParse(t *testing.T) {
	good := []struct{ header, text string }{
		{typeManifest, manifestText("")},
		{typeManifest + "; charset=utf-8", manifestText("")},
		{typeManifest, manifestText(`,"annotations":{"a":"b"},"artifactType":"x/y","unknown":{"layers":1}`)},
		{typeManifest, manifestText(`,"subject":` + describe(typeManifest, digestA))},
		{typeManifest, strings.Replace(manifestText(""), `"mediaType":"`+typeManifest+`",`, "", 1)},
		{typeIndex, indexText("")},
		{typeIndex, strings.Replace(indexText(""), `"mediaType":"`+typeIndex+`",`, "", 1)},
		{typeDockerManifest, strings.Replace(manifestText(""), typeManifest, typeDockerManifest, 1)},
		{typeDockerList, strings.Replace(indexText(""), typeIndex, typeDockerList, 1)},
		{typeIndex, `{"schemaVersion":2,"manifests":[]}`},
	}
	limits := Limits{}.withDefaults()
	for _, g := range good {
		m, err := parse(g.header, []byte(g.text), limits)
		if err != nil {
			t.Errorf("%s: %v", g.text, err)
			continue
		}
		if m.digest != release.DigestOf([]byte(g.text)) || !strings.HasPrefix(g.header, m.mediaType) {
			t.Errorf("got %s %s", m.mediaType, m.digest)
		}
	}

	layer := describe(layerType, digestB)
	bad := map[string]struct{ header, text string }{
		"empty":                       {typeManifest, ""},
		"not an object":               {typeManifest, "[]"},
		"null":                        {typeManifest, "null"},
		"trailing bytes":              {typeManifest, manifestText("") + "x"},
		"a second object":             {typeManifest, manifestText("") + manifestText("")},
		"duplicate key":               {typeManifest, manifestText(`,"layers":[]`)},
		"duplicate key, escaped":      {typeManifest, manifestText(`,"l\u0061yers":[]`)},
		"duplicate key in a layer":    {typeManifest, strings.Replace(manifestText(""), `"size":1`, `"size":1,"size":2`, 1)},
		"key in other case":           {typeManifest, manifestText(`,"Layers":[]`)},
		"key with a Kelvin sign":      {typeManifest, manifestText(`,"` + "bloB\u017f" + `":[]`)},
		"digest key in other case":    {typeManifest, strings.Replace(manifestText(""), `"digest":`, `"Digest":"`+digestA+`","digest":`, 1)},
		"invalid UTF-8":               {typeManifest, manifestText(",\"a\":\"\xff\"")},
		"both kinds":                  {typeManifest, manifestText(`,"manifests":[]`)},
		"both kinds, as index":        {typeIndex, indexText(`,"layers":[]`)},
		"index with config":           {typeIndex, indexText(`,"config":` + layer)},
		"manifest with fsLayers":      {typeManifest, manifestText(`,"fsLayers":[]`)},
		"manifest served as index":    {typeIndex, manifestText("")},
		"index served as manifest":    {typeManifest, indexText("")},
		"untyped index as manifest":   {typeManifest, `{"schemaVersion":2,"manifests":[]}`},
		"untyped manifest as index":   {typeIndex, strings.Replace(manifestText(""), `"mediaType":"`+typeManifest+`",`, "", 1)},
		"untyped as Docker":           {typeDockerManifest, strings.Replace(manifestText(""), `"mediaType":"`+typeManifest+`",`, "", 1)},
		"empty media type":            {typeManifest, strings.Replace(manifestText(""), typeManifest, "", 1)},
		"OCI served as Docker":        {typeDockerManifest, manifestText("")},
		"no header":                   {"", manifestText("")},
		"untyped, another header":     {"text/html", strings.Replace(manifestText(""), `"mediaType":"`+typeManifest+`",`, "", 1)},
		"another header":              {"application/json", manifestText("")},
		"schema 1":                    {typeManifest, strings.Replace(manifestText(""), `"schemaVersion":2`, `"schemaVersion":1`, 1)},
		"no schema version":           {typeManifest, strings.Replace(manifestText(""), `"schemaVersion":2,`, ``, 1)},
		"no config":                   {typeManifest, `{"schemaVersion":2,"layers":[]}`},
		"no layers":                   {typeManifest, `{"schemaVersion":2,"config":` + layer + `}`},
		"layers no list":              {typeManifest, `{"schemaVersion":2,"config":` + layer + `,"layers":{}}`},
		"layer no object":             {typeManifest, `{"schemaVersion":2,"config":` + layer + `,"layers":["` + digestA + `"]}`},
		"layer without size":          {typeManifest, strings.Replace(manifestText(""), `,"size":1`, ``, 1)},
		"negative size":               {typeManifest, strings.Replace(manifestText(""), `"size":1`, `"size":-1`, 1)},
		"huge size":                   {typeManifest, strings.Replace(manifestText(""), `"size":1`, `"size":9e99`, 1)},
		"size as text":                {typeManifest, strings.Replace(manifestText(""), `"size":1`, `"size":"1"`, 1)},
		"fraction of a byte":          {typeManifest, strings.Replace(manifestText(""), `"size":1`, `"size":1.5`, 1)},
		"layer without type":          {typeManifest, strings.Replace(manifestText(""), layerType, "", 1)},
		"digest of another algorithm": {typeManifest, strings.Replace(manifestText(""), "sha256:", "sha512:", 1)},
		"digest in upper case":        {typeManifest, strings.Replace(manifestText(""), digestA, "sha256:"+strings.ToUpper(digestA[7:]), 1)},
		"empty digest":                {typeManifest, strings.Replace(manifestText(""), digestA, "", 1)},
		"digest with a path":          {typeManifest, strings.Replace(manifestText(""), digestA, "sha256:../../../etc/passwd", 1)},
		"manifest as layer":           {typeManifest, strings.Replace(manifestText(""), layerType, typeManifest, 1)},
		"layer in an index":           {typeIndex, strings.Replace(indexText(""), typeManifest, layerType, 1)},
		"subject without digest":      {typeManifest, manifestText(`,"subject":{"mediaType":"a/b","size":1}`)},
		"other data embedded":         {typeManifest, strings.Replace(manifestText(""), `"size":1`, `"size":1,"data":"eA=="`, 1)},
		"too deep":                    {typeManifest, manifestText(`,"a":` + strings.Repeat("[", 400) + strings.Repeat("]", 400))},
		"too many layers":             {typeManifest, `{"schemaVersion":2,"config":` + layer + `,"layers":[` + strings.Repeat(layer+",", 512) + layer + `]}`},
		"too large":                   {typeManifest, manifestText(`,"a":"` + strings.Repeat("x", 4*mib) + `"`)},
	}
	for name, b := range bad {
		m, err := parse(b.header, []byte(b.text), limits)
		if err == nil {
			t.Errorf("%s: taken as %s", name, m.mediaType)
			continue
		}
		if release.KindOf(err) != release.KindDenied {
			t.Errorf("%s: kind %q", name, release.KindOf(err))
		}
	}
}

// Whatever the bytes: no panic, and what is taken is one thing only.
func FuzzParse(f *testing.F) {
	f.Add(typeManifest, []byte(manifestText("")))
	f.Add(typeIndex, []byte(indexText("")))
	f.Add(typeManifest, []byte(manifestText(`,"Layers":null`)))
	limits := Limits{}.withDefaults()
	f.Fuzz(func(t *testing.T, header string, raw []byte) {
		m, err := parse(header, raw, limits)
		if err != nil {
			return
		}
		if (m.body.Config == nil) != isIndex(m.mediaType) || m.body.Manifests != nil && m.body.Layers != nil || m.digest != release.DigestOf(raw) {
			t.Errorf("%q is taken as %+v", raw, m)
		}
	})
}

func TestParseReference(t *testing.T) {
	digest := release.MustDigest(digestA)
	good := map[string]reference{
		"redis":                                 {repository{dockerHub, "library/redis"}, "latest", release.Digest{}},
		"redis:7":                               {repository{dockerHub, "library/redis"}, "7", release.Digest{}},
		"docker.io/acme/app":                    {repository{dockerHub, "acme/app"}, "latest", release.Digest{}},
		"index.docker.io/acme/app":              {repository{dockerHub, "acme/app"}, "latest", release.Digest{}},
		"localhost:5000/a/b:v1":                 {repository{"localhost:5000", "a/b"}, "v1", release.Digest{}},
		"ghcr.io/acme/app@" + digestA:           {repository{"ghcr.io", "acme/app"}, "", digest},
		"ghcr.io/acme/app:v1@" + digestA:        {repository{"ghcr.io", "acme/app"}, "", digest},
		"[::1]:5000/app:v1":                     {repository{"[::1]:5000", "app"}, "v1", release.Digest{}},
		"registry.acme.dev:5000/a.b/c__d-e:V_1": {repository{"registry.acme.dev:5000", "a.b/c__d-e"}, "V_1", release.Digest{}},
	}
	for text, want := range good {
		if got, err := parseReference(text); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "/", "ghcr.io/", "ghcr.io/App", "ghcr.io/a/../b", "ghcr.io/a//b", "ghcr.io/a/b/", "ghcr.io/a:", "ghcr.io/a:.x",
		"ghcr.io/a:b c", "ghcr.io/a@", "ghcr.io/a@b@" + digestA, "localhost:5000", "127.0.0.1:5000", "registry.acme.dev:443", "https://ghcr.io/a",
		"ghcr.io/a?x=y", "ghcr.io/a%2e", "ghcr.io/a#b", "user:secret@ghcr.io/a"} {
		if got, err := parseReference(text); release.KindOf(err) != release.KindUsage {
			t.Errorf("%q: got %+v, %v, want a usage error", text, got, err)
		}
	}
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "a.localhost:1": true, "127.0.0.1": true, "127.8.9.1:80": true, "[::1]:5000": true, "::1": true, "[::1]": true,
		"10.0.0.1": false, "localhost.evil.example": false, "notlocalhost": false, "127.0.0.1.evil.example": false, "[fe80::1]:5000": false, "": false, "0.0.0.0:5000": false,
	} {
		if got := Loopback(host); got != want {
			t.Errorf("%s: got %v", host, got)
		}
	}
}
