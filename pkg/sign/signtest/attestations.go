package signtest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

func testRoundTrip(t *testing.T, b *bench) {
	predicate := json.RawMessage(`{"a":[1,2.50,9007199254740993,"<&>"],"b":null}`)
	for predicateType, role := range map[string]release.Role{
		release.PredicateProvenance:    release.Builder,
		release.PredicateVulnerability: release.Scanner,
		release.PredicateCycloneDX:     release.Scanner,
		release.PredicateTestResult:    release.Tester,
		release.PredicateDecision:      release.Promoter,
	} {
		a := b.sign(t, b.ours, release.NewStatement(b.subject, predicateType, predicate))
		if a.Digest != release.DigestOf(a.Bundle) || a.PredicateType != predicateType {
			t.Errorf("attachment %s of type %s does not describe its bundle", a.Digest, a.PredicateType)
		}
		e := b.one(t, a)
		if !e.Verified || e.Reason != "" || !e.Counts(predicateType) {
			t.Fatalf("%s not verified: %s", predicateType, e.Reason)
		}
		if e.Subject != b.subject || e.PredicateType != predicateType || e.Role != role || e.Digest != a.Digest || !e.Time.IsZero() {
			t.Errorf("wrong evidence: %+v", e)
		}
		if e.Signer.Name != "ci" || e.Signer.ID != b.ours.Fingerprint() || e.Signer.Issuer != "" || e.Signer.Has(release.Approver) {
			t.Errorf("wrong signer: %+v", e.Signer)
		}
		var want, got any
		if json.Unmarshal(predicate, &want) != nil || json.Unmarshal(e.Predicate, &got) != nil || fmt.Sprint(want) != fmt.Sprint(got) ||
			!bytes.Contains(e.Predicate, []byte("2.50,9007199254740993")) {
			t.Errorf("predicate %s became %s", predicate, e.Predicate)
		}
	}
	for _, claim := range []string{release.PredicateSignature, ""} { // some registries hide annotations
		a := b.sign(t, b.ours, release.NewStatement(b.subject, release.PredicateSignature, nil))
		a.PredicateType, a.Digest = claim, release.Digest{}
		if e := b.one(t, a); !e.Counts(release.PredicateSignature) {
			t.Errorf("signature not verified: %s", e.Reason)
		}
	}
}

func testRepeatable(t *testing.T, b *bench) {
	st := Scan(b.subject)
	if first, second := b.sign(t, b.ours, st), b.sign(t, b.ours, st); !bytes.Equal(first.Bundle, second.Bundle) {
		t.Error("signing the same statement twice gives two bundles")
	}
}

func testRoles(t *testing.T, b *bench) {
	trust := release.Trust{Roles: map[release.Role][]release.Party{
		release.Builder: {{Name: "ci", PublicKey: string(b.ours.PublicPEM())}},
		release.Owner:   {{Name: "ci", PublicKey: string(b.ours.PublicPEM())}},
		release.Scanner: {{Name: "scan", PublicKey: string(b.theirs.PublicPEM())}},
	}}
	b.verifier = b.trusting(t, trust)
	if e := b.one(t, b.sign(t, b.theirs, Scan(b.subject))); !e.Verified || e.Signer.Name != "scan" {
		t.Errorf("the scanner's scan is not verified: %s", e.Reason)
	}
	// A clean scan signed by the builder.
	e := b.one(t, b.sign(t, b.ours, Scan(b.subject)))
	Refused(t, e)
	if e.Signer.Name != "ci" || !slices.Equal(e.Signer.Roles, []release.Role{release.Builder, release.Owner}) || e.Role != release.Scanner {
		t.Errorf("the evidence does not say who signed as what: %+v", e)
	}
	// A role that nobody holds, and a type that belongs to no role.
	decision := release.NewStatement(b.subject, release.PredicateDecision, json.RawMessage(`{"a":1}`))
	Refused(t, b.one(t, b.sign(t, b.ours, decision)))
	unknown := release.NewStatement(b.subject, "https://example.com/unheard-of/v1", json.RawMessage(`{"a":1}`))
	Refused(t, b.one(t, b.sign(t, b.ours, unknown)))
}

