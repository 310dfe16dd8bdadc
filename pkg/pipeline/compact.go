package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// Compactor archives the ledger and takes lines out of its log.
type Compactor interface {
	// Archive exports the whole ledger to where the archive shall be, durably, and
	// verifies what lies there then. It takes the place of nothing else.
	Archive(ctx context.Context) (Archive, error)
	// Archived verifies the archive that lies there already; false if nothing does.
	Archived(ctx context.Context) (Archive, bool, error)
	// Weight is by how many bytes the log is shorter without these records' lines.
	Weight(ctx context.Context, list release.Ranges) (int64, error)
	// Strip takes out all lines that compacted records of the log say may go, and
	// gives how many there were and by how many bytes the log is shorter. If the
	// log has moved meanwhile, the error is release.ErrMoved.
	Strip(ctx context.Context) (records, bytes int64, err error)
}

// Archive is an export that holds the lines that go.
type Archive struct {
	Place   string         `json:"place"`
	Records int64          `json:"records"`
	Bytes   int64          `json:"bytes"`
	Digest  release.Digest `json:"digest"`
}

// CompactOptions are `ledger compact`.
type CompactOptions struct {
	// Keep is how many deployments of each environment stay, whatever their age.
	Keep int
	// OlderThan is how old records must be to go.
	OlderThan time.Duration
	Reason    string
	DryRun    bool
}

// CompactResult is what `ledger compact` gives.
type CompactResult struct {
	// Records are those of the log, with Earlier ones whose lines had gone before.
	Records int64 `json:"records"`
	Earlier int64 `json:"earlier"`
	// Compacted lines went now, or would go: by so many Bytes the log is shorter.
	Compacted int64          `json:"compacted"`
	Bytes     int64          `json:"bytes"`
	Ranges    release.Ranges `json:"ranges"`
	// Kept says why records stay.
	Kept    []KeptRecords `json:"kept"`
	By      string        `json:"by"`
	Archive *Archive      `json:"archive"`
	Record  *RecordResult `json:"record"`
	// Finished is true where a compaction that was interrupted was brought to its
	// end, and nothing else was done.
	Finished bool `json:"finished,omitempty"`
	DryRun   bool `json:"dryRun,omitempty"`
}

// KeptRecords are records that stay for one reason.
type KeptRecords struct {
	Why     string `json:"why"`
	Records int64  `json:"records"`
}

// MinKeep is how many deployments of an environment stay at least: what runs,
// and what ran before.
const MinKeep = 2

// Compact takes the lines of old records out of the log that nothing needs which
// stays; see compactable. First an archive holds them, then a record says which
// may go, then they go. Killed in between, a second run goes on. It waits for no
// promotion: with an open record it is KindHeld. A promoter signs it.
func (p *Pipeline) Compact(ctx context.Context, c Compactor, o CompactOptions) (CompactResult, error) {
	if o.Keep < MinKeep {
		return CompactResult{}, release.Misuse("--keep 10", "--keep %d: what runs and what ran before always stay, so at least %d", o.Keep, MinKeep)
	}
	if o.OlderThan < 0 {
		return CompactResult{}, release.Misuse("--older-than 2160h", "--older-than %s is negative", o.OlderThan)
	}
	if err := goodReason(o.Reason); err != nil {
		return CompactResult{}, err
	}
	var archive *Archive
	for try := 1; ; try++ {
		out, err := p.compact(ctx, c, o, &archive)
		if !errors.Is(err, release.ErrMoved) || try == appendTries {
			return out, err
		}
	}
}

// compact is Compact, once. The archive of an earlier try is good: it holds all
// that was there then.
func (p *Pipeline) compact(ctx context.Context, c Compactor, o CompactOptions, archive **Archive) (CompactResult, error) {
	history, checkpoint, err := p.Ledger.Read(ctx)
	if err != nil {
		return CompactResult{}, err
	}
	if err := nobodyPromotes(history); err != nil {
		return CompactResult{}, err
	}
	if _, err := p.checkRules(history); err != nil {
		return CompactResult{}, err
	}
	party, err := p.speaker(ctx, release.Promoter)
	if err != nil {
		return CompactResult{}, err
	}
	out, pending, err := p.planCompaction(ctx, c, o, history)
	out.By = party.Name
	if err != nil || o.DryRun || out.Compacted == 0 {
		return out, err
	}
	if *archive == nil {
		there, ok, err := c.Archived(ctx)
		switch {
		case err != nil:
			return CompactResult{}, err
		case ok && holds(history, there, pending):
			out.Finished, out.Archive, out.Ranges, out.Kept = true, &there, pending, []KeptRecords{}
			return p.strip(ctx, c, out)
		}
		made, err := c.Archive(ctx)
		if err != nil {
			return CompactResult{}, err
		}
		*archive = &made
	}
	out.Archive = *archive
	if last := out.Ranges[len(out.Ranges)-1].To; last >= out.Archive.Records {
		return CompactResult{}, release.Faultf(release.KindInternal, "", "compacting the ledger: record %d would go, and the archive holds %d records", last, out.Archive.Records)
	}
	entry, err := p.appendTo(ctx, history, checkpoint.TreeSize, release.Record{Phase: release.Compacted, Reason: o.Reason, Compaction: &release.Compaction{
		Ranges: out.Ranges, Archive: out.Archive.Digest, Bytes: out.Archive.Bytes, Before: laterThan(history, out.Ranges)}})
	if err != nil {
		return CompactResult{}, err
	}
	out.Record = &RecordResult{Sequence: entry.Record.Sequence, Digest: entry.Digest}
	return p.strip(ctx, c, out)
}

