package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// attic is a Compactor that archives nothing.
type attic struct {
	g     *gatehouse
	place LedgerOptions
}

func (g *gatehouse) compactor(_ context.Context, _ *config.Config, o LedgerOptions) (pipeline.Compactor, error) {
	g.place = o
	return attic{g, o}, nil
}

func (a attic) Archive(context.Context) (pipeline.Archive, error) {
	return pipeline.Archive{Place: a.place.Place, Records: int64(len(a.g.records)), Bytes: 1, Digest: release.DigestOf(nil)}, nil
}

func (a attic) Archived(context.Context) (pipeline.Archive, bool, error) {
	return pipeline.Archive{}, false, nil
}

func (a attic) Weight(_ context.Context, list release.Ranges) (int64, error) {
	return 700 * list.Count(), nil
}

func (a attic) Strip(context.Context) (records, bytes int64, err error) {
	for _, c := range a.g.records.Compactions() {
		for i := range a.g.records {
			if c.Record.Compaction.Ranges.Has(int64(i)) {
				a.g.records[i] = release.Entry{Record: release.Record{Sequence: int64(i)}}
				records++
			}
		}
	}
	return records, 700 * records, nil
}

func TestCompactFromTheShell(t *testing.T) {
	if _, err := comments(); err != nil { // they lie where the tests begin
		t.Fatal(err)
	}
	g := newGatehouse(t)
	for n := range 4 {
		r := release.Record{Sequence: int64(len(g.records)), Phase: release.DeniedPhase, Environment: "staging", Release: release.DigestOf([]byte{byte(n)}), Version: fmt.Sprint("v0.", n),
			Time: time.Now().Add(-100 * 24 * time.Hour).UTC()}
		g.records = append(g.records, release.Entry{Record: r, Signer: g.party("ops")})
	}
	g.say("ledger compact --dry-run", 0, "would compact 3 of 8 records (0 went before); the log is", "the last of their kind")
	g.say("ledger compact", 2, "needs an archive", "--archive ledger")
	g.say("ledger compact --archive a --older-than soon", 2, "--older-than 90d")
	g.say("ledger compact --archive a --keep 1", 2, "at least 2")
	g.say("ledger compact --archive a --older-than 200d", 0, "nothing to compact: all 8 records stay")
	g.say("ledger compact --archive a --key alice.key", 3, "alice is no promoter")
	if len(g.records) != 8 {
		t.Fatalf("%d records", len(g.records))
	}
	text := g.say("ledger compact --archive a --reason spring -o json", 0)
	valid(t, "ledger-compact", []byte(text))
	last := g.records[len(g.records)-1].Record
	if c := last.Compaction; last.Phase != release.Compacted || last.Reason != "spring" || c == nil || c.Ranges.Count() != 3 || g.place.Place != filepath.Join(wd(t), "a") {
		t.Errorf("recorded %+v in %+v", last, g.place)
	}
	out := g.say("log", 0, "3 records compacted (record 8), archive sha256:", "3 records may go, archive sha256:", "spring")
	if n := strings.Count(out, "\n"); n != 1+8-2+1 {
		t.Errorf("%d lines:\n%s", n, out)
	}
	valid(t, "log", []byte(g.say("log staging -o json", 0, `"record": 8,`)))
	g.say("log --release v0.1", 2, "3 old records were taken out", "no release")
	valid(t, "ledger-compact", []byte(g.say("ledger compact -o json --dry-run", 0, `"earlier": 3`)))
}
