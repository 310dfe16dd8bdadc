package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/internal/yamlpos"
	"github.com/promote-dev/promote/pkg/release"
)

// Edit is a change of promote.yaml, or of the trust file that it names, that
// was found sound and is not written yet. Of promote.yaml only the section
// trust differs; comments stay.
type Edit struct {
	Path          string
	Before, After []byte
	// Unsigned is true for a trust file, which its owners have to sign again.
	Unsigned bool

	was, is []byte // what a person is shown, where the files are not for reading
}

// Texts gives what is different in a form that a person can read.
func (e Edit) Texts() (before, after string) {
	if e.was != nil {
		return string(e.was), string(e.is)
	}
	return string(e.Before), string(e.After)
}

// Write puts the change in place, whole or not at all. If the file is not the
// one that was read any more, it is KindUsage.
func (e Edit) Write() error {
	now, err := os.ReadFile(e.Path)
	if err != nil || !bytes.Equal(now, e.Before) {
		return release.Misuse("run the command again", "writing %s: it changed in the meantime", e.Path)
	}
	info, err := os.Stat(e.Path)
	if err != nil {
		return release.Unavailable("", "writing %s: %w", e.Path, err)
	}
	next, err := os.CreateTemp(filepath.Dir(e.Path), ".promote.*.yaml")
	if err != nil {
		return release.Unavailable("make the directory writable", "writing %s: %w", e.Path, err)
	}
	defer os.Remove(next.Name())
	_, err = next.Write(e.After)
	err = errors.Join(err, next.Chmod(info.Mode().Perm()), next.Sync(), next.Close())
	if err == nil {
		err = os.Rename(next.Name(), e.Path)
	}
	if err != nil {
		return release.Unavailable("make the directory writable", "writing %s: %w", e.Path, err)
	}
	return nil
}

// AddParty names one more holder of a role. A project without a trust section
// gets one that says what was true so far, and then the new party.
func (c *Config) AddParty(role release.Role, p Party) (Edit, error) {
	if !slices.Contains(release.Roles, role) {
		return Edit{}, release.Misuse("one of "+strings.Join(roleNames, ", "), "no role %.60q", role)
	}
	if c.trustFile != nil {
		return c.addToFile(role, p)
	}
	return c.editTrust(func(s *yamlpos.Section) error { return s.Append(string(role), "of", p.fields()) })
}

// Rotate gives a party a new key in every role that it holds with a key, and
// ends the former keys after the overlap.
func (c *Config) Rotate(name, key string, until time.Time) (Edit, error) {
	if c.trustFile != nil {
		return c.rotateInFile(name, key, until)
	}
	return c.editTrust(func(s *yamlpos.Section) error {
		found := false
		for _, role := range roleNames {
			entries := slices.DeleteFunc(s.Entries(role, "of"), func(e yamlpos.Entry) bool { return e.Get("name") != name || e.Get("key") == "" })
			if len(entries) == 0 {
				continue
			}
			found = true
			if slices.ContainsFunc(entries, func(e yamlpos.Entry) bool { return e.Get("key") == key }) {
				return release.Misuse("generate a new one: promote keys generate", "%s is a key of %s already", key, name)
			}
			for _, e := range entries {
				var ends LastDay
				if err := ends.UnmarshalText([]byte(e.Get("notAfter"))); err != nil || ends.After(until) {
					e.Set("notAfter", until.UTC().Format(time.RFC3339))
				}
			}
			if err := s.Append(role, "of", Party{Name: name, Key: key}.fields()); err != nil {
				return err
			}
		}
		if !found {
			return release.Misuse("promote trust list shows them", "no party %.60q with a key under trust", name)
		}
		return nil
	})
}

