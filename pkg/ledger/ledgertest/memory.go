package ledgertest

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/promote-dev/promote/pkg/ledger"
)

// Memory is a store without a disk. Its zero value is an empty ledger.
type Memory struct {
	mu    sync.Mutex
	state ledger.State
	beats map[int64]int64
}

var _ ledger.Store = (*Memory)(nil)

func (m *Memory) String() string { return "in memory" }

// Read gives a copy of the state.
func (m *Memory) Read(ctx context.Context) (ledger.State, error) {
	if err := ctx.Err(); err != nil {
		return ledger.State{}, fmt.Errorf("reading the ledger %s: %w", m, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return ledger.State{Log: bytes.Clone(m.state.Log), Checkpoint: bytes.Clone(m.state.Checkpoint)}, nil
}

// Write compares and swaps.
func (m *Memory) Write(ctx context.Context, from ledger.Position, add, checkpoint []byte) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("appending to the ledger %s: %w", m, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if int64(len(m.state.Log)) != from.Found || !bytes.Equal(m.state.Checkpoint, from.Checkpoint) {
		return fmt.Errorf("appending to the ledger %s: %w", m, ledger.ErrMoved)
	}
	m.state = ledger.State{
		Log:        append(m.state.Log[:from.Keep], add...),
		Checkpoint: bytes.Clone(checkpoint),
	}
	return nil
}

// Rewrite compares and swaps.
func (m *Memory) Rewrite(ctx context.Context, from ledger.Position, log []byte) error {
	return m.Write(ctx, ledger.Position{Found: from.Found, Checkpoint: from.Checkpoint}, log, from.Checkpoint)
}

// Beat sets a counter.
func (m *Memory) Beat(_ context.Context, intent, count int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.beats == nil {
		m.beats = map[int64]int64{}
	}
	m.beats[intent] = count
	return nil
}

// Beats gives a counter.
func (m *Memory) Beats(_ context.Context, intent int64) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.beats[intent], nil
}

// Replace puts another state in place, as somebody with access to the disk can.
func (m *Memory) Replace(state ledger.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = ledger.State{Log: bytes.Clone(state.Log), Checkpoint: bytes.Clone(state.Checkpoint)}
}
