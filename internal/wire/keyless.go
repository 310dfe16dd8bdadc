package wire

import (
	"context"
	"slices"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign"
)

// keyless reports whether statements are signed with an identity: where the
// configuration names the services, unless the command line names a key.
func (k *keyring) keyless() bool {
	return k.config.Sign.Keyless != nil && k.options.Key == ""
}

// forRecords opens what signs the ledger's records: the key, also beside an
// identity, and the identity where there is no key.
func (k *keyring) forRecords(ctx context.Context) (sign.Signer, error) {
	if !k.keyless() || k.config.Sign.Key != "" {
		return k.open(ctx)
	}
	if _, err := k.openIdentity(ctx); err != nil {
		return nil, err
	}
	return k.identity, nil
}

// recorder says who signs the ledger's records.
func (k *keyring) recorder(ctx context.Context) (release.Signer, error) {
	s, err := k.forRecords(ctx)
	if err != nil {
		return release.Signer{}, err
	}
	return k.party(s), nil
}

// openIdentity gets a certificate for whom this machine's identity token is
// about, once.
func (k *keyring) openIdentity(ctx context.Context) (pipeline.Signer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.identity == nil {
		if k.options.Offline {
			return nil, release.Misuse("leave --offline out, or sign with a key: --key", "signing with an identity asks sign.keyless's services")
		}
		root, err := k.signingRoot(ctx)
		if err != nil {
			return nil, err
		}
		s := k.config.Sign.Keyless
		k.identity, err = sign.OpenIdentity(ctx, sign.Keyless{
			Fulcio: s.Fulcio, Rekor: s.Rekor, RekorVersion: s.RekorVersion, Timestamp: s.Timestamp, Root: root,
			Token: func(ctx context.Context) (sign.Token, error) { return sign.AmbientToken(ctx, s.Issuer) },
		})
		if err != nil {
			return nil, err
		}
	}
	return signer{k.identity, k.party(k.identity)}, nil
}

// root gives what certificates are checked against: nil where only keys are
// trusted, and then no network and no cache is touched.
func (k *keyring) root(ctx context.Context) (*sign.Root, error) {
	if k.config.TrustedRoot() == nil && !identities(k.trust) {
		return nil, nil
	}
	return k.signingRoot(ctx)
}

func (k *keyring) signingRoot(ctx context.Context) (*sign.Root, error) {
	if text := k.config.TrustedRoot(); text != nil {
		return sign.ParseRoot(text)
	}
	return publicRoot(ctx, k.options.Offline)
}

// identities reports whether a trust policy names anybody by a certificate's
// identity.
func identities(t release.Trust) bool {
	for _, parties := range t.Roles {
		if slices.ContainsFunc(parties, func(p release.Party) bool { return p.PublicKey == "" }) {
			return true
		}
	}
	return false
}

// publicRoot gives the public sigstore instance's trusted root.
func publicRoot(ctx context.Context, offline bool) (*sign.Root, error) {
	cache, err := cacheDir("sigstore")
	if err != nil {
		return nil, err
	}
	return sign.Roots{Dir: cache, Offline: offline}.Root(ctx)
}
