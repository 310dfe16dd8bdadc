package ledger

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/promote-dev/promote/pkg/release"
)

// Payload types of the DSSE envelopes in a ledger.
const (
	PayloadTypeRecord     = "application/vnd.promote.record.v1+json"
	PayloadTypeCheckpoint = "application/vnd.promote.checkpoint.v1"
)

const schemaVersion = 1

// openEnvelope gives the payload of a DSSE envelope in canonical JSON, bare as
// keys sign it or in the sigstore bundle of an identity. It says nothing about
// the signature.
// https://github.com/secure-systems-lab/dsse/blob/master/envelope.md
func openEnvelope(raw []byte, payloadType string) ([]byte, error) {
	canonical, err := release.CanonicalJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("reading envelope: %w", err)
	}
	if !bytes.Equal(canonical, raw) {
		return nil, errors.New("reading envelope: not in canonical form")
	}
	return payloadOf(raw, payloadType)
}

func payloadOf(raw []byte, payloadType string) ([]byte, error) {
	type dsse struct {
		Payload     string `json:"payload"`
		PayloadType string `json:"payloadType"`
	}
	var line struct {
		dsse
		MediaType string `json:"mediaType"`
		Enclosed  dsse   `json:"dsseEnvelope"`
	}
	if err := json.Unmarshal(raw, &line); err != nil {
		return nil, fmt.Errorf("reading envelope: %w", err)
	}
	e := line.dsse
	switch line.MediaType {
	case "":
	case release.MediaTypeBundle:
		if e != (dsse{}) {
			return nil, errors.New("reading envelope: a bundle with a second payload")
		}
		e = line.Enclosed
	default:
		return nil, fmt.Errorf("reading envelope: media type %.100q, want %q", line.MediaType, release.MediaTypeBundle)
	}
	if e.PayloadType != payloadType {
		return nil, fmt.Errorf("reading envelope: payload type %.100q, want %q", e.PayloadType, payloadType)
	}
	payload, err := base64.StdEncoding.Strict().DecodeString(e.Payload)
	if err != nil {
		return nil, fmt.Errorf("reading envelope: payload: %w", err)
	}
	return payload, nil
}

// openRecord reads a record's line and refuses what would be read differently
// elsewhere: another encoding of the same value, fields that this version does
// not know. It says nothing about the signature.
func openRecord(line []byte) (release.Record, []byte, error) {
	payload, err := openEnvelope(line, PayloadTypeRecord)
	if err != nil {
		return release.Record{}, nil, err
	}
	canonical, err := release.CanonicalJSON(payload)
	if err != nil {
		return release.Record{}, nil, fmt.Errorf("reading record: %w", err)
	}
	if !bytes.Equal(canonical, payload) {
		return release.Record{}, nil, errors.New("reading record: not in canonical form")
	}
	r, err := decodeRecord(payload)
	return r, payload, err
}

func decodeRecord(payload []byte) (release.Record, error) {
	var r release.Record
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return r, fmt.Errorf("reading record: %w (written by a newer version of promote?)", err)
	}
	if r.SchemaVersion != schemaVersion {
		return r, fmt.Errorf("reading record: schema version %d, this version of promote reads %d", r.SchemaVersion, schemaVersion)
	}
	return r, nil
}

// readAnew checks a record's form and signature, whatever is remembered.
func (l *Ledger) readAnew(line []byte, _ release.Digest, by func(release.Record) *judge) (release.Record, release.Signer, error) {
	r, payload, err := openRecord(line)
	if err != nil {
		return release.Record{}, release.Signer{}, err
	}
	signed, signer, err := by(r).verify(line, PayloadTypeRecord)
	if err != nil {
		return r, release.Signer{}, fmt.Errorf("verifying record: %w", err)
	}
	if !bytes.Equal(signed, payload) {
		return release.Record{}, release.Signer{}, errors.New("verifying record: another payload was signed")
	}
	return r, signer, nil
}

// readOnce is readAnew for lines that were not found good before. The leaf
// hash stands for every byte of the line, so form and signature need not be
// looked at again under the same trust; order and roles always are.
func (l *Ledger) readOnce(line []byte, leaf release.Digest, by func(release.Record) *judge) (release.Record, release.Signer, error) {
	if l.seen.has(leaf) {
		payload, err := payloadOf(line, PayloadTypeRecord)
		if err != nil {
			return release.Record{}, release.Signer{}, err
		}
		r, err := decodeRecord(payload)
		if err != nil {
			return r, release.Signer{}, err
		}
		if signer, known := l.seen.get(leaf, by(r).trust); known {
			return r, signer, nil
		}
	}
	r, signer, err := l.readAnew(line, leaf, by)
	if err == nil {
		l.seen.add(leaf, by(r).trust, signer)
	}
	return r, signer, err
}
