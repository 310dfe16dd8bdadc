package sign

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/sigstore/cosign/v2/pkg/cosign/pkcs11key"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

const pinVariable = "COSIGN_PKCS11_PIN"

// loadHardware opens a key in a PKCS #11 token: pkcs11:token=T;object=KEY with
// the module in COSIGN_PKCS11_MODULE_PATH or ?module-path=/…, the PIN in
// COSIGN_PKCS11_PIN. It needs a program built with cgo and -tags pkcs11key.
func loadHardware(ctx context.Context, ref string) (*Key, error) {
	source := hardwareName(ref)
	fail := func(hint, format string, args ...any) error {
		return release.Faultf(release.KindConfig, hint, "opening key %s: %w", source, fmt.Errorf(format, args...))
	}
	if strings.Contains(ref, "pin-value") {
		return nil, fail("put the PIN into COSIGN_PKCS11_PIN, and change it: it stood in a file", "its URI holds the PIN")
	}
	where := pkcs11key.NewPkcs11UriConfig()
	if err := where.Parse(ref); err != nil {
		return nil, fail("write pkcs11:token=TOKEN;object=KEY?module-path=/usr/lib/softhsm/libsofthsm2.so, for example", "%s", envelope.Tidy(err.Error()))
	}
	if !hardwareBuilt {
		return nil, fail("build promote with CGO_ENABLED=1 and -tags pkcs11key, or use a key service", "this program is built without support for hardware")
	}
	// Given here, because the library would ask for it at a terminal.
	if where.Pin = os.Getenv(pinVariable); where.Pin == "" {
		return nil, fail("put the token's PIN into "+pinVariable, "%s is not set", pinVariable)
	}
	key, err := within(ctx, func(context.Context) (*pkcs11key.Key, error) { return pkcs11key.GetKeyWithURIConfig(where, false) })
	if err != nil {
		return nil, noAnswer("opening key "+source, err)
	}
	var public crypto.PublicKey
	// A key pair that is not there is no error to the library, and no key.
	err = guarded(func() (err error) { public, err = key.PublicKey(); return err })
	if err != nil || public == nil {
		key.Close()
		return nil, fail("list what it holds with pkcs11-tool --login --list-objects", "the token holds no key pair of that name")
	}
	check, err := signature.LoadDefaultVerifier(public)
	if err == nil {
		var opened *Key
		if opened, err = keyOf(public, hardwareKey{key, check}); err == nil {
			return opened, nil
		}
	}
	key.Close()
	return nil, fail("name an ECDSA key on P-256, or RSA of 2048 bits or more", "%s", envelope.Tidy(err.Error()))
}

// hardwareName is what messages call such a key: never its whole URI, which can
// hold a PIN.
func hardwareName(ref string) string {
	path, _, _ := strings.Cut(strings.TrimPrefix(ref, "pkcs11:"), "?")
	attributes, err := url.ParseQuery(strings.ReplaceAll(path, ";", "&"))
	if err != nil || attributes.Get("object") == "" {
		return "pkcs11:"
	}
	return "pkcs11:object=" + envelope.Tidy(attributes.Get("object"))
}

// hardwareKey is a private key that a token keeps.
type hardwareKey struct {
	key   *pkcs11key.Key
	check signature.Verifier
}

func (k hardwareKey) sign(ctx context.Context, message, _ []byte, _ crypto.Hash) ([]byte, error) {
	sig, err := within(ctx, func(context.Context) ([]byte, error) { return k.key.SignMessage(bytes.NewReader(message)) })
	if err != nil {
		return nil, noAnswer("asking the token for a signature", err)
	}
	return verified(k.check, message, sig)
}

func (k hardwareKey) close() { k.key.Close() }
