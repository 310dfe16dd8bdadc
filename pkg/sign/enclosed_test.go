package sign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/promote-dev/promote/pkg/release"
)

const recordPayload = "application/vnd.promote.record.v1+json"

// line is a bundle as a ledger has it.
func line(t testing.TB, b *protobundle.Bundle) []byte {
	t.Helper()
	text, err := protojson.Marshal(b)
	check(t, err)
	text, err = release.CanonicalJSON(text)
	check(t, err)
	return text
}

func promoterTrust(parties ...release.Party) release.Trust {
	return release.Trust{Roles: map[release.Role][]release.Party{release.Promoter: parties}}
}

func byWorkflow() release.Party {
	p := ci()
	p.Claims = &release.Claims{Repository: ofRepository, Ref: "refs/heads/main", Trigger: "push"}
	return p
}

func TestRecordsOfIdentities(t *testing.T) {
	v := newVirtual(t, noon.Add(time.Hour))
	payload := []byte(`{"phase":"deployed"}`)
	text := line(t, v.enclose(t, recordPayload, payload, good()))
	verifier, err := New(Options{Trust: promoterTrust(byWorkflow()), Root: v.trusted(t, true, true)})
	check(t, err)
	got, signer, err := verifier.VerifyEnvelope(text, recordPayload)
	check(t, err)
	if !bytes.Equal(got, payload) || signer.Name != "ci" || !signer.Has(release.Promoter) || signer.Issuer != actions {
		t.Errorf("%s by %+v", got, signer)
	}
	if signer.Claims == nil || signer.Claims.Ref != "refs/heads/main" || !signer.Time.Equal(noon.Add(time.Minute)) {
		t.Errorf("claims %+v, time %s", signer.Claims, signer.Time)
	}
	if !Enclosed(text) || Enclosed([]byte(`{"payload":""}`)) {
		t.Error("a bundle is not told from a bare envelope")
	}
}

