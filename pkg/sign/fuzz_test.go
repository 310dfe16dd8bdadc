package sign

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
	"github.com/promote-dev/promote/pkg/sign/signtest"
)

// No bytes panic the verifier, and none but the signed ones are verified: the
// judge is called without its guard against panics.
func FuzzBundle(f *testing.F) {
	vectors := readVectors(f)
	v := vectors.verifier(f)
	for _, good := range [][]byte{vectors.key, vectors.certificate} {
		f.Add(good)
		f.Add(bytes.Replace(good, []byte(`"dsseEnvelope"`), []byte(`"messageSignature"`), 1))
		f.Add(bytes.Replace(good, []byte(".v0.3+json"), []byte("+json;version=0.1"), 1))
	}
	f.Add(bytes.Replace(vectors.key, []byte(`"publicKey":{"hint"`), []byte(`"certificate":{"rawBytes"`), 1))
	f.Add([]byte(`{"mediaType":"` + release.MediaTypeBundle + `","verificationMaterial":{"publicKey":{},"tlogEntries":[{}],"timestampVerificationData":{}},"dsseEnvelope":{"signatures":[{}]}}`))
	stock, err := filepath.Glob("testdata/stock/*/*.json")
	if err != nil || len(stock) == 0 {
		f.Fatalf("no bundles of stock cosign: %v", err)
	}
	for _, file := range stock {
		text, err := os.ReadFile(file)
		check(f, err)
		f.Add(text)
	}
	expected := BundleCheck{Identity: workflowOf, Issuer: actions, Root: vectors.root, Artifact: planner.Digest}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e := envelope.Judge(planner, release.Attachment{Bundle: raw}, v.rules(v.open))
		switch {
		case e.Verified && !bytes.Equal(e.Predicate, signtest.Scan(planner).Predicate):
			t.Fatalf("%q is verified with predicate %s", raw, e.Predicate)
		case !e.Verified && (e.Reason == "" || e.Predicate != nil):
			t.Fatalf("%q is refused without a reason", raw)
		}
		expected.Bundle = raw
		r, err := VerifyBundle(expected)
		switch {
		case err == nil && (r.Signer.ID != workflowOf || r.Time.IsZero()):
			t.Fatalf("%q is verified as of %+v", raw, r)
		case err != nil && (release.KindOf(err) != release.KindDenied || strings.Contains(err.Error(), envelope.Unexpected)):
			t.Fatalf("%q: %v", raw, err)
		}
	})
}

// No content and no annotation of cosign's older form panics the verifier, and
// none verifies but what was signed.
func FuzzLegacy(f *testing.F) {
	vectors := readVectors(f)
	v := vectors.verifier(f)
	for _, l := range []release.LegacyAttachment{vectors.signature, vectors.attestation} {
		f.Add(l.Kind == release.LegacySignature, l.Content, l.Annotations[release.AnnotationLegacySignature], l.Annotations[release.AnnotationLegacyCertificate],
			l.Annotations[release.AnnotationLegacyBundle], l.Annotations[release.AnnotationLegacyTimestamp])
	}
	f.Add(true, []byte(`{"critical":null}`), "", "", "{}", "{}")
	f.Fuzz(func(t *testing.T, signature bool, content []byte, sig, certificate, bundle, timestamp string) {
		l := release.LegacyAttachment{Kind: release.LegacyAttestation, Content: content, Annotations: map[string]string{
			release.AnnotationLegacySignature: sig, release.AnnotationLegacyCertificate: certificate,
			release.AnnotationLegacyBundle: bundle, release.AnnotationLegacyTimestamp: timestamp}}
		want := signtest.Scan(planner).Predicate
		if signature {
			l.Kind, want = release.LegacySignature, []byte("{}")
		}
		open := func(raw []byte) (envelope.Sealed, error) { return v.openLegacy(l, raw) }
		e := envelope.Judge(planner, release.Attachment{Bundle: content}, v.rules(open))
		switch {
		case e.Verified && !bytes.Equal(e.Predicate, want):
			t.Fatalf("%q is verified with predicate %s", content, e.Predicate)
		case !e.Verified && e.Reason == "":
			t.Fatalf("%q is refused without a reason", content)
		}
	})
}

// No text panics the reader of trusted roots; what it reads can be used.
func FuzzTrustedRoot(f *testing.F) {
	vectors := readVectors(f)
	f.Add(vectors.rootText)
	f.Add(EmptyTrustedRoot())
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","tlogs":[{}],"certificateAuthorities":[{}],"timestampAuthorities":[{}],"ctlogs":[{}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := ParseRoot(raw)
		if err != nil {
			if release.KindOf(err) != release.KindConfig || strings.Contains(err.Error(), envelope.Unexpected) {
				t.Fatalf("%q: %v", raw, err)
			}
			return
		}
		if _, err := VerifyBundle(BundleCheck{Bundle: vectors.certificate, Identity: workflowOf, Issuer: actions, Root: r, Artifact: planner.Digest}); err != nil && strings.Contains(err.Error(), envelope.Unexpected) {
			t.Fatalf("%q: %v", raw, err)
		}
	})
}

// No text verifies but the signed one, whatever its spelling.
func FuzzEnvelope(f *testing.F) {
	key := signtest.NewKey("fuzz")
	v, err := NewVerifier(TrustOf(key.PublicPEM(), "ci"))
	if err != nil {
		f.Fatal(err)
	}
	payload := []byte(`{"a":1}`)
	text, err := key.SignEnvelope(f.Context(), "x", payload)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(append(bytes.Clone(text), text...))
	f.Add([]byte(`{"payload":"eA==","payloadType":"x","signatures":[{"keyid":"","sig":"eA=="}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, signer, err := v.VerifyEnvelope(raw, "x")
		if err == nil && (!bytes.Equal(got, payload) || signer.Name != "ci") {
			t.Fatalf("%q verifies as %q by %q", raw, got, signer.Name)
		}
		if err != nil && release.KindOf(err) != release.KindDenied {
			t.Fatalf("%q: %v of kind %q", raw, err, release.KindOf(err))
		}
	})
}