// Revoke takes a key or an identity out of use.
func (c *Config) Revoke(r Revocation) (Edit, error) {
	if path := r.Key; path != "" && !strings.HasPrefix(path, "sha256:") {
		key, err := readPublicKey(c.Abs(path))
		if err != nil {
			return Edit{}, release.Misuse("name the public half, or its fingerprint", "revoking %s: %w", path, err)
		}
		r.Key = key.print.String() // the file may go
	}
	if c.trustFile != nil {
		return c.revokeInFile(release.Revocation(r))
	}
	var fields []yamlpos.Field
	for _, f := range [][2]string{{"key", r.Key}, {"identity", r.Identity}, {"issuer", r.Issuer}, {"reason", r.Reason}} {
		fields = appendField(fields, f[0], f[1])
	}
	return c.editTrust(func(s *yamlpos.Section) error { return s.Append("revoked", "of", fields) })
}

func (p Party) fields() []yamlpos.Field {
	var list []yamlpos.Field
	for _, f := range [][2]string{{"name", p.Name}, {"key", p.Key}, {"identity", p.Identity}, {"identityMatch", p.IdentityMatch},
		{"issuer", p.Issuer}, {"issuerMatch", p.IssuerMatch}} {
		list = appendField(list, f[0], f[1])
	}
	if p.Claims != nil {
		c := *p.Claims
		var claims []yamlpos.Field
		for _, f := range [][2]string{{"repository", c.Repository}, {"ref", c.Ref}, {"revision", c.Revision}, {"owner", c.Owner},
			{"workflow", c.Workflow}, {"trigger", c.Trigger}, {"runner", c.Runner}} {
			claims = appendField(claims, f[0], f[1])
		}
		list = append(list, yamlpos.Field{Key: "claims", Value: claims})
	}
	list = appendField(list, "notBefore", instant(p.NotBefore.Time))
	return appendField(list, "notAfter", instant(p.NotAfter.Time))
}

func instant(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}

func appendField(list []yamlpos.Field, key, value string) []yamlpos.Field {
	if value == "" {
		return list
	}
	return append(list, yamlpos.Field{Key: key, Value: value})
}

// editTrust changes the section and checks the file that comes of it as if it
// had been read.
func (c *Config) editTrust(change func(*yamlpos.Section) error) (Edit, error) {
	src, err := os.ReadFile(c.path)
	if err != nil {
		return Edit{}, release.Unavailable("", "reading %s: %w", c.path, withoutPath(err))
	}
	section, err := yamlpos.OpenSection(c.path, src, "trust")
	if err == nil && c.File.Trust == nil {
		err = c.writeOut(section)
	}
	if err == nil {
		err = change(section)
	}
	var after []byte
	if err == nil {
		after, err = section.Text()
	}
	if err != nil {
		if fault := (*release.Fault)(nil); errors.As(err, &fault) {
			return Edit{}, err
		}
		return Edit{}, release.Misuse("edit it by hand; promote trust list shows what it means", "changing %s: %w", c.path, err)
	}
	root, err := yamlpos.Parse(c.path, after)
	if err != nil {
		return Edit{}, err
	}
	if _, err := loaded(c.path, root); err != nil {
		return Edit{}, release.Misuse("nothing was written", "the change would not be sound: %w", err)
	}
	return Edit{Path: c.path, Before: src, After: after}, nil
}

// writeOut says what a project without a trust section means by that: one key
// holds every role but two.
func (c *Config) writeOut(s *yamlpos.Section) error {
	file := c.PublicKeyFile()
	if _, err := os.Stat(file); file == "" || errors.Is(err, fs.ErrNotExist) {
		return release.Misuse("write a trust section that names it for every role, then add others",
			"so far %s speaks for every role, and its public half lies in no file beside it", orElse(c.Sign.Key, "keyless signing"))
	}
	name, err := filepath.Rel(c.Dir(), file)
	if err != nil {
		return fmt.Errorf("naming %s: %w", file, err)
	}
	for _, role := range roleNames {
		if role == string(release.Approver) || role == string(release.BreakGlass) {
			continue
		}
		if err := s.Append(role, "of", Party{Name: c.Name, Key: filepath.ToSlash(name)}.fields()); err != nil {
			return err
		}
	}
	return nil
}
