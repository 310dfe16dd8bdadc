package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// AuditOptions says what a log is checked against besides itself.
type AuditOptions struct {
	// Checkpoints are earlier ones that the log must contain: envelopes as a
	// target keeps them, or the three lines of one that was noted down.
	Checkpoints [][]byte
	// Archives are exports that hold lines that were taken out of the log. They
	// are verified as the log is, and that it contains them.
	Archives []Source
	// Anew verifies every signature, whatever is remembered.
	Anew bool
}

// maxFindings bounds what is listed; a log can be wrong in every line.
const maxFindings = 100

// Audit verifies a whole log from its bytes: form, signature, signer's role,
// trust in force, order and place of every record, the root hash, and the
// checkpoints. A nil source is the ledger's own store. What is wrong is a
// finding, not an error; an error says that it could not be determined.
//
// It reads the log once, in memory that does not grow with it but for some
// bytes an intended record, and checks signatures side by side. What an earlier
// audit on this machine found good of the very same bytes is not verified again
// if Options.Secret allows it to be remembered.
func (l *Ledger) Audit(ctx context.Context, s Source, o AuditOptions) (found release.LedgerAudit, err error) {
	if s == nil {
		s = stored{l.store}
	}
	step := event.Start(ctx, "[ledger] verifying %s", s)
	defer func() { step.Done(err) }()
	archives, err := l.archives(ctx, &o, step)
	if err != nil {
		return release.LedgerAudit{}, err
	}
	for try := 1; ; try++ {
		a, err := l.audit(ctx, s, o, step)
		if err != nil {
			return release.LedgerAudit{}, err
		}
		a.judgeArchives(archives)
		// The end of a log that is in use may be written while it is read.
		if a.out.Result == "passed" || a.in.Exported || try == 3 || !a.moved(ctx, s) {
			return a.out, nil
		}
	}
}

// audit is Audit, once; what is remembered of another log is thrown away.
func (l *Ledger) audit(ctx context.Context, s Source, o AuditOptions, step *event.Step) (*auditor, error) {
	known := l.remembered()
	if o.Anew {
		known = nil
	}
	for {
		a := l.auditor(ctx, s, step, known)
		err := a.run(ctx, s, o)
		if errors.Is(err, errForgotten) {
			known = nil
			continue
		}
		return a, err
	}
}

func (l *Ledger) auditor(ctx context.Context, s Source, step *event.Step, known *memory) *auditor {
	a := &auditor{l: l, name: s.String(), step: step, known: known, chain: chain{l: l}, wanted: map[int64]*capture{}}
	a.first = func() *release.Trust { return firstTrustOf(ctx, s) }
	return a
}

// errForgotten is that what is remembered is of another log.
var errForgotten = errors.New("another log is remembered")

func firstTrustOf(ctx context.Context, s Source) *release.Trust {
	in, err := s.Stream(ctx)
	if err != nil {
		return nil
	}
	defer in.Close()
	return firstTrust(in)
}

// auditor is an audit under way. The chain is that of the records that were
// found good; a log that is wrong somewhere is read on, to say what else is.
type auditor struct {
	chain
	l     *Ledger
	name  string
	step  *event.Step
	in    *Stream
	known *memory // of an earlier audit; nil: nothing is
	out   release.LedgerAudit

	newestCheckpoint release.Checkpoint // zero: there is none that can be read
	earlier          []noted
	covers           int64 // records of the log that the checkpoint covers
	lines            int64 // whole lines so far
	broken           bool  // a record was not found good
	tree             compact
	pins             []pinAt
	wanted           map[int64]*capture // by size
	guess            guess
	tail             tail
}

// pinAt is the rules that hold behind some records.
type pinAt struct {
	Records int64       `json:"records"`
	Pin     release.Pin `json:"pin"`
}

// capture is the log at a size that a checkpoint names.
type capture struct {
	root release.Digest
	line []byte // of the last record
}

// run reads the log from beginning to end.
func (a *auditor) run(ctx context.Context, s Source, o AuditOptions) (err error) {
	if a.in, err = s.Stream(ctx); err != nil {
		return err
	}
	defer a.in.Close()
	if a.in.Bytes == 0 && len(a.in.Checkpoint) == 0 && !a.in.Exported {
		return release.Unavailable("check ledger in promote.yaml; if there was one, bring it back: the targets still carry its checkpoint",
			"verifying the ledger %s: there is none", s)
	}
	a.out = release.LedgerAudit{Ledger: s.String(), Origin: a.l.o.Origin, Findings: []release.LedgerFinding{}, Contained: []release.AuditedCheckpoint{}, Result: "passed"}
	a.openCheckpoint()
	if a.covers < a.known.size() {
		return errForgotten
	}
	if err := a.openEarlier(o.Checkpoints); err != nil {
		return err
	}
	if err := a.read(ctx); err != nil {
		return err
	}
	if a.lines < a.known.size() {
		return errForgotten
	}
	if err := a.judgeAll(); err != nil {
		return err
	}
	a.out.Records, a.out.Rules, a.out.Pinned = min(a.lines, a.covers), a.pin.Rules, a.pin.Trust
	if a.pin.Trust != nil {
		a.out.Trust = a.pin.Trust.Digest()
	}
	if len(a.out.Findings) > 0 {
		a.out.Result = "failed"
		return nil
	}
	a.remember()
	return nil
}

