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
// change something.
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
	w, err := Open(t.Context(), Options{Binary: binary, Dir: t.TempDir(), Docker: os.Getenv("DOCKER_HOST"), Brief: true, Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Remove(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	seen, _, err := w.Survey(t.Context(), OfFirst)
	if err != nil {
		t.Fatal(err)
	}
	if len(seen[AtEngine]) < 30 || len(seen[AtRegistry]) < 30 {
		t.Fatalf("a promotion makes only %d requests to the engine and %d to the registry", len(seen[AtEngine]), len(seen[AtRegistry]))
	}
	for _, p := range []Point{
		{Of: OfFirst, Where: AtEngine, At: last(seen[AtEngine], "POST /containers/create"), After: true},
		{Of: OfFirst, Where: AtEngine, At: last(seen[AtEngine], "DELETE /containers/…")}, // its record is closed, its lock is there
		{Of: OfFirst, Where: AtRegistry, At: last(seen[AtRegistry], "PUT manifest by tag"), After: true},
	} {
		row, err := w.Try(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %s: recorded %s, then %s, %.1fs", p.Key(), row.What, row.Ledger, row.Outcome, row.Seconds)
		if !row.Killed || row.Fault != "" {
			t.Errorf("%s: killed %t, %s", p.Key(), row.Killed, row.Fault)
		}
	}
}

// last gives the number of the last of some requests.
func last(seen []string, what string) int {
	n := 0
	for i, s := range seen {
		if s == what {
			n = i + 1
		}
	}
	return n
}
