//go:build engine

package wire

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/release"
)

func (o *office) config() *config.Config {
	o.t.Helper()
	c, err := config.Load(filepath.Join(o.dir, "promote.yaml"))
	if err != nil {
		o.t.Fatal(err)
	}
	return c
}

// exported writes the ledger into a file, as the command does.
func (o *office) exported() string {
	o.t.Helper()
	path := filepath.Join(o.t.TempDir(), "ledger.export")
	if _, err := exportLedger(o.t.Context(), o.config(), cli.LedgerOptions{Place: path}); err != nil {
		o.t.Fatal(err)
	}
	return path
}

// TestTheLedgerMoves: to a file, a layout, and into another checkout's ledger;
// never over a file that is there, nor into a ledger with other records.
func TestTheLedgerMoves(t *testing.T) {
	o := newOffice(t, "ops", "mallory")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	p := o.pipeline("ops", "")
	if err := o.record(p, &p.Project.Trust, release.DigestOf([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	file := o.exported()
	if _, err := exportLedger(t.Context(), o.config(), cli.LedgerOptions{Place: file}); release.KindOf(err) != release.KindUsage {
		t.Errorf("a file that is there: %v", err)
	}
	layout := "oci:" + filepath.Join(t.TempDir(), "layout") + ":ledger"
	if out, err := exportLedger(t.Context(), o.config(), cli.LedgerOptions{Place: layout, Artifact: true}); err != nil || out.Records != 1 || out.Artifact.IsZero() {
		t.Errorf("%+v, %v", out, err)
	}
	ledgerDir := filepath.Join(o.dir, ".promote", "ledger")
	before, _ := os.ReadFile(filepath.Join(ledgerDir, "log"))
	for _, from := range []cli.LedgerOptions{{Place: file}, {Place: layout, Artifact: true}} {
		if err := os.RemoveAll(filepath.Join(o.dir, ".promote")); err != nil {
			t.Fatal(err)
		}
		dry := from
		dry.DryRun = true
		if out, err := importLedger(t.Context(), o.config(), dry); err != nil || out.Added != 1 {
			t.Errorf("%+v, %v", out, err)
		}
		if _, err := os.Stat(ledgerDir); err == nil {
			t.Error("a dry run made the ledger")
		}
		if out, err := importLedger(t.Context(), o.config(), from); err != nil || out.Added != 1 || out.Records != 1 {
			t.Errorf("%+v, %v", out, err)
		}
		if after, _ := os.ReadFile(filepath.Join(ledgerDir, "log")); !bytes.Equal(after, before) {
			t.Error("the log is another one")
		}
	}
	// Somebody else's log is not this project's, however sound it is.
	if err := os.RemoveAll(filepath.Join(o.dir, ".promote")); err != nil {
		t.Fatal(err)
	}
	o.pipeline("mallory", "")
	if _, err := importLedger(t.Context(), o.config(), cli.LedgerOptions{Place: file}); release.KindOf(err) != release.KindDenied {
		t.Errorf("by another trust: %v", err)
	}
	if _, err := os.Stat(filepath.Join(ledgerDir, "log")); err == nil {
		t.Error("it was written all the same")
	}
}

// TestAnAuditorNeedsAFileAndAKey: with real keys, by promote.yaml, by a public
// key, by a trust file and by a digest; and never by what the log says of itself.
func TestAnAuditorNeedsAFileAndAKey(t *testing.T) {
	o := newOffice(t, "ops", "alice", "mallory")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	const trust = "trust:\n  promoter: [{name: ops, key: ops.pub}]\n  owner: [{name: alice, key: alice.pub}]\n"
	p := o.pipeline("ops", trust)
	for range 3 {
		if err := o.record(p, &p.Project.Trust, release.DigestOf([]byte("x"))); err != nil {
			if h, _, _ := p.Ledger.Read(t.Context()); len(h) == 0 {
				t.Fatal(err)
			}
			if err := o.record(p, nil, release.DigestOf([]byte("x"))); err != nil {
				t.Fatal(err)
			}
		}
	}
	sealed, err := release.SealTrust(release.TrustFileOf(p.Project.Trust, 1))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := sealed.Encode()
	trustFile, file := filepath.Join(t.TempDir(), "trust.json"), o.exported()
	if err := os.WriteFile(trustFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	key := func(name string) []string { return []string{filepath.Join(o.dir, name+".pub")} }
	raw, _ := os.ReadFile(file)
	changed := filepath.Join(t.TempDir(), "changed")
	last := bytes.LastIndex(raw, []byte(`"sig":"ME`)) + len(`"sig":"M`)
	raw[last] = 'F'
	if err := os.WriteFile(changed, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	project := o.config()
	for name, c := range map[string]struct {
		config  *config.Config
		options cli.AuditOptions
		want    string
	}{
		"the configured one":           {project, cli.AuditOptions{}, ""},
		"by promote.yaml":              {project, cli.AuditOptions{File: file}, ""},
		"a directory":                  {project, cli.AuditOptions{File: filepath.Join(o.dir, ".promote", "ledger")}, ""},
		"by key":                       {nil, cli.AuditOptions{File: file, Keys: key("ops")}, ""},
		"by another key":               {nil, cli.AuditOptions{File: file, Keys: key("mallory")}, release.AuditCheckpoint},
		"by one of two keys":           {nil, cli.AuditOptions{File: file, Keys: append(key("mallory"), key("ops")...)}, ""},
		"by trust":                     {nil, cli.AuditOptions{File: file, Trust: trustFile}, ""},
		"by digest":                    {nil, cli.AuditOptions{File: file, Trust: p.Project.Trust.Digest().String()}, ""},
		"by another digest":            {nil, cli.AuditOptions{File: file, Trust: release.DigestOf(nil).String()}, release.AuditTrust},
		"of the project":               {nil, cli.AuditOptions{File: file, Keys: key("ops"), Name: "agent"}, ""},
		"of another project":           {nil, cli.AuditOptions{File: file, Keys: key("ops"), Name: "other"}, release.AuditOrigin},
		"changed, by key":              {nil, cli.AuditOptions{File: changed, Keys: key("ops")}, release.AuditForm + " " + release.AuditSignature},
		"contains its own checkpoint":  {nil, cli.AuditOptions{File: file, Keys: key("ops"), Checkpoints: []string{filepath.Join(o.dir, ".promote", "ledger", "checkpoint")}}, ""},
		"a checkpoint is no statement": {nil, cli.AuditOptions{File: file, Keys: key("ops"), Checkpoints: []string{trustFile}}, "usage"},
		"absent":                       {nil, cli.AuditOptions{File: file + "x", Keys: key("ops")}, "usage"},
	} {
		for range 2 { // what is remembered changes nothing
			found, err := audit(t.Context(), c.config, c.options)
			switch {
			case c.want == "usage":
				if release.KindOf(err) != release.KindUsage {
					t.Errorf("%s: %v", name, err)
				}
			case err != nil:
				t.Errorf("%s: %v", name, err)
			case c.want == "" && (found.Result != "passed" || found.Records != 3):
				t.Errorf("%s: %+v", name, found)
			case c.want != "" && (found.Result != "failed" || !strings.Contains(c.want, found.Findings[0].Rule)):
				t.Errorf("%s: %+v", name, found.Findings)
			}
		}
	}
	// The same log under another trust than the project's is not the project's.
	o.pipeline("mallory", "trust:\n  promoter: [{name: ops, key: mallory.pub}]\n  owner: [{name: alice, key: alice.pub}]\n")
	found, err := audit(t.Context(), o.config(), cli.AuditOptions{File: file})
	if err != nil || len(found.Findings) != 1 || found.Findings[0].Rule != release.AuditTrust {
		t.Errorf("by another trust: %+v, %v", found.Findings, err)
	}
}
