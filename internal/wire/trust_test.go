//go:build engine

package wire

import (
	"cmp"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// office is a project directory whose promote.yaml and keys change.
type office struct {
	t      *testing.T
	dir    string
	signs  string // what sign says of the signer; empty is the key
	legacy bool   // cosign's older form is written, too
}

func newOffice(t *testing.T, keyNames ...string) *office {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("CI", "")
	t.Setenv("COSIGN_PASSWORD", "secret")
	o := &office{t: t, dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(o.dir, "compose.yaml"), []byte("name: agent\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range keyNames {
		if _, err := keys(t.Context(), cli.KeyOptions{Generate: true, Key: filepath.Join(o.dir, name+".key")}); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// pipeline opens the project as somebody who signs with a key.
func (o *office) pipeline(key, trust string) *pipeline.Pipeline {
	o.t.Helper()
	text := "name: agent\nregistry: registry.example.com/agent\ncompose: {files: [compose.yaml]}\nsign: {" + cmp.Or(o.signs, "key: "+key+".key") + ", legacySignatures: " + strconv.FormatBool(o.legacy) + "}\n" + trust
	path := filepath.Join(o.dir, "promote.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		o.t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil {
		o.t.Fatal(err)
	}
	p, closePipeline, err := openPipeline(o.t.Context(), c, cli.PipelineOptions{})
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(closePipeline)
	return p
}

func (o *office) record(p *pipeline.Pipeline, trust *release.Trust, rules release.Digest) error {
	h, checkpoint, err := p.Ledger.Read(o.t.Context())
	if err != nil {
		return err
	}
	_, _, err = p.Ledger.Append(o.t.Context(), release.Record{Phase: release.Released, Release: release.DigestOf([]byte{byte(len(h))}), Rules: rules, Trust: trust}, checkpoint.TreeSize)
	return err
}

func (o *office) accept(key, trust string) pipeline.AcceptResult {
	o.t.Helper()
	out, err := o.pipeline(key, trust).TrustAccept(o.t.Context(), pipeline.AcceptOptions{Reason: key})
	if err != nil {
		o.t.Fatalf("%s: %v", key, err)
	}
	return out
}

// TestTrustMovesOnAndTheLedgerIsStillRead walks a project with real keys and
// the real ledger from one key to roles, through a rotation, to a revocation.
func TestTrustMovesOnAndTheLedgerIsStillRead(t *testing.T) {
	o := newOffice(t, "first", "ops", "ops2", "alice", "carol")
	p := o.pipeline("first", "")
	single := p.Project.Trust
	if err := o.record(p, &single, release.DigestOf([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	const team = `trust:
  builder: [{name: ops, key: ops.pub}]
  promoter: [{name: ops, key: ops.pub}]
  owner: {threshold: 2, of: [{name: alice, key: alice.pub}, {name: carol, key: carol.pub}]}
`
	if out := o.accept("first", team); out.InForce || len(out.Agreed) != 1 {
		t.Fatalf("the single key alone: %+v", out)
	}
	if out := o.accept("alice", team); !out.InForce {
		t.Fatalf("an owner of the new trust confirmed: %+v", out)
	}
	if err := o.record(o.pipeline("first", team), nil, release.Digest{}); release.KindOf(err) != release.KindDenied {
		t.Errorf("the former key still records: %v", err)
	}
	if err := o.record(o.pipeline("ops", team), nil, release.Digest{}); err != nil {
		t.Fatal(err)
	}

	rotated := strings.Replace(team, "promoter: [{name: ops, key: ops.pub}]",
		"promoter: [{name: ops, key: ops.pub, notAfter: 2000-01-01}, {name: ops, key: ops2.pub}]", 1)
	if out := o.accept("alice", rotated); out.InForce || out.Needed != 2 {
		t.Fatalf("one of two owners: %+v", out)
	}
	if out := o.accept("alice", rotated); !out.Existing || out.InForce {
		t.Fatalf("the same owner twice: %+v", out)
	}
	if out := o.accept("carol", rotated); !out.InForce {
		t.Fatalf("both owners: %+v", out)
	}
	if err := o.record(o.pipeline("ops", rotated), nil, release.Digest{}); release.KindOf(err) != release.KindDenied {
		t.Errorf("an expired key records: %v", err)
	}
	last := o.pipeline("ops2", rotated)
	if err := o.record(last, nil, release.Digest{}); err != nil {
		t.Fatal(err)
	}

	revoked := rotated + "  revoked: [{key: first.pub, reason: sold}, {key: alice.pub, reason: lost}]\n"
	if out := o.accept("carol", revoked); out.InForce {
		t.Fatalf("%+v", out)
	}
	out := o.accept("alice", revoked) // her last word, by the trust that still counts
	if !out.InForce {
		t.Fatalf("%+v", out)
	}
	h, checkpoint, err := o.pipeline("ops2", revoked).Ledger.Read(t.Context())
	if err != nil || checkpoint.TreeSize != 9 || h[0].Signer.Name != "agent" || h[3].Signer.Name != "ops" {
		t.Fatalf("%d records, %v", checkpoint.TreeSize, err)
	}
	if err := os.RemoveAll(os.Getenv("XDG_CACHE_HOME")); err != nil { // nothing is remembered
		t.Fatal(err)
	}
	if again, _, err := o.pipeline("ops2", revoked).Ledger.Read(t.Context()); err != nil || len(again) != len(h) {
		t.Fatalf("read anew: %v", err)
	}
}
