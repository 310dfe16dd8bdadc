package release

import (
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"
)

// keyOf is a party's entry with a key of its own, and whoever signs with it.
func keyOf(name, key string, roles ...Role) (Party, Signer) {
	p := Party{Name: name, PublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte(key)}))}
	return p, Signer{Name: name, ID: p.Fingerprint(), Roles: roles}
}

// office is a ballot with four approvers, of whom carol has two keys.
func office() (Ballot, map[string]Signer) {
	b := Ballot{
		Environment: Environment{Name: "production", After: "staging", Approvals: Approvals{Required: 2}}, Release: factsRel,
		Trust: Trust{Roles: map[Role][]Party{}}, Configuration: DigestOf([]byte("rules")), Now: factsNow,
	}
	signers := map[string]Signer{}
	for key, name := range map[string]string{"alice": "alice", "bob": "bob", "carol": "carol", "carol 2": "carol", "dave": "dave"} {
		party, signer := keyOf(name, key, Approver)
		b.Trust.Roles[Approver] = append(b.Trust.Roles[Approver], party)
		signers[key] = signer
	}
	for _, name := range []string{"ci", "ops"} {
		party, signer := keyOf(name, name, Promoter)
		b.Trust.Roles[Promoter] = append(b.Trust.Roles[Promoter], party)
		signers[name] = signer
	}
	b.add(Record{Phase: Released, Release: factsRel}, signers["ci"])
	return b, signers
}

func (b *Ballot) add(r Record, s Signer) {
	r.Sequence = int64(len(b.History))
	if r.Time.IsZero() {
		r.Time = b.Now.Add(-time.Hour)
	}
	b.History = append(b.History, Entry{Record: r, Digest: DigestOf([]byte{byte(r.Sequence)}), Signer: s})
}

func (b *Ballot) approve(s Signer, change ...func(*Record)) {
	r := Record{Phase: Approved, Environment: b.Environment.Name, Release: b.Release, Configuration: b.Configuration, Time: b.Now.Add(-time.Hour), Until: b.Now.Add(time.Hour)}
	for _, f := range change {
		f(&r)
	}
	b.add(r, s)
}

