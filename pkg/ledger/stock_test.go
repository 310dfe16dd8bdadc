//go:build engine

package ledger

import (
	"bytes"
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
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

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
	if len(blocks) != 3 {
		t.Fatalf("the page has %d scripts, want 3", len(blocks))
	}
	script := string(blocks[0][1]) + string(blocks[1][1])
	against := script + string(blocks[2][1])

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
	var kept []byte
	for n := range int64(7) {
		if n == 4 {
			kept, _ = os.ReadFile(filepath.Join(dir, "checkpoint"))
		}
		if _, _, err := l.Append(t.Context(), release.Record{Phase: release.Released, Reason: "\"%s\\\" \u2028 ü"}, n); err != nil {
			t.Fatal(err)
		}
	}
	run := func(script, dir, export string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "EXPORT="+export)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		out, err := cmd.Output()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it may have left
		return string(out), err
	}
	out, err := run(script, dir, "")
	if err != nil || strings.Count(out, `"phase":"released"`) != 7 || !strings.Contains(out, `"sequence":6`) {
		t.Fatalf("%v\n%s", err, out)
	}
	// The same for an export, whole, cut and with something behind it, and
	// against a checkpoint that was kept.
	var export bytes.Buffer
	if _, err := l.Export(t.Context(), &export, nil); err != nil {
		t.Fatal(err)
	}
	other, key1, _ := bytes.Cut(export.Bytes(), []byte{'\n'})
	for name, c := range map[string]struct {
		text []byte
		kept []byte
		ok   bool
	}{
		"whole":         {export.Bytes(), kept, true},
		"cut":           {export.Bytes()[:bytes.LastIndexByte(export.Bytes()[:export.Len()-1], '\n')+1], kept, false},
		"trailing":      {append(bytes.Clone(export.Bytes()), "{}\n"...), kept, false},
		"a changed one": {export.Bytes(), bytes.Replace(kept, []byte(`"sig":"ME`), []byte(`"sig":"NE`), 1), false},
		"no checkpoint": {key1, other, false},
	} {
		there := t.TempDir()
		for file, text := range map[string][]byte{"export": c.text, "kept": c.kept} {
			if err := os.WriteFile(filepath.Join(there, file), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		public, _ := os.ReadFile(filepath.Join(dir, "ops.pub"))
		if err := os.WriteFile(filepath.Join(there, "ops.pub"), public, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := run(against, there, "export"); c.ok != (err == nil) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	stubs(t, l, dir, func(export string) (string, error) { return run(against, dir, export) }, kept)
	log, _ := os.ReadFile(filepath.Join(dir, "log"))
	if err := os.WriteFile(filepath.Join(dir, "log"), []byte(strings.Replace(string(log), `"sig":"ME`, `"sig":"NE`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(script, dir, ""); err == nil {
		t.Fatalf("a changed log was found good:\n%s", out)
	}
}

// stubs compacts the ledger, and puts it, its export and changed ones before the
// scripts.
func stubs(t *testing.T, l *Ledger, dir string, run func(export string) (string, error), kept []byte) {
	t.Helper()
	compacted := release.Record{Phase: release.Compacted, Compaction: &release.Compaction{
		Ranges: release.Ranges{{From: 1, To: 2}, {From: 5, To: 5}}, Archive: release.DigestOf(nil), Bytes: 1, Before: time.Unix(1, 0).UTC()}}
	if _, _, err := l.Append(t.Context(), compacted, 7); err != nil {
		t.Fatal(err)
	}
	if done, err := l.Strip(t.Context()); err != nil || done.Records != 3 {
		t.Fatalf("%+v, %v", done, err)
	}
	var export bytes.Buffer
	if _, err := l.Export(t.Context(), &export, nil); err != nil {
		t.Fatal(err)
	}
	checkpoint, log, _ := bytes.Cut(export.Bytes(), []byte{'\n'})
	lines := bytes.Split(log, []byte{'\n'})
	fourth := bytes.Replace(log, lines[4], stubFor(tlog.RecordHash(lines[4])), 1)
	edited := bytes.Replace(log, lines[1], append(bytes.Clone(lines[1][:len(lines[1])-3]), `0"}`...), 1)
	if bytes.Equal(edited, log) {
		edited = bytes.Replace(log, lines[1], append(bytes.Clone(lines[1][:len(lines[1])-3]), `1"}`...), 1)
	}
	for name, c := range map[string]struct {
		log []byte
		ok  bool
	}{"as it is": {log, true}, "one more": {fourth, false}, "another hash": {edited, false}, "one gone": {bytes.Replace(log, append(lines[1], '\n'), nil, 1), false}} {
		for file, text := range map[string][]byte{"export": bytes.Join([][]byte{checkpoint, c.log}, []byte{'\n'}), "kept": kept} {
			if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := run("export")
		if c.ok != (err == nil) || c.ok && (strings.Count(out, `"phase":"released"`) != 4 || !strings.Contains(out, `"phase":"compacted"`)) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "log"), log, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "checkpoint"), checkpoint, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(""); err != nil {
		t.Errorf("the directory: %v\n%s", err, out)
	}
}
