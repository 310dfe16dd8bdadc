package config

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// TestTrustInFull: everything that a trust section can say arrives.
func TestTrustInFull(t *testing.T) {
	c := sound(t, minimal+`trust:
  builder:
    - name: ci
      identityMatch: https://github\.com/acme/openclaw/.+
      issuerMatch: https://token\.actions\.[a-z]+\.com
      claims: {repository: https://github.com/acme/openclaw, ref: refs/heads/main, trigger: push}
  scanner: {threshold: 2, of: [{name: one, key: keys/scan.pub}, {name: two, key: keys/test.pub}]}
  promoter:
    - {name: ops, key: keys/ops.pub, notAfter: 2026-12-31}
    - {name: ops, key: keys/alice.pub, notBefore: 2026-12-01}
  revoked:
    - {key: keys/carol.pub, reason: laptop stolen}
    - {identity: bob@acme.dev, issuer: https://accounts.google.com, reason: left}
    - {key: "sha256:`+strings.Repeat("0", 64)+`", reason: lost}
`)
	trust, err := c.Trust(nil)
	if err != nil {
		t.Fatal(err)
	}
	builder := trust.Roles[release.Builder][0]
	want := release.Party{Name: "ci", IdentityMatch: `https://github\.com/acme/openclaw/.+`, IssuerMatch: `https://token\.actions\.[a-z]+\.com`,
		Claims: &release.Claims{Repository: "https://github.com/acme/openclaw", Ref: "refs/heads/main", Trigger: "push"}}
	if !reflect.DeepEqual(builder, want) {
		t.Errorf("builder %+v", builder)
	}
	if trust.Threshold(release.Scanner) != 2 || trust.Threshold(release.Builder) != 1 {
		t.Errorf("thresholds %v", trust.Thresholds)
	}
	ops := trust.Roles[release.Promoter]
	lastSecond := time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)
	if !ops[0].NotAfter.Equal(lastSecond) || !ops[1].NotBefore.Equal(time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("windows %+v", ops)
	}
	carol, _ := os.ReadFile("testdata/openclaw/keys/carol.pub")
	print, _ := fingerprint(carol)
	if len(trust.Revoked) != 3 || trust.Revoked[0].Key != print.String() || trust.Revoked[1].Issuer == "" || trust.Revoked[2].Reason != "lost" {
		t.Errorf("revoked %+v", trust.Revoked)
	}
}

// TestTrustIsTheSameWhateverTheLineEnds: a checkout on another system must not
// look like a change of trust.
func TestTrustIsTheSameWhateverTheLineEnds(t *testing.T) {
	c := sound(t, minimal)
	alice, _ := os.ReadFile("testdata/openclaw/keys/alice.pub")
	one, err := c.Trust(alice)
	if err != nil {
		t.Fatal(err)
	}
	other, err := c.Trust([]byte(strings.ReplaceAll(string(alice), "\n", "\r\n")))
	if err != nil || one.Digest() != other.Digest() {
		t.Errorf("another digest, %v", err)
	}
}
