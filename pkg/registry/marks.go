package registry

import (
	"crypto/sha256"
	"encoding"
	"hash"
	"io"
	"sync"
)

// markEvery is how far the marks of a blob lie apart: the most that is read
// again before an upload goes on in the middle.
const markEvery = 8 * mib

// marks are states of a hash that is being computed over a blob, so that a
// later reader can begin in the middle and still judge the whole.
type marks struct {
	mu     sync.Mutex
	states [][]byte // after each markEvery bytes
	from   *mirror  // that some of the bytes came from, nil if none did
}

// came remembers if bytes come from a mirror: when they turn out wrong, the
// origin is not to blame.
func (m *marks) came(body io.ReadCloser) {
	if b, ok := body.(*mirrorBody); ok {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.from = b.from
	}
}

// mirror gives who sent some of the bytes, nil if it was the registry alone.
func (m *marks) mirror() *mirror {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.from
}

// pass is told of each position that a reader reaches in order.
func (m *marks) pass(h hash.Hash, offset int64) {
	if offset == 0 || offset%markEvery != 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if int64(len(m.states)) != offset/markEvery-1 {
		return
	}
	if state, err := h.(encoding.BinaryMarshaler).MarshalBinary(); err == nil {
		m.states = append(m.states, state)
	}
}

// before gives the hash of the blob's beginning up to an offset, the last one
// that is known and not behind at.
func (m *marks) before(at int64) (hash.Hash, int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := sha256.New()
	n := min(int64(len(m.states)), at/markEvery)
	if n == 0 {
		return h, 0
	}
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(m.states[n-1]); err != nil {
		return sha256.New(), 0
	}
	return h, n * markEvery
}
