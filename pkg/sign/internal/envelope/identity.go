package envelope

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Proof is what a signature proves by itself, before any policy is asked: which
// key made it, or whose certificate, and when. It may be remembered.
type Proof struct {
	// ID is the key's fingerprint, or the certificate's only subject
	// alternative name.
	ID string `json:"id"`
	// Issuer vouches for the identity; empty for a key, never for a certificate.
	Issuer string         `json:"issuer,omitempty"`
	Claims release.Claims `json:"claims,omitzero"`
	// Time is the earliest moment at which it is proven to have existed; zero
	// if nothing proves one.
	Time time.Time `json:"time,omitzero"`
}

// pattern is a text, or an expression that all of a text must match. The zero
// value matches nothing.
type pattern struct {
	exact string
	whole *regexp.Regexp
}

func (p pattern) matches(s string) bool {
	if p.whole != nil {
		return s != "" && p.whole.MatchString(s)
	}
	return p.exact != "" && p.exact == s
}

func newPattern(exact, expression string) (pattern, error) {
	if expression == "" {
		return pattern{exact: exact}, nil
	}
	re, err := release.CompilePattern(expression)
	return pattern{whole: re}, err
}

// patterns reads how a party that is an identity is recognized.
func patterns(party release.Party) (identity, issuer pattern, err error) {
	switch {
	case party.Identity == "" && party.IdentityMatch == "":
		return identity, issuer, errors.New("it has neither a key nor an identity")
	case party.Identity != "" && party.IdentityMatch != "":
		return identity, issuer, errors.New("it has an identity and an expression for one, want one of them")
	case (party.Issuer == "") == (party.IssuerMatch == ""):
		return identity, issuer, errors.New("an identity needs the issuer that vouches for it, or an expression for one")
	}
	if identity, err = newPattern(party.Identity, party.IdentityMatch); err != nil {
		return identity, issuer, err
	}
	issuer, err = newPattern(party.Issuer, party.IssuerMatch)
	return identity, issuer, err
}

// Signer says who made a signature: the party's name, and the roles that it
// holds at the time that is proven or else now. ErrStranger means that the
// policy names nobody of that key or identity. Revoked is revoked, whenever it
// was signed: what proves the time may be the thief's.
func (p *Policy) Signer(proof Proof, now time.Time) (release.Signer, error) {
	at := proof.Time
	if at.IsZero() {
		at = now
	}
	s := release.Signer{ID: proof.ID, Issuer: proof.Issuer}
	var outside *entry
	var missing string
	for i, e := range p.entries {
		claim, ok := e.made(proof)
		switch {
		case claim != "":
			missing = fmt.Sprintf("the certificate's %s is not the one that %s needs", claim, Tidy(e.party.Name))
		case !ok:
		case s.Name != "" && s.Name != e.party.Name:
			return release.Signer{ID: proof.ID, Issuer: proof.Issuer}, fmt.Errorf(
				"its identity is both %s and %s under trust", Tidy(s.Name), Tidy(e.party.Name))
		default:
			s.Name = e.party.Name
			if !e.party.In(at) {
				outside = &p.entries[i]
			} else if !s.Has(e.role) {
				s.Roles = append(s.Roles, e.role)
			}
		}
	}
	switch {
	case s.Name == "" && missing != "":
		return s, errors.New(missing)
	case s.Name == "" && proof.Issuer != "":
		return s, unnamed{proof.ID, proof.Issuer}
	case s.Name == "":
		return s, ErrStranger
	}
	if err := p.revocation(s); err != nil {
		s.Roles = nil
		return s, err
	}
	if len(s.Roles) == 0 {
		return s, outOfTime(s.Name, outside.party, at, !proof.Time.IsZero())
	}
	return s, nil
}

// unnamed is an identity that no party has. It is an ErrStranger that says whose.
type unnamed struct{ id, issuer string }

func (u unnamed) Error() string {
	return fmt.Sprintf("signed by %s, vouched for by %s, whom the trust policy does not name", Tidy(u.id), Tidy(u.issuer))
}

func (u unnamed) Is(target error) bool { return target == ErrStranger }

// made reports whether the entry names who made the signature; claim names what
// the certificate lacks if only that is in the way.
func (e entry) made(proof Proof) (claim string, ok bool) {
	if e.key != "" {
		return "", proof.Issuer == "" && proof.ID == e.key
	}
	if proof.Issuer == "" || !e.identity.matches(proof.ID) || !e.issuer.matches(proof.Issuer) {
		return "", false
	}
	if e.party.Claims != nil {
		claim = e.party.Claims.Missing(proof.Claims)
	}
	return claim, claim == ""
}

func (p *Policy) revocation(s release.Signer) error {
	for _, r := range p.revoked {
		key := s.Issuer == "" && r.Key == s.ID
		identity := s.Issuer != "" && r.Identity == s.ID && (r.Issuer == "" || r.Issuer == s.Issuer)
		if key || identity {
			reason := ""
			if r.Reason != "" {
				reason = ": " + Tidy(r.Reason)
			}
			return fmt.Errorf("signed by %s, whose key or identity was revoked%s", Tidy(s.Name), reason)
		}
	}
	return nil
}

func outOfTime(name string, party release.Party, at time.Time, proven bool) error {
	how := "no timestamp proves when it was signed, and now"
	if proven {
		how = "signed"
	}
	word, bound := "not after", party.NotAfter
	if at.Before(party.NotBefore) {
		word, bound = "not before", party.NotBefore
	}
	return fmt.Errorf("signed by %s, who counts %s %s (%s is %s)", Tidy(name), word, bound.UTC().Format(time.RFC3339), how, at.UTC().Format(time.RFC3339))
}
