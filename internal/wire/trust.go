package wire

import (
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign"
)

// verifyBy checks the ledger's signatures by a trust that the ledger pins.
// Certificates are checked against the trusted root of now: it keeps what former
// ones knew, and the reader trusts it, whoever wrote the ledger. It is asked for
// when the first one is met.
func (k *keyring) verifyBy(t release.Trust) (ledger.Check, error) {
	return verifyBy(t, func() (*sign.Root, error) { return k.roots() })
}

// verifyBy is that for whoever brings the root.

func verifyBy(t release.Trust, roots func() (*sign.Root, error)) (ledger.Check, error) {
	t.TrustedRoot = release.Digest{}
	keys, err := sign.NewVerifier(t)
	if err != nil {
		return nil, err
	}
	certificates := sync.OnceValues(func() (*sign.Verifier, error) {
		root, err := roots()
		if err != nil {
			return nil, err
		}
		return sign.New(sign.Options{Trust: t, Root: root})
	})
	return func(envelope []byte, payloadType string) ([]byte, release.Signer, error) {
		v := keys
		if sign.Enclosed(envelope) && identities(t) {
			var err error
			if v, err = certificates(); err != nil {
				return nil, release.Signer{}, err
			}
		}
		return v.VerifyEnvelope(envelope, payloadType)
	}, nil
}

// verifyUnpinned checks signatures of records that no trust is pinned for: by
// the project's own, whenever its keys count and whatever was revoked since.
func (k *keyring) verifyUnpinned(envelope []byte, payloadType string) ([]byte, release.Signer, error) {
	if k.missing != nil {
		return nil, release.Signer{}, k.missing
	}
	return k.unpinned(envelope, payloadType)
}

// timeless is a trust without bounds of time and without revocations.
func timeless(t release.Trust) release.Trust {
	roles := map[release.Role][]release.Party{}
	for role, parties := range t.Roles {
		for _, p := range parties {
			p.NotBefore, p.NotAfter = time.Time{}, time.Time{}
			roles[role] = append(roles[role], p)
		}
	}
	t.Roles, t.Revoked = roles, nil
	return t
}
