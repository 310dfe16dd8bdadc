package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
	"github.com/promote-dev/promote/pkg/release"
)

// house is a ledger whose trust changes over time. Everybody's key exists; who
// counts, the trust in force says.
type house struct {
	t     *testing.T
	store *ledgertest.Memory
	keys  *ledgertest.Trust
	now   time.Time
	cache string
}

var (
	ops, opsNew     = ledgertest.NewKey("ops"), ledgertest.NewKey("ops 2027").Named("ops")
	alice, carol    = ledgertest.NewKey("alice"), ledgertest.NewKey("carol")
	mallory, nobody = ledgertest.NewKey("mallory"), ledgertest.NewKey("nobody")
	aliceOther      = ledgertest.NewKey("alice's other key").Named("alice")
	everybody       = []ledgertest.Key{ops, opsNew, alice, carol, mallory, nobody, aliceOther}
	rulesA, rulesB  = release.DigestOf([]byte("a")), release.DigestOf([]byte("b"))
	firstOfJanuary  = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
)

func newHouse(t *testing.T) *house {
	return &house{t: t, store: &ledgertest.Memory{}, keys: &ledgertest.Trust{Keys: everybody},
		now: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), cache: t.TempDir()}
}

// open gives the ledger to somebody whose own trust knows nobody: what is read
// is believed by what the ledger pins.
func (h *house) open(key ledgertest.Key) *ledger.Ledger {
	return opened(h.t, ledger.Options{Store: h.store, Origin: "promote/test", Sign: key.Sign, VerifyBy: h.keys.VerifyBy,
		Verify: func([]byte, string) ([]byte, release.Signer, error) {
			return nil, release.Signer{}, release.Denied("", "no trusted key made the signature")
		},
		Now: func() time.Time { return h.now }, Trust: rulesA, Cache: h.cache})
}

