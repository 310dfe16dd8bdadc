package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// gatehouse is a desk with a release in staging, and production behind two
// approvals. Everybody has a key file that is named after them.
type gatehouse struct {
	desk
	t     *testing.T
	trust release.Trust
	place LedgerOptions // of the last compactor
}

func newGatehouse(t *testing.T) *gatehouse {
	t.Helper()
	r, _ := testRun(t, Wiring{})
	text := `name: agent
registry: registry.example.com/agent
compose: {files: [compose.yaml]}
trust:
  promoter: [{name: ops, key: ops.pub}]
  approver: [{name: alice, key: alice.pub}, {name: bob, key: bob.pub}, {name: carol, key: carol.pub}]
  owner: [{name: alice, key: alice.pub}]
environments:
  staging: {}
  production: {after: staging, approvals: {required: 2, notBy: [promoter]}}
`
	if err := os.WriteFile(filepath.Join(r.dir, "promote.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ops", "alice", "bob", "carol"} {
		if err := os.WriteFile(filepath.Join(r.dir, name+".pub"), []byte(publicKey(t, name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(r.dir)
	t.Setenv("CI", "")
	g := &gatehouse{t: t, trust: r.trustIn(t)}
	c, err := config.Load(filepath.Join(r.dir, "promote.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := release.Canonical(map[string]release.Digest{"configuration": c.Digest(), "policy": g.Digest()})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	v1, v2 := release.DigestOf([]byte("v1")), release.DigestOf([]byte("v2"))
	for _, rec := range []release.Record{
		{Phase: release.Released, Release: v1, Version: "v1", Revision: "c0ffee"},
		{Phase: release.Released, Release: v2, Version: "v2", Revision: "badcafe"},
		{Phase: release.Deployed, Environment: "production", Release: v1, Version: "v1"},
		{Phase: release.Deployed, Environment: "staging", Release: v2, Version: "v2"},
	} {
		rec.Time = now.Add(-time.Hour)
		rec.Sequence = int64(len(g.records))
		g.records = append(g.records, release.Entry{Record: rec, Signer: g.party("ops")})
	}
	g.records[0].Record.Rules, g.records[0].Record.Trust = release.DigestOf(rules), &g.trust
	return g
}

func (g *gatehouse) party(name string) release.Signer {
	s := release.Signer{Name: name, ID: release.Party{PublicKey: publicKey(g.t, name)}.Fingerprint()}
	for _, role := range release.Roles {
		if _, ok := g.trust.Holds(s, role, time.Now()); ok {
			s.Roles = append(s.Roles, role)
		}
	}
	return s
}

// nowhere is a registry that does not answer.
type nowhere struct{ pipeline.Documents }

func (nowhere) PullRelease(context.Context, release.Subject) (release.Document, error) {
	return release.Document{}, release.Unavailable("", "no registry here")
}

func (g *gatehouse) wiring() Wiring {
	return Wiring{Compactor: g.compactor, Pipeline: func(_ context.Context, c *config.Config, o PipelineOptions) (*pipeline.Pipeline, func(), error) {
		g.key = o.Key
		name := strings.TrimSuffix(filepath.Base(o.Key), ".key")
		if o.Key == "" {
			name = "ops"
		}
		if g.signer = g.party(name); len(g.signer.Roles) == 0 {
			g.signer.Name = ""
		}
		p, closePipeline, err := g.pipeline(c)
		p.Project.Environments, p.Documents = c.Environments(), nowhere{}
		return p, closePipeline, err
	}}
}

// promote runs the command line as a shell would, without a terminal.
func (g *gatehouse) promote(args ...string) (code int, out, messages string) {
	g.t.Helper()
	files := [2]*os.File{}
	for i := range files {
		f, err := os.CreateTemp(g.t.TempDir(), "")
		if err != nil {
			g.t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		g.t.Fatal(err)
	}
	defer null.Close()
	code = Main(args, Streams{In: null, Out: files[0], Err: files[1]}, g.wiring())
	return code, read(g.t, files[0]), read(g.t, files[1])
}

// say runs a command and wants its exit code, and words on each stream.
func (g *gatehouse) say(line string, code int, words ...string) (out string) {
	g.t.Helper()
	got, out, messages := g.promote(strings.Fields(line)...)
	if got != code {
		g.t.Fatalf("%s: exit %d, want %d\n%s%s", line, got, code, out, messages)
	}
	for _, want := range words {
		if !strings.Contains(out+messages, want) {
			g.t.Errorf("%s: no %q in\n%s%s", line, want, out, messages)
		}
	}
	if code == 2 && out != "" {
		g.t.Errorf("%s: standard output holds %q", line, out)
	}
	return out
}

func TestApproveFromTheShell(t *testing.T) {
	g := newGatehouse(t)
	g.say("approve production v2 --key alice.key --dry-run", 0, "alice would approve it", "approvals    0 of 2; may still: alice, bob, carol", "runs now     v1, since",
		"runs in      staging, since", "v2 (commit badcafe)", "decision     none yet", "could not be looked up")
	if n := len(g.records); n != 4 {
		t.Fatalf("a dry run left %d records", n)
	}
	g.say("approve production v2 --key alice.key --expires 3d --reason ready", 0, "approved     by alice, until", "1 of 2 (alice); may still: bob, carol", "record       4")
	if last := g.records[4].Record; last.Phase != release.Approved || last.Reason != "ready" || time.Until(last.Until).Round(time.Hour) != 72*time.Hour || g.key != filepath.Join(wd(t), "alice.key") {
		t.Errorf("recorded %+v with %s", last, g.key)
	}
	g.say("approve production v2 --key alice.key", 0, "none: alice has approved it already")
	g.say("status", 0, "GATES", "v2: 1 of 2 (alice) approvals")

	var result struct {
		Approver  string                 `json:"approver"`
		Until     time.Time              `json:"until"`
		Approvals release.ApprovalFacts  `json:"approvals"`
		Record    *pipeline.RecordResult `json:"record"`
		Compared  bool                   `json:"compared"`
	}
	if err := json.Unmarshal([]byte(g.say("approve production v2 --key bob.key -o json", 0)), &result); err != nil {
		t.Fatal(err)
	}
	if result.Approver != "bob" || result.Approvals.Missing() != 0 || result.Record == nil || result.Record.Sequence != 5 || time.Until(result.Until) < 6*24*time.Hour || result.Compared {
		t.Errorf("result %+v", result)
	}
	for line, want := range map[string]string{
		"approve production v2":                                 "ops is no approver; those are alice, bob, carol",
		"approve production v2 --key stranger.key":              "is no approver",
		"approve production v2 --key alice.key -o json --yes x": "takes ENV RELEASE",
		"approve production":                                    "takes ENV RELEASE",
		"approve prodution v2 --key alice.key":                  "did you mean production?",
		"approve production v9 --key alice.key":                 `no release "v9"`,
		"approve production v2 --key alice.key --expires 60d":   "a minute to 30 days",
		"approve production v2 --key alice.key --expires soon":  `expected a duration, got "soon"`,
		"approve production v2 --key alice.key --expires -1h":   "above zero",
		"approve production v2 --expire 1h":                     "did you mean --expires?",
		"aprove production v2":                                  "did you mean promote approve?",
	} {
		code := 2
		if strings.Contains(want, "is no approver") {
			code = 3
		}
		g.say(line, code, want)
	}
	if len(g.records) != 6 {
		t.Errorf("%d records", len(g.records))
	}
}

func wd(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFreezeFromTheShell(t *testing.T) {
	g := newGatehouse(t)
	g.say("freeze production --until 8h --reason new-year --dry-run", 0, "production would be frozen by ops until", "rollback production is not held up")
	g.say("freeze production --until 8h --reason new-year", 0, "production frozen by ops until", ": new-year", "record       4")
	if left := time.Until(g.records[4].Record.Until); left > 8*time.Hour || left < 8*time.Hour-time.Minute {
		t.Errorf("it lasts %s", left)
	}
	tomorrow := time.Now().UTC().AddDate(0, 0, 1).Format(time.DateOnly)
	g.say("freeze production --until "+tomorrow+" --reason audit", 0, "beside it    record 4: by ops", "record       5")
	if until := g.records[5].Record.Until; until.Format(time.RFC3339) != time.Now().UTC().AddDate(0, 0, 2).Format(time.DateOnly)+"T00:00:00Z" {
		t.Errorf("a day ends at %s", until)
	}
	g.say("log -n 2", 0, "until "+g.records[4].Record.Until.Format(time.RFC3339)+": new-year")
	g.say("status production", 0, "frozen until", "by ops: new-year; frozen until", "audit")
	var result pipeline.FreezeResult
	if err := json.Unmarshal([]byte(g.say("freeze production --until 2h --reason json -o json", 0)), &result); err != nil || result.By != "ops" || len(result.Freezes) != 3 || result.Record == nil {
		t.Errorf("%+v, %v", result, err)
	}
	for line, want := range map[string]string{
		"freeze production --reason x":                                             "a freeze needs an end",
		"freeze production --until 8h":                                             "a freeze needs a reason",
		"freeze production --until tomorrow --reason x":                            `got "tomorrow"`,
		"freeze production --until 2020-01-01 --reason x":                          "would be over already",
		"freeze production --until 2020-01-01T00:00:00Z --reason x":                "would be over already",
		"freeze production --until 900d --reason x":                                "longer than 366 days",
		"freeze production --until 2027-01-01T00:00:00 --reason x":                 "with its zone",
		"freeze produktion --until 8h --reason x":                                  "did you mean production?",
		"freeze prod --until 8h --reason x":                                        "did you mean production?",
		"freeze --until 8h --reason x":                                             "takes ENV",
		"unfreeze staging":                                                         "staging is not frozen",
		"unfreeze":                                                                 "takes ENV",
		"unfreze production":                                                       "did you mean promote unfreeze?",
		"freeze production --until 8h --reason x --key alice.key --dry-run -o xml": "output format",
	} {
		g.say(line, 2, want)
	}
	g.say("freeze production --until 8h --reason x --key alice.key", 3, "alice is no promoter; those are ops")
	if len(g.records) != 7 {
		t.Errorf("%d records", len(g.records))
	}
}

func TestUnfreezeFromTheShell(t *testing.T) {
	g := newGatehouse(t)
	g.say("freeze production --until 8h --reason new-year", 0)
	g.say("unfreeze production --key stranger.key", 3, "may not lift the freeze of production by ops (record 4", "approvers are alice, bob, carol")
	g.say("unfreeze production --key alice.key --dry-run", 0, "would lift   record 4: by ops until", "production would not be frozen any more")
	g.say("unfreeze production --key alice.key --reason over", 0, "lifted       record 4", "production is not frozen any more", "record       5")
	if last := g.records[5]; last.Record.Phase != release.Unfrozen || last.Record.Reason != "over" || last.Signer.Name != "alice" {
		t.Errorf("recorded %+v", last)
	}
	g.say("unfreeze production --key alice.key", 2, "production is not frozen", "no environment is frozen")
	g.say("freeze production --until 8h --reason again", 0)
	var result pipeline.UnfreezeResult
	if err := json.Unmarshal([]byte(g.say("unfreeze production -o json", 0)), &result); err != nil || result.By != "ops" || len(result.Lifted) != 1 || len(result.Freezes) != 0 {
		t.Errorf("%+v, %v", result, err)
	}
}

// Whoever comes second is told who has the environment, since when and where,
// and may wait.
func TestHeldFromTheShell(t *testing.T) {
	g := newGatehouse(t)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	g.records = append(g.records, release.Entry{Signer: g.party("ops"), Record: release.Record{Phase: release.Intended, Kind: release.KindPromote,
		Environment: "production", Version: "v2", Sequence: 4, Time: at, Actor: release.Actor{User: "eve", Host: "laptop", Process: "process 7"}}})
	const holder = "record 4 of production (promote of v2) is open since 2026-03-01T12:00:00Z: eve on laptop, process 7"
	g.say("to production", 6, holder, "wait for it (--wait), or if it is gone: promote resume production")
	g.say("to production --wait 50ms", 6, holder+", and --wait is over", "promote resume production")
	g.say("rollback production --reason x --wait=50ms -o json", 6, "--wait is over", `"kind":"held"`)
	g.say("to production --wait=soon", 2, "expected a duration")
	g.say("to production --wait soon", 2, "takes ENV")
	g.say("status", 0, "record 4 of v2 by eve on laptop")
	g.say("freeze production --until 8h --reason new-year", 0, "goes on      record 4 (promote of v2) began before and may finish")
}

// A plan shows every gate, with the first of what it has to say.
func TestPlansShowTheGates(t *testing.T) {
	var b strings.Builder
	err := printGates(&b, &pipeline.DecisionResult{Verdicts: []release.Verdict{
		{Gate: "approvals", Result: release.Failed, Reasons: []release.Reason{{Message: "needs 2 approvals\nand more"}, {Message: "x"}}},
		{Gate: "window", Result: release.Passed},
	}})
	if want := "approvals  failed  needs 2 approvals (and 1 more)\nwindow     passed"; err != nil || !strings.Contains(b.String(), want) {
		t.Errorf("%v\n%s", err, b.String())
	}
	if err := printGates(&b, nil); err != nil {
		t.Error(err)
	}
}

// Whoever is asked says yes, or it is no.
func TestAsking(t *testing.T) {
	for answer, yes := range map[string]bool{"y\n": true, "YES\n": true, "\n": false, "n\n": false, "": false, "yesterday\n": false} {
		var out strings.Builder
		err := ask(t.Context(), strings.NewReader(answer), &out, "Approve v2?")
		if yes != (err == nil) || !strings.Contains(out.String(), "Approve v2? [y/N]") {
			t.Errorf("%q: %v, %q", answer, err, out.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in, never := io.Pipe()
	defer never.Close()
	if err := ask(ctx, in, io.Discard, "?"); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestInstants(t *testing.T) {
	now := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2026-12-24T18:00:00+01:00": "2026-12-24T17:00:00Z", "2026-12-24": "2026-12-25T00:00:00Z", "8h": "2026-03-28T20:00:00Z", "2d": "2026-03-30T12:00:00Z",
		"90m": "2026-03-28T13:30:00Z", "2026-12-24T18:00:00": "", "2026-13-01": "", "soon": "", "-8h": "", "0s": "", "99999d": "", "": "",
	} {
		at, err := instant(text, now)
		if got := at.UTC().Format(time.RFC3339); (err != nil) != (want == "") || err == nil && got != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}
