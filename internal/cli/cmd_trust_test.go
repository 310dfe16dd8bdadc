package cli

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// trustRun is testRun with a trust section and public keys.
func trustRun(t *testing.T, w Wiring) *run {
	t.Helper()
	r, _ := testRun(t, w)
	text := "name: agent\nregistry: registry.example.com/agent\ncompose: {files: [compose.yaml]}\n" +
		"trust: # who\n  promoter: [{name: ops, key: ops.pub}]\n  owner: [{name: alice, key: alice.pub}]\n"
	if err := os.WriteFile(filepath.Join(r.dir, "promote.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ops", "alice", "new", "dave"} {
		if err := os.WriteFile(filepath.Join(r.dir, name+".pub"), []byte(publicKey(t, name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func publicKey(t *testing.T, name string) string {
	t.Helper()
	seed := sha256.Sum256([]byte(name))
	der, err := x509.MarshalPKIXPublicKey(ed25519.NewKeyFromSeed(seed[:]).Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func (r *run) trustIn(t *testing.T) release.Trust {
	t.Helper()
	c, err := config.Load(filepath.Join(r.dir, "promote.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := c.Trust(nil)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// TestTrustIsEditedOrOnlyShown: a dry run says the same and writes nothing.
func TestTrustIsEditedOrOnlyShown(t *testing.T) {
	for _, c := range []struct {
		args string
		says string
		look func(release.Trust) bool
	}{
		{"trust add owner --name dave --key dave.pub", "+     - {name: dave, key: dave.pub}",
			func(t release.Trust) bool { return len(t.Roles[release.Owner]) == 2 }},
		{"trust add builder --name ci --identity-match https://github\\.com/acme/.+ --issuer https://a.dev --claim ref=refs/heads/main --not-after 2027-01-31", "ref: refs/heads/main",
			func(t release.Trust) bool {
				p := t.Roles[release.Builder][0]
				return p.Claims.Ref == "refs/heads/main" && p.NotAfter.Equal(time.Date(2027, 1, 31, 23, 59, 59, 0, time.UTC))
			}},
		{"trust rotate --name ops --key new.pub --overlap 48h", "+     - {name: ops, key: new.pub}",
			func(t release.Trust) bool {
				p := t.Roles[release.Promoter]
				left := time.Until(p[0].NotAfter)
				return len(p) == 2 && left > 47*time.Hour && left < 49*time.Hour && p[1].NotAfter.IsZero()
			}},
		{"trust revoke --key alice.pub --reason stolen", "reason: stolen",
			func(t release.Trust) bool {
				return len(t.Revoked) == 1 && strings.HasPrefix(t.Revoked[0].Key, "sha256:")
			}},
	} {
		r := trustRun(t, Wiring{})
		before, _ := os.ReadFile(filepath.Join(r.dir, "promote.yaml"))
		if code := r.main(t.Context(), append(strings.Fields(c.args), "--dry-run")); code != 0 {
			t.Fatalf("%s: exit %d: %s", c.args, code, read(t, r.std.Err))
		}
		after, _ := os.ReadFile(filepath.Join(r.dir, "promote.yaml"))
		if out := read(t, r.std.Out); string(before) != string(after) || !strings.Contains(out, c.says) || !strings.Contains(out, "nothing was written") {
			t.Errorf("%s, dry: %s", c.args, out)
		}
		if code := r.main(t.Context(), append(strings.Fields(c.args), "-o", "json="+filepath.Join(r.dir, "o.json"))); code != 0 {
			t.Fatalf("%s: exit %d: %s", c.args, code, read(t, r.std.Err))
		}
		if !c.look(r.trustIn(t)) {
			t.Errorf("%s: %v", c.args, r.trustIn(t).Changes(release.Trust{}))
		}
		var result editResult
		raw, _ := os.ReadFile(filepath.Join(r.dir, "o.json"))
		if err := json.Unmarshal(raw, &result); err != nil || len(result.Changes) == 0 || result.DryRun {
			t.Errorf("%s: %s, %v", c.args, raw, err)
		}
	}
}

func TestTrustCommandsThatMeanNothing(t *testing.T) {
	for _, args := range []string{
		"trust add owner", "trust add ower --name x --key dave.pub", "trust add owner --name x --key absent.pub", "trust add owner --name x --key dave.pub --identity y",
		"trust add owner --name x --identity y", "trust add owner --name x --identity-match .* --issuer https://a.dev", "trust add owner --name x --key dave.pub --not-after soon",
		"trust add owner --name x --identity y --issuer https://a.dev --claim branch=main", "trust rotate --name ops", "trust rotate --name nobody --key new.pub",
		"trust rotate --name ops --key new.pub --overlap -1h", "trust revoke --key alice.pub", "trust revoke --reason x", "trust revoke --key alice.pub --identity y --reason x",
	} {
		r := trustRun(t, Wiring{})
		before, _ := os.ReadFile(filepath.Join(r.dir, "promote.yaml"))
		if code := r.main(t.Context(), strings.Fields(args)); code != 2 {
			t.Errorf("%s: exit %d, %s", args, code, read(t, r.std.Err))
		}
		if after, _ := os.ReadFile(filepath.Join(r.dir, "promote.yaml")); string(before) != string(after) {
			t.Errorf("%s changed the file", args)
		}
	}
}

// desk is a ledger, a key and a policy for the commands that look at them.
type desk struct {
	records release.History
	signer  release.Signer
	key     string // that was asked for
}

func (d *desk) Read(context.Context) (release.History, release.Checkpoint, error) {
	return d.records, release.Checkpoint{TreeSize: int64(len(d.records))}, nil
}

func (d *desk) Append(_ context.Context, r release.Record, size int64) (release.Entry, release.Checkpoint, error) {
	r.Sequence = size
	e := release.Entry{Record: r, Signer: d.signer}
	d.records = append(d.records, e)
	return e, release.Checkpoint{TreeSize: size + 1}, nil
}

func (d *desk) Heartbeat(context.Context, int64) error                          { return nil }
func (d *desk) Rest(context.Context, int64) error                               { return nil }
func (d *desk) Settle(context.Context) (bool, error)                            { return false, nil }
func (d *desk) Stale(context.Context, int64, time.Duration) (bool, error)       { return false, nil }
func (d *desk) Contains(context.Context, []byte) error                          { return nil }
func (d *desk) Open(context.Context) (pipeline.Signer, error)                   { return d, nil }
func (d *desk) Ready(context.Context)                                           {}
func (d *desk) Party() release.Signer                                           { return d.signer }
func (d *desk) Digest() release.Digest                                          { return release.DigestOf([]byte("policy")) }
func (d *desk) Judge(context.Context, release.Facts) ([]release.Verdict, error) { return nil, nil }
func (d *desk) Sign(context.Context, release.Statement) (release.Attachment, error) {
	return release.Attachment{}, nil
}

// pipeline is a Wiring's, over the trust of the configuration.
func (d *desk) pipeline(c *config.Config) (*pipeline.Pipeline, func(), error) {
	trust, err := c.Trust(nil)
	return &pipeline.Pipeline{
		Project: pipeline.Project{Name: c.Name, Trust: trust, Configuration: c.Digest()},
		Ledger:  d, Keys: d, Judge: d, Now: time.Now,
	}, func() {}, err
}

// TestTrustAcceptTellsHowFarItIs: a change waits for the owner, then counts.
func TestTrustAcceptTellsHowFarItIs(t *testing.T) {
	d := &desk{}
	r := trustRun(t, deskWiring(d))
	first := r.trustIn(t)
	d.records = release.History{{Record: release.Record{Phase: release.Released, Trust: &first, Rules: release.DigestOf([]byte("other"))}}}
	say := func(code int, want string, args ...string) {
		t.Helper()
		if err := r.std.Out.Truncate(0); err != nil {
			t.Fatal(err)
		}
		if got := r.main(t.Context(), args); got != code || !strings.Contains(read(t, r.std.Out)+read(t, r.std.Err), want) {
			t.Fatalf("%v: exit %d, want %d and %q:\n%s%s", args, got, code, want, read(t, r.std.Out), read(t, r.std.Err))
		}
	}
	say(0, "the ledger pins other rules: promote trust accept", "trust", "list")
	d.signer = release.Signer{ID: release.Party{PublicKey: publicKey(t, "ops")}.Fingerprint()}
	say(3, "no owner's of the version that the ledger pins: alice", "trust", "accept")
	d.signer = release.Signer{Name: "alice", ID: release.Party{PublicKey: publicKey(t, "alice")}.Fingerprint()}
	say(0, "+     - {name: dave, key: dave.pub}", "trust", "add", "owner", "--name", "dave", "--key", "dave.pub")
	say(0, "alice would accept rules", "trust", "accept", "--dry-run")
	say(0, `+ owner: "dave", key sha256:`, "trust", "accept", "--dry-run")
	say(0, "in force: rules", "trust", "accept", "--reason", "dave joins", "--key", "alice.key")
	if d.key != filepath.Join(r.dir, "alice.key") {
		t.Errorf("signed with %q", d.key)
	}
	say(0, "nothing to accept", "trust", "accept")
	say(0, "the ledger pins it", "trust", "list")
	if last := d.records[len(d.records)-1].Record; len(d.records) != 2 || last.Reason != "dave joins" || len(last.Trust.Roles[release.Owner]) != 2 {
		t.Errorf("recorded %+v", d.records)
	}
}

func TestTrustList(t *testing.T) {
	now := time.Now()
	trust := release.Trust{Roles: map[release.Role][]release.Party{
		release.Promoter: {{Name: "ops", PublicKey: publicKey(t, "ops"), NotAfter: now.Add(-time.Hour)}, {Name: "ops", PublicKey: publicKey(t, "new"), NotBefore: now.Add(time.Hour)}},
		release.Owner:    {{Name: "alice", PublicKey: publicKey(t, "alice")}, {Name: "dave", Identity: "d@acme.dev", Issuer: "https://a.dev"}},
	}, OwnerThreshold: 2, Revoked: []release.Revocation{{Identity: "d@acme.dev", Reason: "left"}}}
	got := listTrust(trust, release.Pin{Trust: &trust, Proposed: map[release.Digest]release.Agreement{{}: {Owners: []string{"alice"}}}}, true, now)
	var states []string
	for _, p := range got.Parties {
		states = append(states, p.Name+" "+p.State)
	}
	if want := "ops expired, ops not yet, alice valid, dave revoked"; strings.Join(states, ", ") != want {
		t.Errorf("got %q, want %q", states, want)
	}
	var b strings.Builder
	if err := printTrust(&b, got); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"owner (2 of them)", "key sha256:", `identity "d@acme.dev" by "https://a.dev"`, "(left)", "1 of 2 owners agreed: alice", "the ledger pins it"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	raw, err := json.Marshal(got)
	if err != nil || !strings.Contains(string(raw), `"state":"not yet"`) || strings.Contains(string(raw), "null") {
		t.Errorf("%s, %v", raw, err)
	}
}

func deskWiring(d *desk) Wiring {
	return Wiring{Pipeline: func(_ context.Context, c *config.Config, o PipelineOptions) (*pipeline.Pipeline, func(), error) {
		d.key = o.Key
		return d.pipeline(c)
	}}
}
