package sign

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// Options are what signatures are verified with.
type Options struct {
	Trust release.Trust
	// Root is what certificates, log entries and timestamps are checked
	// against. Without one certificates are refused, and nothing proves when a
	// key signed.
	Root *Root
	// Memo remembers valid signatures; nil remembers nothing.
	Memo Memo
	// Now is the clock for signatures whose time nothing proves; nil is the
	// system's.
	Now func() time.Time
}

// Verifier verifies attestations and envelopes against a trust policy. It
// touches no network and may be used from several goroutines.
type Verifier struct {
	policy *envelope.Policy
	keys   []trustedKey
	root   *Root
	memo   Memo
	now    func() time.Time
}

// NewVerifier makes a verifier for a trust policy, without a trusted root and
// without a memory.
func NewVerifier(t release.Trust) (*Verifier, error) { return New(Options{Trust: t}) }

// New makes a verifier. A policy that could not mean what it says is a
// KindConfig fault: a key that is not PEM or too weak, a party without a name,
// an identity without an issuer, an expression that anybody matches, an unknown
// role, one key under two names, a single key as approver or breakGlass, nobody
// at all; so is another trusted root than the one that the policy names. A role
// that nobody holds is nobody's.
func New(o Options) (*Verifier, error) {
	policy, err := envelope.NewPolicy(o.Trust)
	if err != nil {
		return nil, release.Faultf(release.KindConfig,
			"give every entry under trust a name and the public half of its key, as `promote keys public` prints it, or an identity with its issuer",
			"reading trust: %w", err)
	}
	if want := o.Trust.TrustedRoot; o.Root != nil && !want.IsZero() && o.Root.Digest() != want {
		return nil, release.Faultf(release.KindConfig, "bring the trusted root that the policy names, or have the owners accept the new one with `promote trust accept`",
			"reading trust: the trusted root is %s, the policy names %s", o.Root.Digest(), want)
	}
	v := &Verifier{policy: policy, root: o.Root, memo: o.Memo, now: o.Now}
	if v.now == nil {
		v.now = time.Now
	}
	for _, k := range policy.Keys() {
		key, err := newTrustedKey(k)
		if err != nil {
			return nil, release.Faultf(release.KindConfig, "use another key for this party", "reading trust: key of %q: %w", k.Name, err)
		}
		v.keys = append(v.keys, key)
	}
	return v, nil
}

// Verify judges the attachments that a registry holds for a subject and gives
// one piece of evidence for each, in the same order: verified, or with the
// reason why not. It counts as verified when the bundle's bytes have the digest
// they are named by, hold one DSSE envelope with one signature by a trusted
// key or identity, over an in-toto statement about this subject's digest only,
// of the predicate type that was announced, and the signer has the role which
// that type needs (release.RoleOf), at the time that is proven or else now.
//
// A certificate must be good in all of its chain at every time that is proven,
// be known to a certificate log, and its signature to a transparency log whose
// entry is about this very signature, wherever the trusted root has such logs.
//
// At most 1024 attachments and 32 MiB of one bundle are looked at. When ctx is
// done the rest is left unverified: look at ctx.Err() before taking that for a
// denial.
func (v *Verifier) Verify(ctx context.Context, s release.Subject, attachments []release.Attachment) []release.Evidence {
	return envelope.JudgeAll(ctx, s, attachments, v.rules(v.open))
}

func (v *Verifier) rules(open envelope.Opener) envelope.Rules {
	return envelope.Rules{Open: open, Policy: v.policy, Now: v.now()}
}

// sealed is a bundle that was read but is not believed yet.
type sealed struct {
	bundle *bundle.Bundle
	digest release.Digest // of all that it was read from
	v      *Verifier

	payloadType  string
	payload      []byte // as it is judged
	sig, message []byte // the signature, and what it is over
	// artifact is what sigstore-go compares with what was signed, for those who
	// sign no statement; nil is the subject's digest.
	artifact artifact
}

// enclose takes an envelope of one signature.
func (s *sealed) enclose(dsse *protodsse.Envelope) {
	s.payloadType, s.payload, s.sig = dsse.GetPayloadType(), dsse.GetPayload(), dsse.GetSignatures()[0].GetSig()
	s.message = envelope.PAE(s.payloadType, s.payload)
}

var _ envelope.Sealed = sealed{}

