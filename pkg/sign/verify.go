package sign

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// Verifier verifies attestations and envelopes against a trust policy of
// public keys. It touches no network, remembers nothing, and may be used from
// several goroutines.
type Verifier struct {
	policy *envelope.Policy
	keys   []trustedKey
}

// trustedKey is a holder's key, ready to verify bundles and bare envelopes.
type trustedKey struct {
	envelope.Key
	bare    signature.Verifier
	bundles *verify.Verifier
}

// NewVerifier makes a verifier for a trust policy. A policy that could not mean
// what it says is a KindConfig fault: a key that is not PEM or too weak, a
// party without a name, an identity without an issuer or that matches anybody,
// an unknown role, one key under two names, a single key as approver or
// breakGlass, nobody at all. A role that nobody holds is nobody's.
func NewVerifier(t release.Trust) (*Verifier, error) {
	policy, err := envelope.NewPolicy(t)
	if err != nil {
		return nil, release.Faultf(release.KindConfig,
			"give every entry under trust a name and either the public half of its key, as `promote keys public` prints it, or an identity with its issuer",
			"reading trust: %w", err)
	}
	v := &Verifier{policy: policy}
	for _, k := range policy.Keys() {
		key, err := newTrustedKey(k)
		if err != nil {
			return nil, release.Faultf(release.KindConfig, "use another key for this party",
				"reading trust: key of %q: %w", k.Name, err)
		}
		v.keys = append(v.keys, key)
	}
	return v, nil
}

func newTrustedKey(k envelope.Key) (trustedKey, error) {
	bare, err := signature.LoadDefaultVerifier(k.Public)
	if err != nil {
		return trustedKey{}, err
	}
	// The bundle's own hint must not choose the key, so every hint gives this one.
	key := root.NewExpiringKey(bare, time.Time{}, time.Time{})
	material := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) { return key, nil })
	bundles, err := verify.NewVerifier(material, verify.WithNoObserverTimestamps())
	if err != nil {
		return trustedKey{}, err
	}
	return trustedKey{Key: k, bare: bare, bundles: bundles}, nil
}

// Verify judges the attachments that a registry holds for a subject and gives
// one piece of evidence for each, in the same order: verified, or with the
// reason why not. It counts as verified when the bundle's bytes have the digest
// they are named by, hold one DSSE envelope with one signature by a trusted
// key, over an in-toto statement about this subject's digest only, of the
// predicate type that was announced, and the key's holder has the role which
// that type needs (release.RoleOf).
//
// At most 1024 attachments and 32 MiB of one bundle are looked at. When ctx is
// done the rest is left unverified: look at ctx.Err() before taking that for a
// denial.
func (v *Verifier) Verify(ctx context.Context, s release.Subject, attachments []release.Attachment) []release.Evidence {
	return envelope.JudgeAll(ctx, s, attachments, v.rules())
}

func (v *Verifier) rules() envelope.Rules {
	return envelope.Rules{Open: v.open, Policy: v.policy, Now: time.Now()}
}

// sealed is a bundle that was read but is not believed yet.
type sealed struct {
	bundle *bundle.Bundle
	keys   []trustedKey
}

var _ envelope.Sealed = sealed{}

func (v *Verifier) open(raw []byte) (envelope.Sealed, error) {
	b := &bundle.Bundle{}
	if err := b.UnmarshalJSON(raw); err != nil {
		return nil, fmt.Errorf("reading bundle: %s", envelope.Tidy(err.Error()))
	}
	if !b.MinVersion("v0.3") {
		return nil, fmt.Errorf("reading bundle: media type is not %s", release.MediaTypeBundle)
	}
	dsse := b.GetDsseEnvelope()
	if dsse == nil {
		return nil, errors.New("bundle holds no DSSE envelope")
	}
	if n := len(dsse.GetSignatures()); n != 1 {
		return nil, fmt.Errorf("%d signatures, want exactly one", n)
	}
	if _, ok := b.GetVerificationMaterial().GetContent().(*protobundle.VerificationMaterial_PublicKey); !ok {
		return nil, errors.New("signed with a certificate, only public keys are trusted")
	}
	return sealed{bundle: b, keys: v.keys}, nil
}

// Content gives the payload with its type.
func (s sealed) Content() (string, []byte) {
	dsse := s.bundle.GetDsseEnvelope()
	return dsse.GetPayloadType(), dsse.GetPayload()
}

// Proof tries every trusted key.
func (s sealed) Proof(d release.Digest) (envelope.Proof, error) {
	sum, err := hex.DecodeString(d.Hex())
	if err != nil || len(sum) == 0 {
		return envelope.Proof{}, errors.New("subject without a digest")
	}
	policy := verify.NewPolicy(verify.WithArtifactDigest("sha256", sum), verify.WithKey())
	payloadType, payload := s.Content()
	message := envelope.PAE(payloadType, payload)
	for _, key := range s.keys {
		_, err := key.bundles.Verify(s.bundle, policy)
		if err == nil {
			return envelope.Proof{ID: key.ID}, nil
		}
		if key.made(s.bundle.GetDsseEnvelope().GetSignatures()[0].GetSig(), message) {
			return envelope.Proof{}, fmt.Errorf("signed by %s, but refused: %s",
				envelope.Tidy(key.Name), envelope.Tidy(err.Error()))
		}
	}
	return envelope.Proof{}, envelope.ErrStranger
}

// made reports whether the key made the signature over the message.
func (k trustedKey) made(sig, message []byte) bool {
	return k.bare.VerifySignature(bytes.NewReader(sig), bytes.NewReader(message)) == nil
}

// VerifyEnvelope verifies a bare DSSE envelope (at most 8 MiB) of one payload
// type and gives its payload and who signed it. It doesn't ask for a role:
// which one a ledger record needs, the caller knows. Anything but exactly one
// signature by a trusted key over exactly this type is a KindDenied fault.
func (v *Verifier) VerifyEnvelope(text []byte, payloadType string) (payload []byte, signer release.Signer, err error) {
	e, err := envelope.Parse(text)
	if err != nil {
		return nil, release.Signer{}, refused(payloadType, err)
	}
	if e.PayloadType != payloadType {
		return nil, release.Signer{}, refused(payloadType, fmt.Errorf("the envelope holds %s", envelope.Tidy(e.PayloadType)))
	}
	message := envelope.PAE(e.PayloadType, e.Payload)
	for _, key := range v.keys {
		if key.made(e.Signature, message) {
			signer, err := v.policy.Signer(envelope.Proof{ID: key.ID}, time.Now())
			if err != nil {
				return nil, release.Signer{}, refused(payloadType, err)
			}
			return e.Payload, signer, nil
		}
	}
	return nil, release.Signer{}, refused(payloadType, envelope.ErrStranger)
}

func refused(payloadType string, err error) error {
	return release.Denied("check who wrote it; the trust policy must name the public half of the key that signed it",
		"verifying envelope of %s: %w", envelope.Tidy(payloadType), err)
}
