package ledger_test

import (
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
	"github.com/promote-dev/promote/pkg/release"
)

const (
	workflow = "https://github.com/acme/agent/.github/workflows/release.yml@refs/heads/main"
	actions  = "https://token.actions.githubusercontent.com"
)

var onMain = release.Claims{Repository: "https://github.com/acme/agent", Ref: "refs/heads/main"}

// ci gives whoever signs as a workflow, at the house's time.
func (h *house) ci(identity, issuer string, claims release.Claims) ledgertest.Key {
	return ops.As(identity, issuer, claims, func() time.Time { return h.now })
}

// workflows is a trust whose promoter is a workflow.
func workflows(match string, owners ...ledgertest.Key) *release.Trust {
	t := holding(1, map[release.Role][]ledgertest.Key{release.Owner: owners})
	t.Roles[release.Promoter] = []release.Party{{Name: "ci", IdentityMatch: match, Issuer: actions, Claims: &onMain}}
	return t
}

// TestIdentitiesWriteALedger: records and checkpoints, beside those of keys.
func TestIdentitiesWriteALedger(t *testing.T) {
	h := newHouse(t)
	ci := h.ci(workflow, actions, onMain)
	h.must(ci, first(workflows(`https://github\.com/acme/agent/.+`, alice)))
	h.must(ci, ledgertest.Released(1))

	evil := onMain
	evil.Repository = "https://github.com/mallory/agent"
	for name, key := range map[string]ledgertest.Key{
		"another issuer":   h.ci(workflow, "https://evil.example", onMain),
		"another workflow": h.ci("https://github.com/acme/other/x@y", actions, onMain),
		"a longer name":    h.ci("https://evil.example/?"+workflow, actions, onMain),
		"a fork's claims":  h.ci(workflow, actions, evil),
		"no claims":        h.ci(workflow, actions, release.Claims{}),
		"its key alone":    ops,
	} {
		denied(t, name, h.append(key, ledgertest.Released(2)))
	}
	denied(t, "an owner's record by the workflow", h.append(ci, changed(rulesB, workflows(".+@main", alice))))

	// The workflow goes, another comes; the ledger stays readable, at any time.
	h.now = h.now.Add(24 * time.Hour)
	h.must(alice, changed(rulesB, workflows(`https://gitlab\.com/acme/.+`, alice)))
	h.now = h.now.Add(time.Hour)
	denied(t, "the former workflow", h.append(ci, ledgertest.Released(3)))
	h.must(h.ci("https://gitlab.com/acme/agent", actions, onMain), ledgertest.Released(4))
	h.now = h.now.Add(9000 * time.Hour)
	if got := h.history(); len(got) != 4 || got[0].Signer.Name != "ci" || got[0].Signer.Issuer != actions {
		t.Errorf("%d records, the first by %+v", len(got), got[0].Signer)
	}
}

// TestIdentitiesOwnALedger: a change that they agree to moves the pin.
func TestIdentitiesOwnALedger(t *testing.T) {
	h := newHouse(t)
	person := func(name string) ledgertest.Key {
		return ledgertest.NewKey("alice").As(name, actions, release.Claims{}, func() time.Time { return h.now })
	}
	both := team(2, ops)
	for _, name := range []string{"a@acme.dev", "b@acme.dev"} {
		both.Roles[release.Owner] = append(both.Roles[release.Owner], release.Party{Name: name, Identity: name, Issuer: actions})
	}
	h.must(ops, first(both))
	next := *both
	next.OwnerThreshold = 1
	h.must(person("a@acme.dev"), changed(rulesB, &next))
	h.must(person("a@acme.dev"), changed(rulesB, &next))
	if h.history().Pinned().Rules != rulesA {
		t.Fatal("one of two owners moved the pin")
	}
	denied(t, "whoever is no owner", h.append(person("c@acme.dev"), changed(rulesB, &next)))
	h.must(person("b@acme.dev"), changed(rulesB, &next))
	if h.history().Pinned().Rules != rulesB {
		t.Error("both owners did not move the pin")
	}
	gone := next
	gone.Revoked = []release.Revocation{{Identity: "a@acme.dev", Reason: "left"}}
	h.must(person("b@acme.dev"), changed(rulesA, &gone))
	denied(t, "whoever is revoked", h.append(person("a@acme.dev"), changed(rulesB, &next)))
}

