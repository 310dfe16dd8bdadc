package sign

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// proveCertificate verifies a signature with the certificate that the bundle
// brings, by the trusted root. Whose it is, the policy judges afterwards.
func (v *Verifier) proveCertificate(s sealed, about artifact, d release.Digest) (Proof, error) {
	switch {
	case !v.policy.Identities():
		return Proof{}, errors.New("signed with a certificate, only public keys are trusted")
	case v.root == nil:
		return Proof{}, errors.New("signed with a certificate, and there is no trusted root to check it against")
	}
	return v.remembered(s, "certificate", d, func() (Proof, error) { return v.root.prove(s.bundle, about) })
}

// prove verifies the chain, the logs, the timestamps and the signature, and
// gives what the certificate says of its holder.
func (r *Root) prove(b verify.SignedEntity, about artifact) (Proof, error) {
	if r.lacks != "" {
		return Proof{}, errors.New(r.lacks)
	}
	content, err := b.VerificationContent()
	if err != nil {
		return Proof{}, tidied(err)
	}
	leaf := content.Certificate()
	if leaf == nil {
		return Proof{}, errors.New("signed with a key, want a certificate")
	}
	proof, err := certified(leaf)
	if err != nil {
		return Proof{}, err
	}
	// Its own identity: what the policy makes of it is decided by the policy,
	// and sigstore-go gets no occasion to skip the question.
	identity, err := verify.NewShortCertificateIdentity(proof.Issuer, "", proof.ID, "")
	if err != nil {
		return Proof{}, tidied(err)
	}
	result, err := r.certificates.Verify(b, verify.NewPolicy(about(), verify.WithCertificateIdentity(identity)))
	if err != nil {
		return Proof{}, fmt.Errorf("certificate of %s: %s", envelope.Tidy(proof.ID), envelope.Tidy(err.Error()))
	}
	if proof.Time = earliest(result); proof.Time.IsZero() {
		return Proof{}, errors.New("nothing proves when the certificate was used")
	}
	return proof, nil
}

// certified reads what a certificate says, unbelieved.
func certified(leaf *x509.Certificate) (Proof, error) {
	if n := alternativeNames(leaf); n != 1 {
		return Proof{}, fmt.Errorf("certificate with %d subject alternative names, want exactly one", n)
	}
	summary, err := certificate.SummarizeCertificate(leaf)
	if err != nil {
		return Proof{}, fmt.Errorf("reading certificate: %s", envelope.Tidy(err.Error()))
	}
	if summary.Issuer == "" {
		return Proof{}, errors.New("certificate without an issuer of its identity")
	}
	return Proof{ID: summary.SubjectAlternativeName, Issuer: summary.Issuer, Claims: release.Claims{
		Repository: summary.SourceRepositoryURI,
		Ref:        summary.SourceRepositoryRef,
		Revision:   summary.SourceRepositoryDigest,
		Owner:      summary.SourceRepositoryOwnerURI,
		Workflow:   summary.BuildConfigURI,
		Trigger:    summary.BuildTrigger,
		Runner:     summary.RunnerEnvironment,
	}}, nil
}

var oidAlternativeName = asn1.ObjectIdentifier{2, 5, 29, 17}

// alternativeNames counts the subject's names, of every type, also those that
// crypto/x509 does not show: with two, it would be a matter of taste whose
// certificate it is.
func alternativeNames(leaf *x509.Certificate) int {
	n := 0
	for _, extension := range leaf.Extensions {
		if !extension.Id.Equal(oidAlternativeName) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(extension.Value, &names); err != nil || len(rest) > 0 {
			return 0
		}
		n += len(names)
	}
	return n
}
