package engine

import (
	"archive/tar"
	"bytes"
	"testing"
)

func TestHolds(t *testing.T) {
	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }
	for _, c := range []struct {
		name    string
		entries []tar.Header
		want    bool
	}{
		{"empty", []tar.Header{dir("./")}, false},
		{"empty, by its name", []tar.Header{dir("data/")}, false},
		{"a file", []tar.Header{dir("./"), {Name: "./x", Typeflag: tar.TypeReg}}, true},
		{"a directory of its own name", []tar.Header{dir("./"), dir("./data/")}, true},
		{"a fresh file system", []tar.Header{dir("./"), dir("./lost+found/")}, false},
		{"a file system in use", []tar.Header{dir("./"), dir("./lost+found/"), {Name: "./x", Typeflag: tar.TypeSymlink, Linkname: "y"}}, true},
		{"nothing at all", nil, false},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, e := range c.entries {
			if err := w.WriteHeader(&e); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := holds(&b, "/data"); got != c.want || err != nil {
			t.Errorf("%s: got %t, %v", c.name, got, err)
		}
	}
	if _, err := holds(bytes.NewReader(bytes.Repeat([]byte("x"), 600)), "/data"); err == nil {
		t.Error("an answer that is no archive says something")
	}
}
