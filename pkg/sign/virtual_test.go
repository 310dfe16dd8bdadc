package sign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/rekor/pkg/util"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// noon is when everything in a virtual instance happens.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// authority is a certificate with its key.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// virtual is a sigstore instance without services and without a clock: a
// certificate authority with an intermediate, a timestamp authority, and a
// Rekor v1 log of one entry, which is always the next.
type virtual struct {
	issuer, stamper authority
	authorities     []*x509.Certificate // root, intermediate, those of timestamps
	log             *ecdsa.PrivateKey
}

// newVirtual makes an instance; until is when its intermediate expires.
func newVirtual(t testing.TB, until time.Time) *virtual {
	t.Helper()
	year := 365 * 24 * time.Hour
	top := issue(t, authorityFor("root", noon.Add(-year), noon.Add(year)), nil)
	middle := issue(t, authorityFor("intermediate", noon.Add(-year/2), until), &top)
	stamps := issue(t, authorityFor("timestamps", noon.Add(-year), noon.Add(100*year)), nil)
	// The library that makes stamps also notes today's date in them.
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	check(t, err)
	stamper := issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "stamper"}, NotBefore: noon.Add(-year / 2), NotAfter: noon.Add(99 * year),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: usage}}}, &stamps)
	return &virtual{issuer: middle, stamper: stamper, authorities: []*x509.Certificate{top.cert, middle.cert, stamps.cert}, log: newECDSA(t)}
}

func authorityFor(name string, from, until time.Time) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
}

func newECDSA(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

func issue(t testing.TB, template *x509.Certificate, parent *authority) authority {
	t.Helper()
	made := authority{key: newECDSA(t)}
	if parent == nil {
		parent = &authority{cert: template, key: made.key}
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, made.key.Public(), parent.key)
	check(t, err)
	made.cert, err = x509.ParseCertificate(der)
	check(t, err)
	return made
}

// trusted gives the instance's trusted root, with or without log and stamps.
func (v *virtual) trusted(t testing.TB, log, stamps bool) *Root {
	t.Helper()
	parsed, err := ParseRoot(v.rootText(t, log, stamps))
	check(t, err)
	return parsed
}

func (v *virtual) rootText(t testing.TB, log, stamps bool) []byte {
	t.Helper()
	start := noon.Add(-24 * time.Hour)
	logs := map[string]*root.TransparencyLog{}
	if log {
		logs[hex.EncodeToString(v.logID(t))] = &root.TransparencyLog{BaseURL: "https://log.example", ID: v.logID(t), ValidityPeriodStart: start,
			HashFunc: crypto.SHA256, PublicKey: v.log.Public(), SignatureHashFunc: crypto.SHA256}
	}
	var stampers []root.TimestampingAuthority
	if stamps {
		stampers = append(stampers, &root.SigstoreTimestampingAuthority{Root: v.authorities[2], Leaf: v.stamper.cert, ValidityPeriodStart: start, URI: "https://stamps.example"})
	}
	made, err := root.NewTrustedRoot(root.TrustedRootMediaType01, []root.CertificateAuthority{&root.FulcioCertificateAuthority{
		Root: v.authorities[0], Intermediates: []*x509.Certificate{v.authorities[1]}, ValidityPeriodStart: start, URI: "https://ca.example"}}, nil, stampers, logs)
	check(t, err)
	text, err := made.MarshalJSON()
	check(t, err)
	return text
}

func (v *virtual) logID(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(v.log.Public())
	check(t, err)
	id := sha256.Sum256(der)
	return id[:]
}

// howSigned says how something is signed. What is zero is left out.
type howSigned struct {
	identity, issuer string
	second           string // another name in the certificate
	claims           release.Claims
	from             time.Time // of the certificate, which lives for ten minutes
	logged, stamped  time.Time
	key              *ecdsa.PrivateKey // instead of a certificate
}

const (
	workflowOf   = "https://github.com/acme/agent/.github/workflows/release.yml@refs/heads/main"
	actions      = "https://token.actions.githubusercontent.com"
	ofRepository = "https://github.com/acme/agent"
)

// good is how it should be.
func good() howSigned {
	return howSigned{identity: workflowOf, issuer: actions, from: noon, logged: noon.Add(time.Minute), stamped: noon.Add(time.Minute),
		claims: release.Claims{Repository: ofRepository, Ref: "refs/heads/main", Trigger: "push"}}
}

func (v *virtual) attest(t testing.TB, st release.Statement, s howSigned) *protobundle.Bundle {
	t.Helper()
	payload, err := envelope.EncodeStatement(st)
	check(t, err)
	return v.enclose(t, envelope.PayloadType, payload, s)
}

// enclose signs a payload of any type.
func (v *virtual) enclose(t testing.TB, payloadType string, payload []byte, s howSigned) *protobundle.Bundle {
	t.Helper()
	signer, verifier, material := v.signer(t, s)
	sum := sha256.Sum256(envelope.PAE(payloadType, payload))
	sig, err := signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	check(t, err)
	b := &protobundle.Bundle{MediaType: release.MediaTypeBundle, VerificationMaterial: material, Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
		PayloadType: payloadType, Payload: payload, Signatures: []*protodsse.Signature{{Sig: sig}}}}}
	if !s.logged.IsZero() {
		whole, err := json.Marshal(map[string]any{"payloadType": payloadType, "payload": payload, "signatures": []map[string]any{{"sig": sig}}})
		check(t, err)
		entry := map[string]any{"envelopeHash": sha(whole), "payloadHash": sha(payload), "signatures": []map[string]any{{"signature": sig, "verifier": verifier}}}
		material.TlogEntries = []*protorekor.TransparencyLogEntry{v.entry(t, "dsse", entry, s.logged)}
	}
	if !s.stamped.IsZero() {
		material.TimestampVerificationData = &protobundle.TimestampVerificationData{Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: v.stamp(t, sig, s.stamped)}}}
	}
	return b
}

