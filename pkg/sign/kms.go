package sign

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// remoteLimit bounds one answer of a key service or of hardware. Some of the
// clients look at no context, so they are left behind after it.
const remoteLimit = 30 * time.Second

// noService are schemes that cosign knows and that hold keys where anybody who
// may read them has them in clear, or that are no keys.
var noService = []string{"k8s", "gitlab", "github", "http", "https", "file"}

// loadService opens a key in a key service. Which services there are depends on
// the providers that the program links (internal/wire), and on programs called
// sigstore-kms-NAME.
func loadService(ctx context.Context, scheme, ref string) (*Key, error) {
	source := envelope.Tidy(ref)
	if slices.Contains(noService, scheme) {
		return nil, release.Faultf(release.KindConfig,
			"use a key file, env://NAME, or a key service: awskms://, azurekms://, gcpkms://, hashivault://",
			"opening key %s: %s keys are not supported", source, envelope.Tidy(scheme))
	}
	opened, err := within(ctx, func(ctx context.Context) (*serviceKey, error) { return openService(ctx, ref) })
	var unknown *kms.ProviderNotFoundError
	switch {
	case errors.As(err, &unknown) || errors.Is(err, exec.ErrNotFound):
		return nil, release.Faultf(release.KindConfig, "check sign.key for a typing error, or put sigstore-kms-"+envelope.Tidy(scheme)+" on the PATH",
			"opening key %s: no key service %s is built in, and no program sigstore-kms-%s is found", source, envelope.Tidy(scheme), envelope.Tidy(scheme))
	case err != nil:
		return nil, noAnswer("opening key "+source, err)
	}
	key, err := keyOf(opened.public, opened)
	if err == nil {
		opened.check, err = signature.LoadDefaultVerifier(opened.public)
	}
	if err != nil {
		return nil, release.Faultf(release.KindConfig, "name a signing key: ECDSA on P-256, P-384 or P-521, RSA of 2048 bits or more, or Ed25519", "opening key %s: %w", source, err)
	}
	return key, nil
}

func openService(ctx context.Context, ref string) (*serviceKey, error) {
	// The clients keep this context for as long as the key is open.
	service, err := kms.Get(context.WithoutCancel(ctx), ref, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	public, err := service.PublicKey(options.WithContext(ctx))
	return &serviceKey{service: service, public: public}, err
}

// noAnswer says that a key service or hardware failed. What it answers is
// outside text, which may quote what it was sent: one line of it is shown,
// without what this process calls itself to services with.
func noAnswer(op string, err error) error {
	kind := release.KindUnavailable
	if errors.Is(err, context.Canceled) {
		kind = release.KindInterrupted
	}
	return &release.Fault{Kind: kind, Op: op, Err: errors.New(envelope.Tidy(withoutSecrets(err.Error()))),
		Hint: "check that the service answers from here, that this machine is logged in to it, and that it may use the key"}
}

// secretNames are parts of the names of variables that hold what the clients of
// key services log in with.
var secretNames = []string{"TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "PIN"}

// shortest is the least length, in bytes, of a secret that is looked for.
const shortest = 6

// withoutSecrets takes out of a text what stands in such variables, or where
// Vault keeps the token of who has logged in.
func withoutSecrets(text string) string {
	var secrets []string
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		if slices.ContainsFunc(secretNames, func(part string) bool { return strings.Contains(name, part) }) {
			secrets = append(secrets, value)
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		token, _ := os.ReadFile(filepath.Join(home, ".vault-token"))
		secrets = append(secrets, strings.TrimSpace(string(token)))
	}
	for _, secret := range secrets {
		if len(secret) >= shortest {
			text = strings.ReplaceAll(text, secret, "(secret)")
		}
	}
	return text
}

// serviceKey is a private key that a key service keeps.
type serviceKey struct {
	service kms.SignerVerifier
	public  crypto.PublicKey
	check   signature.Verifier
}

func (k *serviceKey) sign(ctx context.Context, message, digest []byte, hash crypto.Hash) ([]byte, error) {
	sig, err := within(ctx, func(ctx context.Context) ([]byte, error) {
		opts := []signature.SignOption{options.WithContext(ctx), options.WithCryptoSignerOpts(hash)}
		if hash != crypto.Hash(0) {
			opts = append(opts, options.WithDigest(digest))
		}
		return k.service.SignMessage(bytes.NewReader(message), opts...)
	})
	if err != nil {
		return nil, noAnswer("asking the key service for a signature", err)
	}
	return verified(k.check, message, sig)
}

func (*serviceKey) close() {}

// verified refuses a signature that nobody could verify: services and hardware
// have their own mind about algorithms.
func verified(check signature.Verifier, message, sig []byte) ([]byte, error) {
	if err := check.VerifySignature(bytes.NewReader(sig), bytes.NewReader(message)); err != nil {
		return nil, release.Faultf(release.KindConfig, "use an ECDSA key on P-256, or RSA with PKCS #1 v1.5 and SHA-256",
			"the signature that came back does not verify with the key's public half: the key is for another algorithm")
	}
	return sig, nil
}

// within runs what may not look at its context, and stops waiting for it when
// the context is done or remoteLimit has passed.
func within[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	ctx, cancel := context.WithTimeoutCause(ctx, remoteLimit, fmt.Errorf("no answer in %s", remoteLimit))
	defer cancel()
	answers := make(chan answer, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				answers <- answer{err: errors.New("the client failed unexpectedly")}
			}
		}()
		value, err := ask(ctx)
		answers <- answer{value, err}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// KeyServices lists the schemes of key services that are linked in, in order.
func KeyServices() []string {
	list := kms.SupportedProviders()
	for i, name := range list {
		list[i] = strings.TrimSuffix(name, "://")
	}
	slices.Sort(list)
	return list
}
