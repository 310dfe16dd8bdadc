package config

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/promote-dev/promote/internal/yamlpos"
	"github.com/promote-dev/promote/pkg/release"
)

// Trust says who holds each role. A role that is missing is nobody's.
type Trust struct {
	// Whoever builds: signatures and provenance.
	Builder *Holders `yaml:"builder"`
	// Whoever scans: vulnerabilities and SBOM.
	Scanner *Holders `yaml:"scanner"`
	// Whoever tests: smoke results.
	Tester *Holders `yaml:"tester"`
	// Whoever promotes: decisions and most records.
	Promoter *Holders `yaml:"promoter"`
	// Whoever approves.
	Approver *Holders `yaml:"approver"`
	// Whoever may change trust, environments and policies.
	Owner *Holders `yaml:"owner"`
	// Whoever may pass over a denial, visibly.
	BreakGlass *Holders `yaml:"breakGlass"`
}

// Holders are the parties that hold a role: a list, or for owners a mapping
// with a threshold.
type Holders struct {
	// How many distinct owners must agree. Default: 1.
	Threshold int `yaml:"threshold"`
	// The parties.
	Of []Party `yaml:"of"`
}

// Party is a person or a machine: a public key, or an identity with its issuer.
// Several entries of one name are the same party.
type Party struct {
	// Names count for quorums, not keys.
	Name string `yaml:"name" jsonschema:"required"`
	// A file with a PEM public key.
	Key string `yaml:"key"`
	// A certificate's subject alternative name, matched exactly.
	Identity string `yaml:"identity"`
	// The OpenID Connect issuer that vouches for the identity.
	Issuer string `yaml:"issuer"`
}

// UnmarshalNode reads a list of parties, or a mapping.
func (h *Holders) UnmarshalNode(n *yamlpos.Node) error {
	switch n.Kind {
	case yamlpos.Sequence:
		return yamlpos.Decode(n, &h.Of)
	case yamlpos.Scalar:
		return fmt.Errorf("expected a list such as [{name: alice, key: keys/alice.pub}], got %.60q", n.Value)
	}
	type mapping Holders
	return yamlpos.Decode(n, (*mapping)(h))
}

// UnmarshalNode reads a path, or a mapping.
func (f *FileLedger) UnmarshalNode(n *yamlpos.Node) error {
	switch n.Kind {
	case yamlpos.Scalar:
		return yamlpos.Decode(n, &f.Path)
	case yamlpos.Sequence:
		return errors.New("expected a path, or {path: …, shared: true}, got a list")
	}
	type mapping FileLedger
	return yamlpos.Decode(n, (*mapping)(f))
}

// roles gives the holders by role, nil for nobody.
func (t *Trust) roles() map[release.Role]*Holders {
	if t == nil {
		return nil
	}
	return map[release.Role]*Holders{
		release.Builder: t.Builder, release.Scanner: t.Scanner, release.Tester: t.Tester, release.Promoter: t.Promoter,
		release.Approver: t.Approver, release.Owner: t.Owner, release.BreakGlass: t.BreakGlass,
	}
}

// roleNames lists the roles, who comes first in a release's life first.
var roleNames = []string{
	string(release.Builder), string(release.Scanner), string(release.Tester), string(release.Promoter),
	string(release.Approver), string(release.Owner), string(release.BreakGlass),
}

// Trust gives who holds each role, with the keys' contents as they were when
// the file was loaded. Without a trust section that is the public half of
// sign.key, in PEM, for every role except approver and breakGlass; with one,
// publicKey is not looked at.
func (c *Config) Trust(publicKey []byte) (release.Trust, error) {
	if c.File.Trust == nil {
		return c.singleKey(publicKey)
	}
	out := release.Trust{Roles: map[release.Role][]release.Party{}}
	for role, holders := range c.File.Trust.roles() {
		if holders == nil {
			continue
		}
		parties := []release.Party{}
		for _, p := range holders.Of {
			parties = append(parties, release.Party{Name: p.Name, PublicKey: c.keys[p.Key].text, Identity: p.Identity, Issuer: p.Issuer})
		}
		out.Roles[role] = parties
		if role == release.Owner {
			out.OwnerThreshold = holders.Threshold
		}
	}
	return out, nil
}

func (c *Config) singleKey(publicKey []byte) (release.Trust, error) {
	if _, err := fingerprint(publicKey); err != nil {
		return release.Trust{}, release.Faultf(release.KindConfig, "set sign.key in promote.yaml, or write a trust section", "reading the public half of sign.key: %w", err)
	}
	party := release.Party{Name: c.Name, PublicKey: string(publicKey)}
	out := release.Trust{SingleKey: true, Roles: map[release.Role][]release.Party{}}
	for _, name := range roleNames {
		if role := release.Role(name); role != release.Approver && role != release.BreakGlass {
			out.Roles[role] = []release.Party{party}
		}
	}
	return out, nil
}

// publicKey is a PEM public key with its fingerprint.
type publicKey struct {
	text  string
	print release.Digest
}

// maxKey bounds a public key's file; RSA of 8192 bits is about 1.5 KiB.
const maxKey = 16 << 10

func readPublicKey(path string) (publicKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return publicKey{}, withoutPath(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err != nil {
		return publicKey{}, withoutPath(err)
	}
	print, err := fingerprint(text)
	return publicKey{text: string(text), print: print}, err
}

// fingerprint gives the SHA-256 of a PEM public key's PKIX form.
func fingerprint(text []byte) (release.Digest, error) {
	if len(text) > maxKey {
		return release.Digest{}, fmt.Errorf("larger than %d bytes", maxKey)
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return release.Digest{}, errors.New("expected a PEM public key")
	case strings.Contains(block.Type, "PRIVATE"):
		return release.Digest{}, errors.New("this is a private key; name the public half")
	case block.Type != "PUBLIC KEY" || strings.TrimSpace(string(rest)) != "":
		return release.Digest{}, fmt.Errorf("expected one PEM block of type PUBLIC KEY, got %.40q", block.Type)
	}
	if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
		return release.Digest{}, err
	}
	return release.DigestOf(block.Bytes), nil
}