func (v *Verifier) open(raw []byte) (envelope.Sealed, error) {
	s, err := v.read(raw)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// read reads a bundle of one DSSE envelope with one signature, unbelieved.
func (v *Verifier) read(raw []byte) (sealed, error) {
	b := &bundle.Bundle{}
	if err := b.UnmarshalJSON(raw); err != nil {
		return sealed{}, fmt.Errorf("reading bundle: %s", envelope.Tidy(err.Error()))
	}
	if !b.MinVersion("v0.3") {
		return sealed{}, fmt.Errorf("reading bundle: media type is not %s", release.MediaTypeBundle)
	}
	if b.GetDsseEnvelope() == nil {
		return sealed{}, errors.New("bundle holds no DSSE envelope")
	}
	if err := oneSignature(b); err != nil {
		return sealed{}, err
	}
	s := sealed{bundle: b, digest: release.DigestOf(raw), v: v}
	s.enclose(b.GetDsseEnvelope())
	return s, nil
}

// oneSignature refuses envelopes of several signatures: verifying one of them
// would say nothing about the others.
func oneSignature(b *bundle.Bundle) error {
	if dsse := b.GetDsseEnvelope(); dsse != nil && len(dsse.GetSignatures()) != 1 {
		return fmt.Errorf("%d signatures, want exactly one", len(dsse.GetSignatures()))
	}
	return nil
}

// Content gives the payload with its type.
func (s sealed) Content() (string, []byte) { return s.payloadType, s.payload }

// Proof verifies the signature; whose it is and what it counts for, the policy
// judges each time anew.
func (s sealed) Proof(d release.Digest) (Proof, error) {
	artifact, err := about(d)
	if err != nil {
		return Proof{}, err
	}
	if s.artifact != nil {
		artifact = s.artifact
	}
	if byKey(s.bundle) {
		return s.v.proveKey(s, artifact, d)
	}
	return s.v.proveCertificate(s, artifact, d)
}

func byKey(b *bundle.Bundle) bool {
	_, ok := b.GetVerificationMaterial().GetContent().(*protobundle.VerificationMaterial_PublicKey)
	return ok
}

// artifact makes what sigstore-go compares anew for each comparison: one that
// is read can be read once.
type artifact func() verify.ArtifactPolicyOption

func about(d release.Digest) (artifact, error) {
	sum, err := hex.DecodeString(d.Hex())
	if err != nil || len(sum) == 0 {
		return nil, errors.New("subject without a digest")
	}
	return func() verify.ArtifactPolicyOption { return verify.WithArtifactDigest("sha256", sum) }, nil
}

// remembered gives what was proven before about the same bytes with the same
// means, or proves it now.
func (v *Verifier) remembered(s sealed, means string, d release.Digest, prove func() (Proof, error)) (Proof, error) {
	if v.memo == nil {
		return prove()
	}
	root := ""
	if v.root != nil {
		root = v.root.Digest().String()
	}
	key := release.DigestOf([]byte(strings.Join([]string{"promote proof 1", s.digest.String(), d.String(), means, root}, "\n")))
	if proof, ok := v.memo.Known(key); ok {
		return proof, nil
	}
	proof, err := prove()
	if err == nil {
		v.memo.Add(key, proof)
	}
	return proof, err
}

// VerifyEnvelope verifies an envelope (at most 8 MiB) of one payload type and
// gives its payload and who signed it: a bare DSSE envelope of a key, or a
// sigstore bundle of an identity. It doesn't ask for a role: which one a ledger
// record needs, the caller knows. Anything but exactly one signature by a
// trusted key or identity over exactly this type is a KindDenied fault.
func (v *Verifier) VerifyEnvelope(text []byte, payloadType string) (payload []byte, signer release.Signer, err error) {
	if envelope.IsBundle(text) {
		return v.verifyEnclosed(text, payloadType)
	}
	e, err := envelope.Parse(text)
	if err != nil {
		return nil, release.Signer{}, refused(payloadType, err)
	}
	if e.PayloadType != payloadType {
		return nil, release.Signer{}, refused(payloadType, fmt.Errorf("the envelope holds %s", envelope.Tidy(e.PayloadType)))
	}
	if signer, err = v.signedBy(e.Signature, envelope.PAE(e.PayloadType, e.Payload), v.now()); err != nil {
		return nil, release.Signer{}, refused(payloadType, err)
	}
	return e.Payload, signer, nil
}

func refused(payloadType string, err error) error {
	return release.Denied("check who wrote it; the trust policy must name the public half of the key that signed it, or the identity with its issuer",
		"verifying envelope of %s: %w", envelope.Tidy(payloadType), err)
}

// made reports whether the key made the signature over the message.
func (k trustedKey) made(sig, message []byte) bool {
	return k.bare.VerifySignature(bytes.NewReader(sig), bytes.NewReader(message)) == nil
}
