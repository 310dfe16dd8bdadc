package ledger

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// MediaTypeExport is the media type of an export, and the artifact type of one
// in a registry.
const MediaTypeExport = "application/vnd.promote.ledger.v1"

// MaxExport bounds an export, in bytes.
const MaxExport = maxLog + maxCheckpoint + 1

// Exported is what an export holds.
type Exported struct {
	Records    int64
	Compacted  int64          // of these, whose lines it does not hold
	Bytes      int64          // of the export
	Digest     release.Digest // of the export
	Checkpoint release.Checkpoint
}

// Export writes the newest checkpoint, a line feed, and the lines that it covers,
// byte for byte. The log is verified first, and what was found is for accept to
// judge; nil takes a sound one. What an interrupted append left is not part of it.
func (l *Ledger) Export(ctx context.Context, w io.Writer, accept func(release.LedgerAudit) error) (out Exported, err error) {
	a, err := l.sound(ctx, stored{l.store}, AuditOptions{}, accept)
	if err != nil {
		return Exported{}, err
	}
	step := event.Start(ctx, "[ledger] exporting %s", l.store)
	defer func() { step.Done(err) }()
	sum := sha256.New()
	to := &counting{w: io.MultiWriter(w, sum)}
	if _, err := fmt.Fprintf(to, "%s\n", a.newestCheckpoint.Envelope); err != nil {
		return Exported{}, err
	}
	err = l.copyLines(ctx, stored{l.store}, a, func(_ int64, line []byte) error {
		_, err := to.Write(line)
		return err
	})
	if err != nil {
		return Exported{}, err
	}
	return Exported{Records: a.covers, Compacted: a.out.Compacted, Bytes: to.n, Digest: release.DigestFromSum([sha256.Size]byte(sum.Sum(nil))), Checkpoint: a.newestCheckpoint}, nil
}

type counting struct {
	w io.Writer
	n int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// sound audits a source and has the result judged.
func (l *Ledger) sound(ctx context.Context, s Source, o AuditOptions, accept func(release.LedgerAudit) error) (*auditor, error) {
	step := event.Start(ctx, "[ledger] verifying %s", s)
	a, err := l.audit(ctx, s, o, step)
	step.Done(err)
	if err != nil {
		return nil, err
	}
	return a, a.accepted(s, accept)
}

// accepted has what was found judged.
func (a *auditor) accepted(s Source, accept func(release.LedgerAudit) error) error {
	if accept != nil {
		if err := accept(a.out); err != nil {
			return err
		}
	}
	if a.out.Result != "passed" {
		f := a.out.Findings[0]
		return release.Denied("promote audit verify says all that is wrong", "%s is not sound: %s: %s", s, f.Rule, f.Message)
	}
	return nil
}

// copyLines reads the covered lines of a source that was audited once more, each
// with its line feed, and makes sure that they are still those.
func (l *Ledger) copyLines(ctx context.Context, s Source, a *auditor, each func(n int64, line []byte) error) error {
	in, err := s.Stream(ctx)
	if err != nil {
		return err
	}
	defer in.Close()
	var tree compact
	r, b := &batches{in: in}, &batch{}
	for more := true; more && tree.n < a.covers; {
		if ctx.Err() != nil {
			return fmt.Errorf("reading the ledger %s: %w", s, ctx.Err())
		}
		more = r.fill(b)
		if b.err != nil {
			return release.Unavailable("check the disk", "reading the ledger %s: %w", s, b.err)
		}
		for i, at := range b.lines {
			if tree.n == a.covers || b.torn && i == len(b.lines)-1 || b.long {
				break
			}
			tree.add(leafOf(b.line(i)))
			if err := each(tree.n-1, b.text[at.from:at.to+1]); err != nil {
				return err
			}
		}
	}
	if tree.n != a.covers || tree.root() != a.newestCheckpoint.RootHash {
		return release.Unavailable("run the command again", "reading the ledger %s: it changed while it was read", s)
	}
	return nil
}
