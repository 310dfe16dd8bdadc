package config

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// keySchemes are the key references that are no files.
var keySchemes = []string{"env", "awskms", "gcpkms", "azurekms", "hashivault", "pkcs11"}

func (k *checker) sign() {
	s := k.c.Sign
	if s.Keyless != nil {
		if k.given(at("sign", "key")) {
			k.fail(at("sign", "keyless"), "keep one of them", "sign.key is given too")
		}
		for name, value := range map[string]string{
			"fulcio": s.Keyless.Fulcio, "rekor": s.Keyless.Rekor, "timestamp": s.Keyless.Timestamp, "issuer": s.Keyless.Issuer,
		} {
			k.link(at("sign", "keyless", name), value)
		}
		return
	}
	k.keyReference(at("sign", "key"), s.Key)
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
	case role != release.Owner:
		k.fail(threshold, "environments.E.approvals.required is the quorum of approvers", "only owner has a threshold")
	case h.Threshold < 1:
		k.fail(threshold, "", "expected at least 1, got %d", h.Threshold)
	case h.Threshold > len(names):
		k.fail(threshold, "lower it, or name more owners", "%d owners must agree and %d are named", h.Threshold, len(names))
	}
}

func (k *checker) party(p path, party Party) {
	k.required(p.key("name"), party.Name, "alice")
	switch {
	case party.Key == "" && party.Identity == "":
		k.fail(p, "write key: keys/"+orElse(party.Name, "alice")+".pub, or identity: and issuer:", "expected a key or an identity")
	case party.Key != "" && (party.Identity != "" || party.Issuer != ""):
		k.fail(p, "make two entries of the same name", "expected a key or an identity, got both")
	case party.Key != "":
		k.publicKey(p.key("key"), party.Key)
	case party.Issuer == "":
		k.fail(p, "write issuer: https://token.actions.githubusercontent.com", "an identity counts only with the issuer that vouches for it")
	default:
		k.link(p.key("issuer"), party.Issuer)
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
