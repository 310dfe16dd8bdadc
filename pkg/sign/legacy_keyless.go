package sign

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	sigstore "github.com/sigstore/sigstore-go/pkg/sign"

	"github.com/promote-dev/promote/pkg/release"
)

// SignLegacy signs a subject in cosign's older form, with certificate, log entry
// and timestamp as annotations. It is verified with the trusted root before
// anybody sees it. Rekor's second version promises nothing, which that form would
// need: KindConfig.
func (i *Identity) SignLegacy(ctx context.Context, s release.Subject) (release.LegacyAttachment, error) {
	fail := func(err error) (release.LegacyAttachment, error) {
		return release.LegacyAttachment{}, signing(release.MediaTypeSimpleSigning, err)
	}
	if i.services.Rekor == "" || i.services.RekorVersion != 1 {
		return fail(release.Faultf(release.KindConfig, "leave sign.legacySignatures out, or use a log of version 1, or sign with a key",
			"cosign's older form holds the entry of a log of version 1 only"))
	}
	text, err := simpleSigningOf(s)
	if err != nil {
		return fail(err)
	}
	key, leaf, err := i.certified(ctx)
	if err != nil {
		return fail(err)
	}
	var a release.LegacyAttachment
	err = guarded(func() (err error) {
		a, err = i.signLegacy(ctx, text, key, leaf)
		return err
	})
	if err != nil {
		return fail(err)
	}
	return a, nil
}

func (i *Identity) signLegacy(ctx context.Context, text []byte, key *Key, leaf *x509.Certificate) (release.LegacyAttachment, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, tries*serviceLimit, errors.New("the signing services take too long"))
	defer cancel()
	made, err := sigstore.Bundle(&sigstore.PlainData{Data: text}, keypair{key}, i.options(ctx, leaf))
	if err != nil {
		return release.LegacyAttachment{}, err
	}
	a := legacySignature(text, made.GetMessageSignature().GetSignature())
	if err := annotate(a.Annotations, leaf, made.GetVerificationMaterial()); err != nil {
		return a, err
	}
	v := &Verifier{root: i.services.Root}
	opened, err := v.openLegacy(a, text)
	if err != nil {
		return a, err
	}
	of := opened.(sealed)
	if _, err := i.services.Root.prove(of.bundle, of.artifact); err != nil {
		return a, release.Faultf(release.KindConfig,
			"check that sign.trustedRoot is the root of the services under sign.keyless", "what was signed does not verify: %w", err)
	}
	return a, nil
}

// annotate writes what legacyMaterial reads.
func annotate(annotations map[string]string, leaf *x509.Certificate, m *protobundle.VerificationMaterial) error {
	annotations[release.AnnotationLegacyCertificate] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}))
	if len(m.GetTlogEntries()) != 1 {
		return errors.New("the log made no entry")
	}
	entry, err := json.Marshal(older(m.GetTlogEntries()[0]))
	if err != nil {
		return err
	}
	annotations[release.AnnotationLegacyBundle] = string(entry)
	for _, stamp := range m.GetTimestampVerificationData().GetRfc3161Timestamps() {
		text, err := json.Marshal(map[string][]byte{"SignedRFC3161Timestamp": stamp.GetSignedTimestamp()})
		if err != nil {
			return err
		}
		annotations[release.AnnotationLegacyTimestamp] = string(text)
	}
	return nil
}

// older is a log's entry as cosign's older form holds it.
func older(e *protorekor.TransparencyLogEntry) any {
	return map[string]any{"SignedEntryTimestamp": e.GetInclusionPromise().GetSignedEntryTimestamp(), "Payload": map[string]any{
		"body": e.GetCanonicalizedBody(), "integratedTime": e.GetIntegratedTime(), "logIndex": e.GetLogIndex(), "logID": hex.EncodeToString(e.GetLogId().GetKeyId())}}
}
