package sign

import (
	"slices"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/signtest"
)

var planner = signtest.Subject("planner")

// ci is the party that good signs as.
func ci() release.Party {
	return release.Party{Name: "ci", Identity: workflowOf, Issuer: actions}
}

func scannerTrust(parties ...release.Party) release.Trust {
	return release.Trust{Roles: map[release.Role][]release.Party{release.Scanner: parties}}
}

func judgeWith(t testing.TB, r *Root, trust release.Trust, a release.Attachment) release.Evidence {
	t.Helper()
	v, err := New(Options{Trust: trust, Root: r, Now: func() time.Time { return noon.Add(240 * time.Hour) }})
	check(t, err)
	return v.Verify(t.Context(), planner, []release.Attachment{a})[0]
}

func TestIdentity(t *testing.T) {
	v := newVirtual(t, noon.Add(time.Hour))
	r := v.trusted(t, true, true)
	party := ci()
	party.Claims = &release.Claims{Repository: ofRepository, Ref: "refs/heads/main", Trigger: "push"}
	e := judgeWith(t, r, scannerTrust(party), packed(t, v.attest(t, signtest.Scan(planner), good())))
	if !e.Verified || e.Signer.Name != "ci" || e.Signer.ID != workflowOf || e.Signer.Issuer != actions || !e.Time.Equal(noon.Add(time.Minute)) {
		t.Fatalf("got %+v: %s", e.Signer, e.Reason)
	}
	// Each of log and stamps proves the time alone.
	byLog, byStamp := good(), good()
	byLog.stamped, byStamp.logged = time.Time{}, time.Time{}
	byLog.logged = noon.Add(2 * time.Minute)
	if e := judgeWith(t, r, scannerTrust(party), packed(t, v.attest(t, signtest.Scan(planner), byLog))); !e.Verified || !e.Time.Equal(byLog.logged) {
		t.Errorf("by the log alone: %s", e.Reason)
	}
	if e := judgeWith(t, v.trusted(t, false, true), scannerTrust(party), packed(t, v.attest(t, signtest.Scan(planner), byStamp))); !e.Verified {
		t.Errorf("by the stamp alone: %s", e.Reason)
	}
	e = judgeWith(t, r, scannerTrust(party), packed(t, v.attest(t, signtest.Scan(planner), byStamp)))
	signtest.Refused(t, e) // the root has a log, so it must be in it
}