// TestARecordCannotClaimAnotherTime than the one that is proven: which trust
// counts follows from it.
func TestARecordCannotClaimAnotherTime(t *testing.T) {
	h := newHouse(t)
	trust := workflows(`https://github\.com/acme/agent/.+`, alice)
	trust.Roles[release.Promoter][0].NotAfter = h.now.Add(48 * time.Hour)
	ci := h.ci(workflow, actions, onMain)
	h.must(ci, first(trust))
	late := ops.As(workflow, actions, onMain, func() time.Time { return h.now.Add(72 * time.Hour) })
	err := h.append(late, ledgertest.Released(1))
	if err == nil || !strings.Contains(err.Error(), "it was signed at") {
		t.Errorf("a record from before the end, signed behind it: %v", err)
	}
	near := ops.As(workflow, actions, onMain, func() time.Time { return h.now.Add(time.Minute) })
	h.must(near, ledgertest.Released(2))
	h.now = h.now.Add(72 * time.Hour)
	denied(t, "behind its end", h.append(ci, ledgertest.Released(3)))
}

// TestALineOfTwoPayloadsIsNone: readers could take either.
func TestALineOfTwoPayloadsIsNone(t *testing.T) {
	h := newHouse(t)
	ci := h.ci(workflow, actions, onMain)
	h.must(ci, first(workflows(".+@refs/heads/main", alice)))
	for _, member := range []string{`"payload":"e30=",`, `"payloadType":"application/vnd.promote.record.v1+json",`} {
		state, err := h.store.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		broken := &ledgertest.Memory{}
		log := strings.Replace(string(state.Log), `"verificationMaterial"`, member+`"verificationMaterial"`, 1)
		broken.Replace(ledger.State{Log: []byte(log), Checkpoint: state.Checkpoint})
		other := *h
		other.store = broken
		if _, _, err := other.open(nobody).Read(t.Context()); release.KindOf(err) != release.KindIntegrity || !strings.Contains(err.Error(), "a second payload") {
			t.Errorf("%s: %v", member, err)
		}
	}
}

// TestTheSameNameElsewhereIsSomebodyElse: whoever has the last writer's name by
// another issuer cannot cover that record.
func TestTheSameNameElsewhereIsSomebodyElse(t *testing.T) {
	h := newHouse(t)
	trust := team(1, ops)
	trust.Roles[release.Owner] = []release.Party{{Name: "a", Identity: "a@acme.dev", Issuer: actions}}
	trust.Roles[release.Approver] = []release.Party{{Name: "b", Identity: "a@acme.dev", Issuer: "https://other.example"}}
	h.must(ops, first(trust))
	h.must(h.ci("a@acme.dev", actions, release.Claims{}), changed(rulesB, trust))
	_, checkpoint, err := h.open(nobody).Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := h.ci("a@acme.dev", "https://other.example", release.Claims{}).Sign(t.Context(), ledger.PayloadTypeCheckpoint, []byte(checkpoint.Text))
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = release.CanonicalJSON(raw); err != nil {
		t.Fatal(err)
	}
	state, err := h.store.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.store.Replace(ledger.State{Log: state.Log, Checkpoint: raw})
	if _, _, err := h.open(nobody).Read(t.Context()); release.KindOf(err) != release.KindIntegrity || !strings.Contains(err.Error(), "must be signed by the role promoter") {
		t.Errorf("a checkpoint by somebody else: %v", err)
	}
}
