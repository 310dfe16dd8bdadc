package ledger

import (
	"bytes"
	"context"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// Imported is what an import did, or would do.
type Imported struct {
	Records    int64 // of the log that was brought
	Added      int64 // of these, how many the ledger lacked
	Checkpoint release.Checkpoint
}

// Import brings a log into an empty ledger, or one whose records are the first of
// it. The log is verified anew, every signature, and what was found is for
// accept to judge. A ledger that holds other records is not changed: that is
// KindDenied. One that holds more of the same is left as it is.
func (l *Ledger) Import(ctx context.Context, s Source, dryRun bool, accept func(release.LedgerAudit) error) (out Imported, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, err := l.load(ctx)
	if err != nil {
		return Imported{}, err
	}
	step := event.Start(ctx, "[ledger] verifying %s", s)
	a := l.auditor(ctx, s, step, nil)
	a.wanted[t.size()] = &capture{}
	err = a.run(ctx, s, AuditOptions{})
	step.Done(err)
	if err != nil {
		return Imported{}, err
	}
	if err := a.accepted(s, accept); err != nil {
		return Imported{}, err
	}
	out = Imported{Records: a.covers, Checkpoint: a.newestCheckpoint}
	if err := l.prefix(t, a, s); err != nil || a.covers <= t.size() {
		return out, err
	}
	add, err := l.missing(ctx, t, a, s)
	if err != nil {
		return Imported{}, err
	}
	if out.Added = a.covers - t.size(); dryRun {
		return out, nil
	}
	l.tip = nil
	if err := l.store.Write(ctx, t.position(), add, a.newestCheckpoint.Envelope); err != nil {
		return Imported{}, err
	}
	now, err := l.load(ctx)
	if err == nil && (now.size() != a.covers || now.checkpoint.RootHash != a.newestCheckpoint.RootHash) {
		err = l.broken(nil, "the ledger %s does not hold what was imported", l.store)
	}
	return out, err
}

// prefix reports why one of the two logs is not the other's beginning.
func (l *Ledger) prefix(t *replay, a *auditor, s Source) error {
	size := min(t.size(), a.covers)
	if size == 0 {
		return nil
	}
	root, err := t.tree.root(size)
	if err != nil {
		return err
	}
	if other := a.wanted[size].root; other != root {
		return release.Denied("nothing was changed. Find out which of the two is right: the targets carry checkpoints (promote audit verify --checkpoint)",
			"importing %s: its first %d records hash to %s, those of the ledger %s to %s: they have diverged", s, size, other, l.store, root)
	}
	return nil
}

// missing gives the lines that the ledger lacks.
func (l *Ledger) missing(ctx context.Context, t *replay, a *auditor, s Source) ([]byte, error) {
	if t.keep+a.out.Bytes > maxLog {
		return nil, release.Unavailable("", "importing %s: the ledger would be larger than %d bytes", s, maxLog)
	}
	var add bytes.Buffer
	err := l.copyLines(ctx, s, a, func(n int64, line []byte) error {
		if n < t.size() {
			return nil
		}
		if n == t.size() && t.pending != nil && !bytes.Equal(t.pending, line[:len(line)-1]) {
			return release.Denied("run any command that records something first: it completes the append that was interrupted",
				"importing %s: the ledger %s ends with another record %d, of an append that was interrupted", s, l.store, n)
		}
		_, err := add.Write(line)
		return err
	})
	return add.Bytes(), err
}
