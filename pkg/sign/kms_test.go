//go:build engine

package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/handler"

	// The services that the program links, to be asked of stand-ins here.
	_ "github.com/sigstore/sigstore/pkg/signature/kms/aws"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/hashivault"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/signtest"
)

// pluginKey is where the program that TestMain can be finds its private key.
const pluginKey = "SIGN_TEST_PLUGIN_KEY"

// TestMain is the tests, or sigstore-kms-standin when it is called so.
func TestMain(m *testing.M) {
	if strings.HasPrefix(filepath.Base(os.Args[0]), "sigstore-kms-") {
		os.Exit(plugin())
	}
	status := m.Run()
	_ = os.RemoveAll(stock2.dir)
	os.Exit(status)
}

// plugin is a key service as a program: the key is in a file.
func plugin() int {
	fail := func(err error) int { _ = handler.WriteErrorResponse(os.Stdout, err); return 1 }
	args, err := handler.GetPluginArgs(os.Args)
	if err != nil {
		return fail(err)
	}
	text, err := os.ReadFile(os.Getenv(pluginKey))
	if err != nil {
		return fail(fmt.Errorf("no key: %w", err))
	}
	private, err := x509.ParsePKCS8PrivateKey(text)
	if err != nil {
		return fail(err)
	}
	key, err := signature.LoadSignerVerifier(private, crypto.SHA256)
	if err != nil {
		return fail(err)
	}
	if _, err := handler.Dispatch(os.Stdout, os.Stdin, args, pluginService{key}); err != nil {
		return 1
	}
	return 0
}

type pluginService struct{ signature.SignerVerifier }

func (pluginService) CreateKey(context.Context, string) (crypto.PublicKey, error) {
	return nil, fmt.Errorf("not here")
}
func (pluginService) CryptoSigner(context.Context, func(error)) (crypto.Signer, crypto.SignerOpts, error) {
	return nil, nil, fmt.Errorf("not here")
}
func (pluginService) SupportedAlgorithms() []string { return nil }
func (pluginService) DefaultAlgorithm() string      { return "" }

