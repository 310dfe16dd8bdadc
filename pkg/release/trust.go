package release

import (
	"encoding/pem"
	"slices"
	"time"
)

// Role is what a key or identity may say something as.
type Role string

// The roles of PRODUCT.md.
const (
	Builder    Role = "builder"
	Scanner    Role = "scanner"
	Tester     Role = "tester"
	Promoter   Role = "promoter"
	Approver   Role = "approver"
	Owner      Role = "owner"
	BreakGlass Role = "breakGlass"
)

// Roles are all of them, who comes first in a release's life first.
var Roles = []Role{Builder, Scanner, Tester, Promoter, Approver, Owner, BreakGlass}

// QuorumRoles are those for which several distinct parties can be asked for.
var QuorumRoles = []Role{Builder, Scanner, Tester, Owner}

// RoleOf gives the role that must have signed a predicate type. Types without
// a role count for nothing.
func RoleOf(predicateType string) (Role, bool) {
	switch predicateType {
	case PredicateSignature, PredicateProvenance:
		return Builder, true
	case PredicateVulnerability, PredicateCycloneDX:
		return Scanner, true
	case PredicateTestResult:
		return Tester, true
	case PredicateDecision:
		return Promoter, true
	}
	return "", false
}

// Party is a named holder of a role: a public key, or the identity of a
// certificate with the issuer that vouches for it. Several entries of one name
// are one party, with several keys or during a rotation.
type Party struct {
	// Name is what quorums count.
	Name string `json:"name"`
	// PublicKey is a PEM-encoded PKIX public key; empty for an identity.
	PublicKey string `json:"publicKey,omitempty"`
	// Identity is a certificate's subject alternative name, matched exactly.
	Identity string `json:"identity,omitempty"`
	// IdentityMatch is a regular expression (RE2) that the whole of it matches.
	IdentityMatch string `json:"identityMatch,omitempty"`
	// Issuer is the OpenID Connect issuer, matched exactly.
	Issuer string `json:"issuer,omitempty"`
	// IssuerMatch is a regular expression (RE2) that the whole of it matches.
	IssuerMatch string `json:"issuerMatch,omitempty"`
	// Claims must all be certified, those that are given.
	Claims *Claims `json:"claims,omitempty"`
	// NotBefore and NotAfter bound when a signature counts; zero is unbounded.
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter,omitzero"`
}

// In reports whether the party's entry is in force at a time.
func (p Party) In(at time.Time) bool {
	return (p.NotBefore.IsZero() || !at.Before(p.NotBefore)) && (p.NotAfter.IsZero() || !at.After(p.NotAfter))
}

// Fingerprint gives "sha256:…" of the key's PKIX form; it is empty for an
// identity and for what is not PEM.
func (p Party) Fingerprint() string {
	block, _ := pem.Decode([]byte(p.PublicKey))
	if block == nil {
		return ""
	}
	return DigestOf(block.Bytes).String()
}

// Claims are what a certificate says about the workflow that asked for it. An
// empty one says nothing. The numbers are Fulcio's, below 1.3.6.1.4.1.57264.1.
// https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md
type Claims struct {
	Repository string `json:"repository,omitempty"` // 12, source repository URI
	Ref        string `json:"ref,omitempty"`        // 14, source repository ref
	Revision   string `json:"revision,omitempty"`   // 13, source repository digest
	Owner      string `json:"owner,omitempty"`      // 16, source repository owner URI
	Workflow   string `json:"workflow,omitempty"`   // 18, build config URI
	Trigger    string `json:"trigger,omitempty"`    // 20, build trigger
	Runner     string `json:"runner,omitempty"`     // 11, runner environment
}

// Missing names the first claim that is asked for and that got does not have,
// or has otherwise; it is empty if got has all of them.
func (c Claims) Missing(got Claims) string {
	for _, claim := range []struct{ name, want, got string }{
		{"repository", c.Repository, got.Repository}, {"ref", c.Ref, got.Ref}, {"revision", c.Revision, got.Revision},
		{"owner", c.Owner, got.Owner}, {"workflow", c.Workflow, got.Workflow}, {"trigger", c.Trigger, got.Trigger},
		{"runner", c.Runner, got.Runner},
	} {
		if claim.want != "" && claim.want != claim.got {
			return claim.name
		}
	}
	return ""
}

// Revocation takes a key or an identity out of use, whatever the roles say.
type Revocation struct {
	Key      string `json:"key,omitempty"`      // a fingerprint, "sha256:…"
	Identity string `json:"identity,omitempty"` // a subject alternative name, exact
	Issuer   string `json:"issuer,omitempty"`   // of Identity; empty is every issuer
	Reason   string `json:"reason,omitempty"`
}

