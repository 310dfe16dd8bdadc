package release

import (
	"fmt"
	"slices"
	"time"
)

// Changes gives the differences from a former policy, a line each: "+ owner:
// alice, key sha256:…" for what is new, "- …" for what is gone.
func (t Trust) Changes(former Trust) []string {
	now, before := t.lines(), former.lines()
	var list []string
	for _, line := range before {
		if !slices.Contains(now, line) {
			list = append(list, "- "+line)
		}
	}
	for _, line := range now {
		if !slices.Contains(before, line) {
			list = append(list, "+ "+line)
		}
	}
	return list
}

// lines says the policy to a person.
func (t Trust) lines() []string {
	var list []string
	for _, role := range Roles {
		if n := t.Threshold(role); n > 1 {
			list = append(list, fmt.Sprintf("%s: %d distinct parties must sign", role, n))
		}
		for _, p := range t.Roles[role] {
			list = append(list, fmt.Sprintf("%s: %s", role, p))
		}
	}
	for _, r := range t.Revoked {
		list = append(list, "revoked: "+r.String())
	}
	if !t.TrustedRoot.IsZero() {
		list = append(list, "trusted root: "+t.TrustedRoot.String())
	}
	return list
}

// String names the party with all that it is recognized by.
func (p Party) String() string {
	s := fmt.Sprintf("%q, %s", p.Name, p.Means())
	if p.Claims != nil {
		s += fmt.Sprintf(", claims %+v", *p.Claims)
	}
	if !p.NotBefore.IsZero() {
		s += ", from " + p.NotBefore.UTC().Format(time.RFC3339)
	}
	if !p.NotAfter.IsZero() {
		s += ", until " + p.NotAfter.UTC().Format(time.RFC3339)
	}
	return s
}

// Means names the key or the identity that the party is recognized by.
func (p Party) Means() string {
	if p.PublicKey != "" {
		return "key " + p.Fingerprint()
	}
	identity, issuer := fmt.Sprintf("%q", p.Identity), fmt.Sprintf("%q", p.Issuer)
	if p.IdentityMatch != "" {
		identity = fmt.Sprintf("like %q", p.IdentityMatch)
	}
	if p.IssuerMatch != "" {
		issuer = fmt.Sprintf("like %q", p.IssuerMatch)
	}
	return "identity " + identity + " by " + issuer
}

// String names what is revoked, and why.
func (r Revocation) String() string {
	s := "key " + r.Key
	if r.Key == "" {
		s = fmt.Sprintf("identity %q", r.Identity)
		if r.Issuer != "" {
			s += fmt.Sprintf(" by %q", r.Issuer)
		}
	}
	if r.Reason != "" {
		s += fmt.Sprintf(" (%s)", r.Reason)
	}
	return s
}

// The states of a party's entry.
const (
	PartyValid   = "valid"
	PartyNotYet  = "not yet"
	PartyExpired = "expired"
	PartyRevoked = "revoked"
)

// State says whether a party's entry counts at a time. An identity that only
// an expression names is not known to be revoked before it signs.
func (t Trust) State(p Party, at time.Time) string {
	print := p.Fingerprint()
	revoked := slices.ContainsFunc(t.Revoked, func(r Revocation) bool {
		return r.Key != "" && r.Key == print || r.Identity != "" && r.Identity == p.Identity && (r.Issuer == "" || r.Issuer == p.Issuer)
	})
	switch {
	case revoked:
		return PartyRevoked
	case at.Before(p.NotBefore):
		return PartyNotYet
	case !p.In(at):
		return PartyExpired
	}
	return PartyValid
}
