package ledger

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/promote-dev/promote/pkg/release"
)

// replay is a log as it was verified, record by record.
type replay struct {
	chain
	before     chain // as it was when the newest record was judged
	entries    release.History
	ends       []int64 // where the line of each record ends in the log, with its line feed
	tree       tree
	keep       int64 // bytes of the log that entries stand for
	found      int64 // bytes of the log as read
	checkpoint release.Checkpoint
	// pending is a whole, verified record behind the checkpoint, without its
	// line feed: an append was interrupted.
	pending []byte
	// known is the log as it was read before; it only saves decoding it again.
	known release.History
}

func (t *replay) position() Position {
	return Position{Found: t.found, Keep: t.keep, Checkpoint: t.checkpoint.Envelope}
}

// clone gives a copy to extend. It shares what lies below: of the two only one
// may go on to be used with what was added to it.
func (t *replay) clone() *replay {
	next := *t
	next.frozen, next.places, next.stubs = maps.Clone(t.frozen), slices.Clone(t.places), slices.Clone(t.stubs)
	return &next
}

// reader gives the record and signer of a verified line, whose leaf hash the
// caller computed; by says who judges the signature.
type reader func(line []byte, leaf release.Digest, by func(release.Record) *judge) (release.Record, release.Signer, error)

// accept verifies a record's line as the log's next and appends it.
func (t *replay) accept(line []byte, read reader) (release.Entry, error) {
	leaf := leafOf(line)
	before := t.chain
	entry, err := t.next(line, digestOf(leaf), t.recalling(digestOf(leaf), read))
	if err != nil {
		return release.Entry{}, err
	}
	before.older = t.older // found while it was judged
	t.before = before
	if err := t.tree.add(t.n-1, leaf); err != nil {
		return release.Entry{}, err
	}
	t.entries = append(t.entries, entry)
	t.keep += int64(len(line)) + 1
	t.ends = append(t.ends, t.keep)
	return entry, nil
}

// recalling gives the record that was read in this place before, if the line is
// that one still.
func (t *replay) recalling(leaf release.Digest, read reader) reader {
	if t.n >= int64(len(t.known)) || t.known[t.n].Digest != leaf || t.known[t.n].Stub() {
		return read
	}
	e, asked := t.known[t.n], false
	return func(line []byte, leaf release.Digest, by func(release.Record) *judge) (release.Record, release.Signer, error) {
		if asked { // by somebody else
			return read(line, leaf, by)
		}
		asked = true
		return e.Record, e.Signer, nil
	}
}

// replay verifies what a store holds. Of what is known from before it decodes
// nothing again.
func (l *Ledger) replay(ctx context.Context, state State, known release.History, read reader) (*replay, error) {
	t := &replay{found: int64(len(state.Log)), known: known, chain: chain{l: l, first: func() *release.Trust { return firstTrust(bytes.NewReader(state.Log)) }}}
	if len(state.Checkpoint) > 0 {
		var err error
		if t.checkpoint, err = l.openCheckpoint(state.Checkpoint); err != nil {
			return nil, l.broken(err, "the checkpoint of the ledger %s is not valid", l.store)
		}
	}
	if err := l.settle(ctx, t, state.Log, read); err != nil {
		return nil, err
	}
	if t.pin.Trust != nil {
		t.first, t.before.first = nil, nil // they hold the log, and are of no use any more
	}
	t.known = nil
	return t, nil
}

// settle accepts what follows the records of t in a log, up to t's checkpoint,
// and judges that one and what comes behind it.
func (l *Ledger) settle(ctx context.Context, t *replay, log []byte, read reader) error {
	rest, err := l.covered(ctx, t, log, read)
	if err != nil {
		return err
	}
	if n := t.size(); n > 0 {
		root, err := t.tree.root(n)
		if err != nil {
			return err
		}
		if root != t.checkpoint.RootHash {
			return l.broken(fmt.Errorf("the records hash to %s, it says %s", root, t.checkpoint.RootHash),
				"the ledger %s is not what its checkpoint says", l.store)
		}
		if list := t.unauthorised(); len(list) > 0 {
			return l.broken(stubError(list[0]), "records of the ledger %s were hidden", l.store)
		}
		if err := t.believe(t.checkpoint); err != nil {
			return l.broken(err, "the checkpoint of the ledger %s does not count", l.store)
		}
	}
	if err := l.uncovered(t, rest, read); err != nil {
		return err
	}
	if err := t.unpinned(); err != nil {
		return l.broken(err, "the first records of the ledger %s do not count", l.store)
	}
	return nil
}

// covered accepts the records that the checkpoint covers and gives the bytes
// behind them.
func (l *Ledger) covered(ctx context.Context, t *replay, log []byte, read reader) ([]byte, error) {
	for n := t.size(); n < t.checkpoint.TreeSize; n++ {
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
	probe := t.apart()
	if _, err := probe.next(line, LeafHash(line), read); err != nil {
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
