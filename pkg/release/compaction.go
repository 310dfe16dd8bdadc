package release

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Compaction is what a compacted record says: whose lines may be taken out of
// the log, and which export holds them.
type Compaction struct {
	// Ranges are the sequences of these records, in order, with gaps between.
	Ranges Ranges `json:"ranges"`
	// Archive is the digest of the export, of so many Bytes.
	Archive Digest `json:"archive"`
	Bytes   int64  `json:"bytes"`
	// Before is later than the time of each of these records.
	Before time.Time `json:"before"`
}

// Range is records from one sequence to another, both included.
type Range struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// String gives "5" or "5–9".
func (r Range) String() string {
	if r.From == r.To {
		return fmt.Sprint(r.From)
	}
	return fmt.Sprintf("%d–%d", r.From, r.To)
}

// Ranges are records by their sequences: in order, with gaps between.
type Ranges []Range

// Has reports whether a record is among them.
func (list Ranges) Has(n int64) bool { return list.Covers(Range{n, n}) }

// Covers reports whether all records of a range are among them.
func (list Ranges) Covers(r Range) bool {
	i, found := slices.BinarySearchFunc(list, r.From, func(at Range, n int64) int { return cmp.Compare(at.From, n) })
	if !found {
		i--
	}
	return i >= 0 && r.To <= list[i].To
}

// Count is how many records they are.
func (list Ranges) Count() (n int64) {
	for _, r := range list {
		n += r.To - r.From + 1
	}
	return n
}

// With gives the records of both; list stays as it is.
func (list Ranges) With(more Ranges) Ranges {
	all := slices.SortedFunc(slices.Values(slices.Concat(list, more)), func(a, b Range) int { return cmp.Compare(a.From, b.From) })
	var out Ranges
	for _, r := range all {
		if last := len(out) - 1; last >= 0 && r.From <= out[last].To+1 {
			out[last].To = max(out[last].To, r.To)
		} else {
			out = append(out, r)
		}
	}
	return out
}

// And gives them with one more, behind all others.
func (list Ranges) And(n int64) Ranges {
	if last := len(list) - 1; last >= 0 && list[last].To == n-1 {
		list[last].To = n
		return list
	}
	return append(list, Range{n, n})
}

// Check reports why a record of that sequence cannot say this.
func (c Compaction) Check(sequence int64) error {
	next := int64(1) // the first record stays
	for _, r := range c.Ranges {
		if r.From < next || r.To < r.From || r.To >= sequence {
			return fmt.Errorf("it names the records %s: want records between the first one and itself, in order, with gaps between", r)
		}
		next = r.To + 2
	}
	switch {
	case len(c.Ranges) == 0:
		return errors.New("it names no record")
	case c.Archive.IsZero() || c.Bytes < 1 || c.Before.IsZero():
		return errors.New("it does not say what holds the records' lines, and before which time they are")
	}
	return nil
}

// Stub reports whether the record's line was taken out of the log: nothing is
// known of it here but its sequence and its digest.
func (e Entry) Stub() bool { return e.Record.Phase == "" }

// Stays reports whether records of the phase are never taken out: what is in
// force follows from them, or somebody has to be able to see them.
func (p Phase) Stays() bool {
	switch p {
	case TrustChanged, Frozen, Unfrozen, Exception, BreakGlassed, Compacted:
		return true
	}
	return false
}

// Compactions is what the records say about lines that were taken out, oldest
// first.
func (h History) Compactions() History {
	var list History
	for _, e := range h {
		if e.Record.Compaction != nil {
			list = append(list, e)
		}
	}
	return list
}

// Stubs is how many of the records were taken out.
func (h History) Stubs() (n int64) {
	for _, e := range h {
		if e.Stub() {
			n++
		}
	}
	return n
}
