package sign

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// bundleV01 is the version of bundles that says no more than cosign's older
// form does: log entries have a promise of inclusion and no proof.
const bundleV01 = "application/vnd.dev.sigstore.bundle+json;version=0.1"

const maxAnnotation = 1 << 20 // bytes of one annotation

// VerifyLegacy judges what stands under cosign's tags about a subject as Verify
// judges bundles: by the same trust, and a signature counts as a statement of
// type release.PredicateSignature. An SBOM under a tag is not signed and never
// verified. Evidence is named by the digest of its content.
func (v *Verifier) VerifyLegacy(ctx context.Context, s release.Subject, list []release.LegacyAttachment) []release.Evidence {
	var evidence []release.Evidence
	for _, l := range list {
		a := release.Attachment{Digest: l.Digest, Bundle: l.Content}
		if l.Kind == release.LegacySignature {
			a.PredicateType = release.PredicateSignature
		}
		open := func(content []byte) (envelope.Sealed, error) { return v.openLegacy(l, content) }
		if len(list) > envelope.MaxAttachments {
			open = func([]byte) (envelope.Sealed, error) {
				return nil, fmt.Errorf("one of %d: at most %d are looked at", len(list), envelope.MaxAttachments)
			}
		}
		evidence = append(evidence, envelope.JudgeAll(ctx, s, []release.Attachment{a}, v.rules(open))...)
	}
	return evidence
}

// openLegacy makes a bundle of one older signature or attestation.
func (v *Verifier) openLegacy(l release.LegacyAttachment, content []byte) (envelope.Sealed, error) {
	made := &protobundle.Bundle{MediaType: bundleV01}
	s := sealed{v: v, digest: legacyDigest(l, content), payloadType: envelope.PayloadType}
	var err error
	switch l.Kind {
	case release.LegacySignature:
		err = s.readSignature(l, content, made)
	case release.LegacyAttestation:
		err = s.readAttestation(content, made)
	default:
		return nil, errors.New("an SBOM under a tag of cosign's is not signed")
	}
	if err != nil {
		return nil, err
	}
	if made.VerificationMaterial, err = legacyMaterial(l.Annotations); err != nil {
		return nil, err
	}
	if s.bundle, err = bundle.NewBundle(made); err != nil {
		return nil, fmt.Errorf("reading signature: %s", envelope.Tidy(err.Error()))
	}
	return s, oneSignature(s.bundle)
}

// readSignature reads a simple signing payload, whose signature is in an
// annotation. To what judges it, it is the statement that it amounts to.
func (s *sealed) readSignature(l release.LegacyAttachment, content []byte, made *protobundle.Bundle) error {
	st, err := envelope.ParseSimpleSigning(content)
	if err != nil {
		return err
	}
	if s.payload, err = envelope.EncodeStatement(st); err != nil {
		return err
	}
	if s.sig, err = base64.StdEncoding.Strict().DecodeString(l.Annotations[release.AnnotationLegacySignature]); err != nil || len(s.sig) == 0 {
		return fmt.Errorf("annotation %s is no signature in base64", release.AnnotationLegacySignature)
	}
	s.message = content
	s.artifact = func() verify.ArtifactPolicyOption { return verify.WithArtifact(bytes.NewReader(content)) }
	sum := sha256.Sum256(content)
	made.Content = &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
		MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: sum[:]},
		Signature:     s.sig,
	}}
	return nil
}

// readAttestation reads a DSSE envelope as cosign writes it, with a keyid that
// may be empty.
func (s *sealed) readAttestation(content []byte, made *protobundle.Bundle) error {
	if _, err := release.CanonicalJSON(content); err != nil {
		return fmt.Errorf("reading envelope: %s", envelope.Tidy(err.Error()))
	}
	dsse := &protodsse.Envelope{}
	if err := protojson.Unmarshal(content, dsse); err != nil {
		return fmt.Errorf("reading envelope: %s", envelope.Tidy(err.Error()))
	}
	if len(dsse.GetSignatures()) != 1 {
		return fmt.Errorf("%d signatures, want exactly one", len(dsse.GetSignatures()))
	}
	s.enclose(dsse)
	made.Content = &protobundle.Bundle_DsseEnvelope{DsseEnvelope: dsse}
	return nil
}

