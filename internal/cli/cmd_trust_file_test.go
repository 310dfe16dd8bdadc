package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// TestATrustFileFromTheCommandLine: it is written out, named, changed, signed
// and accepted.
func TestATrustFileFromTheCommandLine(t *testing.T) {
	d := &desk{}
	wiring := deskWiring(d)
	open := wiring.Pipeline
	var opened PipelineOptions
	wiring.Pipeline = func(ctx context.Context, c *config.Config, o PipelineOptions) (*pipeline.Pipeline, func(), error) {
		opened = o
		p, done, err := open(ctx, c, o)
		if name, signed := c.TrustFile(); signed != nil {
			p.Project.TrustFile = &pipeline.TrustFile{Path: name, Version: signed.File.Version, Signers: []string{}, Needed: 1}
		}
		return p, done, err
	}
	var asked SignTrustOptions
	wiring.SignTrust = func(_ context.Context, _ *config.Config, o SignTrustOptions) (SignTrustResult, error) {
		asked = o
		return SignTrustResult{TrustFile: pipeline.TrustFile{Path: "trust.json", Version: 2, Signers: []string{"alice"}, Needed: 1}, Signer: "alice"}, nil
	}
	r := trustRun(t, wiring)
	inline := r.trustIn(t)
	file := filepath.Join(r.dir, "trust.json")
	say := func(code int, want string, args ...string) {
		t.Helper()
		if err := r.std.Out.Truncate(0); err != nil {
			t.Fatal(err)
		}
		if got := r.main(t.Context(), args); got != code || !strings.Contains(read(t, r.std.Out)+read(t, r.std.Err), want) {
			t.Fatalf("%v: exit %d, want %d and %q:\n%s%s", args, got, code, want, read(t, r.std.Out), read(t, r.std.Err))
		}
	}
	say(0, "", "trust", "list", "-o", "dsse="+file)
	text := "name: agent\nregistry: registry.example.com/agent\ncompose: {files: [compose.yaml]}\ntrust: {file: trust.json}\n"
	if err := os.WriteFile(filepath.Join(r.dir, "promote.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got := r.trustIn(t)
	if got.Version != 1 || len(got.Changes(inline)) != 0 {
		t.Fatalf("written out as %v", got.Changes(inline))
	}
	say(0, "file: trust.json, version 1, signed by nobody (1 needed)", "trust", "list")
	if !opened.Unsigned {
		t.Error("the list wants signatures first")
	}
	d.records = release.History{{Record: release.Record{Phase: release.Released, Trust: &got, Rules: release.DigestOf([]byte("other"))}}}
	say(0, `+ owner: "dave", key sha256:`, "trust", "add", "owner", "--name", "dave", "--key", "dave.pub")
	d.signer = release.Signer{ID: release.Party{PublicKey: publicKey(t, "alice")}.Fingerprint()}
	say(0, "alice would sign trust.json", "trust", "accept", "--dry-run")
	if !asked.DryRun {
		t.Error("a dry run signs")
	}
	say(0, "in force: rules", "trust", "accept", "--key", "alice.key")
	if asked.Key != filepath.Join(r.dir, "alice.key") || asked.DryRun || !opened.Unsigned {
		t.Errorf("asked %+v, opened %+v", asked, opened)
	}
	// An owner of the new version only signs the file, and that is all.
	say(0, "nobody has signed it yet", "trust", "revoke", "--key", "ops.pub", "--reason", "lost")
	d.signer = release.Signer{ID: release.Party{PublicKey: publicKey(t, "new")}.Fingerprint()}
	say(0, "whom the ledger's pinned version names accept it, too", "trust", "accept")
	// A file of the next version is newer than what the ledger pins.
	say(0, "", "trust", "list", "-o", "dsse="+file)
	if v := r.trustIn(t).Version; v != 4 {
		t.Errorf("version %d", v)
	}
}
