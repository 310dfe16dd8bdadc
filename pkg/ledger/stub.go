package ledger

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/promote-dev/promote/pkg/release"
)

// A stub stands in the log in place of a record's line that was taken out. It
// keeps the line's leaf hash, so that root hashes, checkpoints and proofs stay
// what they were. It is believed only if a compacted record names its sequence.
const (
	stubBegins = `{"stub":"sha256:`
	stubEnds   = `"}`
	stubLength = len(stubBegins) + 2*tlog.HashSize + len(stubEnds)
)

// stubOf gives the leaf hash that a stub keeps. There is one spelling of it, and
// no envelope has it.
func stubOf(line []byte) (leaf tlog.Hash, ok bool) {
	if len(line) != stubLength || !bytes.HasPrefix(line, []byte(stubBegins)) || !bytes.HasSuffix(line, []byte(stubEnds)) {
		return leaf, false
	}
	digits := line[len(stubBegins) : len(line)-len(stubEnds)]
	if !bytes.Equal(digits, bytes.ToLower(digits)) {
		return leaf, false
	}
	_, err := hex.Decode(leaf[:], digits)
	return leaf, err == nil
}

// stubFor gives the line that stands for one that was taken out.
func stubFor(leaf tlog.Hash) []byte {
	return fmt.Appendf(nil, "%s%x%s", stubBegins, leaf[:], stubEnds)
}

// leafOf gives the leaf hash of a line of the log, or of the one that it stands
// for.
func leafOf(line []byte) tlog.Hash {
	if leaf, ok := stubOf(line); ok {
		return leaf
	}
	return tlog.RecordHash(line)
}

// compactionError says that a line was taken out that nobody said may go, or
// that a record names what must stay.
type compactionError struct{ why string }

func (e *compactionError) Error() string { return e.why }

// stub takes in the line of a record that was taken out.
func (t *chain) stub(leaf tlog.Hash) (release.Entry, error) {
	if t.n == 0 {
		return release.Entry{}, &compactionError{"the first record is a stub, and it always stays"}
	}
	t.stubs = t.stubs.And(t.n)
	t.newest = release.Entry{Record: release.Record{Sequence: t.n}, Digest: digestOf(leaf)}
	t.n++
	return t.newest, nil
}

// keep notes what of a record it takes to tell which ones must stay.
func (t *chain) keep(r release.Record) {
	if t.n == 0 || r.Phase.Stays() {
		t.fixed = append(t.fixed, t.n)
	}
	switch r.Phase {
	case release.Intended:
		t.places[t.place(r.Environment)].Open = t.n
	case release.Deployed, release.RolledBack:
		at := &t.places[t.place(r.Environment)]
		if r.Phase == release.Deployed {
			at.Ran = t.n
		}
		if r.Intent != nil {
			at.Open = 0
		}
	}
	if r.Compaction != nil {
		t.gone = t.gone.With(r.Compaction.Ranges)
	}
}

// compacts reports why a record cannot say what it does about lines that may go.
// Of records whose lines are gone it cannot tell.
func (t *chain) compacts(r release.Record) error {
	c := r.Compaction
	if (r.Phase == release.Compacted) != (c != nil) {
		return &compactionError{fmt.Sprintf("a record of phase %q and what it says of compaction do not go together", r.Phase)}
	}
	if c == nil {
		return nil
	}
	if err := c.Check(t.n); err != nil {
		return &compactionError{err.Error()}
	}
	for _, n := range t.fixed {
		if c.Ranges.Has(n) {
			return &compactionError{fmt.Sprintf("it says that record %d may go, which always stays", n)}
		}
	}
	for _, at := range t.places {
		for _, n := range []int64{at.Open, at.Ran} {
			if n > 0 && c.Ranges.Has(n) {
				return &compactionError{fmt.Sprintf("it says that record %d may go, which says what is open in %s or runs there", n, at.Name)}
			}
		}
	}
	return nil
}

// unauthorised gives the stubs that no compacted record accounts for.
func (t *chain) unauthorised() release.Ranges {
	var list release.Ranges
	for _, r := range t.stubs {
		if !t.gone.Covers(r) {
			list = append(list, r)
		}
	}
	return list
}

// stubError is that of stubs that no record accounts for.
func stubError(r release.Range) error {
	return &compactionError{fmt.Sprintf("no record says that %s may be a stub: its line was taken out of the log (bring it back from a copy: promote ledger import)", r)}
}