// read has the lines prepared by several goroutines and judges them in order.
func (a *auditor) read(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	workers := runtime.GOMAXPROCS(0)
	todo, ordered, free := make(chan *batch, workers), make(chan *batch, workers), make(chan *batch, 2*workers+2)
	for range cap(free) {
		free <- &batch{}
	}
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() {
		defer close(todo)
		defer close(ordered)
		r := &batches{in: a.in}
		for more := true; more; {
			var b *batch
			select {
			case b = <-free:
			case <-ctx.Done():
				return
			}
			more = r.fill(b)
			for _, c := range []chan *batch{ordered, todo} {
				select {
				case c <- b:
				case <-ctx.Done():
					return
				}
			}
		}
	})
	for range workers {
		group.Go(func() {
			for b := range todo {
				a.prepare(ctx, b)
				close(b.ready)
			}
		})
	}
	for b := range ordered {
		select {
		case <-b.ready:
		case <-ctx.Done():
			return fmt.Errorf("verifying the ledger %s: %w", a.name, ctx.Err())
		}
		if err := a.judgeBatch(b); err != nil {
			return err
		}
		a.step.Count("records", a.lines, max(a.covers, a.lines))
		free <- b
	}
	if ctx.Err() != nil {
		return fmt.Errorf("verifying the ledger %s: %w", a.name, ctx.Err())
	}
	return nil
}

// judgeBatch takes the lines in as the log's next.
func (a *auditor) judgeBatch(b *batch) error {
	made := 0
	for i := range b.lines {
		last := i == len(b.lines)-1
		if last && (b.torn || b.long) {
			return a.unended(b, i)
		}
		if a.lines >= a.covers {
			if err := a.behind(b, i); err != nil {
				return err
			}
			continue
		}
		var p *prepared
		if a.lines >= a.known.size() {
			p = &b.made[made]
			made++
		}
		if err := a.take(b.line(i), b.leafs[i], p); err != nil {
			return err
		}
	}
	if b.err != nil {
		return release.Unavailable("check the disk", "reading the ledger %s: %w", a.name, b.err)
	}
	return nil
}

// take takes in a line that the checkpoint covers; p is nil for one that is
// remembered.
func (a *auditor) take(line []byte, leaf tlog.Hash, p *prepared) error {
	n := a.lines
	a.lines++
	a.out.Bytes += int64(len(line)) + 1
	a.tree.add(leaf)
	if want := a.wanted[a.lines]; want != nil {
		want.root, want.line = a.tree.root(), bytes.Clone(line)
	}
	_, stub := stubOf(line)
	a.out.Compacted += count(stub)
	if p == nil {
		a.out.Remembered += count(!stub)
		if stub {
			a.stubs = a.stubs.And(n)
		}
		if a.lines == a.known.size() {
			return a.recall()
		}
		return nil
	}
	a.out.Verified += count(!stub)
	before := a.chain.n
	entry, err := a.next(line, digestOf(leaf), p.read)
	switch {
	case err == nil:
		changed := entry.Record.Phase == release.TrustChanged || before == 0
		if changed {
			a.pins = append(a.pins, pinAt{a.chain.n, a.pin})
		}
		if changed || a.older != nil && a.pin.Trust == nil {
			a.guess.set(&a.chain)
		}
		return nil
	case !refused(err):
		return err
	}
	a.broken = true
	a.find(p.rule(err), &before, a.in.Line+n, "re-read it from a copy of the ledger that contains the checkpoints on the targets", "%w", err)
	a.goOn(line, digestOf(leaf), p, err)
	return nil
}

func count(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

// goOn goes on behind a line that is wrong as if it were right, as far as that
// says more about what follows.
func (a *auditor) goOn(line []byte, leaf release.Digest, p *prepared, cause error) {
	var order *orderError
	switch r := p.record; {
	case p.err != nil, !errors.As(cause, &order):
		if p.err == nil && r.Phase == release.Intended && len(a.places) < maxFindings { // nobody vouches for the name
			a.intend = append(a.intend, intent{a.chain.n, a.place(r.Environment)})
		}
		a.newest = release.Entry{Record: r, Digest: leaf}
		a.chain.n++
	case r.Sequence >= a.chain.n && r.Sequence < a.chain.n+a.covers+1: // records are missing
		if _, signer, err := p.read(line, leaf, a.judge); err == nil {
			a.chain.n = r.Sequence
			a.chain.take(release.Entry{Record: r, Digest: leaf, Signer: signer})
		}
	case r.Sequence == a.chain.n-1: // something was put before it
		a.newest.Digest = leaf
	}
}

// find adds a finding.
func (a *auditor) find(rule string, record *int64, line int64, fix, format string, args ...any) {
	if len(a.out.Findings) == maxFindings {
		a.out.More++
		return
	}
	if record != nil {
		n := *record
		record = &n
	}
	a.out.Findings = append(a.out.Findings, release.LedgerFinding{Rule: rule, Record: record, Line: line, Fix: fix, Message: fmt.Errorf(format, args...).Error()})
}
