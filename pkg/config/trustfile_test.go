package config

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// filed gives a project whose trust lies in a file.
func filed(t *testing.T, f release.TrustFile) *Config {
	t.Helper()
	path := filepath.Join(project(t), FileName)
	writeTrust(t, filepath.Dir(path), f)
	if err := os.WriteFile(path, []byte(minimal+"trust: {file: trust.json} # signed\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func writeTrust(t *testing.T, dir string, f release.TrustFile) {
	t.Helper()
	sealed, err := release.SealTrust(f)
	if err != nil {
		t.Fatal(err)
	}
	sealed.Signatures = [][]byte{[]byte("somebody's")}
	text, err := sealed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "trust.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func team(t *testing.T) release.TrustFile {
	t.Helper()
	c := sound(t, readExample(t))
	trust, err := c.Trust(nil)
	if err != nil {
		t.Fatal(err)
	}
	return release.TrustFileOf(trust, 3)
}

// TestATrustFileSaysTheSame: but for its version it is the trust it was made of.
func TestATrustFileSaysTheSame(t *testing.T) {
	inline, err := sound(t, readExample(t)).Trust(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := filed(t, team(t))
	got, err := c.Trust(nil)
	if err != nil || got.Version != 3 || got.SingleKey {
		t.Fatalf("%+v, %v", got, err)
	}
	got.Version = 0
	if got.Digest() != inline.Digest() {
		t.Errorf("got  %v\nwant %v", got.Changes(release.Trust{}), inline.Changes(release.Trust{}))
	}
}

// TestRulesFollowWhatTheTrustFileSays, and not who signed it.
func TestRulesFollowWhatTheTrustFileSays(t *testing.T) {
	c := filed(t, team(t))
	_, signed := c.TrustFile()
	signed.Signatures = append(signed.Signatures, []byte("another's"))
	edit, err := c.Resigned(*signed)
	if err != nil {
		t.Fatal(err)
	}
	if err := edit.Write(); err != nil {
		t.Fatal(err)
	}
	again, err := Load(c.Path())
	if err != nil || again.Digest() != c.Digest() {
		t.Errorf("a signature changed the rules, %v", err)
	}
	if _, now := again.TrustFile(); len(now.Signatures) != 2 {
		t.Errorf("%d signatures", len(now.Signatures))
	}
	f := team(t)
	f.Roles[release.Promoter] = f.Roles[release.Builder]
	writeTrust(t, c.Dir(), f)
	if other, err := Load(c.Path()); err != nil || other.Digest() == c.Digest() {
		t.Errorf("other roles are the same rules, %v", err)
	}
}

// TestEditsOfATrustFile count its version up, drop the signatures and keep
// promote.yaml as it is.
func TestEditsOfATrustFile(t *testing.T) {
	until := time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		change func(*Config) (Edit, error)
		look   func(release.Trust) bool
		shows  string
	}{
		"add": {func(c *Config) (Edit, error) {
			return c.AddParty(release.Owner, Party{Name: "dave", Key: "keys/test.pub"})
		},
			func(t release.Trust) bool {
				return len(t.Roles[release.Owner]) == 3 && t.Roles[release.Owner][2].Fingerprint() != ""
			}, `owner: "dave", key sha256:`},
		"rotate": {func(c *Config) (Edit, error) { return c.Rotate("alice", "keys/test.pub", until) },
			func(t release.Trust) bool {
				o, a := t.Roles[release.Owner], t.Roles[release.Approver]
				return len(o) == 3 && o[0].NotAfter.Equal(until) && o[2].NotAfter.IsZero() && len(a) == 3 && o[1].NotAfter.IsZero()
			}, "until 2027-06-01"},
		"revoke": {func(c *Config) (Edit, error) {
			return c.Revoke(Revocation{Key: "keys/carol.pub", Reason: "lost"})
		}, func(t release.Trust) bool {
			return len(t.Revoked) == 1 && t.State(t.Roles[release.Owner][1], until) == release.PartyRevoked
		}, "(lost)"},
	} {
		t.Run(name, func(t *testing.T) {
			p := filed(t, team(t))
			before, _ := os.ReadFile(p.Path())
			edit, err := c.change(p)
			if err != nil {
				t.Fatal(err)
			}
			was, is := edit.Texts()
			if !edit.Unsigned || !strings.Contains(is, c.shows) || strings.Contains(was, c.shows) || !strings.Contains(is, "version: 4") {
				t.Errorf("shown as %s", is)
			}
			if err := edit.Write(); err != nil {
				t.Fatal(err)
			}
			after, _ := os.ReadFile(p.Path())
			next, err := Load(p.Path())
			if err != nil || !bytes.Equal(before, after) {
				t.Fatalf("promote.yaml changed, or %v", err)
			}
			trust, _ := next.Trust(nil)
			if _, file := next.TrustFile(); len(file.Signatures) != 0 || trust.Version != 4 || !c.look(trust) {
				t.Errorf("%d signatures, %v", len(file.Signatures), trust.Changes(release.Trust{}))
			}
		})
	}
	p := filed(t, team(t))
	for name, change := range map[string]func() (Edit, error){
		"no key":      func() (Edit, error) { return p.AddParty(release.Owner, Party{Name: "x"}) },
		"absent key":  func() (Edit, error) { return p.AddParty(release.Owner, Party{Name: "x", Key: "keys/absent.pub"}) },
		"private key": func() (Edit, error) { return p.AddParty(release.Owner, Party{Name: "x", Key: "private.pem"}) },
		"no issuer":   func() (Edit, error) { return p.AddParty(release.Owner, Party{Name: "x", Identity: "y"}) },
		"anybody": func() (Edit, error) {
			return p.AddParty(release.Owner, Party{Name: "x", IdentityMatch: ".*", Issuer: "https://a"})
		},
		"unknown role":   func() (Edit, error) { return p.AddParty("ower", Party{Name: "x", Key: "keys/test.pub"}) },
		"nobody":         func() (Edit, error) { return p.Rotate("nobody", "keys/test.pub", until) },
		"the same key":   func() (Edit, error) { return p.Rotate("alice", "keys/alice.pub", until) },
		"no fingerprint": func() (Edit, error) { return p.Revoke(Revocation{Key: "sha256:00", Reason: "x"}) },
	} {
		if _, err := change(); release.KindOf(err) != release.KindUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTrustFilesThatAreNone: each is refused at its place in promote.yaml.
func TestTrustFilesThatAreNone(t *testing.T) {
	good, err := release.SealTrust(team(t))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := good.Encode()
	envelope := func(payload string) string {
		return `{"payload":"` + base64.StdEncoding.EncodeToString([]byte(payload)) + `","payloadType":"` + release.PayloadTypeTrust + `","signatures":[]}`
	}
	payload := string(good.Payload)
	few := team(t)
	few.Roles[release.Owner][1] = release.Party{Name: "carol", Identity: "c@acme.dev", Issuer: "https://a.dev"}
	fewText, _ := release.SealTrust(few)
	for name, c := range map[string]struct{ text, want string }{
		"text":           {"roles: {}", "expected a DSSE envelope"},
		"another type":   {strings.Replace(string(text), "promote.trust", "promote.record", 1), "expected payloadType application/vnd.promote.trust.v1+json"},
		"unknown member": {strings.Replace(string(text), `"payload"`, `"more": 1, "payload"`, 1), "unknown field"},
		"another case":   {strings.Replace(string(text), `"payload"`, `"Payload"`, 1), "another case"},
		"twice":          {strings.Replace(string(text), `"payload"`, `"payload": "", "payload"`, 1), "duplicate"},
		"no signatures":  {strings.Replace(string(text), `"signatures": []`, `"signatures": null`, 1), "signatures: expected a list"},
		"too large":      {string(text) + strings.Repeat(" ", release.MaxTrustFile), "too long"},
		"spaces":         {envelope(" " + payload), "not in canonical form"},
		"no version":     {envelope(strings.Replace(payload, `"version":3`, `"version":0`, 1)), "version: expected a number from 1, got 0"},
		"newer schema":   {envelope(strings.Replace(payload, `"schemaVersion":1`, `"schemaVersion":2`, 1)), "schemaVersion 2, this version of promote reads 1"},
		"unknown key":    {envelope(strings.Replace(payload, `"version":3`, `"version":3,"x":1`, 1)), "unknown field"},
		"unknown role":   {envelope(strings.Replace(payload, `"tester":[`, `"testr":[`, 1)), `unknown role "testr", did you mean "tester"?`},
		"threshold":      {envelope(strings.Replace(payload, `"thresholds":{"owner":2}`, `"thresholds":{"approver":2}`, 1)), "thresholds.approver"},
		"no name":        {envelope(strings.Replace(payload, `"name":"ci-test"`, `"name":""`, 1)), "roles.tester[0]: name: expected a value"},
		"no key":         {envelope(strings.Replace(payload, "BEGIN PUBLIC KEY", "BEGIN PUBLIC", 1)), "expected a PEM public key"},
		"too few keys":   {string(encoded(t, fewText)), "2 owners must sign the file, and 1 have a key"},
	} {
		t.Run(name, func(t *testing.T) {
			p := filed(t, team(t))
			if err := os.WriteFile(filepath.Join(p.Dir(), "trust.json"), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load(p.Path())
			if release.KindOf(err) != release.KindConfig || !strings.Contains(err.Error(), ":3:15: trust.file: trust.json: ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func encoded(t *testing.T, s release.SignedTrust) []byte {
	t.Helper()
	text, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// The quorum of approvers is held to the names that the file gives the role.
func TestApproversOfATrustFileAreCounted(t *testing.T) {
	for required, ok := range map[string]bool{"2": true, "3": false} {
		path := filepath.Join(project(t), FileName)
		f := team(t)
		for _, name := range []string{"alice", "bob", "bob"} {
			f.Roles[release.Approver] = append(f.Roles[release.Approver], release.Party{Name: name, Identity: name + "@acme.dev", Issuer: "https://a.dev"})
		}
		writeTrust(t, filepath.Dir(path), f)
		text := minimal + "trust: {file: trust.json}\nenvironments: {staging: {approvals: {required: " + required + "}}}\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if ok != (err == nil) || !ok && !strings.Contains(err.Error(), "3 approvers must agree and trust names 2") {
			t.Errorf("%s approvals: %v", required, err)
		}
	}
}
