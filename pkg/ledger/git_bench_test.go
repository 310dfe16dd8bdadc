package ledger_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
)

// BenchmarkGitAppend appends to a bare repository on this machine's disk, with
// its syncs, whose branch has so many records of history: with a handle that
// goes on, and as a new process does, which reads the ledger first.
func BenchmarkGitAppend(b *testing.B) {
	for _, records := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(records), func(b *testing.B) { benchmarkGitAppend(b, records) })
	}
}

func benchmarkGitAppend(b *testing.B, records int) {
	m := &ledgertest.Memory{}
	filled(b, m, records)
	state, err := m.Read(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	remote, cache := filepath.Join(dir, "remote.git"), filepath.Join(dir, "cache")
	gitRun(b, dir, "init", "--quiet", "--bare", remote)
	if err := gitStore(remote, cache).Write(b.Context(), ledger.Position{}, state.Log, state.Checkpoint); err != nil {
		b.Fatal(err)
	}
	o := ledgertest.Options(gitStore(remote, cache))
	o.Cache, o.Trust = filepath.Join(dir, "signatures"), ledger.LeafHash(nil)
	l := opened(b, o)
	_, c, err := l.Read(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	size := c.TreeSize
	b.Run("goes on", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := l.Append(b.Context(), ledgertest.Released(1), size); err != nil {
				b.Fatal(err)
			}
			size++
		}
	})
	b.Run("store alone, anew", func(b *testing.B) {
		for b.Loop() {
			state, err := gitStore(remote, cache).Read(b.Context())
			if err != nil || len(state.Log) == 0 {
				b.Fatal(err)
			}
		}
	})
	b.Run("reads first", func(b *testing.B) {
		for b.Loop() {
			anew := o
			anew.Store = gitStore(remote, cache)
			l := opened(b, anew)
			_, c, err := l.Read(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if _, _, err := l.Append(b.Context(), ledgertest.Released(1), c.TreeSize); err != nil {
				b.Fatal(err)
			}
			size = c.TreeSize + 1
		}
	})
	b.Run("fetches all", func(b *testing.B) {
		for b.Loop() {
			fresh := b.TempDir()
			if _, err := gitStore(remote, fresh).Read(b.Context()); err != nil {
				b.Fatal(err)
			}
			if err := os.RemoveAll(fresh); err != nil {
				b.Fatal(err)
			}
		}
	})
}
