//go:build engine

package ledger

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

// TestStockToolsAgree runs the scripts of docs/ledger-format.md on a ledger:
// an auditor without promote comes to the same result, for a sound log and for
// a changed one.
func TestStockToolsAgree(t *testing.T) {
	for _, tool := range []string{"bash", "openssl", "jq", "xxd", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	doc, err := os.ReadFile("../../docs/ledger-format.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```bash\n(.*?)```").FindAllSubmatch(doc, -1)
	if len(blocks) != 2 {
		t.Fatalf("the page has %d scripts, want 2", len(blocks))
	}
	script := string(blocks[0][1]) + string(blocks[1][1])

	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ops.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600); err != nil {
		t.Fatal(err)
	}
	o := plain(&fileStore{dir: dir})
	o.Sign = func(_ context.Context, payloadType string, payload []byte) ([]byte, error) {
		sum := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload))
		sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
		if err != nil {
			return nil, err
		}
		return json.Marshal(map[string]any{
			"payload": base64.StdEncoding.EncodeToString(payload), "payloadType": payloadType,
			"signatures": []map[string]string{{"sig": base64.StdEncoding.EncodeToString(sig)}},
		})
	}
	// The shell verifies the signatures here, so that ours need not.
	o.Verify = func(raw []byte, payloadType string) ([]byte, release.Signer, error) {
		payload, err := payloadOf(raw, payloadType)
		return payload, release.Signer{ID: "k", Roles: []release.Role{release.Promoter}}, err
	}
	l, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for n := range int64(7) {
		if _, _, err := l.Append(t.Context(), release.Record{Phase: release.Released, Reason: "\"%s\\\" \u2028 ü"}, n); err != nil {
			t.Fatal(err)
		}
	}
	run := func() (string, error) {
		cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
		cmd.Dir = dir
		out, err := cmd.Output()
		return string(out), err
	}
	out, err := run()
	if err != nil || strings.Count(out, `"phase":"released"`) != 7 || !strings.Contains(out, `"sequence":6`) {
		t.Fatalf("%v\n%s", err, out)
	}
	log, _ := os.ReadFile(filepath.Join(dir, "log"))
	if err := os.WriteFile(filepath.Join(dir, "log"), []byte(strings.Replace(string(log), `"sig":"ME`, `"sig":"NE`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(); err == nil {
		t.Fatalf("a changed log was found good:\n%s", out)
	}
}
