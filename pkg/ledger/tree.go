package ledger

import (
	"encoding/hex"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/promote-dev/promote/pkg/release"
)

// tree is a Merkle tree of RFC 6962 in memory: its stored hashes in the order
// that tlog numbers them.
type tree struct{ hashes []tlog.Hash }

// ReadHashes gives stored hashes by index.
func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index < 0 || index >= int64(len(t.hashes)) {
			return nil, fmt.Errorf("reading Merkle tree: no hash %d of %d", index, len(t.hashes))
		}
		out[i] = t.hashes[index]
	}
	return out, nil
}

// add appends the leaf with number n.
func (t *tree) add(n int64, leaf tlog.Hash) error {
	hashes, err := tlog.StoredHashesForRecordHash(n, leaf, t)
	if err != nil {
		return err
	}
	t.hashes = append(t.hashes, hashes...)
	return nil
}

// root gives the root hash of the first n leaves.
func (t *tree) root(n int64) (release.Digest, error) {
	h, err := tlog.TreeHash(n, t)
	return digestOf(h), err
}

// compact is the right edge of a Merkle tree: the root hashes of the complete
// subtrees that its leaves fill, the largest first. It is enough to go on from,
// and to tell the root hash, and holds one hash for each bit that is set in n.
type compact struct {
	n     int64
	edges []tlog.Hash
}

func (t *compact) add(leaf tlog.Hash) {
	t.edges = append(t.edges, leaf)
	for n := t.n; n&1 == 1; n >>= 1 {
		last := len(t.edges) - 1
		t.edges[last-1] = tlog.NodeHash(t.edges[last-1], t.edges[last])
		t.edges = t.edges[:last]
	}
	t.n++
}

// root gives the root hash; an empty tree has none.
func (t *compact) root() release.Digest {
	if t.n == 0 {
		return release.Digest{}
	}
	h := t.edges[len(t.edges)-1]
	for i := len(t.edges) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.edges[i], h)
	}
	return digestOf(h)
}

func digestOf(h tlog.Hash) release.Digest { return release.DigestFromSum(h) }

func hashOf(d release.Digest) tlog.Hash {
	var h tlog.Hash
	_, _ = hex.Decode(h[:], []byte(d.Hex())) // a Digest holds 64 hex digits or none
	return h
}

// LeafHash gives the leaf hash (RFC 6962, section 2.1) of a record's line
// without its line feed: the record's digest.
func LeafHash(line []byte) release.Digest { return digestOf(tlog.RecordHash(line)) }
