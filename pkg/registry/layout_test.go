package registry_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// files gives an image as the files of an image layout.
func files(tag string, img registrytest.Image) map[string][]byte {
	all := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	var add func(registrytest.Image)
	add = func(i registrytest.Image) {
		for _, b := range append([]release.Blob{i.Manifest}, i.Blobs...) {
			all["blobs/sha256/"+b.Digest.Hex()] = b.Bytes
		}
		for _, c := range i.Children {
			add(c)
		}
	}
	add(img)
	entry := map[string]any{"mediaType": img.Manifest.MediaType, "digest": img.Manifest.Digest, "size": len(img.Manifest.Bytes),
		"annotations": map[string]string{"org.opencontainers.image.ref.name": tag}}
	all["index.json"], _ = json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{entry}})
	return all
}

func writeFiles(t *testing.T, all map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range all {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

type tarEntry struct {
	header tar.Header
	body   []byte
}

func writeTar(t *testing.T, entries ...tarEntry) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.header.Size, e.header.Mode = int64(len(e.body)), 0o644
		if err := w.WriteHeader(&e.header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func entries(all map[string][]byte) []tarEntry {
	var list []tarEntry
	for name, b := range all {
		list = append(list, tarEntry{tar.Header{Name: name}, b})
	}
	return list
}

// A layout made by another tool, in a directory and in an archive with "./" names.
func TestForeignLayouts(t *testing.T) {
	h := newHostile(t)
	img := registrytest.NewIndex(registrytest.NewImage(1, 1000), registrytest.NewPlatformImage(2, "arm64", 10))
	all := files("v1", img)
	dotted := map[string][]byte{}
	for name, b := range all {
		dotted["./"+name] = b
	}
	for i, source := range []string{"oci:" + writeFiles(t, all), "oci-archive:" + writeTar(t, entries(dotted)...)} {
		repo := fmt.Sprintf("dst%d", i)
		for _, suffix := range []string{"", ":v1", "@" + img.Manifest.Digest.String()} {
			got, err := h.c.Transfer(t.Context(), source+suffix, h.dst.Host+"/"+repo, registry.CopyOptions{})
			if err != nil || got.Digest != img.Manifest.Digest {
				t.Fatalf("%s: %+v, %v", source+suffix, got, err)
			}
		}
		h.dst.Whole(t, repo, img)
		if status, _ := h.dst.Ask(http.MethodGet, "/v2/"+repo+"/manifests/v1"); status != http.StatusOK {
			t.Errorf("the tag was not taken over: %d", status)
		}
	}
}

func TestHostileLayouts(t *testing.T) {
	img := registrytest.NewImage(1, 1000)
	layer, manifest := "blobs/sha256/"+img.Blobs[1].Digest.Hex(), "blobs/sha256/"+img.Manifest.Digest.Hex()
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, img.Blobs[1].Bytes, 0o644); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		change func(all map[string][]byte)
		kind   release.Kind
	}{
		"other layer":      {func(all map[string][]byte) { all[layer] = bytes.Repeat([]byte("x"), 1000) }, release.KindDenied},
		"short layer":      {func(all map[string][]byte) { all[layer] = all[layer][:10] }, release.KindUnavailable},
		"long layer":       {func(all map[string][]byte) { all[layer] = append(bytes.Clone(all[layer]), 'x') }, release.KindUnavailable},
		"missing layer":    {func(all map[string][]byte) { delete(all, layer) }, release.KindUnavailable},
		"other manifest":   {func(all map[string][]byte) { all[manifest] = registrytest.NewImage(2, 1).Manifest.Bytes }, release.KindDenied},
		"huge manifest":    {func(all map[string][]byte) { all[manifest] = make([]byte, 5<<20) }, release.KindDenied},
		"index no JSON":    {func(all map[string][]byte) { all["index.json"] = []byte("{") }, release.KindDenied},
		"index with twins": {func(all map[string][]byte) { all["index.json"] = []byte(`{"manifests":[],"manifests":[]}`) }, release.KindDenied},
		"index with a path": {func(all map[string][]byte) {
			all["index.json"] = []byte(`{"manifests":[{"digest":"sha256:../../../etc/passwd"}]}`)
		}, release.KindDenied},
		"empty": {func(all map[string][]byte) { clear(all) }, release.KindUnavailable},
	}
	for name, c := range cases {
		for _, kind := range []string{"oci:", "oci-archive:"} {
			t.Run(kind+" "+name, func(t *testing.T) {
				h := newHostile(t)
				all := files("v1", img)
				c.change(all)
				path := writeFiles(t, all)
				if kind == "oci-archive:" {
					path = writeTar(t, entries(all)...)
				}
				_, err := h.c.Transfer(t.Context(), kind+path, h.dst.Host+"/dst:v1", registry.CopyOptions{})
				h.check(t, err, c.kind)
			})
		}
	}
	t.Run("a link that leads outside", func(t *testing.T) {
		h := newHostile(t)
		dir := writeFiles(t, files("v1", img))
		if err := os.Remove(filepath.Join(dir, layer)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, filepath.Join(dir, layer)); err != nil {
			t.Fatal(err)
		}
		_, err := h.c.Transfer(t.Context(), "oci:"+dir, h.dst.Host+"/dst:v1", registry.CopyOptions{})
		h.check(t, err, release.KindUnavailable)
	})
	t.Run("an archive with twins", func(t *testing.T) {
		h := newHostile(t)
		list := append(entries(files("v1", img)), tarEntry{tar.Header{Name: "./index.json"}, []byte(`{"manifests":[]}`)})
		_, err := h.c.Transfer(t.Context(), "oci-archive:"+writeTar(t, list...), h.dst.Host+"/dst:v1", registry.CopyOptions{})
		h.check(t, err, release.KindDenied, "twice")
	})
	t.Run("an archive with a link for a layer", func(t *testing.T) {
		h := newHostile(t)
		all := files("v1", img)
		delete(all, layer)
		list := append(entries(all), tarEntry{header: tar.Header{Name: layer, Typeflag: tar.TypeSymlink, Linkname: outside}})
		_, err := h.c.Transfer(t.Context(), "oci-archive:"+writeTar(t, list...), h.dst.Host+"/dst:v1", registry.CopyOptions{})
		h.check(t, err, release.KindUnavailable)
	})
	t.Run("no archive", func(t *testing.T) {
		h := newHostile(t)
		_, err := h.c.Transfer(t.Context(), "oci-archive:"+outside, h.dst.Host+"/dst:v1", registry.CopyOptions{})
		h.check(t, err, release.KindDenied)
	})
}

// A failed copy leaves no archive, and an existing file as it was.
func TestArchiveWholeOrNotAtAll(t *testing.T) {
	h := newHostile(t)
	img := registrytest.NewImage(1, 1000)
	h.src.Put(t, "src", "v1", img)
	dir := t.TempDir()
	h.src.On("GET", "/blobs/"+img.Blobs[1].Digest.String(), registrytest.Answer(500, nil))
	_, err := h.c.Transfer(t.Context(), h.src.Host+"/src:v1", "oci-archive:"+filepath.Join(dir, "a.tar"), registry.CopyOptions{})
	h.check(t, err, release.KindUnavailable)
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// The same content gives the same archive, which other tools can read.
func TestArchiveIsReproducible(t *testing.T) {
	h := newHostile(t)
	s := h.src.Put(t, "src", "v1", registrytest.NewIndex(registrytest.NewImage(1, 100_000, 7), registrytest.NewPlatformImage(2, "arm64", 10)))
	dir := t.TempDir()
	var sums []release.Digest
	for _, name := range []string{"a.tar", "b.tar"} {
		if _, err := h.c.Transfer(t.Context(), s.String(), "oci-archive:"+filepath.Join(dir, name)+":x", registry.CopyOptions{}); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, release.DigestOf(raw))
	}
	if sums[0] != sums[1] {
		t.Errorf("got %s and %s", sums[0], sums[1])
	}
	f, err := os.Open(filepath.Join(dir, "a.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	names := map[string]bool{}
	for r := tar.NewReader(f); ; {
		entry, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names[entry.Name] = true
		if hex, ok := strings.CutPrefix(entry.Name, "blobs/sha256/"); ok {
			content, err := io.ReadAll(r)
			if err != nil || release.DigestOf(content).Hex() != hex {
				t.Errorf("%s: %v", entry.Name, err)
			}
		}
	}
	if !names["oci-layout"] || !names["index.json"] || len(names) != 10 {
		t.Errorf("got %v", names)
	}
}

func TestTransferNames(t *testing.T) {
	h := newHostile(t)
	s := h.src.Put(t, "src", "v1", registrytest.NewImage(1, 10))
	for _, pair := range [][2]string{
		{"oci:", h.dst.Host + "/dst"}, {"oci-archive://host/x", h.dst.Host + "/dst"}, {"oci:/x@sha256:1", h.dst.Host + "/dst"},
		{h.src.Host + "/src:v1", "oci:" + t.TempDir() + ":-bad"}, {h.src.Host + "/src:v1", h.dst.Host + "/dst@" + release.DigestOf(nil).String()},
		{h.src.Host + "/src:v1", "dst@sha256:x"}, {h.src.Host + "/src:v1", h.dst.Host + "/dst:" + strings.Repeat("x", 129)},
	} {
		_, err := h.c.Transfer(t.Context(), pair[0], pair[1], registry.CopyOptions{})
		h.check(t, err, release.KindUsage)
	}
	got, err := h.c.Transfer(t.Context(), h.src.Host+"/src:v1", h.dst.Host+"/dst", registry.CopyOptions{Tags: []string{"x"}})
	if err != nil || len(got.Tags) != 1 || got.Tags[0] != "x" {
		t.Errorf("tags: %+v, %v", got, err)
	}
	got, err = h.c.Transfer(t.Context(), s.String(), h.dst.Host+"/two@"+s.Digest.String(), registry.CopyOptions{})
	if err != nil || len(got.Tags) != 0 {
		t.Errorf("a digest was tagged: %+v, %v", got, err)
	}
}

// What `docker save` writes since Docker 25, with one name and with two, and a
// layout whose name is a whole reference.
func TestLayoutNames(t *testing.T) {
	img := registrytest.NewImage(1, 1000)
	saved := func(names ...string) map[string][]byte {
		all := files("", img)
		var list []any
		for _, name := range names {
			list = append(list, map[string]any{"mediaType": img.Manifest.MediaType, "digest": img.Manifest.Digest, "size": len(img.Manifest.Bytes),
				"annotations": map[string]string{"io.containerd.image.name": "docker.io/acme/" + name, "org.opencontainers.image.ref.name": name}})
		}
		all["index.json"], _ = json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeIndex, "manifests": list})
		all["manifest.json"], all["repositories"] = []byte(`[{"Config":"blobs/sha256/x"}]`), []byte(`{}`)
		return all
	}
	for name, c := range map[string]struct {
		names []string
		tag   string
	}{
		"a tag":              {[]string{"v1"}, "v1"},
		"two tags":           {[]string{"v1", "latest"}, ""},
		"a whole reference":  {[]string{"docker.io/acme/app:v2"}, "v2"},
		"a name without tag": {[]string{"docker.io/acme/app"}, ""},
		"no name":            {[]string{""}, ""},
		"something odd":      {[]string{"-x y"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t)
			list := append(entries(saved(c.names...)),
				tarEntry{header: tar.Header{Name: "blobs/", Typeflag: tar.TypeDir}}, tarEntry{header: tar.Header{Name: "blobs/sha256/", Typeflag: tar.TypeDir}})
			got, err := h.c.Transfer(t.Context(), "oci-archive:"+writeTar(t, list...), h.dst.Host+"/dst", registry.CopyOptions{Referrers: true})
			if err != nil || got.Digest != img.Manifest.Digest || strings.Join(got.Tags, " ") != c.tag {
				t.Fatalf("got %+v, %v, want tag %q", got, err, c.tag)
			}
			h.dst.Whole(t, "dst", img)
		})
	}
	t.Run("an older docker save", func(t *testing.T) {
		h := newHostile(t)
		all := saved("v1")
		delete(all, "index.json")
		_, err := h.c.Transfer(t.Context(), "oci-archive:"+writeTar(t, entries(all)...), h.dst.Host+"/dst:v1", registry.CopyOptions{})
		h.check(t, err, release.KindUsage, "docker save")
	})
}

