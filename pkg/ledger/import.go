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
	Restored   int64 // of these, how many lines came back that had been taken out
	Checkpoint release.Checkpoint
}

// Import brings a log into an empty ledger, or one whose records are the first of
// it. The log is verified anew, every signature, and what was found is for
// accept to judge. A ledger that holds other records is not changed: that is
// KindDenied. One that holds more of the same is left as it is, but for lines
// that were taken out of it and that the log has: they come back. What the ledger
// holds already is not judged anew.
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
	if a.out.Result == "passed" && a.covers <= t.size() && l.prefix(t, a, s) == nil {
		accept = nil // an archive ends with the trust of its time
	}
	if err := a.accepted(s, accept); err != nil {
		return Imported{}, err
	}
	out = Imported{Records: a.covers, Checkpoint: a.newestCheckpoint, Added: max(0, a.covers-t.size())}
	if err := l.prefix(t, a, s); err != nil {
		return out, err
	}
	lines, err := l.takenOut(ctx, t, a, s)
	if err != nil {
		return Imported{}, err
	}
	out.Restored = int64(len(lines))
	if !dryRun && out.Added > 0 {
		err = l.bring(ctx, t, a, s)
	}
	if !dryRun && err == nil && out.Restored > 0 {
		_, err = l.restore(ctx, lines)
	}
	return out, err
}

// bring adds the records that the ledger lacks.
func (l *Ledger) bring(ctx context.Context, t *replay, a *auditor, s Source) error {
	add, err := l.missing(ctx, t, a, s)
	if err != nil {
		return err
	}
	l.tip = nil
	if err := l.store.Write(ctx, t.position(), add, a.newestCheckpoint.Envelope); err != nil {
		return err
	}
	now, err := l.load(ctx)
	if err == nil && (now.size() != a.covers || now.checkpoint.RootHash != a.newestCheckpoint.RootHash) {
		err = l.broken(nil, "the ledger %s does not hold what was imported", l.store)
	}
	return err
}

// takenOut gives the lines of a log that the ledger has stubs for.
func (l *Ledger) takenOut(ctx context.Context, t *replay, a *auditor, s Source) (map[int64][]byte, error) {
	if len(t.stubs) == 0 {
		return nil, nil
	}
	lines := map[int64][]byte{}
	err := l.copyLines(ctx, s, a, func(n int64, line []byte) error {
		line = line[:len(line)-1]
		if _, stub := stubOf(line); !stub && n < t.size() && t.entries[n].Stub() {
			lines[n] = bytes.Clone(line)
		}
		return nil
	})
	return lines, err
}

// restore puts lines back that were taken out.
func (l *Ledger) restore(ctx context.Context, lines map[int64][]byte) (Rewritten, error) {
	return l.rewrite(ctx, func(_ *replay, n int64, line []byte) []byte {
		if _, stub := stubOf(line); stub && lines[n] != nil {
			return lines[n]
		}
		return line
	})
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
