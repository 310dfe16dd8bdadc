package ledger

import (
	"context"
	"fmt"
)

// Limits of what is read from a store.
const (
	maxRecord     = 1 << 20 // bytes of a record's line
	maxCheckpoint = 1 << 16 // bytes of a checkpoint's envelope
	maxLog        = 4 << 30 // bytes of a log
)

// Store is where a ledger's bytes live. It understands none of them: what it
// gives back is verified by the Ledger. Its errors are KindUnavailable faults.
// It may be used by several goroutines and processes at once. ledgertest.Run
// is its contract as a test.
type Store interface {
	// Read gives the log and its newest checkpoint as one consistent pair: never
	// the log of one moment with the checkpoint of another. What does not exist
	// is empty.
	Read(ctx context.Context) (State, error)
	// Write makes the log's first Keep bytes, followed by add, the log, and
	// checkpoint its newest checkpoint, if both are still what from says; else
	// the error is ErrMoved and nothing changed. When it returns nil, everything
	// is durable. When it fails, the old pair is in force, or the error says
	// that this is not certain; a crash may leave add in place without its
	// checkpoint, never a checkpoint without its records.
	Write(ctx context.Context, from Position, add, checkpoint []byte) error
	// Rewrite puts another log in place of the one that from says, under the same
	// checkpoint, on the same condition. When it returns nil, it is durable. A
	// crash leaves the one log or the other, whole.
	Rewrite(ctx context.Context, from Position, log []byte) error
	// Beat sets an intent's counter beside the log; zero removes it. It need
	// not be durable.
	Beat(ctx context.Context, intent, count int64) error
	// Beats gives an intent's counter, zero if there is none.
	Beats(ctx context.Context, intent int64) (int64, error)

	fmt.Stringer // names the place to a person
}

// Ranger is a Store that gives a part of the log, for those who know the rest: a
// log only grows, but for lines that were taken out or brought back.
type Ranger interface {
	// ReadRange gives the log's bytes from one offset to another, or to its end
	// if that is negative, with the newest checkpoint as Read does. It is false,
	// without an error, if the log is shorter than either of them.
	ReadRange(ctx context.Context, from, to int64) (State, bool, error)
}

// State is what a store holds: the records, one line each, and the envelope
// of the newest checkpoint. After a crash the log may be longer than the
// checkpoint says.
type State struct {
	Log        []byte
	Checkpoint []byte
}

// Position is what a Write builds on.
type Position struct {
	Found      int64  // length of the log as it was read, in bytes
	Keep       int64  // of these, how many stay
	Checkpoint []byte // the checkpoint's envelope as it was read
}
