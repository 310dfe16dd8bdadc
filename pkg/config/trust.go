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
	// A file that the owners signed, which says all of this instead.
	File string `yaml:"file"`
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
	// Keys and identities that count for nothing any more, whatever the roles
	// say.
	Revoked []Revocation `yaml:"revoked"`
}

// Holders are the parties that hold a role: a list, or a mapping with a
// threshold.
type Holders struct {
	// How many distinct parties must sign, for builder, scanner, tester and
	// owner. Default: 1.
	Threshold int `yaml:"threshold"`
	// The parties.
	Of []Party `yaml:"of"`
}

// Party is a person or a machine: a public key, or an identity with its issuer.
// Several entries of one name are the same party, such as the old and the new
// key of a rotation.
type Party struct {
	// Names count for quorums, not keys.
	Name string `yaml:"name" jsonschema:"required"`
	// A file with a PEM public key.
	Key string `yaml:"key"`
	// A certificate's subject alternative name, matched exactly.
	Identity string `yaml:"identity"`
	// A regular expression (RE2) that all of the name matches.
	IdentityMatch string `yaml:"identityMatch"`
	// The OpenID Connect issuer that vouches for the identity.
	Issuer string `yaml:"issuer"`
	// A regular expression (RE2) that all of the issuer matches.
	IssuerMatch string `yaml:"issuerMatch"`
	// What the certificate must say about the workflow that asked for it.
	Claims *Claims `yaml:"claims"`
	// Since when its signatures count: a day in UTC, or an instant.
	NotBefore Day `yaml:"notBefore"`
	// Until when they count: a day in UTC, which still counts, or an instant.
	NotAfter LastDay `yaml:"notAfter"`
}

// Claims are what Fulcio certifies about a workflow; what is given must be
// exactly so.
type Claims struct {
	// Of the source, such as https://github.com/acme/openclaw.
	Repository string `yaml:"repository"`
	// Such as refs/heads/main.
	Ref string `yaml:"ref"`
	// The commit.
	Revision string `yaml:"revision"`
	// Of the repository, such as https://github.com/acme.
	Owner string `yaml:"owner"`
	// The build's configuration: the URL of the workflow at its ref.
	Workflow string `yaml:"workflow"`
	// What started it, such as push.
	Trigger string `yaml:"trigger"`
	// Where it ran: github-hosted or self-hosted.
	Runner string `yaml:"runner"`
}

// Revocation takes a key or an identity out of use.
type Revocation struct {
	// A file with a PEM public key, or a fingerprint: sha256:….
	Key string `yaml:"key"`
	// A certificate's subject alternative name, matched exactly.
	Identity string `yaml:"identity"`
	// The identity's issuer. Default: every issuer.
	Issuer string `yaml:"issuer"`
	// Why.
	Reason string `yaml:"reason" jsonschema:"required"`
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
	if c.trustFile != nil {
		t := c.trustFile.File.Trust()
		t.TrustedRoot = c.trustedRootDigest()
		return t, nil
	}
	out := release.Trust{Roles: map[release.Role][]release.Party{}, TrustedRoot: c.trustedRootDigest()}
	for role, holders := range c.File.Trust.roles() {
		if holders == nil {
			continue
		}
		parties := []release.Party{}
		for _, p := range holders.Of {
			parties = append(parties, c.party(p))
		}
		out.Roles[role] = parties
		switch {
		case role == release.Owner:
			out.OwnerThreshold = holders.Threshold
		case holders.Threshold > 1:
			if out.Thresholds == nil {
				out.Thresholds = map[release.Role]int{}
			}
			out.Thresholds[role] = holders.Threshold
		}
	}
	for _, r := range c.File.Trust.Revoked {
		out.Revoked = append(out.Revoked, c.revocation(r))
	}
	return out, nil
}

func (c *Config) party(p Party) release.Party {
	out := release.Party{
		Name: p.Name, PublicKey: c.keys[p.Key].text, Identity: p.Identity, IdentityMatch: p.IdentityMatch,
		Issuer: p.Issuer, IssuerMatch: p.IssuerMatch, NotBefore: p.NotBefore.Time, NotAfter: p.NotAfter.Time,
	}
	if p.Claims != nil {
		claims := release.Claims(*p.Claims)
		out.Claims = &claims
	}
	return out
}

func (c *Config) revocation(r Revocation) release.Revocation {
	out := release.Revocation{Key: r.Key, Identity: r.Identity, Issuer: r.Issuer, Reason: r.Reason}
	if key, ok := c.keys[r.Key]; ok {
		out.Key = key.print.String()
	}
	return out
}

func (c *Config) singleKey(publicKey []byte) (release.Trust, error) {
	if _, err := fingerprint(publicKey); err != nil {
		return release.Trust{}, release.Faultf(release.KindConfig, "set sign.key in promote.yaml, or write a trust section", "reading the public half of sign.key: %w", err)
	}
	party := release.Party{Name: c.Name, PublicKey: plainPEM(publicKey)}
	out := release.Trust{SingleKey: true, Roles: map[release.Role][]release.Party{}, TrustedRoot: c.trustedRootDigest()}
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
	if err != nil {
		return publicKey{}, err
	}
	return publicKey{text: plainPEM(text), print: print}, nil
}

// plainPEM writes a public key in one form, whatever line ends and text around
// it its file has: the ledger compares trust by its bytes.
func plainPEM(text []byte) string {
	block, _ := pem.Decode(text)
	if block == nil {
		return string(text)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
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
