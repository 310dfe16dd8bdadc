package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// Proof shows that a record is in the log that a checkpoint stands for, without
// the other records.
type Proof struct {
	Sequence int64 `json:"sequence"`
	// Envelope is the record's line, a DSSE envelope. It is absent where the line
	// was taken out of the log: then Leaf is its leaf hash, and an archive has it.
	Envelope json.RawMessage `json:"envelope,omitempty"`
	Leaf     release.Digest  `json:"leaf,omitzero"`
	// Hashes is the inclusion proof of RFC 6962, section 2.1.1, leaf first.
	Hashes     []release.Digest   `json:"hashes"`
	Checkpoint release.Checkpoint `json:"checkpoint"`
}

// Check reports why the proof does not hold. It checks hashes only: verify the
// signatures of Envelope and Checkpoint.Envelope too.
func (p Proof) Check() error {
	c, err := ParseCheckpoint(p.Checkpoint.Text)
	if err != nil {
		return err
	}
	if len(p.Hashes) > 64 {
		return fmt.Errorf("checking inclusion of record %d: %d hashes", p.Sequence, len(p.Hashes))
	}
	proof := make(tlog.RecordProof, len(p.Hashes))
	for i, h := range p.Hashes {
		proof[i] = hashOf(h)
	}
	if p.Sequence < 0 || p.Sequence >= c.TreeSize {
		return fmt.Errorf("checking inclusion of record %d: the checkpoint covers %d", p.Sequence, c.TreeSize)
	}
	leaf := hashOf(p.Leaf)
	if len(p.Envelope) > 0 {
		leaf = tlog.RecordHash(p.Envelope)
	}
	if err := tlog.CheckRecord(proof, c.TreeSize, hashOf(c.RootHash), p.Sequence, leaf); err != nil {
		return fmt.Errorf("checking inclusion of record %d: %w", p.Sequence, err)
	}
	return nil
}

// Prove gives the proof that the ledger holds a record. A sequence that does
// not exist is KindUsage. On a ledger that was read before it costs what was
// added since, and some hashes.
func (l *Ledger) Prove(ctx context.Context, sequence int64) (Proof, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, log, err := l.provable(ctx)
	if err != nil {
		return Proof{}, err
	}
	if sequence < 0 || sequence >= t.size() {
		return Proof{}, release.Misuse("promote log lists the records", "proving record %d: the ledger %s has %d records", sequence, l.store, t.size())
	}
	proof, err := tlog.ProveRecord(t.size(), sequence, &t.tree)
	if err != nil {
		return Proof{}, fmt.Errorf("proving record %d: %w", sequence, err)
	}
	if e := t.entries[sequence]; e.Stub() {
		return Proof{Sequence: sequence, Leaf: e.Digest, Hashes: digestsOf(proof), Checkpoint: t.checkpoint}, nil
	}
	line, err := l.line(ctx, t, log, sequence)
	if err != nil {
		return Proof{}, err
	}
	return Proof{Sequence: sequence, Envelope: line, Hashes: digestsOf(proof), Checkpoint: t.checkpoint}, nil
}

func digestsOf(hashes []tlog.Hash) []release.Digest {
	list := make([]release.Digest, len(hashes))
	for i, h := range hashes {
		list[i] = digestOf(h)
	}
	return list
}

// provable reads the ledger, with its bytes where the store cannot give a part
// of them later.
func (l *Ledger) provable(ctx context.Context) (*replay, []byte, error) {
	if _, ok := l.store.(Ranger); ok {
		t, err := l.load(ctx)
		return t, nil, err
	}
	state, err := l.store.Read(ctx)
	if err != nil {
		return nil, nil, err
	}
	t, err := l.replay(ctx, state, l.known, l.readOnce)
	return t, state.Log, err
}

// line gives a record's line, of the bytes that were read or from the store
// again. It is still what was verified.
func (l *Ledger) line(ctx context.Context, t *replay, log []byte, sequence int64) ([]byte, error) {
	var from int64
	if sequence > 0 {
		from = t.ends[sequence-1]
	}
	to := t.ends[sequence]
	if store, ok := l.store.(Ranger); ok && log == nil {
		part, _, err := store.ReadRange(ctx, from, to)
		if err != nil {
			return nil, err
		}
		log, from, to = part.Log, 0, int64(len(part.Log))
	}
	line := bytes.TrimSuffix(log[from:to], []byte{'\n'})
	if LeafHash(line) != t.entries[sequence].Digest {
		return nil, l.brokenRecord(errors.New("it was changed since it was read"), sequence)
	}
	return bytes.Clone(line), nil
}

// Contains checks that the log still begins with what an earlier checkpoint
// stood for. envelope is that checkpoint as a target carries it. A log that
// does not contain it, being empty, old, forked or edited, is KindIntegrity;
// so is a checkpoint that nobody trusted signed.
func (l *Ledger) Contains(ctx context.Context, envelope []byte) error {
	c, err := l.openCheckpoint(envelope)
	if err != nil {
		return l.broken(err, "the checkpoint that the ledger %s must contain is not valid", l.store)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t, err := l.load(ctx)
	if err != nil {
		return err
	}
	if t.size() < c.TreeSize {
		return l.broken(nil, "the ledger %s has %d records; a checkpoint over %d was seen before: this is an old or an empty copy",
			l.store, t.size(), c.TreeSize)
	}
	root, err := t.tree.root(c.TreeSize)
	if err != nil {
		return err
	}
	if root != c.RootHash {
		return l.broken(nil, "the first %d records of the ledger %s hash to %s; a checkpoint seen before says %s: one of the two was rewritten",
			c.TreeSize, l.store, root, c.RootHash)
	}
	if t.entries[c.TreeSize-1].Stub() {
		return nil // who may have signed it followed from a line that is gone; it says what the log does
	}
	if err := t.believe(c); err != nil {
		return l.broken(err, "the checkpoint that the ledger %s must contain does not count", l.store)
	}
	return nil
}

// VerifyAll checks the whole log from its bytes, every signature anew, and
// gives the checkpoint that it was found to agree with.
func (l *Ledger) VerifyAll(ctx context.Context) (c release.Checkpoint, err error) {
	step := event.Start(ctx, "[ledger] verifying %s", l.store)
	defer func() { step.Done(err) }()
	state, err := l.store.Read(ctx)
	if err != nil {
		return release.Checkpoint{}, err
	}
	total := int64(bytes.Count(state.Log, []byte{'\n'}))
	var done int64
	t, err := l.replay(ctx, state, nil, func(line []byte, leaf release.Digest, by func(release.Record) *judge) (release.Record, release.Signer, error) {
		if done++; done%256 == 0 {
			step.Count("records", done, total)
		}
		return l.readAnew(line, leaf, by)
	})
	if err != nil {
		return release.Checkpoint{}, err
	}
	return t.checkpoint, nil
}
