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
	gone, why := pipeline.Compactable(h, now, now.Add(-90*24*time.Hour), 2, nil)
	for n, l := range lines {
		got := why[int64(n)]
		if gone.Has(int64(n)) != (l.why == "") || len(got) < len(l.why) || got[:len(l.why)] != l.why || got != "" && l.why == "" {
			t.Errorf("record %d, %s of %s in %q: %q, want %q", n, l.phase, l.version, l.env, got, l.why)
		}
	}
}

// What tells of a snapshot stays as long as a target may have it: so many of each
// volume and target, and the newest of what a rollback goes to.
func TestRecordsOfSnapshotsStay(t *testing.T) {
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	of := func(version string) release.Digest { return release.DigestOf([]byte(version)) }
	var h release.History
	add := func(r release.Record) int64 {
		r.Sequence, r.Time, r.Environment = int64(len(h)), now.Add(-200*24*time.Hour), "production"
		h = append(h, release.Entry{Record: r})
		return r.Sequence
	}
	add(release.Record{Phase: release.Released, Release: of("v1")})
	// deployed goes from one release to another and keeps a volume before.
	deployed := func(from, to, key string) int64 {
		n := add(release.Record{Phase: release.Intended, Release: of(to), Kind: release.KindPromote})
		add(release.Record{Phase: release.Deployed, Release: of(to), Intent: &n, Kind: release.KindPromote, Targets: []release.TargetStatus{
			{Name: "prod-1", Snapshots: []release.Snapshot{{Name: "s-" + key + string(rune('a'+n)), Key: key, Sequence: n, Release: of(from)}}}}})
		return n
	}
	stays := map[int64]bool{}
	stays[deployed("v1", "v1", "graph")] = true // the only one of its volume
	deployed("v2", "v2", "memory")
	stays[deployed("v2", "v3", "memory")] = true // the newest of the way back
	deployed("v3", "v3", "memory")
	deployed("v3", "v3", "memory")
	for range 2 {
		stays[deployed("v3", "v3", "memory")] = true
	}
	last := h[len(h)-1].Record
	for range 2 { // told again, it is no further one
		stays[add(release.Record{Phase: release.FailedPhase, Release: of("v3"), Intent: last.Intent, Kind: release.KindPromote, Targets: last.Targets})] = true
	}
	for range 2 { // the last deployments, without
		n := add(release.Record{Phase: release.Intended, Release: of("v3"), Kind: release.KindPromote})
		add(release.Record{Phase: release.Deployed, Release: of("v3"), Intent: &n, Kind: release.KindPromote})
		stays[n] = true
	}
	// v2 was deployed before v3.
	h[3].Record.Release, h[4].Record.Release = of("v2"), of("v2")
	gone, why := pipeline.Compactable(h, now, now, 2, map[string]int{"production": 2})
	for n := int64(1); n < int64(len(h)); n += 2 {
		if n != 3 && gone.Has(n) == stays[n] || gone.Has(n) != gone.Has(n+1) {
			t.Errorf("record %d: goes %t, wanted to stay %t (%s)", n, gone.Has(n), stays[n], why[n])
		}
	}
}
