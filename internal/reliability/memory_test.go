package reliability

import (
	"archive/tar"
	"bytes"
	"maps"
	"testing"
)

// archived gives a volume's archive, and what is read of it.
func archived(t *testing.T, files map[string]string) memory {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	m, err := readMemory(&b)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// State that is gone, another or in part is seen; lines that hooks add are not
// in the way, halves of them are.
func TestSince(t *testing.T) {
	files := map[string]string{"./memory": "what was learned", "./notes/1": "a note", "./journal": "v1.0.0 stops\n"}
	was := archived(t, files)
	for name, c := range map[string]struct {
		change  map[string]string // "-": removed
		want    string
		stopped int
	}{
		"as it was":          {},
		"a hook ran":         {change: map[string]string{"./journal": "v1.0.0 stops\nv2.0.0 stops\n"}, stopped: 1},
		"two ran":            {change: map[string]string{"./journal": "v1.0.0 stops\nv2.0.0 stops\nv2.0.0 stops\n"}, stopped: 2},
		"half a line":        {change: map[string]string{"./journal": "v1.0.0 stops\nv2.0.0 st"}, want: "half a line", stopped: 1},
		"a line in a line":   {change: map[string]string{"./journal": "v1.0.0 stops\nv2.0v1.0.0 stops\n"}, want: "half a line", stopped: 1},
		"an older journal":   {change: map[string]string{"./journal": ""}, want: "does not begin as it did"},
		"no journal":         {change: map[string]string{"./journal": "-"}, want: "./journal is gone"},
		"a file cut short":   {change: map[string]string{"./memory": "what was"}, want: "./memory is another"},
		"a file gone":        {change: map[string]string{"./notes/1": "-"}, want: "./notes/1 is gone"},
		"a file of another":  {change: map[string]string{"./notes/2": "a note"}, want: "./notes/2 is new"},
		"emptied altogether": {change: map[string]string{"./memory": "-", "./notes/1": "-", "./journal": "-"}, want: "./memory is gone"},
	} {
		now := maps.Clone(files)
		for file, content := range c.change {
			if now[file] = content; content == "-" {
				delete(now, file)
			}
		}
		stopped, err := archived(t, now).since(was)
		if !says(err, c.want) || stopped != c.stopped {
			t.Errorf("%s: %d, %v; want %d, %q", name, stopped, err, c.stopped, c.want)
		}
	}
}
