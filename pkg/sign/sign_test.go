package sign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/signtest"
)

// memoryKey makes a key without the deliberately slow encryption.
func memoryKey(t *testing.T, private any, err error) *Key {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	key, err := newKey(private)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Close)
	return key
}

func p256(t *testing.T) *Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return memoryKey(t, private, err)
}

func newJudge(trust release.Trust) (signtest.Judge, error) { return NewVerifier(trust) }

func TestContract(t *testing.T) {
	signtest.Run(t, signtest.Implementation{
		NewKey:      func(t *testing.T, _ string) signtest.Signer { return p256(t) },
		NewVerifier: newJudge,
	})
}

// The fake's bundles are real ones, and the other way round the fake reads
// what we write.
func TestContractWithFakeKeys(t *testing.T) {
	signtest.Run(t, signtest.Implementation{
		NewKey:      func(_ *testing.T, name string) signtest.Signer { return signtest.NewKey(name) },
		NewVerifier: newJudge,
	})
}

func TestEveryKeyType(t *testing.T) {
	subject := signtest.Subject("planner")
	for name, generate := range map[string]func() (any, error){
		"P-384":    func() (any, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
		"P-521":    func() (any, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) },
		"RSA 2048": func() (any, error) { return rsa.GenerateKey(rand.Reader, 2048) },
		"Ed25519": func() (any, error) {
			_, private, err := ed25519.GenerateKey(rand.Reader)
			return private, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			private, err := generate()
			key := memoryKey(t, private, err)
			v, err := NewVerifier(TrustOf(key.PublicPEM(), "ci"))
			if err != nil {
				t.Fatal(err)
			}
			a, err := key.Sign(t.Context(), signtest.Scan(subject))
			if err != nil {
				t.Fatal(err)
			}
			if e := v.Verify(t.Context(), subject, []release.Attachment{a})[0]; !e.Verified {
				t.Errorf("not verified: %s", e.Reason)
			}
			text, err := key.SignEnvelope(t.Context(), "x", []byte("payload"))
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := v.VerifyEnvelope(text, "x"); err != nil {
				t.Error(err)
			}
			key.Close()
			if _, err := key.SignEnvelope(t.Context(), "x", []byte("payload")); err == nil {
				t.Error("a closed key signs")
			}
		})
	}
}

// The reason tells apart what a person would mend differently.
func TestReasons(t *testing.T) {
	key, stranger, subject := p256(t), p256(t), signtest.Subject("planner")
	v, err := NewVerifier(TrustOf(key.PublicPEM(), "ci"))
	if err != nil {
		t.Fatal(err)
	}
	signed := func(k *Key, s release.Subject) string {
		a, err := k.Sign(t.Context(), signtest.Scan(s))
		if err != nil {
			t.Fatal(err)
		}
		return string(a.Bundle)
	}
	good := signed(key, subject)
	sig := good[strings.Index(good, `{"sig"`) : strings.LastIndex(good, "}]")+1]
	for says, bundle := range map[string]string{
		"no trusted key":             signed(stranger, subject),
		"no role may say":            unheard(t, key, subject),
		"about sha256:":              signed(key, signtest.Subject("other")),
		"2 signatures, want exactly": strings.Replace(good, sig, sig+","+sig, 1),
		"0 signatures, want exactly": strings.Replace(good, sig, "", 1),
		"signed with a certificate":  strings.Replace(good, `"publicKey":{"hint"`, `"certificate":{"rawBytes"`, 1),
		"no DSSE envelope":           good[:strings.Index(good, `"dsseEnvelope"`)] + `"messageSignature":{}}`,
		"media type is not":          strings.Replace(good, ".v0.3+json", ".v0.2+json", 1),
		"reading bundle":             "junk",
		"signed by ci, but refused":  strings.Replace(good, `{"sig"`, `{"keyid":"another","sig"`, 1),
	} {
		if e := v.Verify(t.Context(), subject, []release.Attachment{{Bundle: []byte(bundle)}})[0]; e.Verified || !strings.Contains(e.Reason, says) {
			t.Errorf("reason %q does not say %q", e.Reason, says)
		}
	}
}

