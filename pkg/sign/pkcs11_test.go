//go:build engine && pkcs11key

package sign

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/signtest"
)

const pin = "canary-pin-4711"

// token is a token of SoftHSM's with keys "ops" (P-256), "rsa" and "wide" (P-384).
type token struct{ module string }

func newToken(t *testing.T) token {
	t.Helper()
	var h token
	for _, at := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"} {
		if info, err := os.Stat(at); err == nil && info.Mode().IsRegular() {
			h.module = at
		}
	}
	if h.module == "" {
		t.Fatal("no libsofthsm2.so: `make test-hardware` installs it")
	}
	dir := t.TempDir()
	check(t, os.Mkdir(filepath.Join(dir, "tokens"), 0o700))
	t.Setenv("SOFTHSM2_CONF", write(t, "softhsm2.conf", []byte("directories.tokendir = "+filepath.Join(dir, "tokens")+"\nobjectstore.backend = file\nlog.level = ERROR\n")))
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	run("softhsm2-util", "--init-token", "--free", "--label", "release", "--so-pin", "so-"+pin, "--pin", pin)
	for i, k := range [][2]string{{"ops", "EC:prime256v1"}, {"rsa", "rsa:2048"}, {"wide", "EC:secp384r1"}} {
		run("pkcs11-tool", "--module", h.module, "--login", "--pin", pin, "--token-label", "release", "--keypairgen", "--key-type", k[1], "--label", k[0], "--id", "0"+string(rune('1'+i)))
	}
	t.Setenv("COSIGN_PKCS11_PIN", pin)
	return h
}

func (h token) uri(object string) string {
	return "pkcs11:token=release;object=" + object + "?module-path=" + h.module
}

// What a token signs verifies, in every form, and again: as another signature,
// because a token chooses a number of its own each time.
func TestHardware(t *testing.T) {
	h := newToken(t)
	for _, object := range []string{"ops", "rsa"} {
		t.Run(object, func(t *testing.T) {
			key, err := LoadKey(t.Context(), h.uri(object), func() ([]byte, error) { t.Error("asked for a passphrase"); return nil, nil })
			check(t, err)
			defer key.Close()
			v, err := NewVerifier(TrustOf(key.PublicPEM(), "ops"))
			check(t, err)
			subject := signtest.Subject("planner")
			for range 2 {
				a, err := key.Sign(t.Context(), signtest.Scan(subject))
				check(t, err)
				if e := v.Verify(t.Context(), subject, []release.Attachment{a})[0]; !e.Verified || e.Signer.ID != key.Fingerprint() {
					t.Errorf("not verified: %s", e.Reason)
				}
			}
			older, err := key.SignLegacy(t.Context(), subject)
			check(t, err)
			if e := v.VerifyLegacy(t.Context(), subject, []release.LegacyAttachment{older})[0]; !e.Verified {
				t.Errorf("older form: not verified: %s", e.Reason)
			}
			text, err := key.SignEnvelope(t.Context(), "application/x", []byte("record"))
			check(t, err)
			payload, _, err := v.VerifyEnvelope(text, "application/x")
			if err != nil || !bytes.Equal(payload, []byte("record")) {
				t.Errorf("envelope: %v", err)
			}
			key.Close()
			if _, err := key.Sign(t.Context(), signtest.Scan(subject)); err == nil {
				t.Error("signs after it was closed")
			}
		})
	}
}

// Nothing that is wrong with a token panics, waits for a terminal, or tells the PIN.
func TestHardwareThatFails(t *testing.T) {
	h := newToken(t)
	for name, c := range map[string]struct {
		ref, pin string
		kind     release.Kind
		says     string
	}{
		"no such key":    {h.uri("other"), pin, release.KindConfig, "holds no key pair"},
		"no such token":  {strings.Replace(h.uri("ops"), "token=release", "token=other", 1), pin, release.KindUnavailable, "opening key pkcs11:object=ops"},
		"no such module": {"pkcs11:token=release;object=ops?module-path=/nowhere.so", pin, release.KindUnavailable, "opening key pkcs11:object=ops"},
		"wrong PIN":      {h.uri("ops"), "canary-pin-0815", release.KindUnavailable, "opening key pkcs11:object=ops"},
		"no PIN":         {h.uri("ops"), "", release.KindConfig, "COSIGN_PKCS11_PIN"},
		"PIN in the URI": {h.uri("ops") + "&pin-value=" + pin, pin, release.KindConfig, "its URI holds the PIN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("COSIGN_PKCS11_PIN", c.pin)
			key, err := LoadKey(t.Context(), c.ref, nil)
			if key != nil || err == nil || release.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v of kind %s, want %s that says %q", err, release.KindOf(err), c.kind, c.says)
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("error tells the PIN: %v", err)
			}
		})
	}
	// A curve whose digest the library does not use is refused before anybody
	// sees the signature.
	key, err := LoadKey(t.Context(), h.uri("wide"), nil)
	if err == nil {
		defer key.Close()
		_, err = key.Sign(t.Context(), signtest.Scan(signtest.Subject("planner")))
	}
	if err == nil {
		t.Error("signs with P-384 and SHA-256")
	}
}
