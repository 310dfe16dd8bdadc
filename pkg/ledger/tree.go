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

func digestOf(h tlog.Hash) release.Digest { return release.DigestFromSum(h) }

func hashOf(d release.Digest) tlog.Hash {
	var h tlog.Hash
	_, _ = hex.Decode(h[:], []byte(d.Hex())) // a Digest holds 64 hex digits or none
	return h
}

// LeafHash gives the leaf hash (RFC 6962, section 2.1) of a record's line
// without its line feed: the record's digest.
func LeafHash(line []byte) release.Digest { return digestOf(tlog.RecordHash(line)) }