func TestApprovalsThatCount(t *testing.T) {
	other := DigestOf([]byte("other"))
	for name, c := range map[string]struct {
		vote  func(b *Ballot, s map[string]Signer) // beside alice's
		given string
		why   string // of the newest vote that does not count
	}{
		"one":            {func(*Ballot, map[string]Signer) {}, "alice", ""},
		"two":            {func(b *Ballot, s map[string]Signer) { b.approve(s["bob"]) }, "alice bob", ""},
		"the same twice": {func(b *Ballot, s map[string]Signer) { b.approve(s["alice"]) }, "alice", ""},
		"two keys of one": {func(b *Ballot, s map[string]Signer) {
			b.approve(s["carol"])
			b.approve(s["carol 2"])
		}, "alice carol", ""},
		"another release": {func(b *Ballot, s map[string]Signer) { b.approve(s["bob"], func(r *Record) { r.Release = other }) }, "alice", ""},
		"no release":      {func(b *Ballot, s map[string]Signer) { b.approve(s["bob"], func(r *Record) { r.Release = Digest{} }) }, "alice", ""},
		"another environment": {func(b *Ballot, s map[string]Signer) {
			b.approve(s["bob"], func(r *Record) { r.Environment = "staging" })
		}, "alice", ""},
		"another configuration": {func(b *Ballot, s map[string]Signer) { b.approve(s["bob"], func(r *Record) { r.Configuration = other }) },
			"alice", "another configuration (" + other.Short()},
		"no configuration": {func(b *Ballot, s map[string]Signer) {
			b.approve(s["bob"], func(r *Record) { r.Configuration = Digest{} })
		}, "alice", "another configuration (none"},
		"another phase": {func(b *Ballot, s map[string]Signer) { b.approve(s["bob"], func(r *Record) { r.Phase = Watched }) }, "alice", ""},
		"over":          {func(b *Ballot, s map[string]Signer) { b.approve(s["bob"], func(r *Record) { r.Until = b.Now }) }, "alice", "it ended at 2030-01-02T12:00:00Z"},
		"almost over": {func(b *Ballot, s map[string]Signer) {
			b.approve(s["bob"], func(r *Record) { r.Until = b.Now.Add(time.Second) })
		}, "alice bob", ""},
		"without an end": {func(b *Ballot, s map[string]Signer) { b.approve(s["bob"], func(r *Record) { r.Until = time.Time{} }) },
			"alice", "does not end within 30 days"},
		"for too long": {func(b *Ballot, s map[string]Signer) {
			b.approve(s["bob"], func(r *Record) { r.Until = b.Now.AddDate(1, 0, 0) })
		},
			"alice", "does not end within 30 days"},
		"of tomorrow": {func(b *Ballot, s map[string]Signer) {
			b.approve(s["bob"], func(r *Record) { r.Time, r.Until = b.Now.Add(24*time.Hour), b.Now.Add(25*time.Hour) })
		}, "alice", "ahead of this machine's clock"},
		"by no approver": {func(b *Ballot, s map[string]Signer) { b.approve(s["ops"]) }, "alice", "ops is no approver"},
		"by a stranger": {func(b *Ballot, _ map[string]Signer) { b.approve(Signer{ID: "sha256:x", Roles: []Role{Approver}}) },
			"alice", "whoever signed it is no approver"},
		"no approver any more": {func(b *Ballot, s map[string]Signer) {
			b.approve(s["bob"])
			b.Trust.Roles[Approver] = slices.DeleteFunc(b.Trust.Roles[Approver], func(p Party) bool { return p.Name == "bob" })
		}, "alice", "bob is no approver, or not any more"},
		"revoked since": {func(b *Ballot, s map[string]Signer) {
			b.approve(s["bob"])
			b.Trust.Revoked = append(b.Trust.Revoked, Revocation{Key: s["bob"].ID})
		}, "alice", "bob is no approver, or not any more"},
		"one key of two revoked": {func(b *Ballot, s map[string]Signer) {
			b.approve(s["carol"])
			b.Trust.Revoked = append(b.Trust.Revoked, Revocation{Key: s["carol 2"].ID})
		}, "alice carol", ""},
		"promotes it": {func(b *Ballot, s map[string]Signer) {
			b.approve(s["bob"])
			b.Promoter = "bob"
		}, "alice", "bob promotes it: nobody approves their own"},
		"made it": {func(b *Ballot, s map[string]Signer) {
			b.approve(s["bob"])
			b.add(Record{Phase: Released, Release: factsRel}, Signer{Name: "bob", ID: "another key", Roles: []Role{Promoter}})
		}, "alice", "bob made the release (record 3): nobody approves their own"},
		"made another one": {func(b *Ballot, s map[string]Signer) {
			b.approve(s["bob"])
			b.add(Record{Phase: Released, Release: other}, s["bob"])
		}, "alice bob", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b, signers := office()
			b.approve(signers["alice"])
			c.vote(&b, signers)
			got := b.Count()
			if strings.Join(got.Given, " ") != c.given || got.Missing() != max(0, 2-len(strings.Fields(c.given))) {
				t.Errorf("given %v, want %s: %+v", got.Given, c.given, got.Votes)
			}
			why := ""
			for _, v := range slices.Backward(got.Votes) {
				if !v.Counts {
					why = v.Reason
				}
			}
			if !strings.Contains(why, c.why) || (why == "") != (c.why == "") {
				t.Errorf("it does not count because %q, want %q", why, c.why)
			}
			for _, v := range got.Votes {
				if v.Counts != (v.Reason == "") || v.Record.IsZero() {
					t.Errorf("vote %+v", v)
				}
			}
		})
	}
}

