package sign

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/sigstore/cosign/v2/pkg/cosign"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// Key is an opened private key. Open it late, Close it soon: while it is open
// the process holds the secret. It may be used from several goroutines. No
// formatting verb prints more than its fingerprint.
type Key struct {
	public      crypto.PublicKey
	publicPEM   []byte
	fingerprint string
	algorithm   signature.AlgorithmDetails

	mu      sync.RWMutex
	private secret // nil once closed
}

// secret is where the private half of a key is: in this process, in a key
// service, in hardware.
type secret interface {
	// sign signs a message; digest is the message's hash, or the message itself
	// where hash is zero (Ed25519). It may be called from several goroutines.
	sign(ctx context.Context, message, digest []byte, hash crypto.Hash) ([]byte, error)
	// close forgets what was opened.
	close()
}

var _ fmt.Formatter = (*Key)(nil)

// GenerateKey makes a P-256 key pair: the private half as cosign writes it
// (PKCS #8, encrypted with scrypt and NaCl secretbox, PEM type ENCRYPTED
// SIGSTORE PRIVATE KEY), the public half as PKIX PEM. An empty passphrase is
// allowed, as in cosign; it protects nothing.
func GenerateKey(passphrase []byte) (privatePEM, publicPEM []byte, err error) {
	pair, err := cosign.GenerateKeyPair(func(bool) ([]byte, error) { return passphrase, nil })
	if err != nil {
		return nil, nil, fmt.Errorf("generating key: %w", err)
	}
	return pair.PrivateBytes, pair.PublicBytes, nil
}

// LoadKey opens the private key that ref names: a path, env://NAME with the
// PEM text in that environment variable, the URI of a key service (awskms://,
// azurekms://, gcpkms://, hashivault://, or NAME:// with a program
// sigstore-kms-NAME) or of hardware (pkcs11:). Text that is not encrypted is
// refused. passphrase is asked once, for text only, after the key was read and
// recognised, and what it returns is wiped; nil means the empty passphrase.
// Every error is a KindConfig fault, except what passphrase returns, a context
// that is done, and KindUnavailable for a service that does not answer; none of
// them holds a secret. Text touches no network.
func LoadKey(ctx context.Context, ref string, passphrase func() ([]byte, error)) (*Key, error) {
	switch scheme := schemeOf(ref); scheme {
	case "", "env":
		return loadText(ctx, ref, passphrase)
	case "pkcs11":
		return loadHardware(ctx, ref)
	default:
		return loadService(ctx, scheme, ref)
	}
}

// loadText opens a private key that is PEM text.
func loadText(ctx context.Context, ref string, passphrase func() ([]byte, error)) (*Key, error) {
	source, text, err := readKey(ref)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	block, err := encryptedBlock(source, text)
	if err != nil {
		return nil, err
	}
	var secret []byte
	if passphrase != nil {
		if secret, err = passphrase(); err != nil {
			return nil, fmt.Errorf("asking for the passphrase of %s: %w", source, err)
		}
	}
	defer clear(secret)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("opening key %s: %w", source, err)
	}
	der, err := encrypted.Decrypt(block, secret)
	if err != nil {
		return nil, release.Faultf(release.KindConfig, "set COSIGN_PASSWORD to the passphrase the key was made with",
			"opening key %s: wrong passphrase, or the key is damaged", source)
	}
	defer clear(der)
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, release.Faultf(release.KindConfig, makeKey, "opening key %s: its content is not a PKCS #8 private key", source)
	}
	key, err := newKey(private)
	if err != nil {
		return nil, release.Faultf(release.KindConfig, makeKey, "opening key %s: %w", source, err)
	}
	return key, nil
}

const makeKey = "make one with `promote keys generate`, or bring one into cosign's format with `cosign import-key-pair`"

// encryptedBlock gives the encrypted content of a cosign private key.
func encryptedBlock(source string, text []byte) ([]byte, error) {
	block, _ := pem.Decode(text)
	switch {
	case block == nil:
		return nil, release.Faultf(release.KindConfig, makeKey, "opening key %s: not PEM text", source)
	case block.Type == cosign.SigstorePrivateKeyPemType || block.Type == cosign.CosignPrivateKeyPemType:
		return block.Bytes, nil
	case block.Type == "PUBLIC KEY":
		return nil, release.Faultf(release.KindConfig, "sign.key names the private half, trust the public one",
			"opening key %s: it is a public key", source)
	}
	return nil, release.Faultf(release.KindConfig, makeKey, "opening key %s: it is a %s, want an %s",
		source, envelope.Tidy(block.Type), cosign.SigstorePrivateKeyPemType)
}

func newKey(private crypto.PrivateKey) (*Key, error) {
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%T cannot sign", private)
	}
	return keyOf(signer.Public(), local{signer})
}

// keyOf joins the two halves of a key.
func keyOf(half crypto.PublicKey, private secret) (*Key, error) {
	der, err := x509.MarshalPKIXPublicKey(half)
	if err != nil {
		return nil, fmt.Errorf("encoding public key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	public, fingerprint, err := envelope.ParsePublicKey(text)
	if err != nil {
		return nil, err
	}
	algorithm, err := signature.GetDefaultAlgorithmDetails(public)
	if err != nil {
		return nil, fmt.Errorf("choosing signature algorithm: %w", err)
	}
	return &Key{public: public, publicPEM: text, fingerprint: fingerprint, algorithm: algorithm, private: private}, nil
}

// PublicPEM gives the public half as PKIX PEM.
func (k *Key) PublicPEM() []byte { return append([]byte(nil), k.publicPEM...) }

// Fingerprint gives "sha256:…" of the public half's PKIX DER form.
func (k *Key) Fingerprint() string { return k.fingerprint }

// Format writes the fingerprint for every verb.
func (k *Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "key "+k.fingerprint) }

// Close forgets the private half and wipes it as far as Go lets us: copies
// that the runtime or the crypto packages made are out of reach. Signing fails
// afterwards. Closing twice is harmless.
func (k *Key) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.private != nil {
		k.private.close()
	}
	k.private = nil
}

var errClosed = errors.New("the key is closed")

// sign makes the signature over a message and gives it with the digest that
// was signed. With a key in this process it is deterministic: the same key and
// message give the same signature (RFC 6979 for ECDSA), so signing again makes
// the same bundle, which a registry stores once. Key services and hardware
// choose another number each time.
func (k *Key) sign(ctx context.Context, message []byte) (sig, digest []byte, err error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.private == nil {
		return nil, nil, errClosed
	}
	hash := k.algorithm.GetHashType()
	digest = message
	if hash != crypto.Hash(0) { // Ed25519 takes the message itself
		h := hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}
	sig, err = k.private.sign(ctx, message, digest, hash)
	return sig, digest, err
}

// local is a private key in this process's memory.
type local struct{ private crypto.Signer }

func (l local) sign(_ context.Context, _, digest []byte, hash crypto.Hash) ([]byte, error) {
	return l.private.Sign(nil, digest, hash)
}

func (l local) close() {
	switch private := l.private.(type) {
	case *ecdsa.PrivateKey:
		//lint:ignore SA1019 spoiling the key is the purpose
		clear(private.D.Bits())
	case *rsa.PrivateKey:
		clear(private.D.Bits())
		for _, prime := range private.Primes {
			clear(prime.Bits())
		}
		private.Precomputed = rsa.PrecomputedValues{}
	case ed25519.PrivateKey:
		clear(private)
	}
}
