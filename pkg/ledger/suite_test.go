package ledger_test

import (
	"path/filepath"
	"testing"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
)

func TestMemoryStore(t *testing.T) {
	ledgertest.Run(t, func(*testing.T) func() ledger.Store {
		m := &ledgertest.Memory{}
		return func() ledger.Store { return m }
	})
}

func TestFileStore(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T) func() ledger.Store {
		dir := filepath.Join(t.TempDir(), "project", "ledger")
		return func() ledger.Store { return ledger.NewFileStore(dir) }
	})
}

func TestGitStore(t *testing.T) {
	ledgertest.RunBriefly(t, func(t *testing.T) func() ledger.Store {
		remote, caches, n := bare(t), []string{shm(t), shm(t)}, 0
		return func() ledger.Store { // two machines, and two processes of each
			n++
			return ledger.NewGitStore(ledger.GitOptions{Remote: remote, Branch: "promote-ledger", Cache: caches[n%2]})
		}
	})
}
