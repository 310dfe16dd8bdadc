package ledger_test

import (
	"testing"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
)

func filled(b *testing.B, store ledger.Store, n int) *ledger.Ledger {
	b.Helper()
	l := opened(b, ledgertest.Options(store))
	for i := range n {
		if _, _, err := l.Append(b.Context(), ledgertest.Released(i), int64(i)); err != nil {
			b.Fatal(err)
		}
	}
	return l
}

// BenchmarkAppend appends to a log of 10,000 records, with its fsyncs.
func BenchmarkAppend(b *testing.B) {
	m := &ledgertest.Memory{}
	filled(b, m, 10_000)
	state, _ := m.Read(b.Context())
	store := ledger.NewFileStore(b.TempDir())
	if err := store.Write(b.Context(), ledger.Position{}, state.Log, state.Checkpoint); err != nil {
		b.Fatal(err)
	}
	l := opened(b, ledgertest.Options(store))
	_, c, err := l.Read(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for size := c.TreeSize; b.Loop(); size++ {
		if _, _, err := l.Append(b.Context(), ledgertest.Released(1), size); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead reads a log of 10,000 records: anew, from a process that has
// read it before, and whole with every signature.
func BenchmarkRead(b *testing.B) {
	m := &ledgertest.Memory{}
	l := filled(b, m, 10_000)
	b.Run("again", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := l.Read(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("anew", func(b *testing.B) {
		for b.Loop() {
			if _, err := l.VerifyAll(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("remembered", func(b *testing.B) {
		o := ledgertest.Options(m)
		o.Cache, o.Trust = b.TempDir(), ledger.LeafHash(nil)
		if _, _, err := opened(b, o).Read(b.Context()); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, _, err := opened(b, o).Read(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
