package envelope

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/promote-dev/promote/pkg/release"
)

// Caps on what is read from outside, in bytes and pieces.
const (
	MaxBundle       = 32 << 20 // one sigstore bundle: a large SBOM is a few MiB
	MaxEnvelope     = 8 << 20  // one bare DSSE envelope: a ledger record or checkpoint
	MaxAttachments  = 1024     // attestations about one subject
	maxPayloadType  = 256
	maxSignature    = 4 << 10
	maxKeyID        = 1 << 10
	maxPredicateURI = 512
)

// PayloadType is the DSSE payload type of an in-toto statement.
const PayloadType = "application/vnd.in-toto+json"

// Envelope is a DSSE envelope with its only signature, decoded.
// https://github.com/secure-systems-lab/dsse/blob/v1.0.2/envelope.md
type Envelope struct {
	PayloadType string
	Payload     []byte
	Signature   []byte
}

// PAE is the pre-authentication encoding: the bytes that are signed.
// https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md
func PAE(payloadType string, payload []byte) []byte {
	var b bytes.Buffer
	b.Grow(len(payload) + len(payloadType) + 32)
	b.WriteString("DSSEv1 ")
	b.WriteString(strconv.Itoa(len(payloadType)))
	b.WriteByte(' ')
	b.WriteString(payloadType)
	b.WriteByte(' ')
	b.WriteString(strconv.Itoa(len(payload)))
	b.WriteByte(' ')
	b.Write(payload)
	return b.Bytes()
}

type wireSignature struct {
	Sig string `json:"sig"`
}

type wireEnvelope struct {
	Payload     string          `json:"payload"`
	PayloadType string          `json:"payloadType"`
	Signatures  []wireSignature `json:"signatures"`
}

// Encode writes the envelope as DSSE JSON. There is no keyid: it is an
// unauthenticated hint, and stock verifiers refuse one in a form they don't use.
func (e Envelope) Encode() ([]byte, error) {
	return json.Marshal(wireEnvelope{
		Payload:     base64.StdEncoding.EncodeToString(e.Payload),
		PayloadType: e.PayloadType,
		Signatures:  []wireSignature{{Sig: base64.StdEncoding.EncodeToString(e.Signature)}},
	})
}

// Parse reads DSSE JSON with exactly one signature. Anything that two readers
// could understand differently is an error: duplicate or unknown members,
// members in another case, trailing bytes, base64 that is not canonical.
func Parse(raw []byte) (Envelope, error) {
	if len(raw) > MaxEnvelope {
		return Envelope{}, fmt.Errorf("envelope of %d bytes: at most %d are read", len(raw), MaxEnvelope)
	}
	if err := strict(raw); err != nil {
		return Envelope{}, fmt.Errorf("reading envelope: %w", err)
	}
	return parse(raw)
}

// parse does the same for text that is known to be strict JSON.
func parse(raw []byte) (Envelope, error) {
	members, err := object(raw, "payload", "payloadType", "signatures")
	if err != nil {
		return Envelope{}, fmt.Errorf("reading envelope: %w", err)
	}
	var e Envelope
	if err := text(members["payloadType"], maxPayloadType, &e.PayloadType); err != nil {
		return Envelope{}, fmt.Errorf("reading payloadType: %w", err)
	}
	if e.Payload, err = decode64(members["payload"], MaxBundle); err != nil {
		return Envelope{}, fmt.Errorf("reading payload: %w", err)
	}
	var signatures []json.RawMessage
	if err := json.Unmarshal(orNull(members["signatures"]), &signatures); err != nil {
		return Envelope{}, errors.New("reading signatures: want a list")
	}
	if len(signatures) != 1 {
		return Envelope{}, fmt.Errorf("%d signatures, want exactly one", len(signatures))
	}
	if e.Signature, err = signature(signatures[0]); err != nil {
		return Envelope{}, err
	}
	return e, nil
}

func signature(raw json.RawMessage) ([]byte, error) {
	members, err := object(raw, "sig", "keyid")
	if err != nil {
		return nil, fmt.Errorf("reading signature: %w", err)
	}
	if id, ok := members["keyid"]; ok {
		var ignored string
		if err := text(id, maxKeyID, &ignored); err != nil {
			return nil, fmt.Errorf("reading keyid: %w", err)
		}
	}
	sig, err := decode64(members["sig"], maxSignature)
	if err != nil {
		return nil, fmt.Errorf("reading sig: %w", err)
	}
	return sig, nil
}

// ParseBundle reads a sigstore bundle v0.3 that holds a DSSE envelope signed
// with a bare key. It is the reader of the fake verifier and of tests; the
// real one reads with sigstore-go.
func ParseBundle(raw []byte) (Envelope, error) {
	if err := strict(raw); err != nil {
		return Envelope{}, fmt.Errorf("reading bundle: %w", err)
	}
	members, err := object(raw, "mediaType", "verificationMaterial", "dsseEnvelope")
	if err != nil {
		return Envelope{}, fmt.Errorf("reading bundle: %w", err)
	}
	var mediaType string
	if err := text(members["mediaType"], maxPayloadType, &mediaType); err != nil || mediaType != release.MediaTypeBundle {
		return Envelope{}, fmt.Errorf("reading bundle: media type is not %s", release.MediaTypeBundle)
	}
	material, err := object(members["verificationMaterial"], "publicKey", "tlogEntries", "timestampVerificationData")
	if err != nil {
		return Envelope{}, fmt.Errorf("reading verification material: %w", err)
	}
	if _, err := object(material["publicKey"], "hint"); err != nil {
		return Envelope{}, fmt.Errorf("reading public key: %w", err)
	}
	return parse(members["dsseEnvelope"])
}

// EncodeBundle writes the bundle that ParseBundle reads.
func EncodeBundle(e Envelope, hint string) ([]byte, error) {
	body, err := e.Encode()
	if err != nil {
		return nil, err
	}
	type publicKey struct {
		Hint string `json:"hint"`
	}
	type material struct {
		PublicKey publicKey `json:"publicKey"`
	}
	return json.Marshal(struct {
		MediaType            string          `json:"mediaType"`
		VerificationMaterial material        `json:"verificationMaterial"`
		DSSEEnvelope         json.RawMessage `json:"dsseEnvelope"`
	}{release.MediaTypeBundle, material{publicKey{hint}}, body})
}

// IsBundle reports whether text looks like a sigstore bundle rather than a bare
// envelope: it has a media type.
func IsBundle(text []byte) bool {
	var b struct {
		MediaType *string `json:"mediaType"`
	}
	return len(text) <= MaxEnvelope && json.Unmarshal(text, &b) == nil && b.MediaType != nil
}
