package bench

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/promote-dev/promote/pkg/release"
)

// secret is the key of everybody who writes a ledger here; it protects nothing.
var secret = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// Party is whose key that is.
var Party = release.Signer{Name: "bench", ID: "sha256:bench", Roles: []release.Role{release.Builder, release.Scanner, release.Tester, release.Promoter, release.Owner}}

type envelope struct {
	Payload     string      `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	Sig string `json:"sig"`
}

// authenticated is DSSE's encoding of what is signed.
func authenticated(payloadType string, payload []byte) []byte {
	return append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload)), payload...)
}

// Sign signs what a ledger writes.
func Sign(_ context.Context, payloadType string, payload []byte) ([]byte, error) {
	sig := ed25519.Sign(secret, authenticated(payloadType, payload))
	return json.Marshal(envelope{base64.StdEncoding.EncodeToString(payload), payloadType, []signature{{base64.StdEncoding.EncodeToString(sig)}}})
}

// Verify verifies what Sign signed.
func Verify(raw []byte, payloadType string) ([]byte, release.Signer, error) {
	var e envelope
	if err := json.Unmarshal(raw, &e); err != nil || len(e.Signatures) != 1 || e.PayloadType != payloadType {
		return nil, release.Signer{}, release.Denied("", "no envelope: %v", err)
	}
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	sig, wrong := base64.StdEncoding.DecodeString(e.Signatures[0].Sig)
	if err := errors.Join(err, wrong); err != nil {
		return nil, release.Signer{}, release.Denied("", "no envelope: %w", err)
	}
	if !ed25519.Verify(secret.Public().(ed25519.PublicKey), authenticated(payloadType, payload), sig) {
		return nil, release.Signer{}, release.Denied("", "another key signed")
	}
	return payload, Party, nil
}
