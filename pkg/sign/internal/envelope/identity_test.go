package envelope

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

const (
	workflow = "https://github.com/acme/openclaw/.github/workflows/release.yml@refs/heads/main"
	actions  = "https://token.actions.githubusercontent.com"
)

var may = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func keyParty(name, seed string) release.Party {
	sum := sha256.Sum256([]byte(seed))
	der, err := x509.MarshalPKIXPublicKey(ed25519.NewKeyFromSeed(sum[:]).Public())
	if err != nil {
		panic(err)
	}
	return release.Party{Name: name, PublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
}

func policyOf(t *testing.T, trust release.Trust) *Policy {
	t.Helper()
	p, err := NewPolicy(trust)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func builders(parties ...release.Party) release.Trust {
	return release.Trust{Roles: map[release.Role][]release.Party{release.Builder: parties}}
}

// TestIdentitiesAreMatchedWhole: a name that only holds the right one is not it.
func TestIdentitiesAreMatchedWhole(t *testing.T) {
	exact := release.Party{Name: "ci", Identity: workflow, Issuer: actions}
	like := release.Party{Name: "ci", IdentityMatch: `https://github\.com/acme/openclaw/\.github/workflows/[a-z]+\.yml@refs/heads/main`, IssuerMatch: `https://token\.actions\.githubusercontent\.com`}
	either := release.Party{Name: "ci", IdentityMatch: `https://github\.com/acme/x|https://github\.com/acme/y`, Issuer: actions}
	for _, c := range []struct {
		party      release.Party
		id, issuer string
		ok         bool
	}{
		{exact, workflow, actions, true}, {like, workflow, actions, true},
		{exact, workflow + "-evil", actions, false}, {like, workflow + "-evil", actions, false},
		{exact, strings.ToUpper(workflow), actions, false}, {exact, "", actions, false},
		{like, "https://evil.dev/?" + workflow, actions, false}, {like, workflow + "\n", actions, false},
		{like, "x\n" + workflow + "\nx", actions, false},
		{exact, workflow, actions + ".evil.dev", false}, {like, workflow, "https://evil.dev/" + actions, false},
		{exact, workflow, "", false}, {like, workflow, "", false},
		{either, "https://github.com/acme/x", actions, true}, {either, "https://github.com/acme/x-evil", actions, false},
		{either, "https://github.com/acme/y-evil", actions, false}, {either, "https://evil.dev/https://github.com/acme/y", actions, false},
	} {
		s, err := policyOf(t, builders(c.party)).Signer(Proof{ID: c.id, Issuer: c.issuer}, may)
		if c.ok != (err == nil) || c.ok && (s.Name != "ci" || !s.Has(release.Builder)) || !c.ok && !errors.Is(err, ErrStranger) {
			t.Errorf("%+v as %q by %q: %+v, %v", c.party, c.id, c.issuer, s, err)
		}
	}
}

// TestAKeyIsNoIdentity: what a certificate says of itself never passes for a key.
func TestAKeyIsNoIdentity(t *testing.T) {
	key := keyParty("ci", "a")
	p := policyOf(t, builders(key))
	if s, err := p.Signer(Proof{ID: key.Fingerprint()}, may); err != nil || s.Name != "ci" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := p.Signer(Proof{ID: key.Fingerprint(), Issuer: actions}, may); !errors.Is(err, ErrStranger) {
		t.Errorf("a certificate named like a fingerprint: %v", err)
	}
}

// TestClaimsMustAllBeCertified is a part of case 25: a fork, another ref.
func TestClaimsMustAllBeCertified(t *testing.T) {
	all := release.Claims{Repository: "https://github.com/acme/openclaw", Ref: "refs/heads/main", Revision: "c0ffee",
		Owner: "https://github.com/acme", Workflow: workflow, Trigger: "push", Runner: "github-hosted"}
	asked := all
	p := policyOf(t, builders(release.Party{Name: "ci", Identity: workflow, Issuer: actions, Claims: &asked}))
	if _, err := p.Signer(Proof{ID: workflow, Issuer: actions, Claims: all}, may); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*release.Claims){
		"repository": func(c *release.Claims) { c.Repository = "https://github.com/fork/openclaw" },
		"ref":        func(c *release.Claims) { c.Ref = "refs/pull/1/merge" },
		"revision":   func(c *release.Claims) { c.Revision = "" },
		"owner":      func(c *release.Claims) { c.Owner = "https://github.com/fork" },
		"workflow":   func(c *release.Claims) { c.Workflow = "" },
		"trigger":    func(c *release.Claims) { c.Trigger = "pull_request_target" },
		"runner":     func(c *release.Claims) { c.Runner = "self-hosted" },
	} {
		got := all
		change(&got)
		s, err := p.Signer(Proof{ID: workflow, Issuer: actions, Claims: got}, may)
		if err == nil || !strings.Contains(err.Error(), name) || s.Name != "" {
			t.Errorf("%s differs: %+v, %v", name, s, err)
		}
	}
}

// TestWindows: with a proven time that one counts, else now, to the second.
func TestWindows(t *testing.T) {
	key := keyParty("ops", "a")
	key.NotBefore, key.NotAfter = may, may.Add(24*time.Hour)
	p := policyOf(t, builders(key))
	for _, c := range []struct {
		proven, now time.Time
		ok          bool
	}{
		{time.Time{}, may, true}, {time.Time{}, may.Add(-time.Second), false},
		{time.Time{}, key.NotAfter, true}, {time.Time{}, key.NotAfter.Add(time.Second), false},
		{may, key.NotAfter.AddDate(9, 0, 0), true}, {may.Add(-time.Second), may, false}, {key.NotAfter.Add(time.Second), may, false},
	} {
		s, err := p.Signer(Proof{ID: key.Fingerprint(), Time: c.proven}, c.now)
		if c.ok != (err == nil) || !c.ok && (len(s.Roles) > 0 || !strings.Contains(err.Error(), "ops")) {
			t.Errorf("proven %v, now %v: %+v, %v", c.proven, c.now, s, err)
		}
	}
}

// TestRotationOverlaps: old and new key are one party, each in its time.
func TestRotationOverlaps(t *testing.T) {
	old, fresh := keyParty("ops", "old"), keyParty("ops", "new")
	old.NotAfter, fresh.NotBefore = may, may.Add(-time.Hour)
	p := policyOf(t, builders(old, fresh))
	who := func(k release.Party, at time.Time) string {
		s, _ := p.Signer(Proof{ID: k.Fingerprint()}, at)
		if !s.Has(release.Builder) {
			return ""
		}
		return s.Name
	}
	at := may.Add(-time.Minute)
	if who(old, at) != "ops" || who(fresh, at) != "ops" || who(old, may.Add(time.Minute)) != "" || who(fresh, may.Add(-2*time.Hour)) != "" {
		t.Error("the overlap is not where it should be")
	}
}

// TestRevokedCountsForNothing, also what is proven to be older.
func TestRevokedCountsForNothing(t *testing.T) {
	key := keyParty("ops", "a")
	trust := builders(key, release.Party{Name: "ci", Identity: workflow, Issuer: actions})
	for name, c := range map[string]struct {
		revoked release.Revocation
		proof   Proof
		ok      bool
	}{
		"the key":                 {release.Revocation{Key: key.Fingerprint()}, Proof{ID: key.Fingerprint(), Time: may.AddDate(-1, 0, 0)}, false},
		"another key":             {release.Revocation{Key: keyParty("x", "x").Fingerprint()}, Proof{ID: key.Fingerprint()}, true},
		"the identity":            {release.Revocation{Identity: workflow}, Proof{ID: workflow, Issuer: actions}, false},
		"the identity, by issuer": {release.Revocation{Identity: workflow, Issuer: actions}, Proof{ID: workflow, Issuer: actions}, false},
		"of another issuer":       {release.Revocation{Identity: workflow, Issuer: "https://other.dev"}, Proof{ID: workflow, Issuer: actions}, true},
	} {
		trust.Revoked = []release.Revocation{c.revoked}
		trust.Revoked[0].Reason = "laptop stolen"
		s, err := policyOf(t, trust).Signer(c.proof, may)
		if c.ok != (err == nil) || !c.ok && (len(s.Roles) > 0 || !strings.Contains(err.Error(), "laptop stolen")) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

// TestOneIdentityIsOneParty: a quorum counts names, so nobody has two.
func TestOneIdentityIsOneParty(t *testing.T) {
	trust := builders(release.Party{Name: "ci", IdentityMatch: `https://github\.com/acme/.+`, Issuer: actions})
	trust.Roles[release.Approver] = []release.Party{{Name: "alice", Identity: workflow, Issuer: actions}}
	if s, err := policyOf(t, trust).Signer(Proof{ID: workflow, Issuer: actions}, may); err == nil || s.Name != "" || len(s.Roles) > 0 {
		t.Errorf("one identity is two parties: %+v", s)
	}
	trust.Roles[release.Approver][0] = release.Party{Name: "alice", IdentityMatch: `https://github\.com/acme/.+`, Issuer: actions}
	if _, err := NewPolicy(trust); err == nil {
		t.Error("one expression under two names is accepted")
	}
}

func TestPoliciesThatMeanNothing(t *testing.T) {
	good := release.Party{Name: "ci", Identity: workflow, Issuer: actions}
	with := func(change func(*release.Party)) release.Trust {
		p := good
		change(&p)
		return builders(p)
	}
	for name, trust := range map[string]release.Trust{
		"no issuer":        with(func(p *release.Party) { p.Issuer = "" }),
		"two issuers":      with(func(p *release.Party) { p.IssuerMatch = "https://a" }),
		"two identities":   with(func(p *release.Party) { p.IdentityMatch = "https://a" }),
		"anybody":          with(func(p *release.Party) { p.Identity, p.IdentityMatch = "", ".*" }),
		"any mail":         with(func(p *release.Party) { p.Identity, p.IdentityMatch = "", ".+@.+" }),
		"closes the group": with(func(p *release.Party) { p.Identity, p.IdentityMatch = "", "a)|(.*" }),
		"an endless one":   with(func(p *release.Party) { p.Identity, p.IdentityMatch = "", strings.Repeat("a", 513) }),
		"ends first":       with(func(p *release.Party) { p.NotBefore, p.NotAfter = may, may.Add(-1) }),
		"revoked nobody":   {Roles: builders(good).Roles, Revoked: []release.Revocation{{Reason: "x"}}},
		"revoked no key":   {Roles: builders(good).Roles, Revoked: []release.Revocation{{Key: "keys/x.pub"}}},
		"quorum of two":    {Roles: builders(good, good).Roles, Thresholds: map[release.Role]int{release.Builder: 2}},
		"quorum of none":   {Roles: builders(good).Roles, Thresholds: map[release.Role]int{release.Builder: 0}},
	} {
		if _, err := NewPolicy(trust); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
