// Package signtest has a signer and a verifier for tests that must not link
// sigstore, and the contract suite that they and the real ones of package sign
// pass. The fake is a small real thing: its keys are Ed25519 keys derived from
// a name, its bundles are sigstore bundles that package sign verifies too.
package signtest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// Key signs like sign.Key. It is no secret: whoever knows its name has it.
type Key struct {
	private ed25519.PrivateKey
	closed  atomic.Bool
}

// NewKey derives a key from a name; the same name gives the same key.
func NewKey(name string) *Key {
	seed := sha256.Sum256([]byte("promote test key " + name))
	return &Key{private: ed25519.NewKeyFromSeed(seed[:])}
}

// PublicPEM gives the public half as PKIX PEM.
func (k *Key) PublicPEM() []byte {
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		panic(err) // an Ed25519 key always encodes
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// Fingerprint gives "sha256:…" of the public half's PKIX form.
func (k *Key) Fingerprint() string {
	id, err := envelope.Fingerprint(k.private.Public())
	if err != nil {
		panic(err) // an Ed25519 key always encodes
	}
	return id
}

// Sign signs a statement like sign.Key.Sign.
func (k *Key) Sign(ctx context.Context, st release.Statement) (release.Attachment, error) {
	payload, err := envelope.EncodeStatement(st)
	if err != nil {
		return release.Attachment{}, release.Faultf(release.KindInternal, "", "signing %s: %w", st.PredicateType, err)
	}
	e, err := k.seal(ctx, envelope.PayloadType, payload)
	if err != nil {
		return release.Attachment{}, err
	}
	bundle, err := envelope.EncodeBundle(e, envelope.Hint(k.Fingerprint()))
	if err != nil {
		return release.Attachment{}, err
	}
	return release.Attachment{Digest: release.DigestOf(bundle), PredicateType: st.PredicateType, Bundle: bundle}, nil
}

// SignEnvelope signs a payload like sign.Key.SignEnvelope.
func (k *Key) SignEnvelope(ctx context.Context, payloadType string, payload []byte) ([]byte, error) {
	if payloadType == "" || len(payload) == 0 {
		return nil, release.Faultf(release.KindInternal, "", "signing: payload and its type must not be empty")
	}
	e, err := k.seal(ctx, payloadType, payload)
	if err != nil {
		return nil, err
	}
	return e.Encode()
}

func (k *Key) seal(ctx context.Context, payloadType string, payload []byte) (envelope.Envelope, error) {
	if err := ctx.Err(); err != nil {
		return envelope.Envelope{}, fmt.Errorf("signing %s: %w", payloadType, err)
	}
	if k.closed.Load() {
		return envelope.Envelope{}, release.Faultf(release.KindInternal, "", "signing %s: the key is closed", payloadType)
	}
	sig := ed25519.Sign(k.private, envelope.PAE(payloadType, payload))
	return envelope.Envelope{PayloadType: payloadType, Payload: payload, Signature: sig}, nil
}

// Close makes signing fail.
func (k *Key) Close() { k.closed.Store(true) }

// Verifier verifies like sign.Verifier, Ed25519 keys only.
type Verifier struct{ policy *envelope.Policy }

// NewVerifier makes a verifier like sign.NewVerifier.
func NewVerifier(t release.Trust) (*Verifier, error) {
	policy, err := envelope.NewPolicy(t)
	if err != nil {
		return nil, release.Faultf(release.KindConfig, "", "reading trust: %w", err)
	}
	for _, k := range policy.Keys() {
		if _, ok := k.Public.(ed25519.PublicKey); !ok {
			return nil, release.Faultf(release.KindConfig, "use a key of signtest.NewKey", "reading trust: key of %q is a %T", k.Name, k.Public)
		}
	}
	return &Verifier{policy}, nil
}

// TrustOf is the single-key trust like sign.TrustOf.
func TrustOf(publicPEM []byte, name string) release.Trust {
	return envelope.SingleKey(publicPEM, name)
}

// Verify judges like sign.Verifier.Verify.
func (v *Verifier) Verify(ctx context.Context, s release.Subject, attachments []release.Attachment) []release.Evidence {
	open := func(raw []byte) (envelope.Sealed, error) {
		e, err := envelope.ParseBundle(raw)
		return sealed{e, v}, err
	}
	return envelope.JudgeAll(ctx, s, attachments, envelope.Rules{Open: open, Policy: v.policy, Now: time.Now()})
}

// VerifyEnvelope verifies like sign.Verifier.VerifyEnvelope.
func (v *Verifier) VerifyEnvelope(text []byte, payloadType string) ([]byte, release.Signer, error) {
	e, err := envelope.Parse(text)
	if err == nil && e.PayloadType != payloadType {
		err = errors.New("the envelope holds another payload type")
	}
	if err != nil {
		return nil, release.Signer{}, release.Denied("", "verifying envelope: %w", err)
	}
	proof, err := v.proof(e)
	var signer release.Signer
	if err == nil {
		signer, err = v.policy.Signer(proof, time.Now())
	}
	if err != nil {
		return nil, release.Signer{}, release.Denied("", "verifying envelope: %w", err)
	}
	return e.Payload, signer, nil
}

func (v *Verifier) proof(e envelope.Envelope) (envelope.Proof, error) {
	message := envelope.PAE(e.PayloadType, e.Payload)
	for _, k := range v.policy.Keys() {
		if ed25519.Verify(k.Public.(ed25519.PublicKey), message, e.Signature) {
			return envelope.Proof{ID: k.ID}, nil
		}
	}
	return envelope.Proof{}, envelope.ErrStranger
}

type sealed struct {
	e envelope.Envelope
	v *Verifier
}

// Content gives the payload with its type.
func (s sealed) Content() (string, []byte) { return s.e.PayloadType, s.e.Payload }

// Proof finds the key that made the signature.
func (s sealed) Proof(release.Digest) (envelope.Proof, error) { return s.v.proof(s.e) }
