package pipeline_test

import (
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// TestWhatStays has, for each reason, a record that stays for nothing else; and
// beside it one that goes.
func TestWhatStays(t *testing.T) {
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	old, young := now.Add(-100*24*time.Hour), now.Add(-time.Hour)
	at := func(n int64) *int64 { return &n }
	of := func(version string) release.Digest {
		if version == "" {
			return release.Digest{}
		}
		return release.DigestOf([]byte(version))
	}
	type line struct {
		phase   release.Phase
		env     string
		version string
		signer  string
		more    release.Record
		why     string // beginning of the reason; empty: it goes
	}
	const ops = "ops"
	lines := []line{
		0:  {release.Released, "", "v0", ops, release.Record{}, "the first record"},
		1:  {release.Released, "", "v1", ops, release.Record{}, "about releases"},
		2:  {release.Approved, "production", "v1", "alice", release.Record{Until: now.Add(time.Hour)}, "approvals"},
		3:  {release.Released, "", "v2", ops, release.Record{}, ""},
		4:  {release.Approved, "production", "v2", "alice", release.Record{Until: young}, ""},
		5:  {release.Intended, "staging", "v3", ops, release.Record{}, "attempts"},
		6:  {release.Intended, "staging", "v4", ops, release.Record{}, ""},
		7:  {release.FailedPhase, "staging", "v4", ops, release.Record{Intent: at(6)}, ""},
		8:  {release.Intended, "staging", "v4", ops, release.Record{Resumes: at(6)}, ""},
		9:  {release.RolledBack, "staging", "v4", ops, release.Record{Intent: at(8)}, ""},
		10: {release.Intended, "staging", "v5", ops, release.Record{}, "what a rollback"},
		11: {release.Deployed, "staging", "v5", ops, release.Record{Intent: at(10)}, "what a rollback"},
		12: {release.Intended, "staging", "v6", ops, release.Record{}, ""},
		13: {release.Deployed, "staging", "v6", ops, release.Record{Intent: at(12)}, ""},
		14: {release.Intended, "staging", "v6", ops, release.Record{}, "the last deployments"},
		15: {release.Deployed, "staging", "v6", ops, release.Record{Intent: at(14)}, "the last deployments"},
		16: {release.Frozen, "staging", "", ops, release.Record{}, "the first record"},
		17: {release.Intended, "staging", "v6", ops, release.Record{}, "the last deployments"},
		18: {release.Deployed, "staging", "v6", ops, release.Record{Intent: at(17)}, "the last deployments"},
		19: {release.Intended, "staging", "v7", ops, release.Record{}, "what was tried"},
		20: {release.RolledBack, "staging", "v7", ops, release.Record{Intent: at(19)}, "what was tried"},
		21: {release.Intended, "staging", "v8", ops, release.Record{}, "what was tried"},
		22: {release.FailedPhase, "staging", "v8", ops, release.Record{Intent: at(21)}, "what was tried"},
		23: {release.RolledBack, "staging", "v8", ops, release.Record{Intent: at(21)}, "what was tried"},
		24: {release.DeniedPhase, "production", "v6", ops, release.Record{Decision: &release.Decision{}}, "about releases"},
		25: {release.DeniedPhase, "production", "v6", "carol", release.Record{}, "about releases"},
		26: {release.DeniedPhase, "production", "v6", ops, release.Record{}, ""},
		27: {release.DeniedPhase, "production", "v6", ops, release.Record{}, "about releases"},
		28: {release.DeniedPhase, "production", "v9", ops, release.Record{}, "the last of"},
		29: {release.Watched, "staging", "", ops, release.Record{Time: young}, "younger"},
		30: {release.Watched, "staging", "", ops, release.Record{Time: young}, "younger"},
		31: {release.Watched, "production", "", ops, release.Record{}, ""},
		32: {release.Watched, "production", "", ops, release.Record{}, "the last of"},
		33: {release.Approved, "staging", "v6", "alice", release.Record{Until: young}, "about releases"},
		34: {release.Approved, "staging", "v6", "alice", release.Record{Until: young}, "the last of"},
		35: {release.Released, "", "v6", "carol", release.Record{}, "about releases"},
		36: {release.Released, "", "v6", "carol", release.Record{}, "about releases"},
		38: {release.Approved, "production", "v6", "alice", release.Record{Until: young}, "the last of"},
		37: {release.Released, "", "v10", ops, release.Record{}, "the last of"},
	}
	var h release.History
	for n, l := range lines {
		r := l.more
		r.Sequence, r.Phase, r.Environment, r.Release, r.Version = int64(n), l.phase, l.env, of(l.version), l.version
		if r.Time.IsZero() {
			r.Time = old
		}
		h = append(h, release.Entry{Record: r, Signer: release.Signer{Name: l.signer}})
	}
	gone, why := pipeline.Compactable(h, now, now.Add(-90*24*time.Hour), 2)
	for n, l := range lines {
		got := why[int64(n)]
		if gone.Has(int64(n)) != (l.why == "") || len(got) < len(l.why) || got[:len(l.why)] != l.why || got != "" && l.why == "" {
			t.Errorf("record %d, %s of %s in %q: %q, want %q", n, l.phase, l.version, l.env, got, l.why)
		}
	}
}
