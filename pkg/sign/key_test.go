//go:build engine

//lint:file-ignore SA1019 the private number is what must not be seen or left

package sign

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sigstore/cosign/v2/pkg/cosign"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/signtest"
)

const passphrase = "canary-passphrase-7f3a"

func given(secret string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(secret), nil }
}

func write(t *testing.T, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func generated(t *testing.T) (private, public []byte) {
	t.Helper()
	private, public, err := GenerateKey([]byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

func TestGeneratedKeyIsCosigns(t *testing.T) {
	private, public := generated(t)
	theirs, err := cosign.LoadPrivateKey(private, []byte(passphrase), nil)
	if err != nil {
		t.Fatalf("cosign does not open our key: %v", err)
	}
	opened, err := theirs.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	key, ok := opened.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		t.Errorf("key is a %T, want P-256", opened)
	}
	der, err := x509.MarshalPKIXPublicKey(opened)
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(public); block == nil || !bytes.Equal(block.Bytes, der) {
		t.Error("the public half is of another key")
	}
}

func TestLoadKey(t *testing.T) {
	private, public := generated(t)
	t.Setenv("SIGN_TEST_KEY", string(private))
	legacy := bytes.ReplaceAll(private, []byte("SIGSTORE"), []byte("COSIGN"))
	for name, ref := range map[string]string{
		"file":           write(t, "cosign.key", private),
		"environment":    "env://SIGN_TEST_KEY",
		"older PEM type": write(t, "old.key", legacy),
	} {
		t.Run(name, func(t *testing.T) {
			secret := []byte(passphrase)
			key, err := LoadKey(t.Context(), ref, func() ([]byte, error) { return secret, nil })
			if err != nil {
				t.Fatal(err)
			}
			defer key.Close()
			if !bytes.Equal(key.PublicPEM(), public) {
				t.Error("another public half than was generated")
			}
			block, _ := pem.Decode(public)
			if want := release.DigestOf(block.Bytes).String(); key.Fingerprint() != want {
				t.Errorf("fingerprint %s, want %s", key.Fingerprint(), want)
			}
			if !bytes.Equal(secret, make([]byte, len(passphrase))) {
				t.Error("the passphrase was not wiped")
			}
		})
	}
}

func TestLoadKeyRefuses(t *testing.T) {
	private, public := generated(t)
	_, plain := plainKey(t)
	short := private[:len(private)/2]
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SIGN_TEST_EMPTY", "")
	t.Setenv("SIGN_TEST_LONG", strings.Repeat("x", maxKey+1))
	file := write(t, "cosign.key", private)
	for name, c := range map[string]struct{ ref, secret, says string }{
		"wrong passphrase":  {file, "not-" + passphrase, "wrong passphrase"},
		"no passphrase":     {file, "", "wrong passphrase"},
		"no key named":      {"", passphrase, "no key is named"},
		"missing file":      {filepath.Join(t.TempDir(), "none.key"), passphrase, "no such file"},
		"directory":         {t.TempDir(), passphrase, "not a regular file"},
		"named pipe":        {pipe, passphrase, "not a regular file"},
		"too long":          {write(t, "long", make([]byte, maxKey+1)), passphrase, "no key"},
		"too long variable": {"env://SIGN_TEST_LONG", passphrase, "no key"},
		"unset variable":    {"env://SIGN_TEST_UNSET", passphrase, "not set"},
		"empty variable":    {"env://SIGN_TEST_EMPTY", passphrase, "not set"},
		"not PEM":           {write(t, "text", []byte("hello")), passphrase, "not PEM"},
		"cut off":           {write(t, "short", short), passphrase, "not PEM"},
		"public key":        {write(t, "cosign.pub", public), passphrase, "public key"},
		"not encrypted":     {write(t, "plain", plain), passphrase, "PRIVATE KEY, want an ENCRYPTED"},
		"damaged":           {write(t, "damaged", damaged(t, private)), passphrase, "damaged"},
		"Kubernetes":        {"k8s://ns/name", passphrase, "k8s keys are not supported"},
		"address":           {"https://example.com/cosign.key", passphrase, "https keys are not supported"},
		"unknown service":   {"awksms:///alias/x", passphrase, "no key service awksms is built in"},
		"hardware":          {"pkcs11:token=x;object=y?module-path=/lib/x.so", passphrase, "without support for hardware"},
		"PIN in the URI":    {"pkcs11:token=x;object=y?module-path=/lib/x.so&pin-value=canary", passphrase, "holds the PIN"},
		"no module":         {"pkcs11:token=x;object=y", passphrase, "COSIGN_PKCS11_MODULE_PATH"},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := LoadKey(t.Context(), c.ref, given(c.secret))
			if key != nil || err == nil {
				t.Fatal("opened")
			}
			var fault *release.Fault
			if !errors.As(err, &fault) || fault.Kind != release.KindConfig || fault.Hint == "" {
				t.Errorf("error %v of kind %q, want a KindConfig fault with a hint", err, release.KindOf(err))
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q does not say %q", err, c.says)
			}
			if strings.Contains(err.Error()+fault.Hint, "canary") {
				t.Errorf("error tells the passphrase: %v", err)
			}
		})
	}
}

