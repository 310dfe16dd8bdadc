package release

import (
	"encoding/json"
	"fmt"
	"time"
)

// Predicate types that promote writes or reads.
const (
	StatementType           = "https://in-toto.io/Statement/v1"
	PredicateSignature      = "https://sigstore.dev/cosign/sign/v1"
	PredicateProvenance     = "https://slsa.dev/provenance/v1"
	PredicateCycloneDX      = "https://cyclonedx.org/bom"
	PredicateVulnerability  = "https://cosign.sigstore.dev/attestation/vuln/v1"
	PredicateTestResult     = "https://in-toto.io/attestation/test-result/v0.1"
	PredicateDecision       = "https://slsa.dev/verification_summary/v1"
	MediaTypeBundle         = "application/vnd.dev.sigstore.bundle.v0.3+json"
	AnnotationPredicateType = "dev.sigstore.bundle.predicateType"
	AnnotationContent       = "dev.sigstore.bundle.content" // "dsse-envelope"
)

// Statement is an in-toto Statement v1.
// https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
type Statement struct {
	Type          string             `json:"_type"`
	Subject       []StatementSubject `json:"subject"`
	PredicateType string             `json:"predicateType"`
	Predicate     json.RawMessage    `json:"predicate"`
}

// StatementSubject names what a statement is about; Digest maps "sha256" to
// bare hex digits.
type StatementSubject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// NewStatement makes a statement about one subject. The subject's name is its
// repository; the digest decides.
func NewStatement(s Subject, predicateType string, predicate json.RawMessage) Statement {
	return Statement{
		Type:          StatementType,
		Subject:       []StatementSubject{{Name: s.Repository, Digest: map[string]string{"sha256": s.Digest.Hex()}}},
		PredicateType: predicateType,
		Predicate:     predicate,
	}
}

// About reports whether the statement's only subject is the digest.
func (s Statement) About(d Digest) bool {
	return len(s.Subject) == 1 && s.Subject[0].Digest["sha256"] == d.Hex() && !d.IsZero()
}

// Evidence is one attestation found about a subject, verified or not. Only the
// sign package sets Verified.
type Evidence struct {
	Subject       Subject         `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate,omitempty"`
	// Digest is the SHA-256 of the attestation's bundle bytes.
	Digest Digest `json:"digest"`
	Signer Signer `json:"signer"`
	// Role is the role that this predicate type needs.
	Role Role `json:"role,omitempty"`
	// Time is when it was signed as far as that is proven, else zero.
	Time     time.Time `json:"time,omitzero"`
	Verified bool      `json:"verified"`
	Reason   string    `json:"reason,omitempty"` // why it is not verified
}

// Counts reports whether the evidence may be relied on as the predicate type:
// verified, and signed by a holder of the role that type needs.
func (e Evidence) Counts(predicateType string) bool {
	role, ok := RoleOf(predicateType)
	return ok && e.Verified && e.PredicateType == predicateType && e.Signer.Has(role)
}

// Attachment is an attestation as a registry holds it: the bundle's bytes and
// the predicate type its annotation claims.
type Attachment struct {
	Digest        Digest // of Bundle
	PredicateType string // claimed by the registry; only the signed one counts
	Bundle        []byte
}

// String names the evidence in a line.
func (e Evidence) String() string {
	return fmt.Sprintf("%s about %s by %s", e.PredicateType, e.Subject.Digest.Short(), e.Signer.Name)
}
