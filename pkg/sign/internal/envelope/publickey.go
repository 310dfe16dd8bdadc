package envelope

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

const maxPEM = 16 << 10

// ParsePublicKey reads one PEM block with a PKIX public key (ECDSA on P-256,
// P-384 or P-521, RSA of 2048 to 8192 bits, Ed25519) and gives it with its
// fingerprint.
func ParsePublicKey(text []byte) (crypto.PublicKey, string, error) {
	if len(text) > maxPEM {
		return nil, "", errors.New("reading public key: too long")
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, "", errors.New("reading public key: want one PEM block of type PUBLIC KEY")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, "", errors.New("reading public key: not a PKIX public key")
	}
	if err := strongEnough(key); err != nil {
		return nil, "", err
	}
	id, err := Fingerprint(key)
	return key, id, err
}

func strongEnough(key crypto.PublicKey) error {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return fmt.Errorf("reading public key: curve %s is not accepted", key.Params().Name)
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < 2048 || bits > 8192 {
			return fmt.Errorf("reading public key: RSA of %d bits, want 2048 to 8192", bits)
		}
		return nil
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("reading public key: %T is not accepted", key)
}

// Fingerprint is "sha256:…" of the key's PKIX form.
func Fingerprint(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encoding public key: %w", err)
	}
	return release.DigestOf(der).String(), nil
}

// Hint is how a sigstore bundle names the key that signed it: the base64 of
// the fingerprint's bytes. Verification does not rely on it.
func Hint(fingerprint string) string {
	sum, err := hex.DecodeString(strings.TrimPrefix(fingerprint, "sha256:"))
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(sum)
}