// Every way in which a certificate's signature is not good, or not this
// party's. The numbers are those of the threat model's cases.
func TestRefusedCertificates(t *testing.T) {
	v, stranger := newVirtual(t, noon.Add(time.Hour)), newVirtual(t, noon.Add(time.Hour))
	r, trust := v.trusted(t, true, true), scannerTrust(ci())
	sign := func(s howSigned) *protobundle.Bundle { return v.attest(t, signtest.Scan(planner), s) }
	with := func(edit func(*howSigned)) *protobundle.Bundle { s := good(); edit(&s); return sign(s) }
	edited := func(edit func(m *protobundle.VerificationMaterial)) *protobundle.Bundle {
		b := sign(good())
		edit(b.VerificationMaterial)
		return b
	}
	other, another := sign(good()), v.attest(t, signtest.Scan(signtest.Subject("other")), good())
	entries := func(b *protobundle.Bundle) []*protorekor.TransparencyLogEntry {
		return b.VerificationMaterial.TlogEntries
	}
	stampsOnly := good()
	stampsOnly.logged = time.Time{}
	cases := map[string]*protobundle.Bundle{
		"case 15: another instance's certificate": stranger.attest(t, signtest.Scan(planner), good()),
		"case 15: expired leaf":                   with(func(s *howSigned) { s.from = noon.Add(-20 * time.Minute) }),
		"case 15: leaf not valid yet":             with(func(s *howSigned) { s.from = noon.Add(20 * time.Minute) }),
		"case 15: stamped after the leaf expired": with(func(s *howSigned) { s.stamped = noon.Add(30 * time.Minute) }),
		"case 17: about another subject":          another,
		"case 22: entry of another artifact":      edited(func(m *protobundle.VerificationMaterial) { m.TlogEntries = entries(another) }),
		"case 22: entry of another signature":     edited(func(m *protobundle.VerificationMaterial) { m.TlogEntries = entries(other) }),
		"case 22: entry in another log": edited(func(m *protobundle.VerificationMaterial) {
			m.TlogEntries = entries(stranger.attest(t, signtest.Scan(planner), good()))
		}),
		"case 22: one entry twice": edited(func(m *protobundle.VerificationMaterial) { m.TlogEntries = append(m.TlogEntries, m.TlogEntries[0]) }),
		"case 22: endless entries": edited(func(m *protobundle.VerificationMaterial) { m.TlogEntries = slices.Repeat(m.TlogEntries, 5000) }),
		"case 22: endless timestamps": edited(func(m *protobundle.VerificationMaterial) {
			m.TimestampVerificationData.Rfc3161Timestamps = slices.Repeat(m.TimestampVerificationData.Rfc3161Timestamps, 5000)
		}),
		"case 22: promise of another time": edited(func(m *protobundle.VerificationMaterial) { m.TlogEntries[0].IntegratedTime++ }),
		"case 22: proof of another tree":   edited(func(m *protobundle.VerificationMaterial) { m.TlogEntries[0].InclusionProof.RootHash[0] ^= 1 }),
		"case 22: checkpoint by another log": edited(func(m *protobundle.VerificationMaterial) {
			m.TlogEntries[0].InclusionProof.Checkpoint = stranger.entry(t, "dsse", map[string]any{}, noon).InclusionProof.Checkpoint
		}),
		"case 22: no time at all": edited(func(m *protobundle.VerificationMaterial) {
			m.TlogEntries[0].InclusionPromise, m.TlogEntries[0].IntegratedTime, m.TimestampVerificationData = nil, 0, nil
		}),
		"case 22: stamp only, of another signature": edited(func(m *protobundle.VerificationMaterial) {
			m.TlogEntries[0].InclusionPromise, m.TlogEntries[0].IntegratedTime = nil, 0
			m.TimestampVerificationData = other.VerificationMaterial.TimestampVerificationData
		}),
		"case 22: stamp only, by another authority": edited(func(m *protobundle.VerificationMaterial) {
			m.TlogEntries[0].InclusionPromise, m.TlogEntries[0].IntegratedTime = nil, 0
			m.TimestampVerificationData = stranger.attest(t, signtest.Scan(planner), good()).VerificationMaterial.TimestampVerificationData
		}),
		"case 22: in no log": sign(stampsOnly),
		"case 22: another certificate of the same identity": edited(func(m *protobundle.VerificationMaterial) { m.Content = other.VerificationMaterial.Content }),
		"case 25: another identity": with(func(s *howSigned) {
			s.identity = "https://github.com/acme/agent/.github/workflows/release.yml@refs/heads/main-evil"
		}),
		"case 25: a person":       with(func(s *howSigned) { s.identity = "ci@example.com" }),
		"case 25: another issuer": with(func(s *howSigned) { s.issuer = "https://issuer.example" }),
		"case 25: no issuer":      with(func(s *howSigned) { s.issuer = "" }),
		"case 25: two names":      with(func(s *howSigned) { s.second = "https://github.com/evil/agent" }),
		"case 25: no name":        with(func(s *howSigned) { s.identity = "" }),
	}
	for name, b := range cases {
		t.Run(name, func(t *testing.T) { signtest.Refused(t, judgeWith(t, r, trust, packed(t, b))) })
	}
	t.Run("case 15: expired intermediate", func(t *testing.T) {
		old := newVirtual(t, noon.Add(30*time.Second)) // the leaf is good for longer
		signtest.Refused(t, judgeWith(t, old.trusted(t, true, true), trust, packed(t, old.attest(t, signtest.Scan(planner), good()))))
	})
	t.Run("no root", func(t *testing.T) { signtest.Refused(t, judgeWith(t, nil, trust, packed(t, other))) })
	t.Run("a root that proves no time", func(t *testing.T) {
		signtest.Refused(t, judgeWith(t, v.trusted(t, false, false), trust, packed(t, other)))
	})
	t.Run("case 18: another role", func(t *testing.T) {
		builder := release.Trust{Roles: map[release.Role][]release.Party{release.Builder: {ci()}}}
		signtest.Refused(t, judgeWith(t, r, builder, packed(t, other)))
	})
	t.Run("only keys are trusted", func(t *testing.T) {
		key := p256(t)
		signtest.Refused(t, judgeWith(t, r, scannerTrust(release.Party{Name: "ci", PublicKey: string(key.PublicPEM())}), packed(t, other)))
	})
}