func unheard(t *testing.T, key *Key, s release.Subject) string {
	t.Helper()
	a, err := key.Sign(t.Context(), release.NewStatement(s, "https://example.com/unheard-of/v1", []byte(`{"a":1}`)))
	if err != nil {
		t.Fatal(err)
	}
	return string(a.Bundle)
}

// Signing, verifying and closing at once is safe: a signature is good or refused.
func TestConcurrentUse(t *testing.T) {
	key, subject := p256(t), signtest.Subject("planner")
	v, err := NewVerifier(TrustOf(key.PublicPEM(), "ci"))
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			a, err := key.Sign(t.Context(), signtest.Scan(subject))
			if err != nil {
				return // closed already
			}
			if e := v.Verify(t.Context(), subject, []release.Attachment{a})[0]; !e.Verified {
				t.Errorf("not verified: %s", e.Reason)
			}
			if i == 8 {
				key.Close()
			}
		})
	}
	group.Wait()
}

// A bundle is one line, whatever protojson does to its white space.
func TestBundleIsCompact(t *testing.T) {
	a, err := p256(t).Sign(t.Context(), signtest.Scan(signtest.Subject("planner")))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.ContainsAny(a.Bundle, " \n") {
		t.Errorf("white space in %s", a.Bundle)
	}
}

// Bundles that stock cosign made; TestStockCosign rewrites them with -update.
func TestStockBundles(t *testing.T) {
	versions, err := filepath.Glob("testdata/stock/*")
	if err != nil || len(versions) == 0 {
		t.Fatalf("no bundles of stock cosign: %v", err)
	}
	for _, dir := range versions {
		read := func(file string) []byte {
			text, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		v, err := NewVerifier(TrustOf(read("cosign.pub"), "ci"))
		if err != nil {
			t.Fatal(err)
		}
		digest, err := release.ParseDigest(strings.TrimSpace(string(read("subject"))))
		if err != nil {
			t.Fatal(err)
		}
		subject := release.Subject{Repository: "registry.example/agent/planner", Digest: digest}
		for file, want := range map[string]string{"sign.json": release.PredicateSignature, "attest.json": release.PredicateVulnerability} {
			e := v.Verify(t.Context(), subject, []release.Attachment{{Bundle: read(file)}})[0]
			if !e.Counts(want) {
				t.Errorf("%s %s: %s", dir, file, e.Reason)
			}
			signtest.Refused(t, v.Verify(t.Context(), signtest.Subject("other"), []release.Attachment{{Bundle: read(file)}})[0])
		}
	}
}

// Nothing is trusted by the file that stock cosign needs, and sigstore reads it.
func TestEmptyTrustedRoot(t *testing.T) {
	trusted, err := root.NewTrustedRootFromJSON(EmptyTrustedRoot())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(trusted.FulcioCertificateAuthorities()) + len(trusted.RekorLogs()) + len(trusted.CTLogs()) + len(trusted.TimestampingAuthorities()); n != 0 {
		t.Errorf("%d authorities are trusted", n)
	}
}

func BenchmarkVerifySix(b *testing.B) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	key, err := newKey(private)
	if err != nil {
		b.Fatal(err)
	}
	v, err := NewVerifier(TrustOf(key.PublicPEM(), "ci"))
	if err != nil {
		b.Fatal(err)
	}
	subject := signtest.Subject("planner")
	a, err := key.Sign(b.Context(), signtest.Scan(subject))
	if err != nil {
		b.Fatal(err)
	}
	six := slices.Repeat([]release.Attachment{a}, 6)
	for b.Loop() {
		for _, e := range v.Verify(b.Context(), subject, six) {
			if !e.Verified {
				b.Fatal(e.Reason)
			}
		}
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