func testAltered(t *testing.T, b *bench) {
	good := b.sign(t, b.ours, Scan(b.subject))
	other := Scan(b.subject)
	other.Predicate = json.RawMessage(`{"scanner":{"result":"clean"}}`)
	swapped := b.sign(t, b.ours, other)

	Refused(t, b.one(t, b.sign(t, b.theirs, Scan(b.subject))))          // another key
	Refused(t, b.one(t, b.sign(t, b.ours, Scan(Subject("executor")))))  // another subject
	Refused(t, b.one(t, altered(good, func(bundle map[string]any) {}))) // other bytes than named
	for name, change := range map[string]func(dsse, material map[string]any){
		"two signatures": func(d, _ map[string]any) {
			d["signatures"] = append(d["signatures"].([]any), d["signatures"].([]any)[0])
		},
		"no signature":             func(d, _ map[string]any) { d["signatures"] = []any{} },
		"signatures missing":       func(d, _ map[string]any) { delete(d, "signatures") },
		"empty signature":          func(d, _ map[string]any) { d["signatures"] = []any{map[string]any{"sig": ""}} },
		"swapped payload":          func(d, _ map[string]any) { d["payload"] = dsseOf(swapped)["payload"] },
		"empty payload":            func(d, _ map[string]any) { d["payload"] = "" },
		"another payload type":     func(d, _ map[string]any) { d["payloadType"] = "application/json" },
		"payload type in capitals": func(d, _ map[string]any) { d["payloadType"] = strings.ToUpper(envelope.PayloadType) },
		"a certificate instead of a key": func(_, m map[string]any) {
			delete(m, "publicKey")
			m["certificate"] = map[string]any{"rawBytes": "MAA="}
		},
		"no verification material": func(_, m map[string]any) { delete(m, "publicKey") },
	} {
		a := altered(good, func(bundle map[string]any) {
			change(bundle["dsseEnvelope"].(map[string]any), bundle["verificationMaterial"].(map[string]any))
		})
		a.Digest = release.Digest{}
		t.Run(name, func(t *testing.T) { Refused(t, b.one(t, a)) })
	}
	for name, change := range map[string]func(map[string]any){
		"no envelope":        func(m map[string]any) { delete(m, "dsseEnvelope") },
		"another media type": func(m map[string]any) { m["mediaType"] = "application/json" },
		"an older version":   func(m map[string]any) { m["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2" },
		"a later version":    func(m map[string]any) { m["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.9+json" },
	} {
		a := altered(good, change)
		a.Digest = release.Digest{}
		t.Run(name, func(t *testing.T) { Refused(t, b.one(t, a)) })
	}
	twice := good
	twice.Digest = release.Digest{}
	twice.Bundle = bytes.Replace(good.Bundle, []byte(`"mediaType"`), []byte(`"mediaType":"x","mediaType"`), 1)
	Refused(t, b.one(t, twice))

	announced := good
	announced.PredicateType = release.PredicateProvenance
	Refused(t, b.one(t, announced))
	if e := b.one(t, good); !e.Verified {
		t.Errorf("the unaltered one is not verified: %s", e.Reason)
	}
	eachBit(t, b, good)
}

// eachBit flips one bit of every byte of the signature and of some of the payload.
func eachBit(t *testing.T, b *bench, good release.Attachment) {
	flip := func(of func(dsse map[string]any) (text string, put func(string)), step int) {
		raw, _ := of(dsseOf(good))
		decoded, err := base64.StdEncoding.DecodeString(raw)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(decoded); i += step {
			bad := slices.Clone(decoded)
			bad[i] ^= 1 << (i % 8)
			a := altered(good, func(bundle map[string]any) {
				_, put := of(bundle["dsseEnvelope"].(map[string]any))
				put(base64.StdEncoding.EncodeToString(bad))
			})
			a.Digest = release.Digest{}
			Refused(t, b.one(t, a))
		}
	}
	flip(func(d map[string]any) (string, func(string)) {
		sig := d["signatures"].([]any)[0].(map[string]any)
		return sig["sig"].(string), func(s string) { sig["sig"] = s }
	}, 1)
	flip(func(d map[string]any) (string, func(string)) {
		return d["payload"].(string), func(s string) { d["payload"] = s }
	}, 7)
}

// testStatements signs, with the trusted key, statements that mean nothing or
// could be read in two ways.
func testStatements(t *testing.T, b *bench) {
	digest := `"digest":{"sha256":"` + b.subject.Digest.Hex() + `"}`
	subject := `"subject":[{` + digest + `}]`
	head := `"_type":"` + release.StatementType + `"`
	vuln := `"predicateType":"` + release.PredicateVulnerability + `"`
	body := `"predicate":{"a":1}`
	whole := func(members ...string) string { return "{" + strings.Join(members, ",") + "}" }

	a := b.sealed(t, b.ours, envelope.PayloadType, []byte(whole(head, subject, vuln, body)))
	if e := b.one(t, a); !e.Verified {
		t.Fatalf("the plain statement is refused: %s", e.Reason)
	}
	for name, payload := range map[string]string{
		"duplicate predicate type":    whole(head, subject, `"predicateType":"`+release.PredicateProvenance+`"`, vuln, body),
		"duplicate subject":           whole(head, `"subject":[{"digest":{"sha256":"`+release.DigestOf(nil).Hex()+`"}}]`, subject, vuln, body),
		"duplicate in the predicate":  whole(head, subject, vuln, `"predicate":{"a":1,"a":2}`),
		"duplicate digest":            whole(head, `"subject":[{"digest":{"sha256":"00","sha256":"`+b.subject.Digest.Hex()+`"}}]`, vuln, body),
		"member in another case":      whole(head, subject, vuln, `"PredicateType":"x"`, body),
		"subject in another case":     whole(head, `"subject":[{"Digest":{"sha256":"00"},`+digest+`}]`, vuln, body),
		"alternative spelling":        whole(head, subject, `"predicate_type":"`+release.PredicateVulnerability+`"`, body),
		"unknown member":              whole(head, subject, vuln, body, `"extra":1`),
		"two subjects":                whole(head, `"subject":[{`+digest+`},{`+digest+`}]`, vuln, body),
		"no subject":                  whole(head, `"subject":[]`, vuln, body),
		"subject missing":             whole(head, vuln, body),
		"another algorithm only":      whole(head, `"subject":[{"digest":{"sha512":"`+strings.Repeat("00", 64)+`"}}]`, vuln, body),
		"digest in capitals":          whole(head, strings.ReplaceAll(subject, b.subject.Digest.Hex(), strings.ToUpper(b.subject.Digest.Hex())), vuln, body),
		"another statement type":      whole(`"_type":"https://in-toto.io/Statement/v2"`, subject, vuln, body),
		"statement type missing":      whole(subject, vuln, body),
		"predicate type missing":      whole(head, subject, body),
		"empty predicate type":        whole(head, subject, `"predicateType":""`, body),
		"predicate type with a break": whole(head, subject, `"predicateType":"https://a/\nb"`, body),
		"predicate missing":           whole(head, subject, vuln),
		"predicate null":              whole(head, subject, vuln, `"predicate":null`),
		"predicate empty":             whole(head, subject, vuln, `"predicate":{}`),
		"predicate a list":            whole(head, subject, vuln, `"predicate":[1]`),
		"trailing bytes":              whole(head, subject, vuln, body) + "{}",
		"invalid UTF-8":               whole(head, subject, vuln, "\"predicate\":{\"a\":\"\xff\"}"),
		"not JSON":                    "predicateType: x",
		"a list":                      "[]",
		"nested too deep":             whole(head, subject, vuln, `"predicate":{"a":`+strings.Repeat("[", 500)+strings.Repeat("]", 500)+`}`),
	} {
		a := b.sealed(t, b.ours, envelope.PayloadType, []byte(payload))
		t.Run(name, func(t *testing.T) { Refused(t, b.one(t, a)) })
	}
	null := whole(head, subject, `"predicateType":"`+release.PredicateSignature+`"`, `"predicate":null`)
	Refused(t, b.one(t, b.sealed(t, b.ours, envelope.PayloadType, []byte(null))))
	// The right statement under another payload type, signed as such.
	Refused(t, b.one(t, b.sealed(t, b.ours, "application/vnd.promote.record.v1+json", []byte(whole(head, subject, vuln, body)))))
}

func testGarbage(t *testing.T, b *bench) {
	good := b.sign(t, b.ours, Scan(b.subject)).Bundle
	list := [][]byte{nil, {}, {0}, []byte("null"), []byte("{}"), []byte("[]"), []byte("\"\""), []byte("{\"dsseEnvelope\":null}"),
		[]byte(`{"mediaType":"` + release.MediaTypeBundle + `"}`),
		[]byte(`{"mediaType":"` + release.MediaTypeBundle + `","verificationMaterial":{"publicKey":{}},"dsseEnvelope":{}}`),
		[]byte(`{"mediaType":"` + release.MediaTypeBundle + `","verificationMaterial":{"publicKey":{}},"messageSignature":{}}`),
		[]byte(`{"mediaType":"` + release.MediaTypeBundle + `","verificationMaterial":{"publicKey":{},"tlogEntries":[{}]},"dsseEnvelope":{"signatures":[{}]}}`),
		append(slices.Clone(good), good...), []byte(strings.Repeat("[", 100_000)), bytes.Repeat([]byte{0xff}, 4096)}
	for i := 0; i < len(good); i += 11 { // cut off anywhere
		list = append(list, good[:i])
	}
	for _, raw := range list {
		e := b.one(t, release.Attachment{Bundle: raw, PredicateType: "\x1b[2Jhttps://x"})
		Refused(t, e)
		if e.PredicateType != "" {
			t.Errorf("shows the announced type %q", e.PredicateType)
		}
	}
	var none release.Subject
	Refused(t, b.verifier.Verify(t.Context(), none, []release.Attachment{{Bundle: good}})[0])
	if got := b.verifier.Verify(t.Context(), b.subject, nil); len(got) != 0 {
		t.Errorf("%d pieces of evidence from nothing", len(got))
	}
}

func testBounds(t *testing.T, b *bench) {
	a := b.sign(t, b.ours, Scan(b.subject))
	a.Bundle = append(a.Bundle, bytes.Repeat([]byte{' '}, envelope.MaxBundle)...)
	a.Digest = release.Digest{}
	Refused(t, b.one(t, a))

	many := make([]release.Attachment, envelope.MaxAttachments+1)
	for i := range many {
		many[i] = b.sign(t, b.ours, Scan(b.subject))
	}
	for _, e := range b.verifier.Verify(t.Context(), b.subject, many) {
		Refused(t, e)
	}
	text, err := b.ours.SignEnvelope(t.Context(), "x", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, bytes.Repeat([]byte{' '}, envelope.MaxEnvelope)...)
	if _, _, err := b.verifier.VerifyEnvelope(text, "x"); err == nil {
		t.Error("an endless envelope is verified")
	}
}

func testMixed(t *testing.T, b *bench) {
	good := b.sign(t, b.ours, Scan(b.subject))
	list := b.verifier.Verify(t.Context(), b.subject, []release.Attachment{
		{Bundle: []byte("junk")}, good, b.sign(t, b.theirs, Scan(b.subject)), good})
	if len(list) != 4 || !list[1].Verified || !list[3].Verified {
		t.Fatalf("bad neighbours spoil good evidence: %+v", list)
	}
	Refused(t, list[0])
	Refused(t, list[2])
}

func testInterrupted(t *testing.T, b *bench) {
	good := b.sign(t, b.ours, Scan(b.subject))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, e := range b.verifier.Verify(ctx, b.subject, []release.Attachment{good}) {
		Refused(t, e)
	}
	if _, err := b.ours.Sign(ctx, Scan(b.subject)); release.KindOf(err) != release.KindInterrupted {
		t.Errorf("signing after cancel: %v", err)
	}
	if _, err := b.ours.SignEnvelope(ctx, "x", []byte("x")); release.KindOf(err) != release.KindInterrupted {
		t.Errorf("signing an envelope after cancel: %v", err)
	}
}

// altered changes a copy of a bundle; the digest stays the old one.
func altered(a release.Attachment, change func(bundle map[string]any)) release.Attachment {
	var bundle map[string]any
	if err := json.Unmarshal(a.Bundle, &bundle); err != nil {
		panic(err) // the suite's own bundle
	}
	change(bundle)
	text, err := json.MarshalIndent(bundle, "", " ")
	if err != nil {
		panic(err)
	}
	a.Bundle = text
	return a
}

func dsseOf(a release.Attachment) map[string]any {
	var bundle map[string]any
	if err := json.Unmarshal(a.Bundle, &bundle); err != nil {
		panic(err) // the suite's own bundle
	}
	return bundle["dsseEnvelope"].(map[string]any)
}
