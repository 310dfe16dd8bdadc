package store

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestStore(t *testing.T) {
	d := Open(filepath.Join(t.TempDir(), "layers"))
	if _, ok := d.Get("a"); ok {
		t.Error("an empty store has a value")
	}
	if err := d.Put("a", []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := d.Put("a", []byte("two")); err != nil {
		t.Fatal(err)
	}
	if v, ok := d.Get("a"); !ok || string(v) != "two" {
		t.Errorf("%q, %v", v, ok)
	}
	if err := d.Delete("a"); err != nil {
		t.Fatal(err)
	}
	if _, ok := d.Get("a"); ok {
		t.Error("deleted and still there")
	}
	if err := d.Delete("a"); err != nil {
		t.Errorf("deleting nothing: %v", err)
	}
}

func TestDamagedValuesAreAbsent(t *testing.T) {
	d := Open(t.TempDir())
	for name, harm := range map[string]func([]byte) []byte{
		"truncated": func(b []byte) []byte { return b[:len(b)-1] },
		"longer":    func(b []byte) []byte { return append(b, 'x') },
		"one bit":   func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"empty":     func([]byte) []byte { return nil },
		"header":    func(b []byte) []byte { b[9] ^= 1; return b },
	} {
		if err := d.Put(name, []byte("value")); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(d.file(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(d.file(name), harm(bytes.Clone(raw)), 0o600); err != nil {
			t.Fatal(err)
		}
		if v, ok := d.Get(name); ok {
			t.Errorf("%s: got %q", name, v)
		}
	}
}

func TestConcurrentWritersNeverShowAPart(t *testing.T) {
	d := Open(t.TempDir())
	values := [][]byte{bytes.Repeat([]byte("a"), 1<<16), bytes.Repeat([]byte("b"), 1<<10)}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 20 {
				if err := d.Put("k", values[i%2]); err != nil {
					t.Error(err)
				}
				if v, ok := d.Get("k"); !ok || !bytes.Equal(v, values[0]) && !bytes.Equal(v, values[1]) {
					t.Errorf("a part of %d bytes, %v", len(v), ok)
				}
			}
		}()
	}
	wg.Wait()
}
