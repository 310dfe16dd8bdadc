package sign

import (
	"context"
	"errors"
	"fmt"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/verify"

	intoto "github.com/in-toto/attestation/go/v1"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// SignEnvelope puts a payload into a sigstore bundle in canonical JSON, as Sign
// does with a statement: for ledger records and checkpoints. One certificate
// serves many; see Sign for what is asked of whom.
func (i *Identity) SignEnvelope(ctx context.Context, payloadType string, payload []byte) ([]byte, error) {
	if payloadType == "" || len(payload) == 0 {
		return nil, signing(payloadType, errors.New("payload and its type must not be empty"))
	}
	if len(payload) > envelope.MaxEnvelope/2 {
		return nil, signing(payloadType, tooLarge(len(payload), envelope.MaxEnvelope/2))
	}
	key, leaf, err := i.certified(ctx)
	if err != nil {
		return nil, signing(payloadType, err)
	}
	var text []byte
	err = guarded(func() error {
		a, _, err := i.sign(ctx, payloadType, payload, key, leaf, verify.WithoutArtifactUnsafe)
		if err == nil {
			text, err = release.CanonicalJSON(a.Bundle)
		}
		return err
	})
	if err == nil && len(text) > envelope.MaxEnvelope {
		err = tooLarge(len(text), envelope.MaxEnvelope)
	}
	if err != nil {
		return nil, signing(payloadType, err)
	}
	return text, nil
}

// Enclosed reports whether a signed envelope is an identity's: a bundle, which
// takes a trusted root to verify.
func Enclosed(text []byte) bool { return envelope.IsBundle(text) }

// verifyEnclosed is VerifyEnvelope of an identity's bundle.
func (v *Verifier) verifyEnclosed(text []byte, payloadType string) (payload []byte, signer release.Signer, err error) {
	err = guarded(func() error {
		payload, signer, err = v.enclosed(text, payloadType)
		return err
	})
	if err != nil {
		return nil, release.Signer{}, refused(payloadType, err)
	}
	return payload, signer, nil
}

func (v *Verifier) enclosed(text []byte, payloadType string) ([]byte, release.Signer, error) {
	if len(text) > envelope.MaxEnvelope {
		return nil, release.Signer{}, fmt.Errorf("bundle of %d bytes: at most %d are read", len(text), envelope.MaxEnvelope)
	}
	if _, err := release.CanonicalJSON(text); err != nil {
		return nil, release.Signer{}, tidied(err)
	}
	sealed, err := v.read(text)
	if err != nil {
		return nil, release.Signer{}, err
	}
	b := sealed.bundle
	switch {
	case sealed.payloadType != payloadType:
		return nil, release.Signer{}, fmt.Errorf("the envelope holds %s", envelope.Tidy(sealed.payloadType))
	case byKey(b):
		return nil, release.Signer{}, errors.New("a bundle signed with a key: what keys sign is a bare envelope")
	case !v.policy.Identities():
		return nil, release.Signer{}, errors.New("signed with a certificate, only public keys are trusted")
	case v.root == nil:
		return nil, release.Signer{}, errors.New("signed with a certificate, and there is no trusted root to check it against")
	}
	// What was signed is the payload that is given back: there is nothing else
	// that it would have to be about.
	proof, err := v.root.prove(enveloped{b}, verify.WithoutArtifactUnsafe)
	if err != nil {
		return nil, release.Signer{}, err
	}
	signer, err := v.policy.Signer(proof, v.now())
	return sealed.payload, certifying(signer, proof), err
}

// certifying adds to a signer what its certificate says and proves, for those
// who judge it by another policy later.
func certifying(s release.Signer, proof Proof) release.Signer {
	if proof.Issuer != "" {
		claims := proof.Claims
		s.Claims, s.Time = &claims, proof.Time
	}
	return s
}

// enveloped is a bundle of any payload type: sigstore-go verifies the signature
// over it as it is, and would then want to show an in-toto statement.
type enveloped struct{ *bundle.Bundle }

var _ verify.SignedEntity = enveloped{}

// SignatureContent gives the envelope with a statement that says nothing where
// it holds another payload.
func (e enveloped) SignatureContent() (verify.SignatureContent, error) {
	content, err := e.Bundle.SignatureContent()
	if err != nil || content.EnvelopeContent() == nil || e.GetDsseEnvelope().GetPayloadType() == envelope.PayloadType {
		return content, err
	}
	return anyContent{content}, nil
}

type anyContent struct{ verify.SignatureContent }

func (c anyContent) EnvelopeContent() verify.EnvelopeContent {
	return anyEnvelope{c.SignatureContent.EnvelopeContent()}
}

type anyEnvelope struct{ verify.EnvelopeContent }

func (anyEnvelope) Statement() (*intoto.Statement, error) { return &intoto.Statement{}, nil }
