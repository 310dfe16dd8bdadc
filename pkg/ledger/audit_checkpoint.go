package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/promote-dev/promote/pkg/release"
)

// noted is an earlier checkpoint that the log must contain.
type noted struct {
	release.Checkpoint
	signed bool
}

const copyFix = "bring back the newest copy that contains the checkpoints on the targets; promote nothing until it is known what happened"

// openCheckpoint reads the newest checkpoint. Without one that can be read all
// lines are looked at.
func (a *auditor) openCheckpoint() {
	a.covers = math.MaxInt64
	if len(a.in.Checkpoint) == 0 {
		a.find(release.AuditCheckpoint, nil, 0, copyFix, "there is no checkpoint: nothing tells whether records are missing")
		return
	}
	line := a.in.Line - 1 // of an export; beside the log it is in no line
	c, err := readCheckpoint(a.in.Checkpoint)
	if err != nil {
		a.find(release.AuditCheckpoint, nil, line, copyFix, "%w", err)
		return
	}
	if err := a.l.ours(c); err != nil {
		a.find(release.AuditOrigin, nil, line, "give the ledger of this project", "%w", err)
	}
	a.newestCheckpoint, a.covers, a.out.Origin = c, c.TreeSize, c.Origin
	a.out.Checkpoint = &release.AuditedCheckpoint{TreeSize: c.TreeSize, RootHash: c.RootHash, Result: "contained"}
	a.wanted[c.TreeSize] = &capture{}
}

// openEarlier reads the checkpoints that the log must contain.
func (a *auditor) openEarlier(list [][]byte) error {
	for _, text := range list {
		c, err := readNoted(text)
		if err != nil {
			return release.Misuse("give one as a target keeps it, the attestation of a decision, or its three lines: origin, size, root hash", "the earlier checkpoint: %w", err)
		}
		a.earlier = append(a.earlier, c)
		a.wanted[c.TreeSize] = &capture{}
	}
	return nil
}

// readNoted reads a checkpoint in one of its forms.
func readNoted(text []byte) (noted, error) {
	trimmed := bytes.TrimSpace(text)
	if len(trimmed) > 0 && trimmed[0] == '{' {
		if inner, ok, err := attestedCheckpoint(trimmed); err != nil {
			return noted{}, err
		} else if ok {
			trimmed = inner
		}
		c, err := readCheckpoint(trimmed)
		return noted{c, true}, err
	}
	c, err := ParseCheckpoint(string(trimmed) + "\n")
	return noted{c, false}, err
}

// payloadTypeStatement is that of in-toto attestations.
const payloadTypeStatement = "application/vnd.in-toto+json"

// attestedCheckpoint takes the checkpoint out of the attestation of a decision,
// a bundle or a bare envelope; ok is false where the bytes are none. Whoever
// signed the attestation does not matter: the checkpoint is signed itself.
func attestedCheckpoint(raw []byte) (envelope []byte, ok bool, err error) {
	payload, err := payloadOf(raw, payloadTypeStatement)
	if err != nil {
		return nil, false, nil //nolint:nilerr // then it has to be a checkpoint
	}
	var statement struct {
		Predicate struct {
			Checkpoint string `json:"checkpoint"`
		} `json:"predicate"`
	}
	if err := json.Unmarshal(payload, &statement); err != nil {
		return nil, true, fmt.Errorf("reading the attestation: %w", err)
	}
	if statement.Predicate.Checkpoint == "" {
		return nil, true, errors.New("the attestation holds no checkpoint; those of decisions do")
	}
	return []byte(statement.Predicate.Checkpoint), true, nil
}

// OriginOf gives the origin that the newest checkpoint of a log names, unverified.
// It is empty where there is no checkpoint that can be read.
func OriginOf(ctx context.Context, s Source) (string, error) {
	in, err := s.Stream(ctx)
	if err != nil {
		return "", err
	}
	defer in.Close()
	c, err := readCheckpoint(in.Checkpoint)
	if err != nil {
		return "", nil //nolint:nilerr // Audit says what is wrong with it
	}
	return c.Origin, nil
}

// judgeAll judges what the whole log tells.
func (a *auditor) judgeAll() error {
	if c := a.newestCheckpoint; c.TreeSize > 0 {
		if err := a.judgeCheckpoint(noted{c, true}, a.out.Checkpoint, true); err != nil {
			return err
		}
	}
	for _, c := range a.earlier {
		out := release.AuditedCheckpoint{TreeSize: c.TreeSize, RootHash: c.RootHash, Result: "contained"}
		if err := a.judgeCheckpoint(c, &out, false); err != nil {
			return err
		}
		a.out.Contained = append(a.out.Contained, out)
	}
	for _, r := range a.unauthorised() {
		n := r.From
		a.find(release.AuditCompaction, &n, a.in.Line+n, copyFix, "%w", stubError(r))
	}
	if err := a.unpinned(); err != nil {
		a.find(release.AuditTrust, nil, 0, "", "the first records do not count: %w", err)
	}
	return a.judgeTail()
}

