//go:build engine

package wire

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/release"
)

func (o *office) load() *config.Config {
	o.t.Helper()
	c, err := config.Load(filepath.Join(o.dir, "promote.yaml"))
	if err != nil {
		o.t.Fatal(err)
	}
	return c
}

func (o *office) sign(key string) cli.SignTrustResult {
	o.t.Helper()
	out, err := signTrust(o.t.Context(), o.load(), cli.SignTrustOptions{Key: filepath.Join(o.dir, key+".key")})
	if err != nil {
		o.t.Fatalf("%s: %v", key, err)
	}
	return out
}

// TestASignedTrustFile: it counts for nothing until its owners signed it, and
// their signatures alone replace no trust that a ledger pins.
func TestASignedTrustFile(t *testing.T) {
	o := newOffice(t, "ops", "alice", "carol", "mallory")
	inline := o.pipeline("ops", `trust:
  promoter: [{name: ops, key: ops.pub}]
  owner: {threshold: 2, of: [{name: alice, key: alice.pub}, {name: carol, key: carol.pub}]}
`)
	file := filepath.Join(o.dir, "trust.json")
	put := func(f release.TrustFile) {
		t.Helper()
		sealed, err := release.SealTrust(f)
		if err != nil {
			t.Fatal(err)
		}
		text, err := sealed.Encode()
		if err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put(release.TrustFileOf(inline.Project.Trust, 1))
	const named = "trust: {file: trust.json}\n"
	read := func() error {
		_, _, err := o.pipeline("ops", named).Ledger.Read(t.Context())
		return err
	}
	wantUnsigned := func(want string) {
		t.Helper()
		if err := read(); release.KindOf(err) != release.KindConfig || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	wantUnsigned("must be signed by 2 of its owners, and is by 0: nobody")
	if out := o.sign("ops"); out.Signer != "" {
		t.Errorf("a promoter signs it: %+v", out)
	}
	if out := o.sign("alice"); out.Signer != "alice" || fmt.Sprint(out.Signers) != "[alice]" {
		t.Errorf("%+v", out)
	}
	if out := o.sign("alice"); out.Signer != "" {
		t.Errorf("alice signs twice: %+v", out)
	}
	wantUnsigned("is by 1: alice")
	if out := o.sign("carol"); out.Signer != "carol" || fmt.Sprint(out.Signers) != "[alice carol]" {
		t.Errorf("%+v", out)
	}
	p := o.pipeline("ops", named)
	if p.Project.TrustFile == nil || len(p.Project.TrustFile.Signers) != 2 {
		t.Errorf("%+v", p.Project.TrustFile)
	}
	if err := o.record(p, &p.Project.Trust, release.DigestOf([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	// One whose owners are all mallory is signed well, and goes nowhere.
	theirs := release.Party{Name: "mallory", PublicKey: string(readKey(t, o, "mallory"))}
	f := release.TrustFileOf(p.Project.Trust, 9)
	f.Roles, f.Thresholds = map[release.Role][]release.Party{release.Owner: {theirs}, release.Promoter: {theirs}}, nil
	put(f)
	o.pipeline("ops", named)
	o.sign("mallory")
	evil := o.pipeline("mallory", named)
	if _, inForce, err := evil.Pinned(t.Context()); err != nil || inForce {
		t.Errorf("in force: %v, %v", inForce, err)
	}
	if err := o.record(evil, nil, release.Digest{}); release.KindOf(err) != release.KindDenied {
		t.Errorf("mallory records: %v", err)
	}
	// Whatever is changed in it, no signature is left.
	if err := os.WriteFile(file, []byte(strings.Replace(string(good), `"sig": "`, `"sig": "AAAA`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	wantUnsigned("by no owner whom the file names")
	if _, err := signTrust(t.Context(), o.load(), cli.SignTrustOptions{Key: filepath.Join(o.dir, "alice.key")}); release.KindOf(err) != release.KindConfig {
		t.Errorf("alice signs beside a forged signature: %v", err)
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	edit, err := o.load().Revoke(config.Revocation{Key: "alice.pub", Reason: "lost"})
	if err == nil {
		err = edit.Write()
	}
	if err != nil {
		t.Fatal(err)
	}
	wantUnsigned("version 2 must be signed by 2 of its owners, and is by 0: nobody")
}

func readKey(t *testing.T, o *office, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(o.dir, name+".pub"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}
