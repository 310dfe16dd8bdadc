package signtest

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

const recordType = "application/vnd.promote.record.v1+json"

func testEnvelopes(t *testing.T, b *bench) {
	for _, payload := range []string{`{"a":1}`, "origin\n3\nroot\n", "\x00\xff", "<>&"} {
		text, err := b.ours.SignEnvelope(t.Context(), recordType, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		got, signer, err := b.verifier.VerifyEnvelope(text, recordType)
		if err != nil || string(got) != payload || signer.Name != "ci" || signer.ID != b.ours.Fingerprint() || !signer.Has(release.Promoter) {
			t.Errorf("payload %q became %q by %+v: %v", payload, got, signer, err)
		}
		if canonical, err := release.CanonicalJSON(text); err != nil || !bytes.Equal(canonical, text) {
			t.Errorf("envelope is not canonical JSON: %s", text)
		}
		again, err := b.ours.SignEnvelope(t.Context(), recordType, []byte(payload))
		if err != nil || !bytes.Equal(again, text) {
			t.Errorf("signing the same payload twice gives two envelopes: %v", err)
		}
	}
}

func testAlteredEnvelopes(t *testing.T, b *bench) {
	text, err := b.ours.SignEnvelope(t.Context(), recordType, []byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.ours.SignEnvelope(t.Context(), recordType, []byte(`{"a":2}`))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := b.theirs.SignEnvelope(t.Context(), recordType, []byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	good, bad := string(text), member(t, other, "payload")
	sig := good[strings.Index(good, `{"sig"`) : strings.LastIndex(good, "}]")+1]
	for name, text := range map[string]string{
		"another key":              string(theirs),
		"swapped payload":          strings.Replace(good, member(t, text, "payload"), bad, 1),
		"two signatures":           strings.Replace(good, sig, sig+","+sig, 1),
		"no signature":             strings.Replace(good, sig, "", 1),
		"duplicate payload":        strings.Replace(good, `{"payload":`, `{"payload":`+bad+`,"payload":`, 1),
		"payload in another case":  strings.Replace(good, `{"payload":`, `{"Payload":`+bad+`,"payload":`, 1),
		"unknown member":           strings.Replace(good, `{"payload":`, `{"extra":1,"payload":`, 1),
		"trailing bytes":           good + good,
		"other base64 of the same": strings.Replace(good, `fQ=="`, `fR=="`, 1),
		"line break in base64":     strings.Replace(good, `"sig":"`, `"sig":"\n`, 1),
		"nothing":                  "",
		"null":                     "null",
		"half":                     good[:len(good)/2],
	} {
		if _, _, err := b.verifier.VerifyEnvelope([]byte(text), recordType); err == nil {
			t.Errorf("%s: verified", name)
		} else {
			kind(t, err, release.KindDenied)
		}
	}
	_, _, err = b.verifier.VerifyEnvelope(text, "application/vnd.promote.checkpoint.v1")
	kind(t, err, release.KindDenied)
}

func member(t *testing.T, object []byte, name string) string {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		t.Fatal(err)
	}
	return string(members[name])
}

func testRefusesToSign(t *testing.T, b *bench) {
	two := Scan(b.subject)
	two.Subject = append(two.Subject, two.Subject[0])
	untyped := Scan(b.subject)
	untyped.Type = ""
	old := Scan(b.subject)
	old.Type = "https://in-toto.io/Statement/v0.1" // read, never written
	for name, st := range map[string]release.Statement{
		"no subject":           {Type: release.StatementType, PredicateType: release.PredicateSignature},
		"no digest":            Scan(release.Subject{Repository: "registry.example/x"}),
		"two subjects":         two,
		"no type":              untyped,
		"older type":           old,
		"no predicate":         release.NewStatement(b.subject, release.PredicateVulnerability, nil),
		"no predicate type":    release.NewStatement(b.subject, "", json.RawMessage(`{"a":1}`)),
		"broken predicate":     release.NewStatement(b.subject, release.PredicateVulnerability, json.RawMessage(`{"a":`)),
		"duplicate keys":       release.NewStatement(b.subject, release.PredicateVulnerability, json.RawMessage(`{"a":1,"a":2}`)),
		"predicate not object": release.NewStatement(b.subject, release.PredicateVulnerability, json.RawMessage(`3`)),
	} {
		if _, err := b.ours.Sign(t.Context(), st); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, err := b.ours.SignEnvelope(t.Context(), "", []byte("x")); err == nil {
		t.Error("signed a payload without a type")
	}
	if _, err := b.ours.SignEnvelope(t.Context(), "x", nil); err == nil {
		t.Error("signed an empty payload")
	}
}

func testClosed(t *testing.T, b *bench) {
	fingerprint := b.ours.Fingerprint()
	b.ours.Close()
	b.ours.Close()
	if _, err := b.ours.Sign(t.Context(), Scan(b.subject)); err == nil {
		t.Error("a closed key signs statements")
	}
	if _, err := b.ours.SignEnvelope(t.Context(), "x", []byte("x")); err == nil {
		t.Error("a closed key signs envelopes")
	}
	if b.ours.Fingerprint() != fingerprint {
		t.Error("a closed key has another fingerprint")
	}
}

func testTrust(t *testing.T, b *bench) {
	party := func(name string, key Signer) release.Party {
		return release.Party{Name: name, PublicKey: string(key.PublicPEM())}
	}
	holding := func(role release.Role, parties ...release.Party) release.Trust {
		return release.Trust{Roles: map[release.Role][]release.Party{role: parties}}
	}
	single := TrustOf(b.ours.PublicPEM(), "ci")
	single.Roles[release.Approver] = single.Roles[release.Owner]
	identity := release.Party{Name: "ci", Identity: "https://ci.example/workflow", Issuer: "https://issuer.example"}
	both := party("ci", b.ours)
	both.Identity = identity.Identity
	pem := string(b.ours.PublicPEM())
	for name, trust := range map[string]release.Trust{
		"nothing":                        {},
		"roles without holders":          holding(release.Builder),
		"no name":                        holding(release.Builder, party("", b.ours)),
		"no key":                         holding(release.Builder, release.Party{Name: "ci"}),
		"not PEM":                        holding(release.Builder, release.Party{Name: "ci", PublicKey: "keys/ci.pub"}),
		"half a PEM":                     holding(release.Builder, release.Party{Name: "ci", PublicKey: pem[:len(pem)/2]}),
		"two PEM blocks":                 holding(release.Builder, release.Party{Name: "ci", PublicKey: pem + string(b.theirs.PublicPEM())}),
		"a private key's PEM type":       holding(release.Builder, release.Party{Name: "ci", PublicKey: strings.ReplaceAll(pem, "PUBLIC", "PRIVATE")}),
		"one key under two names":        holding(release.Approver, party("alice", b.ours), party("bob", b.ours)),
		"unknown role":                   holding("buildre", party("ci", b.ours)),
		"an identity nobody vouches for": holding(release.Builder, release.Party{Name: "ci", Identity: identity.Identity}),
		"a key and an identity":          holding(release.Builder, both),
		"a single key that approves":     single,
		"one good party, one bad":        holding(release.Builder, party("ci", b.ours), release.Party{Name: "x", PublicKey: "x"}),
	} {
		if _, err := b.impl.NewVerifier(trust); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			kind(t, err, release.KindConfig)
		}
	}
	// One name with an old and a new key, one key with two roles.
	rotated := holding(release.Builder, party("ci", b.ours), party("ci", b.theirs))
	rotated.Roles[release.Scanner] = []release.Party{party("ci", b.theirs)}
	b.verifier = b.trusting(t, rotated)
	if e := b.one(t, b.sign(t, b.theirs, Scan(b.subject))); !e.Verified || !e.Signer.Has(release.Builder) {
		t.Errorf("a second key of the same name is not trusted: %s", e.Reason)
	}
	Refused(t, b.one(t, b.sign(t, b.ours, Scan(b.subject))))
}
