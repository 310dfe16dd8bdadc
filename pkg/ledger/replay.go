package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/promote-dev/promote/pkg/release"
)

// replay is a log as it was verified, record by record.
type replay struct {
	l          *Ledger
	log        []byte // as read
	entries    release.History
	pin        release.Pin
	pinned     *release.Trust // what policy was made of
	policy     *policy        // nil until a record is judged by a pinned trust
	older      *policy        // judges what no trust is pinned for; nil is the project's
	tree       tree
	frozen     map[string]release.Signer // who froze each frozen environment
	keep       int64                     // bytes of the log that entries stand for
	found      int64                     // bytes of the log as read
	checkpoint release.Checkpoint
	// pending is a whole, verified record behind the checkpoint, without its
	// line feed: an append was interrupted.
	pending []byte
}

func (t *replay) size() int64 { return int64(len(t.entries)) }

// last gives the leaf hash of the newest record, zero for an empty log.
func (t *replay) last() release.Digest {
	if len(t.entries) == 0 {
		return release.Digest{}
	}
	return t.entries[len(t.entries)-1].Digest
}

func (t *replay) position() Position {
	return Position{Found: t.found, Keep: t.keep, Checkpoint: t.checkpoint.Envelope}
}

// clone gives a copy to extend. It shares what lies below; t must not be
// extended any more once the copy is.
func (t *replay) clone() *replay {
	next := *t
	return &next
}

// reader gives the record and signer of a verified line, whose leaf hash the
// caller computed; by says who judges the signature.
type reader func(line []byte, leaf release.Digest, by func(release.Record) *judge) (release.Record, release.Signer, error)

// accept verifies a record's line as the log's next and appends it.
func (t *replay) accept(line []byte, read reader) (release.Entry, error) {
	if len(line) > maxRecord {
		return release.Entry{}, fmt.Errorf("%d bytes, at most %d", len(line), maxRecord)
	}
	leaf := tlog.RecordHash(line)
	digest := digestOf(leaf)
	r, signer, err := t.read(line, digest, read)
	if err != nil {
		return release.Entry{}, err
	}
	if err := t.tree.add(t.size(), leaf); err != nil {
		return release.Entry{}, err
	}
	t.freeze(r, signer)
	entry := release.Entry{Record: r, Digest: digest, Signer: signer}
	t.entries = append(t.entries, entry)
	t.pin = t.pin.Next(entry)
	t.keep += int64(len(line)) + 1
	return entry, nil
}

// read verifies a record's line as the log's next: by the trust in force, else
// as the confirmation of a change, else by the first trust that is pinned.
func (t *replay) read(line []byte, leaf release.Digest, read reader) (release.Record, release.Signer, error) {
	may := func(r release.Record, s release.Signer) error { return mayRecord(r, s, t.frozen) }
	r, signer, err := t.readBy(t.judge, may, line, leaf, read)
	if refused(err) && t.confirms(r) {
		return t.readBy(t.newcomer, mayConfirm, line, leaf, read)
	}
	if refused(err) && t.adoptOlder() {
		return t.readBy(t.judge, may, line, leaf, read)
	}
	return r, signer, err
}

func (t *replay) readBy(
	by func(release.Record) *judge, may func(release.Record, release.Signer) error, line []byte, leaf release.Digest, read reader,
) (release.Record, release.Signer, error) {
	r, signer, err := read(line, leaf, by)
	if err != nil {
		return r, signer, err
	}
	if err := t.follows(r); err != nil {
		return r, signer, err
	}
	if err := mayPin(r); err != nil {
		return r, signer, err
	}
	if err := timely(r, signer); err != nil {
		return r, signer, err
	}
	return r, signer, may(r, signer)
}

// refused tells a no from an answer that could not be had.
func refused(err error) bool {
	switch release.KindOf(err) {
	case release.KindUnavailable, release.KindInterrupted:
		return false
	}
	return err != nil
}

// follows reports why// follows reports why the record cannot be the next one.
func (t *replay) follows(r release.Record) error {
	if r.Sequence != t.size() {
		return fmt.Errorf("it says it is record %d", r.Sequence)
	}
	if r.Previous != t.last() {
		return fmt.Errorf("it follows the record %s, the one before it is %s", r.Previous, t.last())
	}
	if r.Intent == nil {
		return nil
	}
	if i := *r.Intent; i < 0 || i >= t.size() || t.entries[i].Record.Phase != release.Intended ||
		t.entries[i].Record.Environment != r.Environment {
		return fmt.Errorf("it closes record %d, which is not an intended record of environment %q", i, r.Environment)
	}
	return nil
}

