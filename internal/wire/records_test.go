//go:build engine

package wire

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign"
)

// TestWhoSignsRecords: the identity where there is no key, else the key.
func TestWhoSignsRecords(t *testing.T) {
	o := newOffice(t, "ops")
	if err := os.WriteFile(filepath.Join(o.dir, "root.json"), sign.EmptyTrustedRoot(), 0o600); err != nil {
		t.Fatal(err)
	}
	const trust = `trust:
  promoter: [{name: ops, key: ops.pub}, {name: ci, identity: ci@acme.dev, issuer: "https://a.dev"}]
  owner: [{name: ci, identity: ci@acme.dev, issuer: "https://a.dev"}]
`
	for signs, wants := range map[string]string{
		"key: ops.key, keyless: {}, trustedRoot: root.json": "",
		"keyless: {}, trustedRoot: root.json":               "opening identity: the trusted root names no certificate authority",
	} {
		o.signs = signs
		p := o.pipeline("ops", trust)
		err := o.record(p, &p.Project.Trust, release.DigestOf([]byte("x")))
		if wants == "" && err != nil || wants != "" && (err == nil || !strings.Contains(err.Error(), wants)) {
			t.Errorf("%s: %v, want %q", signs, err, wants)
		}
		party, err := p.Recorder(t.Context())
		if wants == "" && (err != nil || party.Name != "ops") || wants != "" && err == nil {
			t.Errorf("%s: records as %+v, %v", signs, party, err)
		}
		if err := os.RemoveAll(filepath.Join(o.dir, ".promote")); err != nil {
			t.Fatal(err)
		}
	}
}
