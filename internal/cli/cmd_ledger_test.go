package cli

import (
	"context"
	"testing"

	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/release"
)

func TestWhereAnArtifactIs(t *testing.T) {
	const project = "registry.example.com/agent/agent:ledger"
	for place, want := range map[string]struct {
		location           string
		artifact, registry bool
	}{
		"ledger.export":                   {"ledger.export", false, false},
		"a.b/ledger":                      {"a.b/ledger", false, false},
		"oci:":                            {project, true, true},
		"oci:registry.acme.dev/agent:old": {"registry.acme.dev/agent:old", true, true},
		"oci:localhost:5000/agent":        {"localhost:5000/agent", true, true},
		"oci:localhost/agent":             {"localhost/agent", true, true},
		"oci:layout":                      {"oci:layout", true, false},
		"oci:layout:tag":                  {"oci:layout:tag", true, false},
		"oci:backup/layout":               {"oci:backup/layout", true, false},
		"oci:./a.b/layout":                {"oci:./a.b/layout", true, false},
		"oci:../layout":                   {"oci:../layout", true, false},
		"oci:/var/layout:tag":             {"oci:/var/layout:tag", true, false},
		"oci-archive:a.tar":               {"oci-archive:a.tar", true, false},
	} {
		location, artifact, registry := artifactPlace(place, project)
		if location != want.location || artifact != want.artifact || registry != want.registry {
			t.Errorf("%s: %s, %v, %v", place, location, artifact, registry)
		}
	}
}

// TestAuditFlags: who is believed is said once, by flags or by promote.yaml.
func TestAuditFlags(t *testing.T) {
	var got AuditOptions
	var project *config.Config
	found := release.LedgerAudit{Result: "passed", Findings: []release.LedgerFinding{}, Contained: []release.AuditedCheckpoint{}}
	w := Wiring{Audit: func(_ context.Context, c *config.Config, o AuditOptions) (release.LedgerAudit, error) {
		got, project = o, c
		return found, nil
	}}
	main := func(args ...string) (int, string) {
		r, errOut := testRun(t, w)
		code := r.main(context.Background(), append([]string{"audit", "verify", "-o", "json"}, args...))
		valid(t, "audit-verify", []byte(orEmpty(read(t, r.std.Out), found)))
		return code, errOut()
	}
	if code, _ := main(); code != 0 || project == nil || got.File != "" {
		t.Errorf("exit %d, %+v", code, got)
	}
	if code, _ := main("--key", "a.pub", "--key", "b.pub", "--checkpoint", "c", "x.export", "--anew"); code != 0 || project != nil || len(got.Keys) != 2 || len(got.Checkpoints) != 1 || !got.Anew {
		t.Errorf("exit %d, %+v", code, got)
	}
	if code, _ := main("--trust", release.DigestOf(nil).String(), "x.export"); code != 0 || got.Trust != release.DigestOf(nil).String() {
		t.Errorf("exit %d, %+v", code, got)
	}
	for _, args := range [][]string{{"--key", "a.pub"}, {"--name", "x", "x.export"}, {"a", "b"}, {"--trusted-root", "r"}} {
		if code, text := main(args...); code != 2 {
			t.Errorf("%q: exit %d, %s", args, code, text)
		}
	}
	n := int64(3)
	found.Result, found.Findings = "failed", []release.LedgerFinding{{Rule: release.AuditForm, Record: &n, Line: 4, Message: "m"}}
	if code, text := main(); code != 3 {
		t.Errorf("exit %d, %s", code, text)
	}
}

func orEmpty(text string, of release.LedgerAudit) string {
	if text == "" {
		raw, _ := release.Canonical(of)
		return string(raw)
	}
	return text
}
