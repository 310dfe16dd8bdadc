package envelope

import (
	"bytes"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

func statementText(predicate string) string {
	return `{"_type":"` + release.StatementType + `","subject":[{"name":"r/x","digest":{"sha256":"` + release.DigestOf(nil).Hex() +
		`"}}],"predicateType":"` + release.PredicateVulnerability + `","predicate":` + predicate + `}`
}

// Whatever Parse accepts has one reading: written again it reads the same.
func FuzzParse(f *testing.F) {
	good, err := Envelope{PayloadType: PayloadType, Payload: []byte(statementText(`{"a":1}`)), Signature: []byte("sig")}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"payload":"eA==","payloadType":"x","signatures":[{"keyid":"k","sig":"eA=="}]}`))
	f.Add([]byte(`{"payload":"eA==","payload":"eQ==","payloadType":"x","signatures":[{"sig":"eA=="},{"sig":"eA=="}]}`))
	f.Add([]byte(`{"Payload":"eB==","payloadType":"x","signatures":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := Parse(raw)
		if err != nil {
			return
		}
		text, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(text)
		if err != nil || again.PayloadType != e.PayloadType || !bytes.Equal(again.Payload, e.Payload) || !bytes.Equal(again.Signature, e.Signature) {
			t.Fatalf("%q reads as %+v, written again as %+v: %v", raw, e, again, err)
		}
	})
}

// Whatever ParseStatement accepts is about one digest and has a plain type.
func FuzzParseStatement(f *testing.F) {
	f.Add([]byte(statementText(`{"a":1}`)))
	f.Add([]byte(strings.Replace(statementText(`{"a":1}`), "Statement/v1", "Statement/v0.1", 1)))
	f.Add([]byte(strings.Replace(statementText(`{}`), release.PredicateVulnerability, release.PredicateSignature, 1)))
	f.Add([]byte(statementText(`{"a":1,"a":[[[{"b":"\u0000"}]]]}`)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		st, err := ParseStatement(raw)
		if err != nil {
			return
		}
		d, err := release.ParseDigest("sha256:" + st.Subject[0].Digest["sha256"])
		if err != nil || !st.About(d) || !PlainURI(st.PredicateType) {
			t.Fatalf("%q reads as %+v", raw, st)
		}
		if st.Type != release.StatementType {
			return
		}
		text, err := EncodeStatement(st)
		if err != nil {
			t.Fatalf("%q is read but cannot be written: %v", raw, err)
		}
		if again, err := ParseStatement(text); err != nil || again.PredicateType != st.PredicateType || !again.About(d) {
			t.Fatalf("%q reads as %+v, written again as %+v: %v", raw, st, again, err)
		}
	})
}

// A bundle that the light reader accepts never panics a judge.
func FuzzParseBundle(f *testing.F) {
	good, err := EncodeBundle(Envelope{PayloadType: PayloadType, Payload: []byte(statementText(`{"a":1}`)), Signature: []byte("sig")}, "hint")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte("publicKey"), []byte("certificate"), 1))
	f.Add([]byte(`{"mediaType":"` + release.MediaTypeBundle + `","verificationMaterial":{"publicKey":{}},"dsseEnvelope":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := ParseBundle(raw)
		if err == nil && (e.PayloadType == "" || len(e.Payload) == 0 || len(e.Signature) == 0) {
			t.Fatalf("%q reads as %+v", raw, e)
		}
	})
}

// What is read of a simple signing payload is a statement that can be signed.
func FuzzParseSimpleSigning(f *testing.F) {
	f.Add([]byte(`{"critical":{"identity":{"docker-reference":"r"},"image":{"docker-manifest-digest":"sha256:` + strings.Repeat("a", 64) + `"},"type":"cosign container image signature"},"optional":null}`))
	f.Add([]byte(`{"critical":{"image":{}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		st, err := ParseSimpleSigning(raw)
		if err != nil {
			return
		}
		if _, err := EncodeStatement(st); err != nil || len(st.Subject) != 1 || st.PredicateType != release.PredicateSignature {
			t.Fatalf("%q gives %+v: %v", raw, st, err)
		}
	})
}