// case 25: what the certificate says of the run must be what the policy asks,
// claim by claim.
func TestClaims(t *testing.T) {
	v := newVirtual(t, noon.Add(time.Hour))
	r := v.trusted(t, true, true)
	asked := release.Claims{Repository: ofRepository, Ref: "refs/heads/main", Revision: "0123456789abcdef0123456789abcdef01234567",
		Owner: "https://github.com/acme", Workflow: workflowOf, Trigger: "push", Runner: "github-hosted"}
	party := release.Party{Name: "ci", IdentityMatch: `https://github\.com/acme/.+`, Issuer: actions, Claims: &asked}
	judge := func(c release.Claims) release.Evidence {
		s := good()
		s.claims = c
		return judgeWith(t, r, scannerTrust(party), packed(t, v.attest(t, signtest.Scan(planner), s)))
	}
	if e := judge(asked); !e.Verified {
		t.Fatal(e.Reason)
	}
	for name, edit := range map[string]func(c *release.Claims){
		"a fork":                func(c *release.Claims) { c.Repository = "https://github.com/evil/agent" },
		"another ref":           func(c *release.Claims) { c.Ref = "refs/heads/feature" },
		"a pull request":        func(c *release.Claims) { c.Trigger = "pull_request" },
		"another revision":      func(c *release.Claims) { c.Revision = "1123456789abcdef0123456789abcdef01234567" },
		"another owner":         func(c *release.Claims) { c.Owner = "https://github.com/evil" },
		"another workflow":      func(c *release.Claims) { c.Workflow += "x" },
		"somebody's runner":     func(c *release.Claims) { c.Runner = "self-hosted" },
		"nothing said of ref":   func(c *release.Claims) { c.Ref = "" },
		"nothing said of owner": func(c *release.Claims) { c.Owner = "" },
	} {
		t.Run("case 25: "+name, func(t *testing.T) {
			c := asked
			edit(&c)
			signtest.Refused(t, judge(c))
		})
	}
}

// case 21: one identity that signs twice, or under a second certificate, is one.
func TestOneIdentityIsOneOfAQuorum(t *testing.T) {
	v := newVirtual(t, noon.Add(time.Hour))
	verifier, err := New(Options{Trust: scannerTrust(ci()), Root: v.trusted(t, true, true)})
	check(t, err)
	list := []release.Attachment{packed(t, v.attest(t, signtest.Scan(planner), good())), packed(t, v.attest(t, signtest.Scan(planner), good()))}
	var signers []release.Signer
	for _, e := range verifier.Verify(t.Context(), planner, list) {
		if !e.Verified {
			t.Fatal(e.Reason)
		}
		signers = append(signers, e.Signer)
	}
	if names := release.Distinct(signers, release.Scanner); len(names) != 1 {
		t.Errorf("a quorum counts %v", names)
	}
}

