package sign

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
	"github.com/promote-dev/promote/pkg/sign/signtest"
)

func simplePayload(d release.Digest) []byte {
	return []byte(`{"critical":{"identity":{"docker-reference":"registry.example/agent/planner"},"image":{"docker-manifest-digest":"` + d.String() + `"},"type":"cosign container image signature"},"optional":null}`)
}

// older makes a signature as it stands under a .sig tag.
func (v *virtual) older(t testing.TB, subject release.Digest, s howSigned) release.LegacyAttachment {
	t.Helper()
	content := simplePayload(subject)
	key, verifier, _ := v.signer(t, s)
	sum := sha256.Sum256(content)
	sig, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	check(t, err)
	l := release.LegacyAttachment{Kind: release.LegacySignature, MediaType: release.MediaTypeSimpleSigning, Digest: release.DigestOf(content), Content: content,
		Annotations: map[string]string{release.AnnotationLegacySignature: base64.StdEncoding.EncodeToString(sig)}}
	if s.key == nil {
		l.Annotations[release.AnnotationLegacyCertificate] = string(verifier)
	}
	if !s.logged.IsZero() {
		l.Annotations[release.AnnotationLegacyBundle] = promiseOf(t, v.entry(t, "hashedrekord", map[string]any{
			"data": map[string]any{"hash": sha(content)}, "signature": map[string]any{"content": sig, "publicKey": map[string]any{"content": verifier}}}, s.logged))
	}
	if !s.stamped.IsZero() {
		text, err := json.Marshal(map[string]any{"SignedRFC3161Timestamp": v.stamp(t, sig, s.stamped)})
		check(t, err)
		l.Annotations[release.AnnotationLegacyTimestamp] = string(text)
	}
	return l
}

// olderStatement makes an attestation as it stands under an .att tag.
func (v *virtual) olderStatement(t testing.TB, st release.Statement, s howSigned) release.LegacyAttachment {
	t.Helper()
	b := v.attest(t, st, s)
	dsse := b.GetDsseEnvelope()
	content, err := json.Marshal(map[string]any{"payloadType": dsse.GetPayloadType(), "payload": dsse.GetPayload(),
		"signatures": []map[string]any{{"keyid": "", "sig": dsse.GetSignatures()[0].GetSig()}}})
	check(t, err)
	l := release.LegacyAttachment{Kind: release.LegacyAttestation, MediaType: release.MediaTypeDSSE, Digest: release.DigestOf(content), Content: content, Annotations: map[string]string{}}
	if der := b.GetVerificationMaterial().GetCertificate().GetRawBytes(); der != nil {
		l.Annotations[release.AnnotationLegacyCertificate] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	for _, entry := range b.GetVerificationMaterial().GetTlogEntries() {
		l.Annotations[release.AnnotationLegacyBundle] = promiseOf(t, entry)
	}
	return l
}

func promiseOf(t testing.TB, e *protorekor.TransparencyLogEntry) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"SignedEntryTimestamp": e.InclusionPromise.SignedEntryTimestamp, "Payload": map[string]any{
		"body": e.CanonicalizedBody, "integratedTime": e.IntegratedTime, "logIndex": e.LogIndex, "logID": hex.EncodeToString(e.LogId.KeyId)}})
	check(t, err)
	return string(text)
}

// oldTrust lets ci, by certificate, and the holder of a key build and scan.
func oldTrust(public []byte) release.Trust {
	parties := []release.Party{ci(), {Name: "key", PublicKey: string(public)}}
	return release.Trust{Roles: map[release.Role][]release.Party{release.Builder: parties, release.Scanner: parties}}
}

func TestLegacy(t *testing.T) {
	v, key := newVirtual(t, noon.Add(time.Hour)), newECDSA(t)
	_, public, _ := v.signer(t, howSigned{key: key})
	verifier, err := New(Options{Trust: oldTrust(public), Root: v.trusted(t, true, true)})
	check(t, err)
	for name, c := range map[string]struct {
		l    release.LegacyAttachment
		who  string
		kind string
		time time.Time
	}{
		"signature by certificate":   {v.older(t, planner.Digest, good()), "ci", release.PredicateSignature, noon.Add(time.Minute)},
		"signature by key":           {v.older(t, planner.Digest, howSigned{key: key}), "key", release.PredicateSignature, time.Time{}},
		"signature by key, logged":   {v.older(t, planner.Digest, howSigned{key: key, logged: noon}), "key", release.PredicateSignature, noon},
		"attestation by certificate": {v.olderStatement(t, signtest.Scan(planner), good()), "ci", release.PredicateVulnerability, noon.Add(time.Minute)},
		"attestation by key":         {v.olderStatement(t, signtest.Scan(planner), howSigned{key: key}), "key", release.PredicateVulnerability, time.Time{}},
	} {
		e := verifier.VerifyLegacy(t.Context(), planner, []release.LegacyAttachment{c.l})[0]
		if !e.Counts(c.kind) || e.Signer.Name != c.who || !e.Time.Equal(c.time) || e.Digest != c.l.Digest {
			t.Errorf("%s: by %q at %v: %s", name, e.Signer.Name, e.Time, e.Reason)
		}
	}
}