// vault is the part of a transit engine that signs.
func vault(t *testing.T, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	check(t, err)
	shown := map[string]any{"name": "other", "public_key": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
	if public, ok := key.Public().(ed25519.PublicKey); ok {
		shown = map[string]any{"name": "ed25519", "public_key": base64.StdEncoding.EncodeToString(public)}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/transit/keys/release", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"data": map[string]any{"latest_version": 1, "keys": map[string]any{"1": shown}}})
	})
	sign := func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Input     []byte `json:"input"`
			Prehashed bool   `json:"prehashed"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		hash := map[string]crypto.Hash{"": 0, "sha2-256": crypto.SHA256, "sha2-384": crypto.SHA384}[r.PathValue("hash")]
		if in.Prehashed == (hash == 0) {
			http.Error(w, "prehashed and the hash contradict each other", http.StatusBadRequest)
			return
		}
		sig, err := key.Sign(rand.Reader, in.Input, hash)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer(w, map[string]any{"data": map[string]any{"signature": "vault:v1:" + base64.StdEncoding.EncodeToString(sig)}})
	}
	mux.HandleFunc("PUT /v1/transit/sign/release/{hash}", sign)
	mux.HandleFunc("PUT /v1/transit/sign/release", sign)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Setenv("VAULT_ADDR", server.URL)
	t.Setenv("VAULT_TOKEN", "canary-vault-token")
	t.Setenv("VAULT_MAX_RETRIES", "0")
	return "hashivault://release"
}

// aws is the part of a key management service that signs.
func aws(t *testing.T, key crypto.Signer, algorithm string) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	check(t, err)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Message []byte }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		switch _, call, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); call {
		case "DescribeKey":
			answer(w, map[string]any{"KeyMetadata": map[string]any{"KeyId": "release", "SigningAlgorithms": []string{algorithm}}})
		case "GetPublicKey":
			answer(w, map[string]any{"KeyId": "release", "PublicKey": der})
		case "Sign":
			var options crypto.SignerOpts = map[int]crypto.Hash{32: crypto.SHA256, 48: crypto.SHA384, 64: crypto.SHA512}[len(in.Message)]
			if strings.Contains(algorithm, "PSS") {
				options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: options.HashFunc()}
			}
			sig, err := key.Sign(rand.Reader, in.Message, options)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			answer(w, map[string]any{"KeyId": "release", "Signature": sig})
		default:
			http.Error(w, "unknown call "+call, http.StatusBadRequest)
		}
	}))
	t.Cleanup(server.Close)
	ca := write(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	for name, value := range map[string]string{"AWS_CA_BUNDLE": ca, "AWS_REGION": "eu-central-1",
		"AWS_ACCESS_KEY_ID": "canary-aws-id", "AWS_SECRET_ACCESS_KEY": "canary-aws-secret", "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"} {
		t.Setenv(name, value)
	}
	return "awskms://" + strings.TrimPrefix(server.URL, "https://") + "/alias/release"
}

// program is a key service that is a program on the PATH.
func program(t *testing.T, key crypto.Signer) string {
	t.Helper()
	self, err := os.Executable()
	check(t, err)
	dir := t.TempDir()
	check(t, os.Symlink(self, filepath.Join(dir, "sigstore-kms-standin")))
	der, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	t.Setenv(pluginKey, write(t, "key.der", der))
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return "standin://release"
}

func answer(w io.Writer, v any) { _ = json.NewEncoder(w).Encode(v) }

func ecdsaKey(t *testing.T, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	check(t, err)
	return key
}

func rsaKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	return key
}

// What a key service signs verifies, and so does what it signs again: as
// another bundle, because such signatures have a number of their own each time.
func TestKeyServices(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	for name, c := range map[string]struct {
		key  crypto.Signer
		open func(*testing.T, crypto.Signer) string
	}{
		"vault P-256":   {ecdsaKey(t, elliptic.P256()), vault},
		"vault P-384":   {ecdsaKey(t, elliptic.P384()), vault},
		"vault RSA":     {rsaKey(t), vault},
		"vault Ed25519": {ed, vault},
		"aws P-256": {ecdsaKey(t, elliptic.P256()), func(t *testing.T, k crypto.Signer) string {
			return aws(t, k, "ECDSA_SHA_256")
		}},
		"aws P-384": {ecdsaKey(t, elliptic.P384()), func(t *testing.T, k crypto.Signer) string {
			return aws(t, k, "ECDSA_SHA_384")
		}},
		"aws RSA": {rsaKey(t), func(t *testing.T, k crypto.Signer) string {
			return aws(t, k, "RSASSA_PKCS1_V1_5_SHA_256")
		}},
		"program": {ecdsaKey(t, elliptic.P256()), program},
	} {
		t.Run(name, func(t *testing.T) {
			ref := c.open(t, c.key)
			key, err := LoadKey(t.Context(), ref, func() ([]byte, error) { t.Error("asked for a passphrase"); return nil, nil })
			check(t, err)
			defer key.Close()
			v, err := NewVerifier(TrustOf(key.PublicPEM(), "ci"))
			check(t, err)
			subject := signtest.Subject("planner")
			for range 2 {
				a, err := key.Sign(t.Context(), signtest.Scan(subject))
				check(t, err)
				if e := v.Verify(t.Context(), subject, []release.Attachment{a})[0]; !e.Verified || e.Signer.ID != key.Fingerprint() {
					t.Errorf("not verified: %s", e.Reason)
				}
			}
			older, err := key.SignLegacy(t.Context(), subject)
			check(t, err)
			if e := v.VerifyLegacy(t.Context(), subject, []release.LegacyAttachment{older})[0]; !e.Verified || e.Signer.ID != key.Fingerprint() {
				t.Errorf("older form: not verified: %s", e.Reason)
			}
			text, err := key.SignEnvelope(t.Context(), "application/x", []byte("record"))
			check(t, err)
			payload, _, err := v.VerifyEnvelope(text, "application/x")
			if err != nil || !bytes.Equal(payload, []byte("record")) {
				t.Errorf("envelope: %v", err)
			}
			key.Close()
			if _, err := key.Sign(t.Context(), signtest.Scan(subject)); err == nil {
				t.Error("signs after it was closed")
			}
		})
	}
}

// A signature that nobody could verify is refused before anybody sees it.
func TestKeyServiceWithAnotherAlgorithm(t *testing.T) {
	key, err := LoadKey(t.Context(), aws(t, rsaKey(t), "RSASSA_PSS_SHA_256"), nil)
	check(t, err)
	_, err = key.Sign(t.Context(), signtest.Scan(signtest.Subject("planner")))
	if err == nil || !strings.Contains(err.Error(), "another algorithm") {
		t.Errorf("error %v", err)
	}
}

func TestKeyServiceThatFails(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	check(t, err)
	t.Setenv("GODEBUG", "rsa1024min=0")
	for name, c := range map[string]struct {
		ref  func(t *testing.T) string
		kind release.Kind
		says string
	}{
		"nobody listens": {func(t *testing.T) string {
			ref := vault(t, ecdsaKey(t, elliptic.P256()))
			t.Setenv("VAULT_ADDR", "http://127.0.0.1:1")
			return ref
		}, release.KindUnavailable, "refused"},
		"no such key": {func(t *testing.T) string {
			vault(t, ecdsaKey(t, elliptic.P256()))
			return "hashivault://other"
		}, release.KindUnavailable, "opening key hashivault://other"},
		"weak key":        {func(t *testing.T) string { return vault(t, small) }, release.KindConfig, "1024 bits"},
		"no such program": {func(*testing.T) string { return "nothing://x" }, release.KindConfig, "no program sigstore-kms-nothing"},
		"program fails": {func(t *testing.T) string {
			ref := program(t, ecdsaKey(t, elliptic.P256()))
			t.Setenv(pluginKey, "/nowhere")
			return ref
		}, release.KindUnavailable, "no key"},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := LoadKey(t.Context(), c.ref(t), nil)
			if key != nil || release.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v of kind %s, want %s that says %q", err, release.KindOf(err), c.kind, c.says)
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("error tells a secret: %v", err)
			}
		})
	}
}

// A service that never answers costs no more than the context.
func TestKeyServiceThatHangs(t *testing.T) {
	quit := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-quit }))
	defer server.Close()
	defer close(quit)
	t.Setenv("VAULT_ADDR", server.URL)
	t.Setenv("VAULT_TOKEN", "x")
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan error)
	go func() {
		_, err := LoadKey(ctx, "hashivault://release", nil)
		opened <- err
	}()
	cancel()
	if err := <-opened; release.KindOf(err) != release.KindInterrupted {
		t.Errorf("error %v", err)
	}
}