// A key's log entries and stamps prove when it signed, where the root knows
// them; so a key that is out of use is still good for what it signed before.
func TestKeyAtItsTime(t *testing.T) {
	v := newVirtual(t, noon.Add(time.Hour))
	r, key := v.trusted(t, true, true), newECDSA(t)
	s := howSigned{key: key, logged: noon.Add(time.Minute)}
	_, text, _ := v.signer(t, s)
	party := release.Party{Name: "ci", PublicKey: string(text), NotAfter: noon.Add(time.Hour)} // judged ten days later
	sign := func(s howSigned) *protobundle.Bundle { return v.attest(t, signtest.Scan(planner), s) }
	judge := func(r *Root, b *protobundle.Bundle) release.Evidence {
		return judgeWith(t, r, scannerTrust(party), packed(t, b))
	}
	if e := judge(r, sign(s)); !e.Verified || !e.Time.Equal(s.logged) {
		t.Errorf("logged in time: %v, %s", e.Time, e.Reason)
	}
	stamped := howSigned{key: key, stamped: noon}
	if e := judge(r, sign(stamped)); !e.Verified || !e.Time.Equal(noon) {
		t.Errorf("stamped in time: %v, %s", e.Time, e.Reason)
	}
	forged := sign(s)
	forged.VerificationMaterial.TlogEntries = sign(s).VerificationMaterial.TlogEntries
	promised := sign(s)
	promised.VerificationMaterial.TlogEntries[0].IntegratedTime--
	for name, e := range map[string]release.Evidence{
		"no time":                    judge(r, sign(howSigned{key: key})),
		"nobody to believe the time": judge(nil, sign(s)),
		"logged too late":            judge(r, sign(howSigned{key: key, logged: noon.Add(2 * time.Hour)})),
		"stamped too late":           judge(r, sign(howSigned{key: key, stamped: noon.Add(2 * time.Hour)})),
		"entry of another signature": judge(r, forged),
		"the same without a root":    judgeWith(t, nil, scannerTrust(release.Party{Name: "ci", PublicKey: string(text)}), packed(t, forged)),
		"promise of another time":    judge(r, promised),
	} {
		t.Run(name, func(t *testing.T) { signtest.Refused(t, e) })
	}
}

// A root other than the one that the policy pins is no root.
func TestPinnedRoot(t *testing.T) {
	v := newVirtual(t, noon.Add(time.Hour))
	r, trust := v.trusted(t, true, true), scannerTrust(ci())
	trust.TrustedRoot = r.Digest()
	if _, err := New(Options{Trust: trust, Root: r}); err != nil {
		t.Error(err)
	}
	if _, err := New(Options{Trust: trust, Root: v.trusted(t, true, false)}); release.KindOf(err) != release.KindConfig {
		t.Errorf("got %v", err)
	}
}

// What is remembered of a certificate holds for this root only.
func TestMemoKnowsTheRoot(t *testing.T) {
	v, stranger := newVirtual(t, noon.Add(time.Hour)), newVirtual(t, noon.Add(time.Hour))
	memo := &counting{known: map[release.Digest]Proof{}}
	a := packed(t, v.attest(t, signtest.Scan(planner), good()))
	judge := func(r *Root, trust release.Trust) release.Evidence {
		verifier, err := New(Options{Trust: trust, Root: r, Memo: memo})
		check(t, err)
		return verifier.Verify(t.Context(), planner, []release.Attachment{a})[0]
	}
	fork := ci()
	fork.Claims = &release.Claims{Ref: "refs/heads/other"}
	first, second := judge(v.trusted(t, true, true), scannerTrust(ci())), judge(v.trusted(t, true, true), scannerTrust(ci()))
	if !first.Verified || !second.Verified || memo.hits != 1 || !first.Time.Equal(second.Time) {
		t.Fatalf("%d hits: %s %s", memo.hits, first.Reason, second.Reason)
	}
	signtest.Refused(t, judge(v.trusted(t, true, true), scannerTrust(fork)))
	if memo.hits != 2 {
		t.Errorf("%d hits", memo.hits)
	}
	signtest.Refused(t, judge(stranger.trusted(t, true, true), scannerTrust(ci())))
	if memo.hits != 2 {
		t.Errorf("remembered under another root: %d hits", memo.hits)
	}
}
