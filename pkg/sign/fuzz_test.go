package sign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
	"github.com/promote-dev/promote/pkg/sign/signtest"
)

// No bytes panic the verifier, and none but the signed ones are verified: the
// judge is called without its guard against panics.
func FuzzBundle(f *testing.F) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	key, err := newKey(private)
	if err != nil {
		f.Fatal(err)
	}
	v, err := NewVerifier(TrustOf(key.PublicPEM(), "ci"))
	if err != nil {
		f.Fatal(err)
	}
	subject := signtest.Subject("planner")
	good, err := key.Sign(f.Context(), signtest.Scan(subject))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bundle)
	f.Add(bytes.Replace(good.Bundle, []byte(`"publicKey":{"hint"`), []byte(`"certificate":{"rawBytes"`), 1))
	f.Add(bytes.Replace(good.Bundle, []byte(`"dsseEnvelope"`), []byte(`"messageSignature"`), 1))
	f.Add([]byte(`{"mediaType":"` + release.MediaTypeBundle + `","verificationMaterial":{"publicKey":{},"tlogEntries":[{}],"timestampVerificationData":{}},"dsseEnvelope":{"signatures":[{}]}}`))
	stock, err := filepath.Glob("testdata/stock/*/*.json")
	if err != nil || len(stock) == 0 {
		f.Fatalf("no bundles of stock cosign: %v", err)
	}
	for _, file := range stock {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e := envelope.Judge(subject, release.Attachment{Bundle: raw}, v.rules(v.open))
		switch {
		case e.Verified && !bytes.Equal(e.Predicate, signtest.Scan(subject).Predicate):
			t.Fatalf("%q is verified with predicate %s", raw, e.Predicate)
		case !e.Verified && (e.Reason == "" || e.Predicate != nil):
			t.Fatalf("%q is refused without a reason", raw)
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
