package release

import (
	"maps"
	"slices"
)

// Pin is the rules that a ledger holds everybody to: the first record pins
// them, and only the owners whom the pinned trust names can move the pin.
type Pin struct {
	// Rules is the digest of trust, environments and policies; zero for an
	// empty ledger.
	Rules Digest
	// Trust is who may say what; nil where a version of promote wrote the pin
	// that did not record it.
	Trust *Trust
	// Proposed are the changes that are not in force yet, by Proposal.
	Proposed map[Digest]Agreement
}

// Agreement is how far a change of the rules has come.
type Agreement struct {
	// Owners are the distinct owners of the pinned version who agreed, sorted.
	Owners []string
	// Known is true once one of those who agreed is an owner or a promoter of
	// the new version too. Without that, whoever wrote a history under keys of
	// their own could have it end with somebody else's trust.
	Known bool
}

// Proposal identifies a change of the rules.
func Proposal(rules Digest, trust *Trust) Digest {
	raw, err := Canonical(struct {
		Rules Digest `json:"rules"`
		Trust *Trust `json:"trust"`
	}{rules, trust})
	if err != nil {
		return Digest{} // it always encodes; if not, it is nobody's proposal
	}
	return DigestOf(raw)
}

// Needed is how many distinct owners of the pinned version must agree to a
// change. Where none is pinned yet, the first trust to be pinned says it.
func (p Pin) Needed(trust *Trust) int {
	switch {
	case p.Trust != nil:
		return p.Trust.Threshold(Owner)
	case trust != nil:
		return trust.Threshold(Owner)
	}
	return 1
}

// Carried reports whether enough owners of the pinned version agreed to a
// change: then somebody whom the new one names may confirm it.
func (p Pin) Carried(rules Digest, trust *Trust) bool {
	return len(p.Proposed[Proposal(rules, trust)].Owners) >= p.Needed(trust)
}

// Next gives the pin after one more record. p stays as it is.
func (p Pin) Next(e Entry) Pin {
	r := e.Record
	switch {
	case r.Sequence == 0:
		return Pin{Rules: r.Rules, Trust: r.Trust}
	case r.Phase != TrustChanged:
		return p
	}
	trust := r.Trust
	if trust == nil {
		trust = p.Trust // it changes the rest only
	}
	change := Proposal(r.Rules, trust)
	agreed := p.Proposed[change]
	if name, ok := p.owner(e); ok {
		agreed.Owners = append(slices.Clone(agreed.Owners), name)
		slices.Sort(agreed.Owners)
		agreed.Owners = slices.Compact(agreed.Owners)
	}
	agreed.Known = agreed.Known || trust == nil || vouches(*trust, e)
	if agreed.Known && len(agreed.Owners) >= p.Needed(trust) {
		return Pin{Rules: r.Rules, Trust: trust}
	}
	proposed := maps.Clone(p.Proposed)
	if proposed == nil {
		proposed = map[Digest]Agreement{}
	}
	proposed[change] = agreed
	p.Proposed = proposed
	return p
}

// owner gives the name under which the record's signer is an owner of the
// pinned version.
func (p Pin) owner(e Entry) (string, bool) {
	if p.Trust == nil {
		return e.Signer.Name, e.Signer.Name != "" && e.Signer.Has(Owner)
	}
	return p.Trust.Holds(e.Signer, Owner, e.Record.Time)
}

// vouches reports whether the trust names the record's signer.
func vouches(trust Trust, e Entry) bool {
	_, owner := trust.Holds(e.Signer, Owner, e.Record.Time)
	_, promoter := trust.Holds(e.Signer, Promoter, e.Record.Time)
	return owner || promoter
}

// Pinned gives the rules that the records hold everybody to.
func (h History) Pinned() Pin {
	var p Pin
	for i := range h {
		// All others leave it as it is, and are large to hand over.
		if r := &h[i].Record; r.Sequence == 0 || r.Phase == TrustChanged {
			p = p.Next(h[i])
		}
	}
	return p
}
