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
	// Proposed says for each change that is not in force yet, by Proposal, the
	// names of the owners who agreed to it.
	Proposed map[Digest][]string
}

// Proposal identifies a change of the rules.
func Proposal(rules Digest, trust *Trust) Digest {
	raw, err := Canonical(struct {
		Rules Digest `json:"rules"`
		Trust *Trust `json:"trust"`
	}{rules, trust})
	if err != nil {
		return Digest{} // text that is not UTF-8 is nobody's proposal
	}
	return DigestOf(raw)
}

// Needed is how many distinct owners must agree to a change.
func (p Pin) Needed() int {
	if p.Trust == nil {
		return 1
	}
	return p.Trust.Threshold(Owner)
}

// Next gives the pin after one more record. p stays as it is.
func (p Pin) Next(e Entry) Pin {
	r := e.Record
	switch {
	case r.Sequence == 0:
		return Pin{Rules: r.Rules, Trust: r.Trust}
	case r.Phase != TrustChanged || !e.Signer.Has(Owner):
		return p
	}
	trust := r.Trust
	if trust == nil {
		trust = p.Trust // it changes the rest only
	}
	change := Proposal(r.Rules, trust)
	agreed := Distinct(append(p.owners(change), e.Signer), Owner)
	if len(agreed) >= p.needed(trust) {
		return Pin{Rules: r.Rules, Trust: trust}
	}
	proposed := maps.Clone(p.Proposed)
	if proposed == nil {
		proposed = map[Digest][]string{}
	}
	proposed[change] = agreed
	p.Proposed = proposed
	return p
}

// needed: where nothing says yet how many owners it takes, the first trust to
// be pinned does.
func (p Pin) needed(trust *Trust) int {
	if p.Trust == nil && trust != nil {
		return trust.Threshold(Owner)
	}
	return p.Needed()
}

func (p Pin) owners(change Digest) []Signer {
	var list []Signer
	for _, name := range p.Proposed[change] {
		list = append(list, Signer{Name: name, Roles: []Role{Owner}})
	}
	return slices.Clip(list)
}

// Pinned gives the rules that the records hold everybody to.
func (h History) Pinned() Pin {
	var p Pin
	for _, e := range h {
		p = p.Next(e)
	}
	return p
}
