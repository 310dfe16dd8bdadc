package seal_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"io"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	"github.com/promote-dev/promote/internal/seal"
	"github.com/promote-dev/promote/pkg/release"
)

func sealed(t *testing.T, s *seal.Sealer, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := s.Seal(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), text) {
		t.Error("it is not encrypted")
	}
	return b.Bytes()
}

func opens(s *seal.Sealer, raw []byte, identity string) (string, error) {
	r, err := s.Open(bytes.NewReader(raw), identity)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(r)
	return string(text), err
}

// keys gives a public and a private key of each kind that is taken.
func keys(t *testing.T) map[string][2]string {
	t.Helper()
	x, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	host, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][2]string{
		"age":          {"# created: today\n" + x.Recipient().String() + "\n", "# public key: …\n" + x.String() + "\n"},
		"post-quantum": {hybrid.Recipient().String(), hybrid.String()},
		"ssh":          {string(ssh.MarshalAuthorizedKey(host)), string(pem.EncodeToMemory(block))},
	}
}

func TestWhoOpensWhat(t *testing.T) {
	const text = "what the agent learned"
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for name, pair := range keys(t) {
		t.Run(name, func(t *testing.T) {
			s, err := seal.New(pair[0])
			if err != nil {
				t.Fatal(err)
			}
			raw := sealed(t, s, text)
			if got, err := opens(s, raw, ""); err != nil || got != text {
				t.Errorf("the process that sealed it: %q, %v", got, err)
			}
			if got, err := opens(nil, raw, pair[1]); err != nil || got != text {
				t.Errorf("the private key: %q, %v", got, err)
			}
			another, err := seal.New(pair[0])
			if err != nil {
				t.Fatal(err)
			}
			for who, open := range map[string]func() (string, error){
				"another process": func() (string, error) { return opens(another, raw, "") },
				"another key":     func() (string, error) { return opens(nil, raw, other.String()) },
				"nobody":          func() (string, error) { return opens(nil, raw, "") },
			} {
				if got, err := open(); release.KindOf(err) != release.KindUsage || got != "" {
					t.Errorf("%s: %q, %v", who, got, err)
				}
			}
			for _, cut := range []int{len(raw) - 1, len(raw) - 20, 200} {
				if got, err := opens(s, raw[:cut], ""); err == nil {
					t.Errorf("cut off at %d of %d: %q", cut, len(raw), got)
				}
			}
			raw[len(raw)-3] ^= 1
			if got, err := opens(s, raw, ""); err == nil {
				t.Errorf("changed: %q", got)
			}
		})
	}
}

func TestKeysThatAreNone(t *testing.T) {
	x, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing": "", "a comment": "# later\n", "a word": "backup", "a private key": x.String(), "too long": strings.Repeat("a", 70<<10),
		"one of two": x.Recipient().String() + "\nage1x\n",
	} {
		if _, err := seal.New(text); release.KindOf(err) != release.KindConfig || strings.Contains(err.Error(), "SECRET-KEY-") {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := seal.New(x.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	raw := sealed(t, s, "text")
	for name, identity := range map[string]string{
		"a public key": x.Recipient().String(), "half a key": x.String()[:30], "no key": "secret words", "broken PEM": "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret words", "too long": strings.Repeat("a", 70<<10),
	} {
		if _, err := opens(nil, raw, identity); release.KindOf(err) != release.KindUsage || strings.Contains(err.Error(), "secret words") || strings.Contains(err.Error(), x.String()[16:30]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
