package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/promote-dev/promote/pkg/ledger"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "audit" { // a process of its own
		main()
		return
	}
	os.Exit(m.Run())
}

// TestASample measures small ledgers: what the generator writes is what a
// ledger takes for its own, and every figure is there.
func TestASample(t *testing.T) {
	dir := t.TempDir()
	report, err := measure(t.Context(), settings{sizes: []int64{5, 12}, appends: 3, proofs: 5, dir: dir, memory: dir})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Results) != 2 {
		t.Fatalf("%+v", report)
	}
	for i, r := range report.Results {
		for what, got := range map[string]float64{
			"append": r.Append.Median, "in memory": r.AppendMemory.Median, "sync": r.Sync.Median, "proof": r.Proof.Median,
			"cold": r.Cold, "warm": r.Warm, "heap": float64(r.Resident), "audit": r.Audit.Seconds, "audit's memory": float64(r.Audit.Peak), "audit again": r.AuditAgain.Seconds,
		} {
			if got <= 0 {
				t.Errorf("%d records: no figure for %s", r.Records, what)
			}
		}
		if want := []int64{5, 12}[i]; r.Records != want || r.Bytes < want*400 {
			t.Errorf("%d records in %d bytes", r.Records, r.Bytes)
		}
	}
}

func TestGeneratedLedgersAreGrown(t *testing.T) {
	g := &generator{dir: filepath.Join(t.TempDir(), "ledger")}
	for _, n := range []int64{2, 3, 7, 8, 21} {
		if err := g.grow(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		l, err := ledger.Open(t.Context(), options(ledger.NewFileStore(g.dir)))
		if err != nil {
			t.Fatal(err)
		}
		if h, c, err := l.Read(t.Context()); err != nil || int64(len(h)) != n || c.TreeSize != n {
			t.Fatalf("%d records of %d, %v", len(h), n, err)
		}
	}
}