// judgeCheckpoint compares one with the log, and has its signature judged.
func (a *auditor) judgeCheckpoint(c noted, out *release.AuditedCheckpoint, newest bool) error {
	which, line, there := "its checkpoint", a.in.Line-1, min(a.lines, a.covers)
	if !newest {
		which, line = "a checkpoint seen before", 0
		if err := a.l.ours(c.Checkpoint); err != nil {
			out.Result = release.AuditOrigin
			a.find(out.Result, nil, 0, "give a checkpoint of this log", "%s: %w", which, err)
			return nil
		}
	}
	at := a.wanted[c.TreeSize]
	switch {
	case there < c.TreeSize:
		out.Result = release.AuditTruncated
		a.find(out.Result, nil, line, copyFix, "there are %d records; %s covers %d", there, which, c.TreeSize)
		return nil
	case at.root != c.RootHash && newest:
		out.Result = release.AuditRoot
		a.find(out.Result, nil, line, copyFix, "the %d records hash to %s; %s says %s", c.TreeSize, at.root, which, c.RootHash)
	case at.root != c.RootHash:
		out.Result = release.AuditForked
		a.find(out.Result, nil, line, copyFix, "the first %d records hash to %s; %s says %s: one of the two was rewritten", c.TreeSize, at.root, which, c.RootHash)
		return nil
	}
	if _, stub := stubOf(at.line); !c.signed || stub && !newest {
		return nil // who may have signed it followed from a line that is gone; it says what the log does
	}
	signer, err := a.signedBy(c.Checkpoint, at.line)
	switch {
	case err == nil:
		out.Signer = &signer
	case !refused(err):
		return err
	case !a.broken: // else it would be judged by what is wrong
		out.Result = release.AuditCheckpoint
		a.find(out.Result, nil, line, copyFix, "%s does not count: %w", which, err)
	}
	return nil
}

// signedBy gives who signed a checkpoint over a log whose last line is given.
func (a *auditor) signedBy(c release.Checkpoint, line []byte) (release.Signer, error) {
	p := readLine(line)
	if p.err != nil {
		return release.Signer{}, p.err
	}
	before := chain{l: a.l, n: c.TreeSize - 1, older: a.older, pin: a.pinAt(c.TreeSize - 1)}
	judges := before.judges(p.record)
	for _, j := range judges {
		if p.verify(line, j); p.refusal == nil {
			break
		}
	}
	if p.refusal != nil {
		return release.Signer{}, fmt.Errorf("the record that it covers last: %w", p.refusal)
	}
	return believe(c, release.Entry{Record: p.record, Digest: LeafHash(line), Signer: p.signer}, judges)
}

// pinAt gives the rules that hold behind some records.
func (a *auditor) pinAt(records int64) release.Pin {
	var pin release.Pin
	for _, p := range a.pins {
		if p.Records <= records {
			pin = p.Pin
		}
	}
	return pin
}

// unended judges a last line without a line feed, or one that is too long.
func (a *auditor) unended(b *batch, i int) error {
	n, line, text := a.lines, a.in.Line+a.lines+a.tail.lines, b.line(i)
	switch {
	case b.long:
		a.find(release.AuditForm, &n, line, copyFix, "a line is longer than %d bytes; what follows was not read", maxRecord)
	case n < a.covers:
		a.find(release.AuditForm, &n, line, copyFix, "the last line ends after %d bytes, without a line feed: it is not whole", len(text))
	case a.in.Exported || a.tail.lines > 0:
		a.tail.beyond(a.in.Line + n)
	}
	return nil
}

// tail is what follows the records that the checkpoint covers.
type tail struct {
	lines int64
	first []byte // whole line
	from  int64  // line where there is too much of it; 0 is nowhere
}

func (t *tail) beyond(line int64) {
	if t.from == 0 {
		t.from = line
	}
}

// behind keeps a whole line that follows the covered ones.
func (a *auditor) behind(b *batch, i int) error {
	line := a.in.Line + a.lines
	if a.tail.lines == 0 {
		a.tail.first = bytes.Clone(b.line(i))
	}
	if a.tail.lines++; a.tail.lines > 1 || a.in.Exported {
		a.tail.beyond(line)
	}
	return nil
}

// judgeTail judges what an interrupted append may have left, and what not; see
// uncovered.
func (a *auditor) judgeTail() error {
	if a.tail.from > 0 {
		a.find(release.AuditTrailing, nil, a.tail.from, copyFix, "the log goes on behind record %d, where its checkpoint ends", a.covers-1)
		return nil
	}
	if a.tail.first == nil || a.broken {
		return nil
	}
	p := readLine(a.tail.first)
	if _, err := openEnvelope(a.tail.first, PayloadTypeRecord); err != nil {
		return nil //nolint:nilerr // blocks of the line never reached the disk
	}
	probe := a.apart()
	if _, err := probe.next(a.tail.first, LeafHash(a.tail.first), p.read); err != nil {
		if !refused(err) {
			return err
		}
		n := a.chain.n
		a.find(release.AuditTrailing, &n, a.in.Line+a.covers, copyFix, "the record behind the checkpoint is not what was signed: %w", err)
		return nil
	}
	a.out.Pending = true
	return nil
}

// moved reports whether somebody appended since the audit began.
func (a *auditor) moved(ctx context.Context, s Source) bool {
	now, err := s.Stream(ctx)
	if err != nil {
		return false
	}
	defer now.Close()
	return !bytes.Equal(now.Checkpoint, a.in.Checkpoint)
}
