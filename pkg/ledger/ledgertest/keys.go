package ledgertest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/release"
)

// Key signs DSSE envelopes with an Ed25519 key derived from the party's name:
// good for tests, worthless elsewhere.
type Key struct {
	Signer release.Signer
	secret ed25519.PrivateKey
	now    func() time.Time // of an identity's signatures
}

// As gives the key in the hands of an identity: what it signs is enclosed as an
// identity's signatures are, with a time that counts as proven.
func (k Key) As(identity, issuer string, claims release.Claims, now func() time.Time) Key {
	k.Signer = release.Signer{Name: k.Signer.Name, ID: identity, Issuer: issuer, Claims: &claims}
	k.now = now
	return k
}

// NewKey gives a party's key.
func NewKey(name string, roles ...release.Role) Key {
	seed := sha256.Sum256([]byte("ledgertest " + name))
	secret := ed25519.NewKeyFromSeed(seed[:])
	k := Key{Signer: release.Signer{Name: name, Roles: roles}, secret: secret}
	k.Signer.ID = k.Party().Fingerprint()
	return k
}

// Named gives the key under another party's name, as a second key of it.
func (k Key) Named(name string) Key {
	k.Signer.Name = name
	return k
}

// Party gives the key's entry in a trust policy.
func (k Key) Party() release.Party {
	der, err := x509.MarshalPKIXPublicKey(k.secret.Public())
	if err != nil {
		panic(err) // an Ed25519 key always encodes
	}
	return release.Party{Name: k.Signer.Name, PublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
}

// Promoter is a key that holds every role but approver and breakGlass, as the
// only key of a project without a trust section does.
func Promoter() Key {
	return NewKey("promoter", release.Builder, release.Scanner, release.Tester, release.Promoter, release.Owner)
}

type envelope struct {
	Payload     string              `json:"payload"`
	PayloadType string              `json:"payloadType"`
	Signatures  []envelopeSignature `json:"signatures"`
}

type envelopeSignature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

// Sign is ledger.Options.Sign.
func (k Key) Sign(_ context.Context, payloadType string, payload []byte) ([]byte, error) {
	e := envelope{
		Payload:     base64.StdEncoding.EncodeToString(payload),
		PayloadType: payloadType,
		Signatures: []envelopeSignature{{
			KeyID: k.Signer.ID,
			Sig:   base64.StdEncoding.EncodeToString(ed25519.Sign(k.secret, authenticated(payloadType, payload))),
		}},
	}
	if k.now == nil {
		return json.Marshal(e)
	}
	signer := k.Signer
	signer.Name, signer.Roles, signer.Time = "", nil, k.now()
	return json.Marshal(enclosed{MediaType: release.MediaTypeBundle, Material: &signer, Envelope: &e})
}

// enclosed is an identity's envelope; the material says who it is.
type enclosed struct {
	MediaType string          `json:"mediaType,omitempty"`
	Material  *release.Signer `json:"verificationMaterial,omitempty"`
	Envelope  *envelope       `json:"dsseEnvelope,omitempty"`
}

// authenticated is DSSE's pre-authentication encoding.
func authenticated(payloadType string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

// Trust verifies signatures of the keys it holds and counts how often it was
// asked.
type Trust struct {
	Keys  []Key
	Calls atomic.Int64
}

// VerifyBy is ledger.Options.VerifyBy: of the keys, those that the policy names
// count, for the roles that it gives them. A policy of nobody is an error.
func (t *Trust) VerifyBy(policy release.Trust) (ledger.Check, error) {
	if len(policy.Roles) == 0 {
		return nil, release.Faultf(release.KindConfig, "", "reading trust: nobody is trusted")
	}
	return func(raw []byte, payloadType string) ([]byte, release.Signer, error) {
		payload, signer, err := t.Verify(raw, payloadType)
		if err != nil {
			return nil, release.Signer{}, err
		}
		signer.Name, signer.Roles = "", nil
		for _, role := range release.Roles {
			if name, ok := policy.Holds(signer, role, time.Now()); ok {
				signer.Name, signer.Roles = name, append(signer.Roles, role)
			}
		}
		if signer.Name == "" {
			return nil, release.Signer{}, release.Denied("", "verifying envelope: no trusted key made the signature")
		}
		return payload, signer, nil
	}, nil
}

// Verify is ledger.Options.Verify.
func (t *Trust) Verify(raw []byte, payloadType string) ([]byte, release.Signer, error) {
	t.Calls.Add(1)
	var e envelope
	var bundle enclosed
	if err := errors.Join(json.Unmarshal(raw, &e), json.Unmarshal(raw, &bundle)); err != nil {
		return nil, release.Signer{}, release.Denied("", "verifying envelope: %w", err)
	}
	if bundle.Envelope != nil {
		e = *bundle.Envelope
	}
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil || len(e.Signatures) != 1 || e.PayloadType != payloadType {
		return nil, release.Signer{}, release.Denied("", "verifying envelope: not one signature of %q", payloadType)
	}
	sig, err := base64.StdEncoding.DecodeString(e.Signatures[0].Sig)
	if err != nil {
		return nil, release.Signer{}, release.Denied("", "verifying envelope: %w", err)
	}
	for _, k := range t.Keys {
		if ed25519.Verify(k.secret.Public().(ed25519.PublicKey), authenticated(payloadType, payload), sig) {
			if bundle.Material != nil {
				return payload, *bundle.Material, nil
			}
			return payload, k.Signer, nil
		}
	}
	return nil, release.Signer{}, release.Denied("", "verifying envelope: no trusted key made the signature")
}

// Options gives what opens a ledger in a store, signing with the first key and
// trusting them all.
func Options(store ledger.Store, keys ...Key) ledger.Options {
	if len(keys) == 0 {
		keys = []Key{Promoter()}
	}
	trust := &Trust{Keys: keys}
	return ledger.Options{Store: store, Origin: "promote/test", Sign: keys[0].Sign, Verify: trust.Verify, VerifyBy: trust.VerifyBy}
}
