//go:build engine

package wire

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/pkg/release"
)

// people are a team in which nobody may do everything.
const people = `trust:
  builder: [{name: ci, key: ci.pub}]
  promoter: [{name: ops, key: ops.pub}, {name: deputy, key: deputy.pub}]
  approver: [{name: alice, key: alice.pub}, {name: bob, key: bob.pub}, {name: bob, key: bob2.pub}]
  owner: [{name: alice, key: alice.pub}]
environments:
  staging: {}
  production:
    after: staging
    soak: 2h
    approvals: {required: 2, notBy: [builder, promoter]}
    windows: [{allow: "Mon-Thu 09:00-16:00", zone: Europe/Berlin}, {deny: "Fri 22:00-Sat 02:00"}]
`

// TestPeopleSignWithTheirOwnKeys goes through the real command line, ledger,
// keys and policies: approvals and freezes count by the name that trust gives a
// key, and each signer holds one key.
func TestPeopleSignWithTheirOwnKeys(t *testing.T) {
	o := newOffice(t, "ci", "ops", "deputy", "alice", "bob", "bob2", "mallory")
	p := o.pipeline("ops", people)
	released := release.DigestOf([]byte("v1"))
	append := func(r release.Record) {
		t.Helper()
		h, checkpoint, err := p.Ledger.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rules, err := release.Canonical(map[string]release.Digest{"configuration": p.Project.Configuration, "policy": p.Judge.Digest()})
		if err != nil {
			t.Fatal(err)
		}
		r.Rules, r.Release, r.Version, r.Revision = release.DigestOf(rules), released, "v1.0.0", strings.Repeat("c0ffee", 7)[:40]
		if len(h) == 0 {
			r.Trust = &p.Project.Trust
		}
		if _, _, err := p.Ledger.Append(t.Context(), r, checkpoint.TreeSize); err != nil {
			t.Fatal(err)
		}
	}
	append(release.Record{Phase: release.Released, Acted: map[release.Role][]string{release.Builder: {"ci"}}})
	append(release.Record{Phase: release.Deployed, Environment: "staging", Kind: release.KindPromote})

	t.Chdir(o.dir)
	say := func(line string, code int, words ...string) {
		t.Helper()
		var files [3]*os.File
		for i := range files {
			f, err := os.CreateTemp(t.TempDir(), "")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			files[i] = f
		}
		got := cli.Main(strings.Fields(line), cli.Streams{In: files[0], Out: files[1], Err: files[2]}, New())
		out, _ := os.ReadFile(files[1].Name())
		messages, _ := os.ReadFile(files[2].Name())
		t.Logf("promote %s: exit %d\n%s%s", line, got, out, messages)
		if got != code {
			t.Fatalf("%s: exit %d, want %d\n%s%s", line, got, code, out, messages)
		}
		for _, want := range words {
			if !strings.Contains(string(out)+string(messages), want) {
				t.Errorf("%s: no %q in\n%s%s", line, want, out, messages)
			}
		}
	}
	say("approve production v1.0.0", 3, "ops is no approver; those are alice, bob")
	say("approve production v1.0.0 --key mallory.key", 3, "is no approver")
	say("approve production v1.0.0 --key absent.key", 2, "absent.key")
	say("approve production v1.0.0 --offline --key alice.key", 0, "approved     by alice", "1 of 2 (alice); may still: bob")
	say("approve production v1.0.0 --offline --key bob.key --expires 1h", 0, "2 of 2 (alice, bob)")
	say("approve production v1.0.0 --offline --key bob2.key", 0, "bob has approved it already")
	say("freeze production --until 2h --reason audit --key alice.key", 3, "alice is no promoter; those are deputy, ops")
	say("freeze production --until 2h --reason audit", 0, "production frozen by ops")
	say("freeze production --until 1h --reason mine --key deputy.key", 0, "production frozen by deputy", "beside it    record 4: by ops")
	say("unfreeze production --key deputy.key", 0, "lifted       record 5: by deputy", "still there  record 4: by ops")
	say("unfreeze production --key deputy.key", 3, "deputy may not lift the freeze of production by ops")
	say("unfreeze production --key mallory.key", 3, "may not lift")
	say("unfreeze production --key bob2.key", 0, "production is not frozen any more")
	say("status", 0, "v1.0.0: 2 of 2 (alice, bob) approvals", "v1.0.0: soaks")
	say("log -n 1", 0, "unfrozen", "bob")

	// Everybody reads the same ledger, and it is sound.
	h, _, err := o.pipeline("ops", people).Ledger.Read(t.Context())
	if err != nil || len(h) != 8 {
		t.Fatalf("%d records, %v", len(h), err)
	}
	production := p.Project.Environments[1]
	facts := release.GatherFacts(release.Known{
		Environment: production, Digest: released, Trust: p.Project.Trust, History: h, Configuration: p.Project.Configuration,
		Release: release.Release{Version: "v1.0.0", Services: map[string]release.Service{"x": {Path: "x", Origin: release.External}}}, Now: time.Now(),
	})
	verdicts, err := p.Judge.Judge(t.Context(), facts)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range verdicts {
		if (v.Gate == "approvals" || v.Gate == "freeze") && v.Result != release.Passed || v.Gate == "soak" && v.Result != release.Failed {
			t.Errorf("%s: %s, %v", v.Gate, v.Result, v.Reasons)
		}
	}

	// Nobody is at work on this one: it is said who had it, and what comes first.
	append(release.Record{Phase: release.Intended, Kind: release.KindPromote, Environment: "production", LeaseSeconds: 1, Actor: release.Actor{User: "eve", Host: "laptop", Process: "process 7"}})
	const holder = "record 8 of production (promote of v1.0.0) is open since "
	say("to production", 6, holder, "eve on laptop, process 7", "wait for it (--wait), or if it is gone: promote resume production")
	say("to production --wait 30s", 6, holder, "its holder has shown no life for 1s", "promote resume production finishes or undoes it")
	say("to production --wait=300ms", 6, "--wait is over")
	say("freeze production --until 1h --reason audit", 0, "goes on      record 8")
}
