package sign

import (
	"errors"
	"fmt"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// BundleCheck is one sigstore bundle with who must have signed it, about what.
type BundleCheck struct {
	// Bundle is JSON of version 0.1 to 0.3, at most 32 MiB, with a DSSE
	// envelope or a message signature.
	Bundle []byte
	// Key is the signer's public key, PEM; empty where an identity signed.
	Key []byte
	// Identity is the certificate's subject alternative name, or IdentityMatch
	// an expression that all of it matches; likewise the issuer.
	Identity, IdentityMatch string
	Issuer, IssuerMatch     string
	// Root may be nil for a bundle signed with a key that no log knows.
	Root *Root
	// Artifact is what was signed, or a subject of the signed statement.
	Artifact release.Digest
}

// BundleResult is what a bundle proves.
type BundleResult struct {
	MediaType string
	// PredicateType is that of the signed statement; empty for a message.
	PredicateType string
	Signer        release.Signer // without name and roles
	Claims        release.Claims // of a certificate
	// Time is the earliest at which the signature is proven to have existed,
	// zero if nothing proves one.
	Time time.Time
}

// checked is the only name in the policy that VerifyBundle makes.
const checked = "the expected signer"

// VerifyBundle verifies one bundle by itself, without a trust policy. Where a
// root is given, a bundle with a key and log entries needs one in a log that the
// root knows. What is wrong with the bundle, its signature or its signer is a
// KindDenied fault; an expectation that means nothing is a KindConfig fault.
func VerifyBundle(c BundleCheck) (BundleResult, error) {
	policy, err := c.policy()
	if err != nil {
		return BundleResult{}, release.Faultf(release.KindConfig, "give the signer's public key, or an identity with its issuer", "expected signer: %w", err)
	}
	subject, err := about(c.Artifact)
	if err != nil {
		return BundleResult{}, release.Faultf(release.KindConfig, "give the file, or its digest as sha256: and 64 hex digits", "artifact: %w", err)
	}
	var result BundleResult
	err = guarded(func() (err error) {
		result, err = c.verify(policy, subject)
		return err
	})
	if err != nil {
		return BundleResult{}, release.Denied("check who signed it, about what, and that the trusted root is that of the same sigstore instance",
			"verifying bundle: %w", err)
	}
	return result, nil
}

// policy is one that trusts the expected signer only.
func (c BundleCheck) policy() (*envelope.Policy, error) {
	if len(c.Key) > 0 {
		if _, _, err := envelope.ParsePublicKey(c.Key); err != nil {
			return nil, err
		}
	}
	return envelope.NewPolicy(release.Trust{Roles: map[release.Role][]release.Party{release.Builder: {{
		Name: checked, PublicKey: string(c.Key),
		Identity: c.Identity, IdentityMatch: c.IdentityMatch, Issuer: c.Issuer, IssuerMatch: c.IssuerMatch,
	}}}})
}

func (c BundleCheck) verify(policy *envelope.Policy, about artifact) (BundleResult, error) {
	if len(c.Bundle) > envelope.MaxBundle {
		return BundleResult{}, fmt.Errorf("%d bytes: at most %d are read", len(c.Bundle), envelope.MaxBundle)
	}
	b := &bundle.Bundle{}
	if err := b.UnmarshalJSON(c.Bundle); err != nil {
		return BundleResult{}, tidied(err)
	}
	if err := oneSignature(b); err != nil {
		return BundleResult{}, err
	}
	proof, err := c.prove(policy, b, about)
	if err != nil {
		return BundleResult{}, err
	}
	signer, err := policy.Signer(proof, time.Now())
	if signer.Name == "" {
		return BundleResult{}, fmt.Errorf("signed by %s, vouched for by %s: another than was expected", envelope.Tidy(proof.ID), envelope.Tidy(proof.Issuer))
	}
	if err != nil {
		return BundleResult{}, err
	}
	result := BundleResult{MediaType: b.GetMediaType(), Signer: release.Signer{ID: signer.ID, Issuer: signer.Issuer}, Claims: proof.Claims, Time: proof.Time}
	if b.GetDsseEnvelope() != nil {
		st, err := envelope.ParseStatement(b.GetDsseEnvelope().GetPayload())
		if err == nil {
			result.PredicateType = st.PredicateType
		}
	}
	return result, nil
}

func (c BundleCheck) prove(policy *envelope.Policy, b *bundle.Bundle, about artifact) (Proof, error) {
	keys := policy.Keys()
	switch {
	case len(keys) > 0 && !byKey(b):
		return Proof{}, errors.New("signed with a certificate, want a key")
	case len(keys) == 0 && c.Root == nil:
		return Proof{}, errors.New("no trusted root to check the certificate against")
	case len(keys) == 0:
		return c.Root.prove(b, about)
	}
	if err := sameSignature(b); err != nil {
		return Proof{}, err
	}
	key, err := newTrustedKey(keys[0])
	if err != nil {
		return Proof{}, err
	}
	proof, err := key.prove(b, about, c.Root, true)
	if err != nil {
		return Proof{}, tidied(err)
	}
	return proof, nil
}