// TestRefusedRecordsOfIdentities: each differs from a good one in one thing.
func TestRefusedRecordsOfIdentities(t *testing.T) {
	v, stranger := newVirtual(t, noon.Add(time.Hour)), newVirtual(t, noon.Add(time.Hour))
	root := v.trusted(t, true, true)
	payload := []byte(`{"phase":"deployed"}`)
	signed := func(change func(*howSigned)) *protobundle.Bundle {
		s := good()
		change(&s)
		return v.enclose(t, recordPayload, payload, s)
	}
	altered := func(change func(*protobundle.Bundle)) *protobundle.Bundle {
		b := v.enclose(t, recordPayload, payload, good())
		change(b)
		return b
	}
	revoked := promoterTrust(byWorkflow())
	revoked.Revoked = []release.Revocation{{Identity: workflowOf, Reason: "gone"}}
	ended := byWorkflow()
	ended.NotAfter = noon.Add(-time.Hour)
	key := newECDSA(t)
	for name, c := range map[string]struct {
		bundle *protobundle.Bundle
		trust  release.Trust // zero is the good one
		root   *Root
		want   string
	}{
		"another workflow":    {bundle: signed(func(s *howSigned) { s.identity = strings.Replace(workflowOf, "release", "test", 1) }), want: "does not name"},
		"the same elsewhere":  {bundle: signed(func(s *howSigned) { s.issuer = "https://evil.example" }), want: "does not name"},
		"a fork":              {bundle: signed(func(s *howSigned) { s.claims.Repository = "https://github.com/mallory/agent" }), want: "repository is not"},
		"another branch":      {bundle: signed(func(s *howSigned) { s.claims.Ref = "refs/heads/x" }), want: "ref is not"},
		"another trigger":     {bundle: signed(func(s *howSigned) { s.claims.Trigger = "pull_request_target" }), want: "trigger is not"},
		"expired when signed": {bundle: signed(func(s *howSigned) { s.from = noon.Add(-time.Hour) }), want: "certificate of"},
		"no proven time":      {bundle: signed(func(s *howSigned) { s.logged, s.stamped = time.Time{}, time.Time{} }), want: "certificate of"},
		"not in the log":      {bundle: signed(func(s *howSigned) { s.logged = time.Time{} }), want: "certificate of"},
		"another authority":   {bundle: stranger.enclose(t, recordPayload, payload, good()), want: "certificate of"},
		"no root":             {bundle: signed(func(*howSigned) {}), root: &Root{}, want: "no trusted root"},
		"an empty root":       {bundle: signed(func(*howSigned) {}), root: mustRoot(t, EmptyTrustedRoot()), want: "names no certificate authority"},
		"another payload":     {bundle: altered(func(b *protobundle.Bundle) { b.GetDsseEnvelope().Payload = []byte(`{"phase":"approved"}`) }), want: "certificate of"},
		"another type signed": {bundle: v.enclose(t, recordPayload+"x", payload, good()), want: "the envelope holds"},
		"a type exchanged":    {bundle: retyped(v.enclose(t, "application/x", payload, good())), want: "certificate of"},
		"a statement":         {bundle: v.enclose(t, "application/vnd.in-toto+json", payload, good()), want: "the envelope holds"},
		"two signatures": {bundle: altered(func(b *protobundle.Bundle) {
			b.GetDsseEnvelope().Signatures = append(b.GetDsseEnvelope().Signatures, &protodsse.Signature{Sig: []byte("x")})
		}), want: "signature"},
		"an older bundle":       {bundle: altered(func(b *protobundle.Bundle) { b.MediaType = "application/vnd.dev.sigstore.bundle+json;version=0.2" }), want: "reading bundle"},
		"a key's":               {bundle: signed(func(s *howSigned) { s.key = key }), want: "what keys sign is a bare envelope"},
		"revoked":               {bundle: signed(func(*howSigned) {}), trust: revoked, want: "revoked"},
		"no longer in force":    {bundle: signed(func(*howSigned) {}), trust: promoterTrust(ended), want: "who counts not after"},
		"two names":             {bundle: signed(func(s *howSigned) { s.second = "https://other.example" }), want: "2 subject alternative names"},
		"keys are trusted only": {bundle: signed(func(*howSigned) {}), trust: promoterTrust(release.Party{Name: "ops", PublicKey: pemOf(t, key)}), want: "only public keys are trusted"},
	} {
		t.Run(name, func(t *testing.T) {
			trust, r := promoterTrust(byWorkflow()), root
			if c.trust.Roles != nil {
				trust = c.trust
			}
			if c.root != nil {
				if r = c.root; r.material == nil {
					r = nil
				}
			}
			verifier, err := New(Options{Trust: trust, Root: r})
			check(t, err)
			payload, signer, err := verifier.VerifyEnvelope(line(t, c.bundle), recordPayload)
			if release.KindOf(err) != release.KindDenied || !strings.Contains(err.Error(), c.want) || payload != nil || signer.Name != "" {
				t.Errorf("got %s by %q, %v; want %q", payload, signer.Name, err, c.want)
			}
		})
	}
	verifier, err := New(Options{Trust: promoterTrust(byWorkflow()), Root: root})
	check(t, err)
	text := string(line(t, signed(func(*howSigned) {})))
	for name, text := range map[string]string{
		"twice the payload": strings.Replace(text, `"payload":`, `"payload":"e30=","payload":`, 1),
		"unknown member":    strings.Replace(text, `"mediaType"`, `"extra":1,"mediaType"`, 1),
		"trailing bytes":    text + text,
		"half":              text[:len(text)/2],
		"no envelope":       `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`,
		"too long":          text + strings.Repeat(" ", 8<<20),
	} {
		if _, _, err := verifier.VerifyEnvelope([]byte(text), recordPayload); release.KindOf(err) != release.KindDenied {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func retyped(b *protobundle.Bundle) *protobundle.Bundle {
	b.GetDsseEnvelope().PayloadType = recordPayload
	return b
}

func mustRoot(t testing.TB, text []byte) *Root {
	t.Helper()
	r, err := ParseRoot(text)
	check(t, err)
	return r
}

func pemOf(t testing.TB, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	check(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}
