//go:build conformance

package wire

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/internal/cli"
)

// What the suite asks for where a case doesn't say.
const (
	suiteIdentity = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
	suiteIssuer   = "https://token.actions.githubusercontent.com"
	leastCases    = 70 // of which the suite of 2026 has
)

// The public sigstore client conformance vectors, as the suite's own runner
// asks: each by file and by digest, offline. SIGSTORE_CONFORMANCE names a
// checkout of https://github.com/sigstore/sigstore-conformance.
func TestConformance(t *testing.T) {
	suite := os.Getenv("SIGSTORE_CONFORMANCE")
	if suite == "" {
		t.Fatal("SIGSTORE_CONFORMANCE must name a checkout of sigstore-conformance")
	}
	cases, err := filepath.Glob(filepath.Join(suite, "test", "assets", "bundle-verify", "*", "bundle.sigstore.json"))
	if err != nil || len(cases) < leastCases {
		t.Fatalf("%d cases below %s, want at least %d: %v", len(cases), suite, leastCases, err)
	}
	public := shippedRoot(t)
	for _, bundle := range cases {
		dir := filepath.Dir(bundle)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			for how, args := range asked(t, dir, public) {
				code, says := promote(t, args)
				switch fails := strings.HasSuffix(dir, "_fail"); {
				case fails && code == 0:
					t.Errorf("by %s: verified", how)
				case !fails && code != 0:
					t.Errorf("by %s: exit %d: %s", how, code, says)
				case strings.Contains(says, "defect") || strings.Contains(says, "unexpectedly"):
					t.Errorf("by %s: panicked: %s", how, says)
				}
				t.Logf("by %s: exit %d: %s", how, code, says)
			}
		})
	}
}

// asked gives the arguments by file and by digest.
func asked(t *testing.T, dir, root string) map[string][]string {
	t.Helper()
	if own := filepath.Join(dir, "trusted_root.json"); exists(own) {
		root = own
	}
	args := []string{"verify-bundle", "--bundle", filepath.Join(dir, "bundle.sigstore.json")}
	if key := filepath.Join(dir, "key.pub"); exists(key) {
		args = append(args, "--key", key)
	} else {
		args = append(args, "--certificate-identity", textOr(dir, "identity", suiteIdentity), "--certificate-oidc-issuer", textOr(dir, "issuer", suiteIssuer))
	}
	args = append(args, "--trusted-root", root)
	file := filepath.Join(dir, "artifact")
	if !exists(file) {
		file = filepath.Join(filepath.Dir(dir), "a.txt")
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]string{
		"file":   append(args[:len(args):len(args)], file),
		"digest": append(args[:len(args):len(args)], fmt.Sprintf("sha256:%x", sha256.Sum256(content))),
	}
}

// promote runs the command line in this process.
func promote(t *testing.T, args []string) (code int, says string) {
	t.Helper()
	var files [2]*os.File
	for i := range files {
		f, err := os.CreateTemp(t.TempDir(), "out")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	code = cli.Main(args, cli.Streams{In: os.Stdin, Out: files[0], Err: files[1]}, New())
	for _, f := range files {
		text, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		says += string(text)
	}
	return code, strings.TrimSpace(says)
}

// shippedRoot is the public instance's trusted root, which comes with sigstore-go.
func shippedRoot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-json", "github.com/sigstore/sigstore-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(module.Dir, "examples", "trusted-root-public-good.json")
}

func textOr(dir, name, otherwise string) string {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return otherwise
	}
	return strings.TrimSpace(string(text))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
