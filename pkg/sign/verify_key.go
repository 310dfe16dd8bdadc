package sign

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// trustedKey is a party's key, ready to verify bundles and bare envelopes.
type trustedKey struct {
	envelope.Key
	bare     signature.Verifier
	material root.TrustedMaterial
}

func newTrustedKey(k envelope.Key) (trustedKey, error) {
	bare, err := signature.LoadDefaultVerifier(k.Public)
	if err != nil {
		return trustedKey{}, err
	}
	// The bundle's own hint must not choose the key, so every hint gives this one.
	key := root.NewExpiringKey(bare, time.Time{}, time.Time{})
	material := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) { return key, nil })
	return trustedKey{Key: k, bare: bare, material: material}, nil
}

// proveKey tries every trusted key.
func (v *Verifier) proveKey(s sealed, about artifact, d release.Digest) (Proof, error) {
	if err := sameSignature(s.bundle); err != nil {
		return Proof{}, err
	}
	for _, key := range v.keys {
		proof, err := v.remembered(s, key.ID, d, func() (Proof, error) { return key.prove(s.bundle, about, v.root, false) })
		if err == nil {
			return proof, nil
		}
		if key.made(s.sig, s.message) {
			return Proof{}, fmt.Errorf("signed by %s, but refused: %s", envelope.Tidy(key.Name), envelope.Tidy(err.Error()))
		}
	}
	return Proof{}, envelope.ErrStranger
}

// prove verifies the signature with the key. What the bundle brings from logs
// and timestamp authorities that the root knows must be right, and proves the
// time; of others nothing is believed. With all set the log must be known.
func (k trustedKey) prove(b *bundle.Bundle, about artifact, r *Root, all bool) (Proof, error) {
	material, options := k.material, []verify.VerifierOption{verify.WithNoObserverTimestamps()}
	if r != nil {
		logged, timed := r.knows(b)
		logged = logged || all && len(b.GetVerificationMaterial().GetTlogEntries()) > 0
		if timed {
			options = []verify.VerifierOption{verify.WithObserverTimestamps(1)}
		}
		if logged {
			options = append(options, verify.WithTransparencyLog(1))
		}
		material = root.TrustedMaterialCollection{r.material, k.material}
	}
	verifier, err := verify.NewVerifier(material, options...)
	if err != nil {
		return Proof{}, err
	}
	result, err := verifier.Verify(b, verify.NewPolicy(about(), verify.WithKey()))
	if err != nil {
		return Proof{}, err
	}
	return Proof{ID: k.ID, Time: earliest(result)}, nil
}

// knows reports whether a bundle has an entry of one of the root's logs, and
// whether one of those or the root's timestamp authorities can prove a time.
func (r *Root) knows(b *bundle.Bundle) (logged, timed bool) {
	material := b.GetVerificationMaterial()
	for _, entry := range material.GetTlogEntries() {
		if r.logs[string(entry.GetLogId().GetKeyId())] {
			logged = true
			timed = timed || len(entry.GetInclusionPromise().GetSignedEntryTimestamp()) > 0
		}
	}
	return logged, timed || r.stamps && len(material.GetTimestampVerificationData().GetRfc3161Timestamps()) > 0
}

// sameSignature refuses log entries about another signature. Only a trusted
// root tells whether an entry is in its log, but this is seen without one.
func sameSignature(b *bundle.Bundle) error {
	entries, err := b.TlogEntries()
	if err != nil {
		return tidied(err)
	}
	content, err := b.SignatureContent()
	if err != nil {
		return tidied(err)
	}
	for _, entry := range entries {
		if err := tlog.ValidateEntry(entry); err != nil {
			return fmt.Errorf("log entry: %s", envelope.Tidy(err.Error()))
		}
		if !bytes.Equal(entry.Signature(), content.Signature()) {
			return errors.New("its transparency log entry is about another signature")
		}
	}
	return nil
}

// earliest gives the first time that is proven; zero if none is.
func earliest(r *verify.VerificationResult) time.Time {
	var first time.Time
	for _, stamp := range r.VerifiedTimestamps {
		if first.IsZero() || stamp.Timestamp.Before(first) {
			first = stamp.Timestamp.UTC()
		}
	}
	return first
}