// Names that lead elsewhere are no files of the layout, and an archive that ends
// early is none.
func TestHostileArchives(t *testing.T) {
	img := registrytest.NewImage(1, 3000)
	t.Run("names that lead elsewhere", func(t *testing.T) {
		h := newHostile(t)
		all := files("v1", img)
		layer := "blobs/sha256/" + img.Blobs[1].Digest.Hex()
		for _, name := range []string{"../" + layer, "/" + layer, "x/" + layer, "blobs/sha256/../../../" + layer} {
			moved := entries(all)
			for i := range moved {
				if moved[i].header.Name == layer {
					moved[i].header.Name = name
				}
			}
			_, err := h.c.Transfer(t.Context(), "oci-archive:"+writeTar(t, moved...), h.dst.Host+"/dst:v1", registry.CopyOptions{})
			h.check(t, err, release.KindUnavailable)
		}
	})
	for _, kind := range []byte{tar.TypeSymlink, tar.TypeLink, tar.TypeFifo, tar.TypeChar, tar.TypeDir} {
		t.Run("index.json is no file: "+string(kind), func(t *testing.T) {
			h := newHostile(t)
			all := files("v1", img)
			delete(all, "index.json")
			list := append(entries(all), tarEntry{header: tar.Header{Name: "index.json", Typeflag: kind, Linkname: "/etc/passwd"}})
			_, err := h.c.Transfer(t.Context(), "oci-archive:"+writeTar(t, list...), h.dst.Host+"/dst:v1", registry.CopyOptions{})
			h.check(t, err, release.KindUnavailable)
		})
	}
	t.Run("cut off", func(t *testing.T) {
		h := newHostile(t)
		s := h.src.Put(t, "src", "v1", img)
		whole := filepath.Join(t.TempDir(), "whole.tar")
		if _, err := h.c.Transfer(t.Context(), s.String(), "oci-archive:"+whole+":v1", registry.CopyOptions{}); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(whole)
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(raw)-1024; n += 500 { // the last two blocks are the end's
			file, repo := filepath.Join(t.TempDir(), "cut.tar"), fmt.Sprintf("dst%d", n)
			if err := os.WriteFile(file, raw[:n], 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := h.c.Transfer(t.Context(), "oci-archive:"+file, h.dst.Host+"/"+repo+":v1", registry.CopyOptions{})
			switch kind := release.KindOf(err); {
			case err == nil: // what was cut off is the padding behind the index
				h.dst.Whole(t, repo, img)
			case kind != release.KindDenied && kind != release.KindUnavailable:
				t.Errorf("cut at %d of %d: %v", n, len(raw), err)
			case count(h.dst, "PUT", "/v2/"+repo+"/manifests/") > 0:
				t.Errorf("cut at %d of %d: the destination was changed", n, len(raw))
			}
		}
	})
}

// A layout or archive that cannot be written says where, and leaves nothing
// that looks complete.
func TestLayoutThatCannotBeWritten(t *testing.T) {
	h := newHostile(t)
	s := h.src.Put(t, "src", "v1", registrytest.NewImage(1, 1000))
	dir := t.TempDir()
	obstacle := filepath.Join(dir, "obstacle")
	if err := os.WriteFile(obstacle, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	taken := filepath.Join(dir, "taken")
	if err := os.MkdirAll(taken, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(taken, "blobs"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, destination := range []string{"oci:" + obstacle, "oci:" + obstacle + "/below", "oci:" + taken, "oci-archive:" + obstacle + "/x.tar", "oci-archive:" + dir + "/absent/x.tar"} {
		_, err := h.c.Transfer(t.Context(), s.String(), destination+":v1", registry.CopyOptions{})
		h.check(t, err, release.KindUnavailable, filepath.Base(dir))
	}
	_, err := h.c.Transfer(t.Context(), s.String(), "oci-archive:"+obstacle+":v1", registry.CopyOptions{})
	h.check(t, err, release.KindDenied)
	for file, want := range map[string]string{obstacle: "mine", filepath.Join(taken, "blobs"): "mine"} {
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
	if _, err := os.Stat(filepath.Join(taken, "index.json")); err == nil {
		t.Error("there is an index of what is not there")
	}
}

// The same image with the same evidence gives the same archive, in whatever
// order the answers come.
func TestArchiveWithEvidenceIsReproducible(t *testing.T) {
	h := newHostile(t)
	img := registrytest.NewIndex(registrytest.NewImage(1, 1000), registrytest.NewPlatformImage(2, "arm64", 10))
	s := h.src.Put(t, "src", "v1", img)
	backend := inMemory(true)
	for _, about := range []registrytest.Image{img, img.Children[0], img.Children[1]} {
		for i := range 4 {
			sbom := backend.PutReferrer(t, h.src, "src", about.Manifest, "application/spdx+json", fmt.Sprint("sbom ", i, about.Manifest.Digest))
			backend.PutReferrer(t, h.src, "src", sbom.Manifest, "application/x", fmt.Sprint("about it ", i))
		}
		of := s
		of.Digest = about.Manifest.Digest
		h.src.PutLegacy(t, of, release.LegacySignature, registrytest.NewSignature(of, "one"))
	}
	dir := t.TempDir()
	sums := map[release.Digest]bool{}
	for i := range 4 {
		file := filepath.Join(dir, fmt.Sprint(i))
		got, err := h.c.Transfer(t.Context(), s.String(), "oci-archive:"+file+":x", registry.CopyOptions{Referrers: true})
		if err != nil || got.Referrers != 24 || got.Legacy != 3 {
			t.Fatalf("%+v, %v", got, err)
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sums[release.DigestOf(raw)] = true
	}
	if len(sums) != 1 {
		t.Errorf("%d different archives", len(sums))
	}
}
