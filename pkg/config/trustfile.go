package config

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// TrustFile gives what trust.file holds, with the signatures that it bears,
// unbelieved, and its path as it is written; nil where promote.yaml says itself
// who may say what.
func (c *Config) TrustFile() (string, *release.SignedTrust) {
	if c.trustFile == nil {
		return "", nil
	}
	return c.File.Trust.File, c.trustFile
}

const newTrustFile = "promote trust list -o dsse=trust.json writes the trust in force as such a file, to be named here; its owners sign it with promote trust accept --key KEY"

// trustFile reads the file that says who may say what. Who signed it, whoever
// has the means to verify says.
func (k *checker) trustFile(p path, name string) {
	for _, pair := range k.c.root.Get("trust").Pairs {
		if pair.Key.Value != "file" {
			k.fail(at("trust", pair.Key.Value), "remove it, or file", "trust.file says who may say what, and nothing beside it does")
		}
	}
	switch {
	case !k.required(p, name, "trust.json"):
		return
	case isURI(name):
		k.fail(p, "bring the file into the project", "expected a file, got %.80q", name)
		return
	}
	text, err := readAtMost(k.c.Abs(name), release.MaxTrustFile)
	if errors.Is(err, fs.ErrNotExist) {
		k.fail(p, newTrustFile, "%s does not exist", name)
		return
	}
	var signed release.SignedTrust
	if err == nil {
		signed, err = release.ParseTrust(text)
	}
	if err == nil {
		err = keysIn(signed.File)
	}
	if err != nil {
		k.fail(p, newTrustFile, "%s: %w", name, err)
		return
	}
	k.c.trustFile, k.c.trustText = &signed, text
}

// keysIn wants good keys, and enough owners who can sign the file: it is signed
// with keys.
func keysIn(f release.TrustFile) error {
	for _, role := range release.Roles {
		for _, party := range f.Roles[role] {
			if party.PublicKey == "" {
				continue
			}
			if _, err := fingerprint([]byte(party.PublicKey)); err != nil {
				return release.Faultf(release.KindConfig, "", "%s %q: publicKey: %w", role, party.Name, err)
			}
		}
	}
	var owners []string
	for _, party := range f.Roles[release.Owner] {
		if party.PublicKey != "" {
			owners = append(owners, party.Name)
		}
	}
	slices.Sort(owners)
	if got, needed := len(slices.Compact(owners)), f.Trust().Threshold(release.Owner); got < needed {
		return release.Faultf(release.KindConfig, "", "%d owners must sign the file, and %d have a key to sign it with", needed, got)
	}
	return nil
}

// Resigned gives the change of the trust file to other signatures.
func (c *Config) Resigned(s release.SignedTrust) (Edit, error) {
	after, err := s.Encode()
	return Edit{Path: c.Abs(c.File.Trust.File), Before: c.trustText, After: after}, err
}

// editFile changes what the trust file says. The signatures were about what it
// said before, so none stays.
func (c *Config) editFile(change func(*release.TrustFile) error) (Edit, error) {
	next := release.TrustFileOf(c.trustFile.File.Trust(), c.trustFile.File.Version+1)
	if err := change(&next); err != nil {
		return Edit{}, err
	}
	sealed, err := release.SealTrust(next)
	if err == nil {
		err = keysIn(next)
	}
	if err != nil {
		return Edit{}, release.Misuse("nothing was written", "the change would not be sound: %w", err)
	}
	e, err := c.Resigned(sealed)
	e.Unsigned, e.was, e.is = true, c.trustFile.Shown(), sealed.Shown()
	return e, err
}

// held gives a party with its key's contents: the file stands by itself.
func (c *Config) held(p Party) (release.Party, error) {
	if p.Key == "" {
		return c.party(p), nil
	}
	key, err := readPublicKey(c.Abs(p.Key))
	if err != nil {
		return release.Party{}, release.Misuse("name the public half: promote keys public KEY prints it", "reading %s: %w", p.Key, err)
	}
	out := c.party(p)
	out.PublicKey = key.text
	return out, nil
}

func (c *Config) addToFile(role release.Role, p Party) (Edit, error) {
	party, err := c.held(p)
	if err != nil {
		return Edit{}, err
	}
	return c.editFile(func(f *release.TrustFile) error {
		f.Roles[role] = append(f.Roles[role], party)
		return nil
	})
}

func (c *Config) rotateInFile(name, key string, until time.Time) (Edit, error) {
	party, err := c.held(Party{Name: name, Key: key})
	if err != nil {
		return Edit{}, err
	}
	return c.editFile(func(f *release.TrustFile) error {
		found := false
		for role, parties := range f.Roles {
			holds := false
			for i, p := range parties {
				switch {
				case p.Name != name || p.PublicKey == "":
					continue
				case p.Fingerprint() == party.Fingerprint():
					return release.Misuse("generate a new one: promote keys generate", "%s is a key of %s already", key, name)
				case p.NotAfter.IsZero() || p.NotAfter.After(until):
					parties[i].NotAfter = until.UTC()
				}
				holds = true
			}
			if holds {
				f.Roles[role], found = append(parties, party), true
			}
		}
		if !found {
			return release.Misuse("promote trust list shows them", "no party %.60q with a key in %s", name, c.File.Trust.File)
		}
		return nil
	})
}

func (c *Config) revokeInFile(r release.Revocation) (Edit, error) {
	if strings.HasPrefix(r.Key, "sha256:") {
		if _, err := release.ParseDigest(r.Key); err != nil {
			return Edit{}, release.Misuse("promote trust list shows the fingerprints", "revoking: %w", err)
		}
	}
	return c.editFile(func(f *release.TrustFile) error {
		f.Revoked = append(f.Revoked, r)
		return nil
	})
}
