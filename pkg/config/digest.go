package config

import "github.com/promote-dev/promote/pkg/release"

// Digest identifies the rules: the sections trust, environments and policies
// as they are written, in canonical JSON, with the fingerprints of the keys
// that trust names, and the digests of what a trust file says and of a trusted
// root of one's own. Comments, order of keys, defaults and who signed the trust
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
	if c.trustFile != nil {
		rules["trustFile"] = release.DigestOf(c.trustFile.Payload)
	}
	if c.trustedRoot != nil {
		rules["trustedRoot"] = c.trustedRootDigest()
	}
	raw, err := release.Canonical(rules)
	return release.DigestOf(raw), err
}