// planCompaction says what goes, and which of it a record names already.
func (p *Pipeline) planCompaction(ctx context.Context, c Compactor, o CompactOptions, h release.History) (out CompactResult, pending release.Ranges, err error) {
	snapshots := map[string]int{}
	for _, e := range p.Project.Environments {
		snapshots[e.Name] = e.Snapshots.Keep
	}
	gone, why := compactable(h, p.Now(), p.Now().Add(-o.OlderThan), o.Keep, snapshots)
	named := release.Ranges{}
	for _, e := range h.Compactions() {
		named = named.With(e.Record.Compaction.Ranges)
	}
	for _, e := range h {
		if n := e.Record.Sequence; !e.Stub() && named.Has(n) {
			pending = pending.And(n)
			delete(why, n)
		}
	}
	gone = gone.With(pending)
	out = CompactResult{Records: int64(len(h)), Earlier: h.Stubs(), Kept: []KeptRecords{}, DryRun: o.DryRun, Ranges: append(release.Ranges{}, gone...)}
	out.Compacted = out.Ranges.Count()
	counts := map[string]int64{}
	for _, reason := range why {
		counts[reason]++
	}
	for _, reason := range staysOrder {
		if counts[reason] > 0 {
			out.Kept = append(out.Kept, KeptRecords{reason, counts[reason]})
		}
	}
	out.Bytes, err = c.Weight(ctx, out.Ranges)
	return out, pending, err
}

// strip takes the lines out. Whoever wrote meanwhile is no reason to leave it,
// unless a promotion has begun.
func (p *Pipeline) strip(ctx context.Context, c Compactor, out CompactResult) (CompactResult, error) {
	for try := 1; ; try++ {
		records, bytes, err := c.Strip(ctx)
		if err == nil {
			out.Compacted, out.Bytes = records, bytes
			return out, nil
		}
		if !errors.Is(err, release.ErrMoved) || try == appendTries {
			return out, notYet(err)
		}
		history, _, err := p.Ledger.Read(ctx)
		if err == nil {
			err = nobodyPromotes(history)
		}
		if err != nil {
			return out, notYet(err)
		}
	}
}

// notYet says how far it came. It is never ErrMoved: the record is there.
func notYet(err error) error {
	kind, hint := release.KindOf(err), "run the same command again: it goes on from there"
	if errors.Is(err, release.ErrMoved) {
		return release.Unavailable(hint, "the archive is there and the ledger says which lines may go; they are there still, because others wrote at the same time")
	}
	return release.Faultf(kind, hint, "the archive is there and the ledger says which lines may go; they are there still: %w", err)
}

// nobodyPromotes holds unless a record is open in any environment.
func nobodyPromotes(h release.History) error {
	seen := map[string]bool{}
	for _, e := range h {
		env := e.Record.Environment
		if e.Record.Phase != release.Intended || seen[env] {
			continue
		}
		seen[env] = true
		if open, ok := h.Open(env); ok && gaveUp(h, open) {
			return abandoned(open, "it failed and was not undone")
		} else if ok {
			return held(open)
		}
	}
	return nil
}

// holds reports whether a compacted record names the archive and all records
// whose lines are still to go.
func holds(h release.History, a Archive, pending release.Ranges) bool {
	for _, e := range h.Compactions() {
		c := e.Record.Compaction
		if c.Archive != a.Digest {
			continue
		}
		all := len(pending) > 0
		for _, r := range pending {
			all = all && c.Ranges.Covers(r)
		}
		if all {
			return true
		}
	}
	return false
}

// laterThan gives a time that is later than those of the records.
func laterThan(h release.History, list release.Ranges) (at time.Time) {
	for _, e := range h {
		if !e.Stub() && list.Has(e.Record.Sequence) && !e.Record.Time.Before(at) {
			at = e.Record.Time
		}
	}
	return at.Add(time.Second).UTC().Truncate(time.Second)
}

// CompactedRecords are records whose lines an archive holds.
type CompactedRecords struct {
	Records int64 `json:"records"`
	// Record is the sequence of the compacted record that says so.
	Record  int64          `json:"record"`
	Archive release.Digest `json:"archive"`
}

// String is what a person is told of records that are not shown.
func (c CompactedRecords) String() string {
	return fmt.Sprintf("%d records compacted (record %d), archive %s", c.Records, c.Record, c.Archive)
}

// compacted gives, of records that were taken out, which archive holds them.
func compacted(h release.History, gone release.Ranges) []CompactedRecords {
	list := []CompactedRecords{}
	for _, e := range h.Compactions() {
		one := CompactedRecords{Record: e.Record.Sequence, Archive: e.Record.Compaction.Archive}
		var left release.Ranges
		for _, r := range gone {
			for n := r.From; n <= r.To; n++ {
				if e.Record.Compaction.Ranges.Has(n) {
					one.Records++
				} else {
					left = left.And(n)
				}
			}
		}
		if gone = left; one.Records > 0 {
			list = append(list, one)
		}
	}
	return list
}

// compactedUnknown tells whoever looks for something that the ledger does not
// know that it may have known it.
func compactedUnknown(ctx context.Context, h release.History, what string) {
	if n := h.Stubs(); n > 0 {
		event.Noticef(ctx, "the lines of %d old records were taken out of the ledger: if %s is one of theirs, it is not known here (promote log --phase compacted names the archives)", n, what)
	}
}
