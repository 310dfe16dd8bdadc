package ledger

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/promote-dev/promote/pkg/release"
)

// prepared is a line as it can be judged without those before it: its form, and
// its signature by whoever is likely to judge it.
type prepared struct {
	record  release.Record
	payload []byte
	err     error // why it is no record
	by      *judge
	signer  release.Signer
	refusal error // of by
}

// prepare hashes the lines of a batch, and reads those that are not remembered.
func (a *auditor) prepare(ctx context.Context, b *batch) {
	for i := range b.lines {
		line := b.line(i)
		b.leafs = append(b.leafs, leafOf(line))
		if b.first+int64(i) < a.known.size() || b.first+int64(i) >= a.covers {
			continue
		}
		var p prepared
		if _, stub := stubOf(line); stub {
			b.made = append(b.made, p)
			continue
		}
		if ctx.Err() == nil {
			p = readLine(line)
		}
		if by := a.guess.judge(p.record); p.err == nil && by != nil && ctx.Err() == nil {
			p.verify(line, by)
		}
		b.made = append(b.made, p)
	}
}

func readLine(line []byte) prepared {
	if len(line) > maxRecord {
		return prepared{err: errLong}
	}
	r, payload, err := openRecord(line)
	return prepared{record: r, payload: payload, err: err}
}

var errLong = errors.New("a line is at most 1 MiB")

// verify checks the signature as readAnew does.
func (p *prepared) verify(line []byte, by *judge) {
	signed, signer, err := by.verify(line, PayloadTypeRecord)
	if err == nil && !bytes.Equal(signed, p.payload) {
		err = errors.New("another payload was signed")
	}
	p.by, p.signer, p.refusal = by, signer, err
}

// read is a reader for the line that was prepared.
func (p *prepared) read(line []byte, _ release.Digest, by func(release.Record) *judge) (release.Record, release.Signer, error) {
	if p.err != nil {
		return p.record, release.Signer{}, p.err
	}
	if j := by(p.record); j != p.by {
		p.verify(line, j)
	}
	if p.refusal != nil {
		return p.record, release.Signer{}, &signatureError{p.refusal}
	}
	return p.record, p.signer, nil
}

// signatureError says that nobody who is trusted signed a record.
type signatureError struct{ err error }

func (e *signatureError) Error() string { return "verifying record: " + e.err.Error() }
func (e *signatureError) Unwrap() error { return e.err }

// rule names what is wrong with the line.
func (p *prepared) rule(err error) string {
	var signature *signatureError
	var order *orderError
	var role *roleError
	var compaction *compactionError
	switch {
	case errors.As(err, &compaction):
		return release.AuditCompaction
	case p.err != nil:
		return release.AuditForm
	case errors.As(err, &signature):
		return release.AuditSignature
	case errors.As(err, &order):
		return release.AuditOrder
	case errors.As(err, &role):
		return release.AuditRole
	case timely(p.record, p.signer) != nil:
		return release.AuditTime
	}
	return release.AuditTrust
}

// guess tells who is likely to judge records that are read ahead: whoever
// judges now. A wrong guess costs a second look at the signature.
type guess struct {
	mu     sync.Mutex
	policy *policy
	plain  *judge
}

func (g *guess) set(t *chain) {
	policy := t.older
	if t.pin.Trust != nil {
		policy = t.l.policyOf(t.pin.Trust)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.policy, g.plain = policy, nil
	if policy == nil {
		g.plain = t.l.configured()
	}
}

// judge gives nil as long as no record was judged.
func (g *guess) judge(r release.Record) *judge {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.policy != nil {
		return g.policy.judge(r.Time)
	}
	return g.plain
}
