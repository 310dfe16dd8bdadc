package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	sigstore "github.com/sigstore/sigstore-go/pkg/sign"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// Sign wraps a statement about one subject in a DSSE envelope in a sigstore
// bundle v0.3 (release.MediaTypeBundle), as `cosign sign` and `cosign attest`
// write them. A statement of type release.PredicateSignature needs no
// predicate; every other one does. The same key and statement give the same
// bytes. A statement that would not verify is refused.
//
// For stock tools to find the bundle, the registry attaches it as an OCI 1.1
// referrer: artifactType and the only layer's media type are
// release.MediaTypeBundle, the config is the empty JSON object, and the
// annotations are release.AnnotationContent ("dsse-envelope") and
// release.AnnotationPredicateType (the attachment's PredicateType).
func (k *Key) Sign(ctx context.Context, st release.Statement) (release.Attachment, error) {
	payload, err := envelope.EncodeStatement(st)
	if err != nil {
		return release.Attachment{}, signing(st.PredicateType, err)
	}
	content := &sigstore.DSSEData{Data: payload, PayloadType: envelope.PayloadType}
	made, err := sigstore.Bundle(content, keypair{k}, sigstore.BundleOptions{Context: ctx})
	if err != nil {
		return release.Attachment{}, signing(st.PredicateType, err)
	}
	a, err := attachment(st.PredicateType, made)
	if err != nil {
		return release.Attachment{}, signing(st.PredicateType, err)
	}
	return a, nil
}

// attachment encodes a bundle: protojson varies its white space on purpose;
// equal bundles have equal bytes here.
func attachment(predicateType string, made *protobundle.Bundle) (release.Attachment, error) {
	text, err := protojson.Marshal(made)
	if err != nil {
		return release.Attachment{}, err
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return release.Attachment{}, err
	}
	if b.Len() > envelope.MaxBundle {
		return release.Attachment{}, tooLarge(b.Len(), envelope.MaxBundle)
	}
	return release.Attachment{Digest: release.DigestOf(b.Bytes()), PredicateType: predicateType, Bundle: b.Bytes()}, nil
}

// SignEnvelope wraps a payload in a DSSE envelope (JSON, one signature, no
// keyid), for ledger records and checkpoints. The payload type keeps them
// apart: one is never taken for the other. The same input gives the same bytes.
func (k *Key) SignEnvelope(ctx context.Context, payloadType string, payload []byte) ([]byte, error) {
	if payloadType == "" || len(payload) == 0 {
		return nil, signing(payloadType, errors.New("payload and its type must not be empty"))
	}
	if err := ctx.Err(); err != nil {
		return nil, signing(payloadType, err)
	}
	sig, _, err := k.sign(ctx, envelope.PAE(payloadType, payload))
	if err != nil {
		return nil, signing(payloadType, err)
	}
	text, err := envelope.Envelope{PayloadType: payloadType, Payload: payload, Signature: sig}.Encode()
	if err != nil {
		return nil, signing(payloadType, err)
	}
	if len(text) > envelope.MaxEnvelope {
		return nil, signing(payloadType, tooLarge(len(text), envelope.MaxEnvelope))
	}
	return text, nil
}

func signing(what string, err error) error {
	fault := &release.Fault{Kind: release.KindInternal, Op: "signing", Subject: envelope.Tidy(what), Err: err}
	var inner *release.Fault
	switch known := release.KindOf(err); {
	case errors.As(err, &inner):
		fault.Kind, fault.Hint = inner.Kind, inner.Hint
	case known == release.KindInterrupted || known == release.KindUnavailable:
		fault.Kind = known
	}
	return fault
}

func tooLarge(got, most int) error {
	return fmt.Errorf("%d bytes when signed: at most %d would be read back", got, most)
}

// keypair is a Key as sigstore-go wants it.
type keypair struct{ key *Key }

var _ sigstore.Keypair = keypair{}

func (p keypair) GetHashAlgorithm() protocommon.HashAlgorithm {
	return p.key.algorithm.GetProtoHashType()
}

func (p keypair) GetSigningAlgorithm() protocommon.PublicKeyDetails {
	return p.key.algorithm.GetSignatureAlgorithm()
}

// GetHint gives the base64 of the fingerprint's bytes, as cosign writes it.
func (p keypair) GetHint() []byte { return []byte(envelope.Hint(p.key.fingerprint)) }

func (p keypair) GetKeyAlgorithm() string {
	switch p.key.public.(type) {
	case *rsa.PublicKey:
		return "RSA"
	case ed25519.PublicKey:
		return "ED25519"
	}
	return "ECDSA"
}

func (p keypair) GetPublicKey() crypto.PublicKey { return p.key.public }

func (p keypair) GetPublicKeyPem() (string, error) { return string(p.key.publicPEM), nil }

func (p keypair) SignData(ctx context.Context, data []byte) (sig, digest []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	return p.key.sign(ctx, data)
}
