package envelope

import (
	"crypto"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/promote-dev/promote/pkg/release"
)

// Key is one trusted public key with the party it belongs to.
type Key struct {
	Name   string // of the party
	ID     string // the fingerprint
	Public crypto.PublicKey
}

// Policy is a trust policy, ready to say whose a signature is. It is pure and
// may be used from several goroutines.
type Policy struct {
	keys    []Key
	entries []entry
	revoked []release.Revocation
}

// entry is one line of the policy: this party, in this role.
type entry struct {
	role             release.Role
	party            release.Party
	key              string // fingerprint; empty for an identity
	identity, issuer pattern
}

// NewPolicy reads a trust policy. It refuses one that could not mean what it
// says: nobody at all, an unknown role, a party without a name, or with
// anything but exactly one of key and identity, an identity without an issuer,
// a pattern that is none or that nothing escapes, a key or an identity under
// two names (a quorum counts names), a time that ends before it begins, a
// quorum that can't be met, a single key that approves itself.
func NewPolicy(t release.Trust) (*Policy, error) {
	p := &Policy{}
	for _, role := range slices.Sorted(maps.Keys(t.Roles)) {
		if !slices.Contains(release.Roles, role) {
			return nil, fmt.Errorf("unknown role %q", Tidy(string(role)))
		}
		if t.SingleKey && (role == release.Approver || role == release.BreakGlass) && len(t.Roles[role]) > 0 {
			return nil, fmt.Errorf("role %s: a single key cannot hold it, name its holders under trust", role)
		}
		for _, party := range t.Roles[role] {
			if err := p.add(role, party); err != nil {
				return nil, fmt.Errorf("role %s: %w", role, err)
			}
		}
	}
	if len(p.entries) == 0 {
		return nil, errors.New("no key and no identity is trusted for any role")
	}
	if err := p.revoke(t.Revoked); err != nil {
		return nil, err
	}
	return p, thresholds(t)
}

func (p *Policy) add(role release.Role, party release.Party) error {
	name := Tidy(party.Name)
	if party.Name == "" {
		return errors.New("a party has no name")
	}
	if !party.NotBefore.IsZero() && !party.NotAfter.IsZero() && party.NotAfter.Before(party.NotBefore) {
		return fmt.Errorf("party %q: it ends before it begins", name)
	}
	e := entry{role: role, party: party}
	var err error
	if party.PublicKey != "" {
		err = p.addKey(&e)
	} else {
		e.identity, e.issuer, err = patterns(party)
	}
	if err != nil {
		return fmt.Errorf("party %q: %w", name, err)
	}
	for _, other := range p.entries {
		if other.party.Name != party.Name && other.same(e) {
			return fmt.Errorf("parties %q and %q have the same key or identity", Tidy(other.party.Name), name)
		}
	}
	p.entries = append(p.entries, e)
	return nil
}

func (p *Policy) addKey(e *entry) error {
	party := e.party
	if party.Identity != "" || party.IdentityMatch != "" || party.Issuer != "" || party.IssuerMatch != "" || party.Claims != nil {
		return errors.New("it has a key and an identity, want one of them")
	}
	key, id, err := ParsePublicKey([]byte(party.PublicKey))
	if err != nil {
		return err
	}
	e.key = id
	if !slices.ContainsFunc(p.keys, func(k Key) bool { return k.ID == id }) {
		p.keys = append(p.keys, Key{Name: party.Name, ID: id, Public: key})
	}
	return nil
}

// same reports whether two entries are met by the very same signatures.
func (e entry) same(other entry) bool {
	if e.key != "" || other.key != "" {
		return e.key == other.key
	}
	a, b := e.party, other.party
	claims := a.Claims == b.Claims || a.Claims != nil && b.Claims != nil && *a.Claims == *b.Claims
	return claims && a.Identity == b.Identity && a.IdentityMatch == b.IdentityMatch && a.Issuer == b.Issuer && a.IssuerMatch == b.IssuerMatch
}

func (p *Policy) revoke(list []release.Revocation) error {
	for i, r := range list {
		if (r.Key == "") == (r.Identity == "") {
			return fmt.Errorf("revocation %d: want a key or an identity", i+1)
		}
		if _, err := release.ParseDigest(r.Key); r.Key != "" && err != nil {
			return fmt.Errorf("revocation %d: want a key's fingerprint, sha256:…", i+1)
		}
	}
	p.revoked = list
	return nil
}

// thresholds refuses quorums that nobody could meet.
func thresholds(t release.Trust) error {
	asked := maps.Clone(t.Thresholds)
	if asked == nil {
		asked = map[release.Role]int{}
	}
	if t.OwnerThreshold != 0 {
		asked[release.Owner] = t.OwnerThreshold
	}
	for _, role := range slices.Sorted(maps.Keys(asked)) {
		names := map[string]bool{}
		for _, party := range t.Roles[role] {
			names[party.Name] = true
		}
		if n := asked[role]; n < 1 || n > len(names) {
			return fmt.Errorf("role %s: %d must sign and %d are named", Tidy(string(role)), n, len(names))
		}
	}
	return nil
}

// Keys gives the public keys that the policy names, each once.
func (p *Policy) Keys() []Key { return p.keys }

// Identities reports whether any party is an identity, so that certificates
// have to be checked at all.
func (p *Policy) Identities() bool {
	return slices.ContainsFunc(p.entries, func(e entry) bool { return e.key == "" })
}

// SingleKey is the trust of a project without a trust section: one key speaks
// for every role but approver and breakGlass.
func SingleKey(publicPEM []byte, name string) release.Trust {
	party := release.Party{Name: name, PublicKey: string(publicPEM)}
	t := release.Trust{SingleKey: true, Roles: map[release.Role][]release.Party{}}
	for _, role := range release.Roles {
		if role != release.Approver && role != release.BreakGlass {
			t.Roles[role] = []release.Party{party}
		}
	}
	return t
}