func TestLegacyRefused(t *testing.T) {
	v, key := newVirtual(t, noon.Add(time.Hour)), newECDSA(t)
	_, public, _ := v.signer(t, howSigned{key: key})
	verifier, err := New(Options{Trust: oldTrust(public), Root: v.trusted(t, true, true)})
	check(t, err)
	other, stranger := signtest.Subject("other"), newECDSA(t)
	unlogged := good()
	unlogged.logged = time.Time{}
	edited := func(l release.LegacyAttachment, edit func(l *release.LegacyAttachment)) release.LegacyAttachment {
		l.Annotations = maps.Clone(l.Annotations)
		edit(&l)
		return l
	}
	annotated := func(l release.LegacyAttachment, name, value string) release.LegacyAttachment {
		return edited(l, func(l *release.LegacyAttachment) { l.Annotations[name] = value })
	}
	content := func(l release.LegacyAttachment, old, now string) release.LegacyAttachment {
		return edited(l, func(l *release.LegacyAttachment) {
			l.Content = []byte(strings.Replace(string(l.Content), old, now, 1))
			l.Digest = release.DigestOf(l.Content)
		})
	}
	byKey, byCertificate := v.older(t, planner.Digest, howSigned{key: key}), v.older(t, planner.Digest, good())
	statement := v.olderStatement(t, signtest.Scan(planner), howSigned{key: key})
	for name, l := range map[string]release.LegacyAttachment{
		"about another":               v.older(t, other.Digest, howSigned{key: key}),
		"statement about another":     v.olderStatement(t, signtest.Scan(other), howSigned{key: key}),
		"by a stranger":               v.older(t, planner.Digest, howSigned{key: stranger}),
		"statement by a stranger":     v.olderStatement(t, signtest.Scan(planner), howSigned{key: stranger}),
		"moved to another":            content(v.older(t, other.Digest, howSigned{key: key}), other.Digest.String(), planner.Digest.String()),
		"a digest twice":              content(byKey, `{"docker-manifest-digest"`, `{"docker-manifest-digest":"`+other.Digest.String()+`","docker-manifest-digest"`),
		"a type of its own":           content(byKey, "cosign container image signature", "atomic container signature"),
		"bytes of another digest":     edited(byKey, func(l *release.LegacyAttachment) { l.Digest = other.Digest }),
		"no signature":                annotated(byKey, release.AnnotationLegacySignature, ""),
		"signature that is no base64": annotated(byKey, release.AnnotationLegacySignature, "%"),
		"another's signature":         annotated(byKey, release.AnnotationLegacySignature, v.older(t, other.Digest, howSigned{key: key}).Annotations[release.AnnotationLegacySignature]),
		"in no log":                   v.older(t, planner.Digest, unlogged),
		"entry of another":            annotated(byCertificate, release.AnnotationLegacyBundle, v.older(t, other.Digest, good()).Annotations[release.AnnotationLegacyBundle]),
		"key's entry of another":      annotated(byKey, release.AnnotationLegacyBundle, v.older(t, other.Digest, howSigned{key: key, logged: noon}).Annotations[release.AnnotationLegacyBundle]),
		"entry that is none":          annotated(byKey, release.AnnotationLegacyBundle, `{"SignedEntryTimestamp":"","Payload":{"body":"","logID":"00"}}`),
		"endless annotation":          annotated(byKey, release.AnnotationLegacyBundle, strings.Repeat(" ", maxAnnotation+1)),
		"certificate that is none":    annotated(byKey, release.AnnotationLegacyCertificate, "x"),
		"key's under a certificate":   annotated(byKey, release.AnnotationLegacyCertificate, byCertificate.Annotations[release.AnnotationLegacyCertificate]),
		"stamp that is none":          annotated(byKey, release.AnnotationLegacyTimestamp, "{}"),
		"statement as a signature":    edited(statement, func(l *release.LegacyAttachment) { l.Kind = release.LegacySignature }),
		"signature as a statement":    edited(byKey, func(l *release.LegacyAttachment) { l.Kind = release.LegacyAttestation }),
		"statement, two signatures":   content(statement, `"signatures":[`, `"signatures":[{"keyid":"","sig":"AAAA"},`),
		"statement, unknown member":   content(statement, `{"payload"`, `{"x":1,"payload"`),
		"an SBOM":                     {Kind: release.LegacySBOM, Content: []byte("{}"), Digest: release.DigestOf([]byte("{}"))},
	} {
		t.Run(name, func(t *testing.T) {
			signtest.Refused(t, verifier.VerifyLegacy(t.Context(), planner, []release.LegacyAttachment{l})[0])
		})
	}
	t.Run("too many", func(t *testing.T) {
		for _, e := range verifier.VerifyLegacy(t.Context(), planner, slices.Repeat([]release.LegacyAttachment{byKey}, envelope.MaxAttachments+1)) {
			signtest.Refused(t, e)
		}
	})
}

// A signature in a bundle must be a statement; cosign's older one is nothing
// else, and its role is the builder's.
func TestLegacyRole(t *testing.T) {
	v, key := newVirtual(t, noon.Add(time.Hour)), newECDSA(t)
	_, public, _ := v.signer(t, howSigned{key: key})
	verifier, err := New(Options{Trust: scannerTrust(release.Party{Name: "key", PublicKey: string(public)})})
	check(t, err)
	signtest.Refused(t, verifier.VerifyLegacy(t.Context(), planner, []release.LegacyAttachment{v.older(t, planner.Digest, howSigned{key: key})})[0])
}

// What we sign in that form, we read.
func TestLegacyRoundTrip(t *testing.T) {
	key := p256(t)
	verifier, err := NewVerifier(TrustOf(key.PublicPEM(), "ci"))
	check(t, err)
	l, err := key.SignLegacy(t.Context(), planner)
	check(t, err)
	if e := verifier.VerifyLegacy(t.Context(), planner, []release.LegacyAttachment{l})[0]; !e.Counts(release.PredicateSignature) {
		t.Error(e.Reason)
	}
}
