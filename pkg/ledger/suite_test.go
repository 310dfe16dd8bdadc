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
