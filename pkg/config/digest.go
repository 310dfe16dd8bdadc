package config

import "github.com/promote-dev/promote/pkg/release"

// Digest identifies the rules: the sections trust, environments and policies
// as they are written, in canonical JSON, with the fingerprints of the keys
// that trust names, and the digests of what a trust file says, of a trusted root
// of one's own and of the keys that snapshots are encrypted to. Comments, order of keys, defaults and who signed the trust
// file do not count, so the digest outlives a new version of promote.
func (c *Config) Digest() release.Digest { return c.digest }

func (c *Config) rules() (release.Digest, error) {
	keys := map[string]release.Digest{}
	for name, key := range c.keys {
		keys[name] = key.print
	}
	rules := map[string]any{"keys": keys}
	for _, section := range []string{"trust", "environments", "policies"} {
		if n := c.root.Get(section); n != nil {
			rules[section] = n.Any()
		}
	}
	// Whoever exchanges the file exchanges who can read what is kept.
	recipients := map[string]release.Digest{}
	for name, e := range c.File.Environments {
		if e.Snapshots != nil {
			recipients[name] = release.DigestOf([]byte(c.recipient(e.Snapshots.EncryptTo)))
		}
	}
	if len(recipients) > 0 {
		rules["snapshots"] = recipients
	}
	if c.trustFile != nil {
		rules["trustFile"] = release.DigestOf(c.trustFile.Payload)
	}
	if c.trustedRoot != nil {
		rules["trustedRoot"] = c.trustedRootDigest()
	}
	raw, err := release.Canonical(rules)
	return release.DigestOf(raw), err
}
