package envelope

import (
	"bytes"
	"cmp"
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
	"maps"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// Holder is one trusted public key with the party it belongs to.
type Holder struct {
	Signer release.Signer // Name, Roles in order, ID is the key's fingerprint
	Key    crypto.PublicKey
}

var roles = []release.Role{
	release.Builder, release.Scanner, release.Tester, release.Promoter,
	release.Approver, release.Owner, release.BreakGlass,
}

// Holders gives the keys that a trust policy names, each once, in order of name
// and fingerprint. It refuses a policy that could not mean what it says: no
// key at all, an unknown role, a party without a name or without a key, a key
// under two names (a quorum counts names), a single key that approves itself.
func Holders(t release.Trust) ([]Holder, error) {
	found := map[string]Holder{}
	for _, role := range slices.Sorted(maps.Keys(t.Roles)) {
		if !slices.Contains(roles, role) {
			return nil, fmt.Errorf("unknown role %q", Tidy(string(role)))
		}
		if t.SingleKey && (role == release.Approver || role == release.BreakGlass) && len(t.Roles[role]) > 0 {
			return nil, fmt.Errorf("role %s: a single key cannot hold it, name its holders under trust", role)
		}
		for _, party := range t.Roles[role] {
			if err := add(found, role, party); err != nil {
				return nil, fmt.Errorf("role %s: %w", role, err)
			}
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no key is trusted for any role")
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Holder) int {
		return cmp.Or(cmp.Compare(a.Signer.Name, b.Signer.Name), cmp.Compare(a.Signer.ID, b.Signer.ID))
	}), nil
}

func add(found map[string]Holder, role release.Role, party release.Party) error {
	switch {
	case party.Name == "":
		return errors.New("a party has no name")
	case party.PublicKey == "" && party.Identity != "":
		return fmt.Errorf("party %q is a certificate identity, only public keys can be verified", Tidy(party.Name))
	case party.Identity != "" || party.Issuer != "":
		return fmt.Errorf("party %q has a key and an identity, want one of them", Tidy(party.Name))
	}
	key, id, err := ParsePublicKey([]byte(party.PublicKey))
	if err != nil {
		return fmt.Errorf("party %q: %w", Tidy(party.Name), err)
	}
	holder, known := found[id]
	if known && holder.Signer.Name != party.Name {
		return fmt.Errorf("parties %q and %q have the same key", Tidy(holder.Signer.Name), Tidy(party.Name))
	}
	if !known {
		holder = Holder{Key: key, Signer: release.Signer{Name: party.Name, ID: id}}
	}
	if !slices.Contains(holder.Signer.Roles, role) {
		holder.Signer.Roles = append(holder.Signer.Roles, role)
	}
	found[id] = holder
	return nil
}

// SingleKey is the trust of a project without a trust section: one key speaks
// for every role but approver and breakGlass.
func SingleKey(publicPEM []byte, name string) release.Trust {
	party := release.Party{Name: name, PublicKey: string(publicPEM)}
	t := release.Trust{SingleKey: true, Roles: map[release.Role][]release.Party{}}
	for _, role := range roles {
		if role != release.Approver && role != release.BreakGlass {
			t.Roles[role] = []release.Party{party}
		}
	}
	return t
}

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