func sha(b []byte) map[string]any {
	return map[string]any{"algorithm": "sha256", "value": release.DigestOf(b).Hex()}
}

// signer gives the key, its public side as the log names it, and what the
// bundle says of it.
func (v *virtual) signer(t testing.TB, s howSigned) (*ecdsa.PrivateKey, []byte, *protobundle.VerificationMaterial) {
	t.Helper()
	if s.key != nil {
		der, err := x509.MarshalPKIXPublicKey(s.key.Public())
		check(t, err)
		return s.key, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
			&protobundle.VerificationMaterial{Content: &protobundle.VerificationMaterial_PublicKey{PublicKey: &protocommon.PublicKeyIdentifier{Hint: "x"}}}
	}
	leaf := issue(t, leafFor(t, s), &v.issuer)
	return leaf.key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.cert.Raw}),
		&protobundle.VerificationMaterial{Content: &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: leaf.cert.Raw}}}
}

func leafFor(t testing.TB, s howSigned) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{NotBefore: s.from, NotAfter: s.from.Add(10 * time.Minute), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	for _, name := range []string{s.identity, s.second} {
		switch u, err := url.Parse(name); {
		case name == "":
		case err == nil && strings.Contains(name, "://"):
			template.URIs = append(template.URIs, u)
		default:
			template.EmailAddresses = append(template.EmailAddresses, name)
		}
	}
	for number, value := range map[int]string{8: s.issuer, 11: s.claims.Runner, 12: s.claims.Repository, 13: s.claims.Revision, 14: s.claims.Ref, 16: s.claims.Owner, 18: s.claims.Workflow, 20: s.claims.Trigger} {
		if value != "" {
			der, err := asn1.MarshalWithParams(value, "utf8")
			check(t, err)
			template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, number}, Value: der})
		}
	}
	return template
}

// entry is the log's only one, with its promise and the proof that it is in it.
func (v *virtual) entry(t testing.TB, kind string, spec map[string]any, at time.Time) *protorekor.TransparencyLogEntry {
	t.Helper()
	body, err := release.Canonical(map[string]any{"apiVersion": "0.0.1", "kind": kind, "spec": spec})
	check(t, err)
	promised, err := release.Canonical(map[string]any{"body": base64.StdEncoding.EncodeToString(body), "integratedTime": at.Unix(), "logID": hex.EncodeToString(v.logID(t)), "logIndex": 0})
	check(t, err)
	sum := sha256.Sum256(promised)
	promise, err := v.log.Sign(rand.Reader, sum[:], crypto.SHA256)
	check(t, err)
	hash := sha256.Sum256(append([]byte{0}, body...))
	signer, err := signature.LoadECDSASignerVerifier(v.log, crypto.SHA256)
	check(t, err)
	checkpoint, err := util.CreateAndSignCheckpoint(t.Context(), "log.example", 1, 1, hash[:], signer)
	check(t, err)
	return &protorekor.TransparencyLogEntry{
		LogId: &protocommon.LogId{KeyId: v.logID(t)}, KindVersion: &protorekor.KindVersion{Kind: kind, Version: "0.0.1"},
		IntegratedTime: at.Unix(), InclusionPromise: &protorekor.InclusionPromise{SignedEntryTimestamp: promise}, CanonicalizedBody: body,
		InclusionProof: &protorekor.InclusionProof{TreeSize: 1, RootHash: hash[:], Checkpoint: &protorekor.Checkpoint{Envelope: string(checkpoint)}},
	}
}

func (v *virtual) stamp(t testing.TB, sig []byte, at time.Time) []byte {
	t.Helper()
	request, err := timestamp.CreateRequest(bytes.NewReader(sig), &timestamp.RequestOptions{Hash: crypto.SHA256})
	check(t, err)
	asked, err := timestamp.ParseRequest(request)
	check(t, err)
	answer := timestamp.Timestamp{HashAlgorithm: asked.HashAlgorithm, HashedMessage: asked.HashedMessage, Time: at, Policy: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2}}
	der, err := answer.CreateResponseWithOpts(v.stamper.cert, v.stamper.key, crypto.SHA256)
	check(t, err)
	return der
}

// packed is a bundle as a registry has it.
func packed(t testing.TB, b *protobundle.Bundle) release.Attachment {
	t.Helper()
	text, err := protojson.Marshal(b)
	check(t, err)
	return release.Attachment{Digest: release.DigestOf(text), Bundle: text}
}