func (t *replay) freeze(r release.Record, s release.Signer) {
	switch r.Phase {
	case release.Frozen:
		if t.frozen == nil {
			t.frozen = map[string]release.Signer{}
		}
		t.frozen[r.Environment] = s
	case release.Unfrozen:
		delete(t.frozen, r.Environment)
	}
}

// replay verifies what a store holds.
func (l *Ledger) replay(ctx context.Context, state State, read reader) (*replay, error) {
	t := &replay{l: l, log: state.Log, found: int64(len(state.Log))}
	if len(state.Checkpoint) > 0 {
		var err error
		if t.checkpoint, err = l.openCheckpoint(state.Checkpoint); err != nil {
			return nil, l.broken(err, "the checkpoint of the ledger %s is not valid", l.store)
		}
	}
	rest, err := l.covered(ctx, t, state.Log, read)
	if err != nil {
		return nil, err
	}
	if n := t.size(); n > 0 {
		root, err := t.tree.root(n)
		if err != nil {
			return nil, err
		}
		if root != t.checkpoint.RootHash {
			return nil, l.broken(fmt.Errorf("the records hash to %s, it says %s", root, t.checkpoint.RootHash),
				"the ledger %s is not what its checkpoint says", l.store)
		}
		if err := t.believe(t.checkpoint); err != nil {
			return nil, l.broken(err, "the checkpoint of the ledger %s does not count", l.store)
		}
	}
	if err := l.uncovered(t, rest, read); err != nil {
		return nil, err
	}
	if t.older != nil && t.pin.Trust == nil {
		return nil, l.broken(errors.New("they were judged by a trust that was proposed and never came into force"),
			"the first records of the ledger %s do not count", l.store)
	}
	return t, nil
}

// covered accepts the records that the checkpoint covers and gives the bytes
// behind them.
func (l *Ledger) covered(ctx context.Context, t *replay, log []byte, read reader) ([]byte, error) {
	for n := int64(0); n < t.checkpoint.TreeSize; n++ {
		if n%64 == 0 && ctx.Err() != nil {
			return nil, fmt.Errorf("reading the ledger %s: %w", l.store, ctx.Err())
		}
		line, rest, whole := bytes.Cut(log, []byte{'\n'})
		if !whole {
			return nil, l.broken(nil, "the ledger %s holds %d records, its checkpoint covers %d", l.store, n, t.checkpoint.TreeSize)
		}
		if _, err := t.accept(line, read); err != nil {
			return nil, l.brokenRecord(err, n)
		}
		log = rest
	}
	return log, nil
}

// uncovered judges what follows the last checkpoint. A crash leaves at most
// one append there: a torn line, which was never part of the log, or one whole
// record. Anything more means that the checkpoint was exchanged for an older
// one, or that somebody else wrote.
func (l *Ledger) uncovered(t *replay, rest []byte, read reader) error {
	line, more, whole := bytes.Cut(rest, []byte{'\n'})
	if !whole {
		return nil
	}
	if _, err := openEnvelope(line, PayloadTypeRecord); err != nil && len(more) == 0 {
		return nil // blocks of the line never reached the disk
	}
	if len(more) > 0 {
		return l.broken(nil, "the ledger %s goes on behind record %d, where its checkpoint ends", l.store, t.size()-1)
	}
	probe := t.clone()
	probe.frozen = maps.Clone(t.frozen)
	if _, err := probe.accept(line, read); err != nil {
		return l.brokenRecord(err, t.size())
	}
	t.pending = bytes.Clone(line)
	return nil
}

const brokenHint = "promote nothing until it is known why: compare with a copy of the ledger, or with the checkpoints on the targets. " +
	"If a key was exchanged on purpose while the ledger pinned no trust, name the former key under trust too"

// broken makes the fault of a log that contradicts itself. "Could not verify"
// stays what it is.
func (l *Ledger) broken(err error, format string, args ...any) error {
	switch release.KindOf(err) {
	case release.KindUnavailable, release.KindInterrupted:
		return err
	}
	fault := release.Faultf(release.KindIntegrity, brokenHint, format, args...)
	if err != nil {
		fault.Err = fmt.Errorf("%w: %w", fault.Err, err)
	}
	return fault
}

func (l *Ledger) brokenRecord(err error, n int64) error {
	return l.broken(err, "record %d of the ledger %s is not what was signed", n, l.store)
}