func (h *house) append(key ledgertest.Key, r release.Record) error {
	h.t.Helper()
	state, err := h.store.Read(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	var size int64
	if len(state.Log) > 0 {
		size = int64(len(h.history()))
	}
	_, _, err = h.open(key).Append(h.t.Context(), r, size)
	return err
}

func (h *house) must(key ledgertest.Key, r release.Record) {
	h.t.Helper()
	if err := h.append(key, r); err != nil {
		h.t.Fatal(err)
	}
}

// history reads the ledger with what is remembered, and all of it anew.
func (h *house) history() release.History {
	h.t.Helper()
	l := h.open(nobody)
	got, _, err := l.Read(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := l.VerifyAll(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	return got
}

func holding(threshold int, roles map[release.Role][]ledgertest.Key) *release.Trust {
	t := &release.Trust{Roles: map[release.Role][]release.Party{}, OwnerThreshold: threshold}
	for role, keys := range roles {
		for _, k := range keys {
			t.Roles[role] = append(t.Roles[role], k.Party())
		}
	}
	return t
}

func team(threshold int, promoter ledgertest.Key, owners ...ledgertest.Key) *release.Trust {
	return holding(threshold, map[release.Role][]ledgertest.Key{release.Promoter: {promoter}, release.Owner: owners})
}

func first(trust *release.Trust) release.Record {
	return release.Record{Phase: release.Released, Version: "1", Rules: rulesA, Trust: trust}
}

func changed(rules release.Digest, trust *release.Trust) release.Record {
	return release.Record{Phase: release.TrustChanged, Rules: rules, Trust: trust}
}

func denied(t *testing.T, what string, err error) {
	t.Helper()
	if release.KindOf(err) != release.KindDenied {
		t.Errorf("%s: %v, want a denial", what, err)
	}
}

// TestKeysAreRotatedAndTheLedgerStaysReadable: the old key signs, both do, the
// old one is gone; every record counts by the trust of its time.
func TestKeysAreRotatedAndTheLedgerStaysReadable(t *testing.T) {
	h := newHouse(t)
	before := team(1, ops, alice)
	h.must(ops, first(before))
	h.must(ops, ledgertest.Released(1))
	denied(t, "the new key before it is named", h.append(opsNew, ledgertest.Released(2)))

	both := holding(1, map[release.Role][]ledgertest.Key{release.Promoter: {ops, opsNew}, release.Owner: {alice}})
	h.must(alice, changed(rulesB, both))
	h.must(opsNew, ledgertest.Released(3))
	h.must(ops, ledgertest.Released(4))

	h.must(alice, changed(rulesA, team(1, opsNew, alice)))
	denied(t, "the old key after it went", h.append(ops, ledgertest.Released(5)))
	h.must(opsNew, ledgertest.Released(6))

	got := h.history()
	if len(got) != 7 || got[0].Signer.ID != ops.Signer.ID || got[6].Signer.ID != opsNew.Signer.ID || got[6].Signer.Name != "ops" {
		t.Errorf("history %+v", got)
	}
}

// TestWindowsCountByTheRecordsTime: an overlap by dates needs no second change.
func TestWindowsCountByTheRecordsTime(t *testing.T) {
	h := newHouse(t)
	old, fresh := ops.Party(), opsNew.Party()
	old.NotAfter, fresh.NotBefore = firstOfJanuary, firstOfJanuary.Add(-24*time.Hour)
	trust := team(1, ops, alice)
	trust.Roles[release.Promoter] = []release.Party{old, fresh}
	h.must(ops, first(trust))
	denied(t, "the new key before its time", h.append(opsNew, ledgertest.Released(1)))
	h.now = firstOfJanuary.Add(-time.Hour)
	h.must(ops, ledgertest.Released(2))
	h.must(opsNew, ledgertest.Released(3))
	h.now = firstOfJanuary
	h.must(ops, ledgertest.Released(4))
	h.now = firstOfJanuary.Add(time.Second)
	denied(t, "the old key after its time", h.append(ops, ledgertest.Released(5)))
	h.must(opsNew, ledgertest.Released(6))
	if got := h.history(); len(got) != 5 {
		t.Errorf("%d records", len(got))
	}
}

func TestRevokedKeysWriteNothingMore(t *testing.T) {
	h := newHouse(t)
	trust := holding(1, map[release.Role][]ledgertest.Key{release.Promoter: {ops, opsNew}, release.Owner: {alice}})
	h.must(ops, first(trust))
	without := *trust
	without.Revoked = []release.Revocation{{Key: ops.Signer.ID, Reason: "laptop stolen"}}
	h.must(alice, changed(rulesB, &without))
	denied(t, "a revoked key", h.append(ops, ledgertest.Released(1)))
	h.must(opsNew, ledgertest.Released(2))
	if got := h.history(); got[0].Signer.ID != ops.Signer.ID {
		t.Error("the record before the revocation lost its signer")
	}
}

// TestAChangeTakesDistinctOwnersOfThePinnedTrust is case 21: a quorum of two
// is not met by one owner twice, with two keys of one name, nor by somebody
// whom only the new trust names.
func TestAChangeTakesDistinctOwnersOfThePinnedTrust(t *testing.T) {
	h := newHouse(t)
	pinned := holding(2, map[release.Role][]ledgertest.Key{release.Promoter: {ops}, release.Owner: {alice, aliceOther, carol}})
	h.must(ops, first(pinned))
	easier := team(1, ops, alice, mallory)
	denied(t, "a stranger proposes", h.append(mallory, changed(rulesB, easier)))
	denied(t, "a promoter proposes", h.append(ops, changed(rulesB, easier)))
	h.must(alice, changed(rulesB, easier))
	h.must(alice, changed(rulesB, easier))
	h.must(aliceOther, changed(rulesB, easier))
	denied(t, "the newcomer agrees early", h.append(mallory, changed(rulesB, easier)))
	pin := h.history().Pinned()
	if pin.Rules != rulesA || pin.Trust.Digest() != pinned.Digest() {
		t.Fatalf("one owner moved the pin to %s", pin.Rules)
	}
	if agreed := pin.Proposed[release.Proposal(rulesB, easier)]; fmt.Sprint(agreed.Owners) != "[alice]" {
		t.Errorf("agreed: %v", agreed)
	}
	h.must(carol, changed(rulesA, easier)) // another change: other rules
	if h.history().Pinned().Trust.Digest() != pinned.Digest() {
		t.Fatal("two owners of two changes moved the pin")
	}
	h.must(carol, changed(rulesB, easier))
	if pin := h.history().Pinned(); pin.Rules != rulesB || pin.Trust.Digest() != easier.Digest() || len(pin.Proposed) != 0 {
		t.Errorf("two owners agreed, the pin is %+v", pin)
	}
}

// TestARewrittenLedgerCannotEndWithOurTrust: whoever writes a whole history
// under keys of their own can pin their own trust, but not ours.
func TestARewrittenLedgerCannotEndWithOurTrust(t *testing.T) {
	h := newHouse(t)
	theirs, ours := team(1, mallory, mallory), team(1, ops, alice)
	h.must(mallory, first(theirs))
	h.must(mallory, changed(rulesB, ours))
	if pin := h.history().Pinned(); pin.Trust.Digest() != theirs.Digest() {
		t.Fatalf("a history that none of us signed ends with our trust")
	}
	denied(t, "somebody whom neither names", h.append(nobody, changed(rulesB, ours)))
	h.must(alice, changed(rulesB, ours)) // on purpose, as when all owners change
	if pin := h.history().Pinned(); pin.Trust.Digest() != ours.Digest() {
		t.Error("the new owner's confirmation does not count")
	}
	h.must(ops, ledgertest.Released(1))
}

// TestTrustIsPinnedOnlyWhereItBelongs: by the first record and by changes.
func TestTrustIsPinnedOnlyWhereItBelongs(t *testing.T) {
	h := newHouse(t)
	h.must(ops, first(team(1, ops, alice)))
	r := ledgertest.Released(1)
	r.Trust = team(1, ops, mallory)
	if err := h.append(ops, r); err == nil {
		t.Error("a released record pins a trust")
	}
	for name, trust := range map[string]*release.Trust{
		"means nothing": {}, "names no owner": holding(1, map[release.Role][]ledgertest.Key{release.Promoter: {ops}}),
		"names no promoter": holding(1, map[release.Role][]ledgertest.Key{release.Owner: {alice}}),
	} {
		if err := h.append(alice, changed(rulesB, trust)); err == nil {
			t.Errorf("a trust that %s can be proposed", name)
		}
	}
	if got := h.history(); len(got) != 1 {
		t.Errorf("%d records", len(got))
	}
}

// TestOlderLedgersStayReadable: their records pin no trust. The project's own
// judges them; once one is pinned they outlive its keys too.
func TestOlderLedgersStayReadable(t *testing.T) {
	h := newHouse(t)
	old := func(keys ...ledgertest.Key) ledger.Options {
		o := ledgertest.Options(h.store, keys...)
		o.Cache = t.TempDir()
		return o
	}
	known := ledgertest.NewKey("ops", release.Promoter)
	owner := ledgertest.NewKey("alice", release.Owner)
	l := opened(t, old(known, owner))
	ledgertest.Fill(t, l, 3)
	later := old(owner, known)
	later.VerifyBy = h.keys.VerifyBy
	if _, _, err := opened(t, later).Append(t.Context(), changed(rulesB, team(1, ops, alice)), 3); err != nil {
		t.Fatal(err)
	}
	h.must(alice, changed(rulesA, team(1, opsNew, alice)))
	h.must(opsNew, ledgertest.Released(5))
	if got := h.history(); len(got) != 6 || got[0].Signer.ID != ops.Signer.ID {
		t.Errorf("history %+v", got)
	}
}

// TestAProposalVouchesForNothing: records that no trust is pinned for are not
// judged by one that never came into force.
func TestAProposalVouchesForNothing(t *testing.T) {
	h := newHouse(t)
	theirs := ledgertest.Options(h.store, ledgertest.NewKey("mallory", release.Promoter, release.Owner))
	l := opened(t, theirs)
	if _, _, err := l.Append(t.Context(), release.Record{Phase: release.Released, Rules: rulesA}, 0); err != nil {
		t.Fatal(err)
	}
	two := team(2, mallory, mallory, alice)
	if _, _, err := l.Append(t.Context(), changed(rulesA, two), 1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.open(ops).Read(t.Context()); release.KindOf(err) != release.KindIntegrity {
		t.Errorf("read with %v, want an integrity fault", err)
	}
}