// legacyMaterial reads the annotations: whose signature, in which log, when. The
// chain is left alone, because the trusted root has its own.
func legacyMaterial(annotations map[string]string) (*protobundle.VerificationMaterial, error) {
	for name, value := range annotations {
		if len(value) > maxAnnotation {
			return nil, fmt.Errorf("annotation %s of %d bytes: at most %d are read", envelope.Tidy(name), len(value), maxAnnotation)
		}
	}
	m := &protobundle.VerificationMaterial{Content: &protobundle.VerificationMaterial_PublicKey{PublicKey: &protocommon.PublicKeyIdentifier{}}}
	if text := annotations[release.AnnotationLegacyCertificate]; text != "" {
		block, rest := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
			return nil, fmt.Errorf("annotation %s is not one certificate", release.AnnotationLegacyCertificate)
		}
		m.Content = &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: block.Bytes}}
	}
	if text := annotations[release.AnnotationLegacyBundle]; text != "" {
		entry, err := legacyEntry([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("annotation %s: %w", release.AnnotationLegacyBundle, err)
		}
		m.TlogEntries = []*protorekor.TransparencyLogEntry{entry}
	}
	if text := annotations[release.AnnotationLegacyTimestamp]; text != "" {
		var stamp struct{ SignedRFC3161Timestamp []byte }
		if err := strictly([]byte(text), &stamp); err != nil || len(stamp.SignedRFC3161Timestamp) == 0 {
			return nil, fmt.Errorf("annotation %s is no timestamp", release.AnnotationLegacyTimestamp)
		}
		m.TimestampVerificationData = &protobundle.TimestampVerificationData{
			Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: stamp.SignedRFC3161Timestamp}}}
	}
	return m, nil
}

// legacyEntry reads a log's entry with its promise.
func legacyEntry(text []byte) (*protorekor.TransparencyLogEntry, error) {
	var entry struct {
		SignedEntryTimestamp []byte
		Payload              struct {
			Body           []byte `json:"body"`
			IntegratedTime int64  `json:"integratedTime"`
			LogIndex       int64  `json:"logIndex"`
			LogID          string `json:"logID"`
		}
	}
	if err := strictly(text, &entry); err != nil {
		return nil, err
	}
	id, err := hex.DecodeString(entry.Payload.LogID)
	if err != nil || len(id) == 0 || len(entry.SignedEntryTimestamp) == 0 {
		return nil, errors.New("no log's signed entry")
	}
	var body struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
	}
	if err := json.Unmarshal(entry.Payload.Body, &body); err != nil {
		return nil, errors.New("its body is not JSON")
	}
	return &protorekor.TransparencyLogEntry{
		LogIndex:          entry.Payload.LogIndex,
		LogId:             &protocommon.LogId{KeyId: id},
		KindVersion:       &protorekor.KindVersion{Kind: body.Kind, Version: body.APIVersion},
		IntegratedTime:    entry.Payload.IntegratedTime,
		InclusionPromise:  &protorekor.InclusionPromise{SignedEntryTimestamp: entry.SignedEntryTimestamp},
		CanonicalizedBody: entry.Payload.Body,
	}, nil
}

// strictly decodes JSON that can be read in one way only.
func strictly(text []byte, to any) error {
	if _, err := release.CanonicalJSON(text); err != nil {
		return errors.New("not JSON that everybody reads alike")
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(to); err != nil {
		return errors.New("not JSON of the form that cosign writes")
	}
	return nil
}

// legacyDigest names all that is read of one, for the memory.
func legacyDigest(l release.LegacyAttachment, content []byte) release.Digest {
	read := map[string]string{"kind": string(l.Kind), "content": release.DigestOf(content).String()}
	for _, name := range []string{release.AnnotationLegacySignature, release.AnnotationLegacyCertificate, release.AnnotationLegacyBundle, release.AnnotationLegacyTimestamp} {
		read[name] = release.DigestOf([]byte(l.Annotations[name])).String()
	}
	text, err := release.Canonical(read)
	if err != nil {
		return release.Digest{}
	}
	return release.DigestOf(text)
}
