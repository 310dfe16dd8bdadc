//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// agreed is what the example's configuration has in addition where two people
// have to agree, and the ledger is a branch.
const agreed = `
trust:
  builder: [{name: ci, key: ../keys/promote.pub}]
  scanner: [{name: ci, key: ../keys/promote.pub}]
  tester: [{name: ci, key: ../keys/promote.pub}]
  promoter: [{name: ci, key: ../keys/promote.pub}]
  approver: [{name: alice, key: ../keys/alice.pub}, {name: bob, key: ../keys/bob.pub}]
  owner: [{name: alice, key: ../keys/alice.pub}]
`

// apart gives the example once more, as another application with its own ledger:
// a branch of a bare repository.
func (s *stage) apart(t *testing.T) *stage {
	t.Helper()
	two := *s
	two.tree = filepath.Join(s.dir, "two")
	s.git(t, "clone", "-q", s.tree, two.tree)
	s.git(t, "init", "-q", "--bare", filepath.Join(s.dir, "ledger.git"))
	application := ""
	for file, more := range map[string]string{"compose.staging.yml": "", "compose.prod.yml": "", "promote.yaml": agreed} {
		raw, err := os.ReadFile(filepath.Join(s.tree, file))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			if name, ok := strings.CutPrefix(line, "name: "); ok {
				two.rewrite(t, file, line, "name: "+strings.TrimSpace(name)+"-two\n"+more)
				if file == "promote.yaml" {
					application = strings.TrimSpace(name) + "-two"
				}
			}
		}
	}
	two.rewrite(t, "promote.yaml", "registry: "+s.registry+"/agent\n", "registry: "+s.registry+"/two\n")
	two.rewrite(t, "promote.yaml", "file: {path: .promote/ledger, shared: true}", "git: {remote: ../ledger.git}")
	for _, env := range []string{"staging", "production"} { // the ports there are taken
		two.rewrite(t, "promote.yaml", "envFile: ../"+env+".env", "envFile: ../two.env")
	}
	if err := os.WriteFile(filepath.Join(s.dir, "two.env"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	two.rewrite(t, "promote.yaml", "    after: staging\n", "    after: staging\n    approvals: {required: 2}\n")
	for _, who := range []string{"alice", "bob"} {
		two.promote(t, "keys", "generate", "../keys/"+who+".key").want(t, 0)
	}
	two.git(t, "commit", "-q", "-a", "-m", "two people have to agree")
	t.Cleanup(func() {
		for _, env := range []string{"staging", "production"} {
			down(t, "label=com.docker.compose.project="+two.project(t, env))
			down(t, "name=promote-checkpoint-promote-"+application+"-"+env)
		}
	})
	return &two
}

// down removes what a filter finds, with tools that are not ours. The test is
// over by then, and its context with it.
func down(t *testing.T, filter string) {
	ctx := context.WithoutCancel(t.Context())
	for _, kind := range []struct{ list, remove []string }{
		{[]string{"ps", "-aq"}, []string{"rm", "-f"}},
		{[]string{"network", "ls", "-q"}, []string{"network", "rm"}},
		{[]string{"volume", "ls", "-q"}, []string{"volume", "rm"}},
	} {
		ids, err := dockerOutput(ctx, append(kind.list, "--filter", filter)...)
		if err == nil && ids != "" {
			_, err = dockerOutput(ctx, append(kind.remove, strings.Fields(ids)...)...)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// A release goes into production once two people have approved it from checkouts
// of their own, over a ledger that is a branch of a repository; and what they
// did can be verified from that branch alone.
func TestTwoApproveOverALedgerInABranch(t *testing.T) {
	s := theStage.apart(t)
	var status struct {
		Environments []struct{ Release, Version string }
	}
	s.must(t, &promotionResult{}, "to", "staging")
	s.must(t, &status, "status", "staging")
	released := status.Environments[0].Release
	s.promote(t, "to", "production").want(t, 3, "approv")

	elsewhere := *s
	elsewhere.tree = filepath.Join(s.dir, "elsewhere")
	s.git(t, "clone", "-q", s.tree, elsewhere.tree)
	elsewhere.promote(t, "approve", "production", released, "--key", "../keys/alice.key", "--reason", "read the changes", "--yes").want(t, 0)
	s.promote(t, "to", "production").want(t, 3, "has 1 (alice)")
	elsewhere.promote(t, "approve", "production", released, "--key", "../keys/bob.key", "--yes").want(t, 0)
	s.must(t, &promotionResult{}, "to", "production")

	elsewhere.must(t, &status, "status", "production")
	if got := status.Environments[0].Release; got != released {
		t.Errorf("another checkout says that production runs %s, want %s", got, released)
	}
	var audit struct {
		Result  string
		Records int
	}
	o := elsewhere.promote(t, "audit", "verify", "-o", "json")
	o.want(t, 0)
	if err := json.Unmarshal([]byte(o.stdout), &audit); err != nil {
		t.Fatal(err)
	}
	if audit.Result != "passed" || audit.Records < 6 {
		t.Errorf("the audit says %+v", audit)
	}
	if branches := strings.Fields(s.git(t, "--git-dir", filepath.Join(s.dir, "ledger.git"), "branch", "--format", "%(refname:short)")); len(branches) == 0 || branches[0] != "promote-ledger" {
		t.Errorf("the repository has the branches %q", branches)
	}
	s.promote(t, "drift", "production").want(t, 0)
}
