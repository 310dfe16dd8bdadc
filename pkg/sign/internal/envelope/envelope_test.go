package envelope

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

// The example of the DSSE protocol document.
func TestPAE(t *testing.T) {
	got := string(PAE("http://example.com/HelloWorld", []byte("hello world")))
	if want := "DSSEv1 29 http://example.com/HelloWorld 11 hello world"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if a, b := PAE("a", []byte("b c")), PAE("a b", []byte("c")); bytes.Equal(a, b) {
		t.Error("two envelopes have the same encoding")
	}
}

func TestTidy(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                  "plain",
		"two\nlines\x1b[2J\x00":  "two lines?[2J?",
		"proto:\u00a0error":      "proto: error",
		"\xff":                   "?",
		strings.Repeat("ä", 300): strings.Repeat("ä", 200) + "…",
	} {
		if got := Tidy(in); got != want {
			t.Errorf("Tidy(%q) = %q, want %q", in, got, want)
		}
	}
}

// A defect in a parser costs the evidence it was reading, not the run.
func TestPanicIsNoPass(t *testing.T) {
	open := func([]byte) (Sealed, error) { panic("a defect") }
	list := JudgeAll(t.Context(), release.Subject{}, []release.Attachment{{Bundle: []byte("x")}}, Rules{Open: open})
	if len(list) != 1 || list[0].Verified || list[0].Reason == "" {
		t.Errorf("evidence after a panic: %+v", list)
	}
}

// What is too large or too many is not even opened.
func TestCapsComeFirst(t *testing.T) {
	opened := 0
	open := func([]byte) (Sealed, error) { opened++; return nil, errors.New("opened") }
	JudgeAll(t.Context(), release.Subject{}, make([]release.Attachment, MaxAttachments+1), Rules{Open: open})
	JudgeAll(t.Context(), release.Subject{}, []release.Attachment{{Bundle: make([]byte, MaxBundle+1)}}, Rules{Open: open})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	JudgeAll(ctx, release.Subject{}, make([]release.Attachment, 1), Rules{Open: open})
	if opened != 0 {
		t.Errorf("opened %d bundles", opened)
	}
	JudgeAll(t.Context(), release.Subject{}, make([]release.Attachment, MaxAttachments), Rules{Open: open})
	if opened != MaxAttachments {
		t.Errorf("opened %d bundles, want %d", opened, MaxAttachments)
	}
}

func TestWeakKeysAreRefused(t *testing.T) {
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GODEBUG", "rsa1024min=0")
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	exchange, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, public := range map[string]any{"P-224": p224.Public(), "RSA 1024": short.Public(), "X25519": exchange.Public()} {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := ParsePublicKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// Without a role for it a type would be refused anyway, so this looks closer.
func TestPredicateTypeIsPlain(t *testing.T) {
	for _, predicateType := range []string{"relative", "https:", "https://a/\\nb", "https://a/ b", "https://ä", "https://" + strings.Repeat("a", 600)} {
		text := strings.Replace(statementText(`{"a":1}`), release.PredicateVulnerability, predicateType, 1)
		if _, err := ParseStatement([]byte(text)); err == nil {
			t.Errorf("%q is accepted", predicateType)
		}
	}
}