func TestLoadKeyAsksOnlyForAKey(t *testing.T) {
	asked := false
	_, err := LoadKey(t.Context(), write(t, "text", []byte("hello")), func() ([]byte, error) { asked = true; return nil, nil })
	if err == nil || asked {
		t.Error("asked for the passphrase of something that is no key")
	}
	private, _ := generated(t)
	file := write(t, "cosign.key", private)
	cause := errors.New("no terminal")
	if _, err := LoadKey(t.Context(), file, func() ([]byte, error) { return nil, cause }); !errors.Is(err, cause) {
		t.Errorf("error %v, want the one of asking", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := LoadKey(ctx, file, given(passphrase)); release.KindOf(err) != release.KindInterrupted {
		t.Errorf("error %v after cancel", err)
	}
}

func TestEmptyPassphrase(t *testing.T) {
	private, _, err := GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := LoadKey(t.Context(), write(t, "cosign.key", private), nil)
	if err != nil {
		t.Fatal(err)
	}
	key.Close()
}

// Nothing that prints a key gives more than its fingerprint.
func TestKeyIsNotPrinted(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key := memoryKey(t, private, err)
	secret := private.D.String()
	shown := ""
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown += fmt.Sprintf(verb, key) + fmt.Sprintf(verb, struct{ K *Key }{key})
	}
	if strings.Contains(shown, secret) || strings.Contains(shown, fmt.Sprintf("%x", private.D)) {
		t.Error("printing a key shows the secret")
	}
	if !strings.Contains(fmt.Sprint(key), key.Fingerprint()) {
		t.Error("printing a key does not show its fingerprint")
	}
}

func TestCloseWipes(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key := memoryKey(t, private, err)
	words := private.D.Bits()
	key.Close()
	for _, word := range words {
		if word != 0 {
			t.Fatal("the private number is still in memory")
		}
	}
}

func TestErrorsOfSigningTellNoSecret(t *testing.T) {
	private, _ := generated(t)
	key, err := LoadKey(t.Context(), write(t, "cosign.key", private), given(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	key.Close()
	_, err = key.Sign(t.Context(), signtest.Scan(signtest.Subject("planner")))
	if err == nil || strings.Contains(err.Error(), passphrase) || strings.Contains(err.Error(), "PRIVATE") {
		t.Errorf("error %v", err)
	}
}

func plainKey(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// damaged changes one letter of the ciphertext.
func damaged(t *testing.T, private []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(private)
	var content map[string]any
	if err := json.Unmarshal(block.Bytes, &content); err != nil {
		t.Fatal(err)
	}
	text := []byte(content["ciphertext"].(string))
	if text[10] = 'A'; content["ciphertext"] == string(text) {
		text[10] = 'B'
	}
	content["ciphertext"] = string(text)
	body, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: body})
}
