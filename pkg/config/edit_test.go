package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// written gives a project's configuration.
func written(t *testing.T, text string) *Config {
	t.Helper()
	path := filepath.Join(project(t), FileName)
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// apply writes a change and gives the trust that is then read.
func apply(t *testing.T, e Edit, err error) (release.Trust, string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Write(); err != nil {
		t.Fatal(err)
	}
	c, err := Load(e.Path)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := os.ReadFile(c.Abs("keys/ops.pub"))
	trust, err := c.Trust(key)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(e.Path)
	return trust, string(text)
}

func TestAddingToTrust(t *testing.T) {
	example := readExample(t)
	c := written(t, example)
	party := Party{Name: "dave", IdentityMatch: `.+@acme\.dev`, Issuer: "https://accounts.google.com", Claims: &Claims{Ref: "refs/heads/main"},
		NotAfter: LastDay{time.Date(2027, 1, 31, 23, 59, 59, 0, time.UTC)}}
	edit, err := c.AddParty(release.Owner, party)
	trust, text := apply(t, edit, err)
	owners := trust.Roles[release.Owner]
	if len(owners) != 3 || owners[2].String() != c.party(party).String() || trust.OwnerThreshold != 2 {
		t.Errorf("owners %v", owners)
	}
	before, _, _ := strings.Cut(example, "trust:")
	_, after, _ := strings.Cut(example, "\nsmoke:")
	if !strings.HasPrefix(text, before) || !strings.HasSuffix(text, after) {
		t.Errorf("the rest of the file changed:\n%s", text)
	}
	if info, err := os.Stat(edit.Path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := edit.Write(); release.KindOf(err) != release.KindUsage {
		t.Errorf("writing over a file that changed: %v", err)
	}
	for _, bad := range []struct {
		role release.Role
		Party
	}{
		{"ower", party}, {release.Owner, Party{}}, {release.Owner, Party{Name: "x", Key: "keys/absent.pub"}},
		{release.Owner, Party{Name: "x", IdentityMatch: ".*", Issuer: "https://a.dev"}},
	} {
		if _, err := c.AddParty(bad.role, bad.Party); release.KindOf(err) != release.KindUsage {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestTheFirstPartyWritesOutWhatWasTrue: else every role that is not named
// would be nobody's from then on.
func TestTheFirstPartyWritesOutWhatWasTrue(t *testing.T) {
	c := written(t, minimal+"sign: {key: keys/ops.key}\n")
	edit, err := c.AddParty(release.Approver, Party{Name: "alice", Key: "keys/alice.pub"})
	trust, _ := apply(t, edit, err)
	if trust.SingleKey || len(trust.Roles[release.Approver]) != 1 || len(trust.Roles[release.BreakGlass]) != 0 {
		t.Errorf("%+v", trust.Roles)
	}
	for _, role := range []release.Role{release.Builder, release.Scanner, release.Tester, release.Promoter, release.Owner} {
		if parties := trust.Roles[role]; len(parties) != 1 || parties[0].Name != c.Name {
			t.Errorf("%s is %v", role, parties)
		}
	}
	if _, err := written(t, minimal).AddParty(release.Approver, Party{Name: "alice", Key: "keys/alice.pub"}); release.KindOf(err) != release.KindUsage {
		t.Errorf("without a public half: %v", err)
	}
}

func TestRotating(t *testing.T) {
	c := written(t, minimal+`trust:
  promoter: [{name: ops, key: keys/ops.pub}]
  owner:
    - {name: ops, key: keys/ops.pub, notAfter: 2027-01-01} # until then
    - {name: alice, key: keys/alice.pub}
`)
	until := time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC)
	edit, err := c.Rotate("ops", "keys/test.pub", until)
	trust, text := apply(t, edit, err)
	promoter, owner := trust.Roles[release.Promoter], trust.Roles[release.Owner]
	if len(promoter) != 2 || !promoter[0].NotAfter.Equal(until) || promoter[1].PublicKey == promoter[0].PublicKey || !promoter[1].NotAfter.IsZero() {
		t.Errorf("promoter %v", promoter)
	}
	if len(owner) != 3 || owner[0].NotAfter.Year() != 2027 || owner[0].NotAfter.Month() != 1 || owner[1].Name != "alice" || !owner[1].NotAfter.IsZero() || owner[2].Name != "ops" {
		t.Errorf("owner %v", owner)
	}
	if !strings.Contains(text, "# until then") {
		t.Errorf("the comment is gone:\n%s", text)
	}
	for _, bad := range [][2]string{{"nobody", "keys/test.pub"}, {"ops", "keys/ops.pub"}, {"ops", "keys/alice.pub"}, {"ops", "keys/absent.pub"}} {
		if _, err := c.Rotate(bad[0], bad[1], until); release.KindOf(err) != release.KindUsage && bad[1] != "keys/alice.pub" {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestRevoking(t *testing.T) {
	c := written(t, readExample(t))
	edit, err := c.Revoke(Revocation{Key: "keys/alice.pub", Reason: "laptop: stolen #1"})
	trust, text := apply(t, edit, err)
	alice, _ := readPublicKey(c.Abs("keys/alice.pub"))
	if len(trust.Revoked) != 1 || trust.Revoked[0].Key != alice.print.String() || trust.Revoked[0].Reason != "laptop: stolen #1" {
		t.Errorf("%+v\n%s", trust.Revoked, text)
	}
	for _, bad := range []Revocation{{Reason: "x"}, {Key: "keys/absent.pub", Reason: "x"}, {Key: "sha256:0", Reason: "x"}, {Identity: "x"},
		{Identity: "x", Key: alice.print.String(), Reason: "x"}} {
		if _, err := c.Revoke(bad); release.KindOf(err) != release.KindUsage {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