// Who acted for the release is who attested it, by what counts and by what the
// released record says, and who recorded something of it; whatever key they used.
func TestNotBy(t *testing.T) {
	by := func(name string, predicateType string, verified bool) Evidence {
		role, _ := RoleOf(predicateType)
		return Evidence{PredicateType: predicateType, Verified: verified, Role: role, Signer: Signer{Name: name, ID: "the key of a machine", Roles: []Role{role}}}
	}
	promoter := func(name string) Signer { return Signer{Name: name, ID: "another key", Roles: []Role{Promoter}} }
	for name, c := range map[string]struct {
		notBy  Role
		act    func(b *Ballot)
		counts bool
	}{
		"built it":         {Builder, func(b *Ballot) { b.Evidence = append(b.Evidence, by("bob", PredicateProvenance, true)) }, false},
		"signed it":        {Builder, func(b *Ballot) { b.Evidence = append(b.Evidence, by("bob", PredicateSignature, true)) }, false},
		"as nobody knows":  {Builder, func(b *Ballot) { b.Evidence = append(b.Evidence, by("bob", PredicateSignature, false)) }, true},
		"scanned it":       {Scanner, func(b *Ballot) { b.Evidence = append(b.Evidence, by("bob", PredicateVulnerability, true)) }, false},
		"scanned, builder": {Builder, func(b *Ballot) { b.Evidence = append(b.Evidence, by("bob", PredicateVulnerability, true)) }, true},
		"tested it":        {Tester, func(b *Ballot) { b.Evidence = append(b.Evidence, by("bob", PredicateTestResult, true)) }, false},
		"it says so":       {Builder, func(b *Ballot) { b.History[0].Record.Acted = map[Role][]string{Builder: {"bob"}} }, false},
		"promoted it before": {Promoter, func(b *Ballot) {
			b.add(Record{Phase: Intended, Environment: "staging", Release: factsRel}, promoter("bob"))
		}, false},
		"tried to": {Promoter, func(b *Ballot) {
			b.add(Record{Phase: DeniedPhase, Environment: "production", Release: factsRel}, promoter("bob"))
		}, false},
		"promoted another one": {Promoter, func(b *Ballot) {
			b.add(Record{Phase: Deployed, Environment: "staging", Release: factsOther}, promoter("bob"))
		}, true},
		"promoted, builder": {Builder, func(b *Ballot) {
			b.add(Record{Phase: Deployed, Environment: "staging", Release: factsRel}, promoter("bob"))
		}, true},
		"approved it before": {Approver, func(b *Ballot) {
			b.add(Record{Phase: Approved, Environment: "staging", Release: factsRel}, Signer{Name: "bob", Roles: []Role{Approver}})
		}, false},
		"approves it here": {Approver, func(*Ballot) {}, true},
	} {
		t.Run(name, func(t *testing.T) {
			b, signers := office()
			b.Environment.Approvals.NotBy = []Role{c.notBy}
			b.approve(signers["bob"])
			c.act(&b)
			got := b.Count()
			if (len(got.Given) == 1) != c.counts || !slices.Equal(got.NotBy, []string{string(c.notBy)}) {
				t.Errorf("got %+v", got)
			}
			if !c.counts && (slices.Contains(got.Approvers, "bob") || got.Votes[0].Reason != "bob acted as "+string(c.notBy)+" for the release, and notBy has that role") {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestWhoMayStillApprove(t *testing.T) {
	b, signers := office()
	b.approve(signers["alice"])
	b.Promoter = "bob"
	b.Trust.Revoked = []Revocation{{Key: signers["dave"].ID}}
	if got := b.Count().Approvers; !slices.Equal(got, []string{"carol"}) {
		t.Errorf("got %v", got)
	}
}

// Every subset of the approvals: with one less, never more count.
func TestTakingApprovalsAwayNeverHelps(t *testing.T) {
	full, signers := office()
	for _, key := range []string{"alice", "bob", "carol", "carol 2", "ops"} {
		full.approve(signers[key])
	}
	full.approve(signers["dave"], func(r *Record) { r.Until = full.Now })
	votes := full.History[1:]
	counts := make([]int, 1<<len(votes))
	for subset := range counts {
		b := full
		b.History = full.History[:1:1]
		for i, e := range votes {
			if subset&(1<<i) != 0 {
				b.History = append(b.History, e)
			}
		}
		counts[subset] = len(b.Count().Given)
	}
	for subset, n := range counts {
		for i := range votes {
			if counts[subset|1<<i] < n {
				t.Errorf("subset %06b counts %d, with vote %d more it counts %d", subset, n, i, counts[subset|1<<i])
			}
		}
	}
	if whole := counts[len(counts)-1]; whole != 3 {
		t.Errorf("of all of them %d count", whole)
	}
}

func TestTheVotesAreBounded(t *testing.T) {
	b, signers := office()
	b.approve(signers["alice"])
	for range 2 * MaxFindings {
		b.approve(signers["ops"])
	}
	if got := b.Count(); len(got.Votes) != MaxFindings || !got.Votes[0].Counts || len(got.Given) != 1 {
		t.Errorf("%d votes, given %v", len(got.Votes), got.Given)
	}
}
