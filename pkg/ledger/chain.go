package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// chain is what it takes of a log's records to judge the one behind them. It
// grows by a few bytes for each intended record, and by nothing for others.
type chain struct {
	l      *Ledger
	n      int64         // records
	newest release.Entry // the last of them
	pin    release.Pin
	pinned *release.Trust      // what policy was made of
	policy *policy             // nil until a record is judged by a pinned trust
	older  *policy             // judges what no trust is pinned for; nil is the project's
	frozen map[string][]string // the names of those whose freezes of an environment nobody lifted
	places []environment       // environments
	intend []intent            // by sequence
	fixed  []int64             // records that are never taken out
	stubs  release.Ranges      // records that were
	gone   release.Ranges      // those that may be, as compacted records say
	// first finds the first trust that the log pins, wherever it stands; nil if
	// there is none.
	first    func() *release.Trust
	searched bool // first was asked
}

// environment is one of the places: its intended record that nothing has closed, and its
// last deployed one. 0 is none: the first record always stays.
type environment struct {
	Name string `json:"name"`
	Open int64  `json:"open,omitempty"`
	Ran  int64  `json:"ran,omitempty"`
}

// intent is an intended record of one of the places.
type intent struct {
	sequence int64
	place    int32
}

func (t *chain) size() int64 { return t.n }

// last gives the leaf hash of the newest record, zero for an empty log.
func (t *chain) last() release.Digest { return t.newest.Digest }

// next verifies a record's line as the log's next and takes it in.
func (t *chain) next(line []byte, leaf release.Digest, read reader) (release.Entry, error) {
	if leaf, ok := stubOf(line); ok {
		return t.stub(leaf)
	}
	if len(line) > maxRecord {
		return release.Entry{}, fmt.Errorf("%d bytes, at most %d", len(line), maxRecord)
	}
	r, signer, err := t.read(line, leaf, read)
	if err != nil {
		return release.Entry{}, err
	}
	entry := release.Entry{Record: r, Digest: leaf, Signer: signer}
	t.take(entry)
	return entry, nil
}

// take takes in a record that was verified.
func (t *chain) take(e release.Entry) {
	t.freeze(e.Record, e.Signer)
	if e.Record.Phase == release.Intended {
		t.intend = append(t.intend, intent{t.n, t.place(e.Record.Environment)})
	}
	t.keep(e.Record)
	t.pin = t.pin.Next(e)
	t.newest = e
	t.n++
}

// place numbers an environment. There are few.
func (t *chain) place(name string) int32 {
	i := slices.IndexFunc(t.places, func(e environment) bool { return e.Name == name })
	if i < 0 {
		i, t.places = len(t.places), append(t.places, environment{Name: strings.Clone(name)})
	}
	return int32(i)
}

// read verifies a record's line as the log's next: by the trust in force, else
// as the confirmation of a change, else by the first trust that is pinned.
func (t *chain) read(line []byte, leaf release.Digest, read reader) (release.Record, release.Signer, error) {
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

func (t *chain) readBy(
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
	if err := t.compacts(r); err != nil {
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

// follows reports why the record cannot be the next one.
func (t *chain) follows(r release.Record) error {
	if r.Sequence != t.n {
		return &orderError{fmt.Sprintf("it says it is record %d", r.Sequence)}
	}
	if r.Previous != t.last() {
		return &orderError{fmt.Sprintf("it follows the record %s, the one before it is %s", orNone(r.Previous), orNone(t.last()))}
	}
	if r.Intent == nil {
		return nil
	}
	i, found := slices.BinarySearchFunc(t.intend, *r.Intent, func(at intent, n int64) int { return cmp.Compare(at.sequence, n) })
	if !found || t.places[t.intend[i].place].Name != r.Environment {
		return &orderError{fmt.Sprintf("it closes record %d, which is not an intended record of environment %q", *r.Intent, r.Environment)}
	}
	return nil
}

// orderError says that a record does not follow those before it.
type orderError struct{ why string }

func (e *orderError) Error() string { return e.why }

func orNone(d release.Digest) string {
	if d.IsZero() {
		return "none"
	}
	return d.String()
}

// freeze keeps whose freezes are in force, as release.Thaw lifts them. Lists are
// never changed in place: copies of t share them.
func (t *chain) freeze(r release.Record, s release.Signer) {
	of := t.frozen[r.Environment]
	switch r.Phase {
	case release.Frozen:
		if slices.Contains(of, s.Name) {
			return
		}
		of = append(slices.Clip(of), strings.Clone(s.Name))
	case release.Unfrozen:
		of = slices.DeleteFunc(slices.Clone(of), func(name string) bool { return name == s.Name || s.Has(release.Approver) })
	default:
		return
	}
	if t.frozen == nil {
		t.frozen = map[string][]string{}
	}
	if t.frozen[strings.Clone(r.Environment)] = of; len(of) == 0 {
		delete(t.frozen, r.Environment)
	}
}

// unpinned reports why records that no trust is pinned for do not count: who
// judged them in the project's stead has to come into force.
func (t *chain) unpinned() error {
	if t.older == nil || t.pin.Trust != nil {
		return nil
	}
	return errors.New("they were judged by a trust that was proposed and never came into force")
}

// apart gives a chain that can be extended without changing t.
func (t *chain) apart() chain {
	next := *t
	next.frozen = maps.Clone(t.frozen)
	next.places, next.stubs = slices.Clone(t.places), slices.Clone(t.stubs)
	next.intend, next.fixed = slices.Clip(t.intend), slices.Clip(t.fixed)
	return next
}
