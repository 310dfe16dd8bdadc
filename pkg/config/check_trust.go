package config

import (
	"errors"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// keySchemes are the key references that are no files.
var keySchemes = []string{"env", "awskms", "gcpkms", "azurekms", "hashivault", "openbao", "pkcs11"}

// noKeys are schemes that cosign knows, or that browsers know, and behind which
// no key is kept.
var noKeys = []string{"k8s", "gitlab", "github", "http", "https", "file"}

var pluginScheme = regexp.MustCompile(`^[a-z][a-z0-9-]{1,39}$`)

func (k *checker) sign() {
	k.trustedRoot(at("sign", "trustedRoot"), k.c.Sign.TrustedRoot)
	if k.c.Sign.Keyless != nil {
		k.keyless(at("sign", "keyless"), k.c.Sign.Keyless)
	}
	if k.c.Sign.Keyless == nil || k.given(at("sign", "key")) {
		k.keyReference(at("sign", "key"), k.c.Sign.Key)
	}
}

func (k *checker) keyReference(p path, ref string) {
	scheme, rest, _ := strings.Cut(ref, ":")
	switch {
	case strings.Contains(ref, "PRIVATE KEY"):
		k.fail(p, secretHint+". Write the key into a file or a variable, and its name here", "this is a key, not the name of one")
	case ref == "":
		k.required(p, ref, defaultKey)
	case !isURI(ref):
		k.keyFile(p, ref)
	case pluginScheme.MatchString(scheme) && !slices.Contains(noKeys, scheme) && release.Nearest(scheme, keySchemes) == "":
		// A program sigstore-kms-NAME keeps it, on the machine that signs.
	default:
		k.oneOf(p, scheme, keySchemes)
		if name := strings.TrimPrefix(rest, "//"); scheme == "env" && !keyPattern.MatchString(name) {
			k.fail(p, "write "+defaultKey, "expected the name of a variable behind env://, got %.60q", name)
		}
	}
}

// keyFile wants a key's file or, on machines that only verify, its public half.
// With a trust section neither is needed to verify.
func (k *checker) keyFile(p path, ref string) {
	if k.c.File.Trust != nil {
		return
	}
	for _, name := range []string{k.c.Key(), k.c.PublicKeyFile()} {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
	k.fail(p, "promote keys generate "+ref, "%s does not exist, nor its public half", ref)
}

func (k *checker) trust() {
	for role, holders := range k.c.File.Trust.roles() {
		if holders != nil {
			k.holders(at("trust", string(role)), role, holders)
		}
	}
	if k.c.File.Trust == nil {
		return
	}
	if k.given(at("trust", "file")) {
		k.trustFile(at("trust", "file"), k.c.File.Trust.File)
	}
	for i, r := range k.c.File.Trust.Revoked {
		k.revocation(at("trust", "revoked").index(i), r)
	}
}

func (k *checker) holders(p path, role release.Role, h *Holders) {
	list := p
	if k.c.root.Get(p.key("of")...) != nil {
		list = p.key("of")
	}
	names := map[string]bool{}
	for i, party := range h.Of {
		k.party(list.index(i), party)
		names[party.Name] = true
	}
	switch threshold := p.key("threshold"); {
	case !k.number(threshold):
	case role == release.Approver:
		k.fail(threshold, "environments.E.approvals.required is the quorum of approvers", "%s has no threshold here", role)
	case !slices.Contains(release.QuorumRoles, role):
		k.fail(threshold, "remove it; environments.E.approvals.required says how many have to agree to a promotion, and owner.threshold how many to a change of the rules",
			"%s has no threshold: one party of that role acts at a time", role)
	case h.Threshold < 1:
		k.fail(threshold, "", "expected at least 1, got %d", h.Threshold)
	case h.Threshold > len(names):
		k.fail(threshold, "lower it, or name more", "%d distinct parties must sign and %d are named", h.Threshold, len(names))
	}
}

func (k *checker) party(p path, party Party) {
	k.required(p.key("name"), party.Name, "alice")
	identity := party.Identity != "" || party.IdentityMatch != ""
	switch {
	case party.Key == "" && !identity:
		k.fail(p, "write key: keys/"+orElse(party.Name, "alice")+".pub, or identity: and issuer:", "expected a key or an identity")
	case party.Key != "" && (identity || party.Issuer != "" || party.IssuerMatch != "" || party.Claims != nil):
		k.fail(p, "make two entries of the same name", "expected a key or an identity, got both")
	case party.Key != "":
		k.publicKey(p.key("key"), party.Key)
	default:
		k.identity(p, party)
	}
	if before, after := party.NotBefore.Time, party.NotAfter.Time; !before.IsZero() && !after.IsZero() && after.Before(before) {
		k.fail(p.key("notAfter"), "", "it ends before notBefore")
	}
}

func (k *checker) identity(p path, party Party) {
	switch {
	case party.Identity != "" && party.IdentityMatch != "":
		k.fail(p.key("identityMatch"), "make two entries of the same name", "expected identity or identityMatch, got both")
	case party.Issuer != "" && party.IssuerMatch != "":
		k.fail(p.key("issuerMatch"), "make two entries of the same name", "expected issuer or issuerMatch, got both")
	case party.Issuer == "" && party.IssuerMatch == "":
		k.fail(p, "write issuer: https://token.actions.githubusercontent.com", "an identity counts only with the issuer that vouches for it")
	}
	if party.Issuer != "" {
		k.link(p.key("issuer"), party.Issuer)
	}
	k.expression(p.key("identityMatch"), party.IdentityMatch)
	k.expression(p.key("issuerMatch"), party.IssuerMatch)
	if party.Claims != nil && *party.Claims == (Claims{}) {
		k.fail(p.key("claims"), "write repository: https://github.com/acme/openclaw, or remove it", "it asks for nothing")
	}
}

// expression checks what is matched against identities: all of the name has to
// match, and not anybody's.
func (k *checker) expression(p path, expression string) {
	if expression == "" {
		return
	}
	if err := release.CheckPattern(expression); err != nil {
		k.fail(p, `write one such as https://github\.com/acme/openclaw/.+; all of the name has to match it`, "%w", err)
	}
}

func (k *checker) revocation(p path, r Revocation) {
	k.required(p.key("reason"), r.Reason, "laptop stolen")
	switch {
	case (r.Key == "") == (r.Identity == ""):
		k.fail(p, "write key: keys/lost.pub, or identity:", "expected a key or an identity")
	case r.Key != "" && r.Issuer != "":
		k.fail(p.key("issuer"), "remove it", "a key has no issuer")
	case strings.HasPrefix(r.Key, "sha256:"):
		if _, err := release.ParseDigest(r.Key); err != nil {
			k.fail(p.key("key"), "promote keys public KEY shows the fingerprint with -o json", "%w", err)
		}
	case r.Key != "":
		k.publicKey(p.key("key"), r.Key)
	}
}

func (k *checker) publicKey(p path, name string) {
	if isURI(name) {
		k.fail(p, "export the public half into a file", "expected a file with a PEM public key, got %.80q", name)
		return
	}
	key, err := readPublicKey(k.c.Abs(name))
	if errors.Is(err, fs.ErrNotExist) {
		k.exists(p, name, false)
		return
	}
	if err != nil {
		k.fail(p, "promote keys public KEY prints it", "%s: %w", name, err)
		return
	}
	k.c.keys[name] = key
}