// Trust says who holds which role. A role nobody holds is nobody's.
type Trust struct {
	// SingleKey is true without a trust section: one key speaks for every
	// role but approver and breakGlass.
	SingleKey bool `json:"singleKey"`
	// Version is that of the trust file; 0 for trust that promote.yaml holds.
	Version int64            `json:"version,omitempty"`
	Roles   map[Role][]Party `json:"roles"`
	// OwnerThreshold is how many distinct owners must sign a change; 0 means 1.
	OwnerThreshold int `json:"ownerThreshold,omitempty"`
	// Thresholds are how many distinct parties of other roles must have signed
	// for something to count; absent means 1.
	Thresholds map[Role]int `json:"thresholds,omitempty"`
	// Revoked keys and identities count for nothing.
	Revoked []Revocation `json:"revoked,omitempty"`
	// TrustedRoot is the digest of the trusted_root.json that certificates are
	// checked against; zero is the public one.
	TrustedRoot Digest `json:"trustedRoot,omitzero"`
}

// Mode is what a decision shows: "single-key" or "roles".
func (t Trust) Mode() string {
	if t.SingleKey {
		return "single-key"
	}
	return "roles"
}

// Digest identifies the policy: that of its canonical JSON.
func (t Trust) Digest() Digest {
	raw, err := Canonical(t)
	if err != nil {
		return Digest{} // text that is not UTF-8; it equals no policy
	}
	return DigestOf(raw)
}

// Threshold is how many distinct parties of a role must have signed.
func (t Trust) Threshold(role Role) int {
	if role == Owner {
		return max(1, t.OwnerThreshold)
	}
	return max(1, t.Thresholds[role])
}

// At gives the policy as it is at a time: without the entries that are not in
// force then, and those that are without bounds.
func (t Trust) At(at time.Time) Trust {
	roles := make(map[Role][]Party, len(t.Roles))
	for role, parties := range t.Roles {
		kept := []Party{}
		for _, p := range parties {
			if p.In(at) {
				p.NotBefore, p.NotAfter = time.Time{}, time.Time{}
				kept = append(kept, p)
			}
		}
		roles[role] = kept
	}
	t.Roles = roles
	return t
}

// Holds gives the name under which a signer holds a role at a time. Of an
// identity the claims count that its certificate has. Whoever is revoked, or
// would be two parties, holds none.
func (t Trust) Holds(s Signer, role Role, at time.Time) (string, bool) {
	if s.ID == "" || slices.ContainsFunc(t.Revoked, func(r Revocation) bool { return r.of(s) }) {
		return "", false
	}
	name, holds := "", false
	for r, parties := range t.Roles {
		for _, p := range parties {
			switch {
			case !p.Signed(s):
				continue
			case name != "" && name != p.Name:
				return "", false
			}
			name = p.Name
			holds = holds || r == role && p.In(at)
		}
	}
	if !holds {
		return "", false
	}
	return name, true
}

// Signed reports whether the entry names a signer, whenever it is in force.
func (p Party) Signed(s Signer) bool {
	if p.PublicKey != "" || s.Issuer == "" {
		return p.PublicKey != "" && s.Issuer == "" && s.ID != "" && p.Fingerprint() == s.ID
	}
	var claims Claims
	if s.Claims != nil {
		claims = *s.Claims
	}
	return names(p.Identity, p.IdentityMatch, s.ID) && names(p.Issuer, p.IssuerMatch, s.Issuer) &&
		(p.Claims == nil || p.Claims.Missing(claims) == "")
}

// names reports whether a text, or an expression that all of it has to match,
// names a value.
func names(exact, expression, value string) bool {
	if expression == "" {
		return exact != "" && exact == value
	}
	pattern, err := CompilePattern(expression)
	return err == nil && value != "" && pattern.MatchString(value)
}

// of reports whether the revocation is of a signer.
func (r Revocation) of(s Signer) bool {
	if s.Issuer == "" {
		return r.Key != "" && r.Key == s.ID
	}
	return r.Identity != "" && r.Identity == s.ID && (r.Issuer == "" || r.Issuer == s.Issuer)
}

// Signer is who signed something, as verification found it.
type Signer struct {
	Name   string `json:"name"` // the party's name in the trust policy; empty if unknown
	Roles  []Role `json:"roles,omitempty"`
	Issuer string `json:"issuer,omitempty"` // empty for keys
	// ID is the key's fingerprint ("sha256:…" of its PKIX form) or the
	// certificate's identity.
	ID string `json:"id,omitempty"`
	// Claims are what an identity's certificate says besides, where whoever
	// reads a ledger needs it; nil for keys.
	Claims *Claims `json:"claims,omitempty"`
	// Time is when the signature of a ledger's record is proven to have existed;
	// zero if nothing proves it, as with keys.
	Time time.Time `json:"time,omitzero"`
}

// Has reports whether the signer holds a role.
func (s Signer) Has(role Role) bool { return slices.Contains(s.Roles, role) }

// Distinct gives the names of those who hold a role, each once, sorted: what a
// quorum counts. Two keys of one name are one; whoever has no name is nobody.
func Distinct(signers []Signer, role Role) []string {
	var names []string
	for _, s := range signers {
		if s.Name != "" && s.Has(role) {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
