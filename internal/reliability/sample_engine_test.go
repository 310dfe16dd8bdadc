//go:build engine

package reliability

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// A few points of the matrix that `make reliability` tries in full: the first
// promotion of an environment, killed before and after requests and calls that
// change something. The last one is followed by a deployment over it, with the
// store's hook, a snapshot of its volume, and the worker replaced while it runs.
func TestASampleOfTheMatrix(t *testing.T) {
	binary, err := filepath.Abs("../../bin/promote")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("no bin/promote; make build makes it")
	}
	w, err := Open(t.Context(), Options{Binary: binary, Dir: t.TempDir(), Docker: os.Getenv("DOCKER_HOST"), Brief: true, State: true, Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Remove(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	for _, c := range []struct {
		where string
		what  string
		n     int // the how manieth of its kind
		after bool
	}{
		{AtEngine, "POST /containers/create", 2, true},  // the first one is the lock
		{AtEngine, "DELETE /containers/…", 1, false},    // the lock's; the record is closed
		{AtRegistry, "PUT manifest by tag", 1, true},    // nothing runs yet
		{AtEngine, "POST /containers/…/start", 1, true}, // the store's: resume stops it and keeps its volume
	} {
		row, err := w.Try(t.Context(), Point{Of: OfFirst, Where: c.where, Call: c.what, At: c.n, After: c.after})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: recorded %s, then %s, %.1fs", c.what, row.Ledger, row.Outcome, row.Seconds)
		if !row.Killed || row.What != c.what || row.Fault != "" {
			t.Errorf("%s: killed %t at %q: %s", c.what, row.Killed, row.What, row.Fault)
		}
	}
}
