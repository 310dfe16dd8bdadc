package policy

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// probe makes a policy with one gate of a team, promote.probe.
func probe(t *testing.T, rules string) *Policy {
	t.Helper()
	return load(t, write(t, map[string]string{"probe.rego": "package promote.probe\n\n" + rules}))
}

// Each gate fails, with its own rule and a fix, when its fact is broken, and
// no gate that the fact does not concern.
func TestEachGateFails(t *testing.T) {
	p := load(t)
	critical := release.Finding{ID: "CVE-2023-1", Severity: "critical", Class: release.ClassVulnerability, Package: "langchain", Version: "0.0.200"}
	secret := release.Finding{ID: "private-key", Severity: "high", Class: release.ClassSecret, Path: "app/key.pem"}
	for name, c := range map[string]struct {
		harm func(*release.Facts)
		want string // the rules that deny, in the order of gates
	}{
		"unpinned base":     {func(f *release.Facts) { f.Services[0].Provenance.Bases[0].Pinned = false }, "pinned/base"},
		"unpinned image":    {func(f *release.Facts) { f.Services[1].Pinned = false }, "pinned/image"},
		"root":              {func(f *release.Facts) { f.Services[0].Config.NonRoot = false }, "user/root"},
		"config not known":  {func(f *release.Facts) { f.Services[1].Config = release.ConfigFacts{} }, "user/unknown"},
		"a vulnerability":   {func(f *release.Facts) { f.Services[0].Scan.Findings = append(f.Services[0].Scan.Findings, critical) }, "vulnerabilities/finding"},
		"a new one":         {func(f *release.Facts) { f.Services[1].Match.Findings = append(f.Services[1].Match.Findings, critical) }, "vulnerabilities/finding"},
		"a secret":          {func(f *release.Facts) { f.Services[0].Scan.Findings = append(f.Services[0].Scan.Findings, secret) }, "secrets/finding"},
		"no scan":           {func(f *release.Facts) { f.Services[1].Scan.Proof = gone }, "freshness/scan secrets/scan vulnerabilities/scan"},
		"no provenance":     {func(f *release.Facts) { f.Services[0].Provenance.Proof = gone }, "pinned/unknown signature/provenance"},
		"no signature":      {func(f *release.Facts) { f.Services[0].Signature = gone }, "signature/signature"},
		"another commit":    {func(f *release.Facts) { f.Services[0].Provenance.Revision = "badcafe" }, "signature/revision"},
		"an old scan":       {func(f *release.Facts) { f.Services[0].Scan.AgeSeconds = 1 << 40 }, "freshness/age"},
		"an old database":   {func(f *release.Facts) { f.Services[0].Scan.Database.AgeSeconds = 1 << 40 }, "freshness/database"},
		"no SBOM":           {func(f *release.Facts) { f.Services[0].SBOM.Proof = gone }, "sbom/missing"},
		"no smoke test":     {func(f *release.Facts) { f.Smoke.Proof = gone }, "smoke/missing"},
		"a failed one":      {func(f *release.Facts) { f.Smoke.Result = "failed" }, "smoke/result"},
		"out of memory":     {func(f *release.Facts) { f.Smoke.Services[0].OOMKilled = true }, "smoke/memory"},
		"at the limit":      {func(f *release.Facts) { f.Smoke.Services[0].Memory.Peak = f.Smoke.Services[0].Memory.Limit }, "smoke/memory"},
		"not released":      {func(f *release.Facts) { f.History.Released = false }, "order/released"},
		"not in staging":    {func(f *release.Facts) { f.History.DeployedToAfter = false }, "order/after"},
		"not long enough":   {func(f *release.Facts) { f.History.SoakSeconds = 0 }, "soak/short"},
		"staging is open":   {func(f *release.Facts) { f.History.AfterOpen = true }, "order/open"},
		"one approval":      {func(f *release.Facts) { f.Approvals.Votes[0].Counts = false }, "approvals/quorum"},
		"frozen":            {func(f *release.Facts) { f.Freezes = []release.FreezeFacts{{By: "ops"}} }, "freeze/frozen"},
		"a closed window":   {func(f *release.Facts) { f.Window.Open = false }, "window/closed"},
		"a dirty tree":      {func(f *release.Facts) { f.Release.Dirty = true }, "order/dirty"},
		"a model's finding": {func(f *release.Facts) { f.Models = append(f.Models, release.ModelFinding{Severity: "error"}) }, "models/"},
		"a model's error": {func(f *release.Facts) {
			f.Models = append(f.Models, release.ModelFinding{Reason: release.Reason{Rule: "compose/privileged", Message: "m"}, Severity: "error"})
		}, "models/compose/privileged"},
	} {
		t.Run(name, func(t *testing.T) {
			f := good(t)
			c.harm(&f)
			list, err := p.Judge(t.Context(), f)
			if c.want == "models/" {
				if release.KindOf(err) != release.KindConfig {
					t.Fatalf("a finding without a rule: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var denied []string
			for _, v := range list {
				if v.Result != release.Passed && v.Result != release.Failed {
					t.Errorf("gate %s: %s, %v", v.Gate, v.Result, v.Reasons)
				}
				for _, r := range v.Reasons {
					denied = append(denied, r.Rule)
					if r.Fix == "" || r.Message == "" {
						t.Errorf("no fix or message: %+v", r)
					}
				}
			}
			if got := strings.Join(denied, " "); got != c.want {
				t.Errorf("denied by %q, want %q", got, c.want)
			}
		})
	}
}

var (
	gone = release.Proof{Absent: true, Reason: "there is none"}
	bad  = release.Proof{Reason: "signed by somebody unknown"}
)

// proofs are the pieces of evidence in the good facts.
func proofs(f *release.Facts) []*release.Proof {
	a, r := &f.Services[0], &f.Services[1]
	return []*release.Proof{
		&a.Signature, &a.Provenance.Proof, &a.Scan.Proof, &r.Scan.Proof, &r.SBOM.Proof, &f.Smoke.Proof,
	}
}

// Every subset of the evidence is judged, with good and with bad contents: an
// allowance of a subset means an allowance of everything that has more, and
// none but the whole is allowed at all.
func TestTakingEvidenceAwayNeverHelps(t *testing.T) {
	p := load(t)
	contents := map[string]func(*release.Facts){
		"good":            func(*release.Facts) {},
		"a failing scan":  func(f *release.Facts) { f.Services[0].Scan.Result = "failed" },
		"an old database": func(f *release.Facts) { f.Services[1].Scan.Database.AgeSeconds = 1 << 40 },
		"another commit":  func(f *release.Facts) { f.Services[0].Provenance.Revision = "badcafe" },
		"an empty SBOM":   func(f *release.Facts) { f.Services[1].SBOM.Components = 0 },
		"a failed test":   func(f *release.Facts) { f.Smoke.Result = "failed" },
		"a plan":          func(f *release.Facts) { f.Producible = true },
	}
	for name, fill := range contents {
		t.Run(name, func(t *testing.T) {
			for _, taken := range []release.Proof{gone, bad} {
				full := good(t)
				n := len(proofs(&full))
				results := make([]map[string]release.Result, 1<<n)
				for subset := range results {
					f := good(t)
					fill(&f)
					for i, proof := range proofs(&f) {
						if subset&(1<<i) == 0 {
							*proof = taken
						}
					}
					results[subset] = map[string]release.Result{}
					for gate, v := range judge(t, p, f) {
						results[subset][gate] = v.Result
						if subset != len(results)-1 && v.Result == release.Unknown && !(f.Producible && taken.Absent) {
							t.Fatalf("subset %06b: %s is unknown", subset, gate)
						}
					}
				}
				for subset, result := range results {
					if whole := subset == len(results)-1; lets(result) && !whole {
						t.Errorf("subset %06b is allowed", subset)
					}
					for i := range n {
						more := results[subset|1<<i]
						if lets(result) && !lets(more) {
							t.Errorf("subset %06b is allowed, with evidence %d more it is not", subset, i)
						}
					}
				}
				if whole := results[len(results)-1]; lets(whole) != (name == "good" || name == "a plan") {
					t.Errorf("with all evidence: %v", whole)
				}
			}
		})
	}
}

// Every subset of what people said and what time has done, with one piece of
// evidence: what lets a release in with less does so with more.
func TestTakingApprovalsAwayNeverHelps(t *testing.T) {
	p := load(t)
	pieces := []func(*release.Facts){
		func(f *release.Facts) { f.Approvals.Votes[0].Counts, f.Approvals.Votes[0].Reason = false, "it ended" },
		func(f *release.Facts) { f.Approvals.Votes[1].Name = f.Approvals.Votes[0].Name },
		func(f *release.Facts) { f.Approvals.Votes[1].Counts = false },
		func(f *release.Facts) { f.Freezes = []release.FreezeFacts{{By: "ops", Reason: "why"}} },
		func(f *release.Facts) { f.Window = release.WindowFacts{} },
		func(f *release.Facts) { f.History.SoakSeconds = 0 },
		func(f *release.Facts) { f.Smoke.Proof = gone },
	}
	for _, resumed := range []bool{false, true} {
		allowed := make([]bool, 1<<len(pieces))
		for lacking := range allowed {
			f := good(t)
			f.Resumed = resumed
			for i, take := range pieces {
				if lacking&(1<<i) != 0 {
					take(&f)
				}
			}
			list, err := p.Judge(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			allowed[lacking] = release.Decision{Verdicts: list}.Allowed()
		}
		for lacking, allows := range allowed {
			if want := lacking == 0 || resumed && lacking&^(1<<4|1<<5) == 0; allows != want {
				t.Errorf("resumed %v, lacking %07b: allowed %v", resumed, lacking, allows)
			}
		}
	}
}

func lets(results map[string]release.Result) bool {
	for _, r := range results {
		if r < release.Warned {
			return false
		}
	}
	return len(results) > 0
}

func TestNothingToJudgeIsDenied(t *testing.T) {
	p := load(t)
	f := good(t)
	f.Services = nil
	if _, err := p.Judge(t.Context(), f); release.KindOf(err) != release.KindDenied {
		t.Errorf("without services: %v", err)
	}
	f = good(t)
	f.Release.Digest = release.Digest{}
	if _, err := p.Judge(t.Context(), f); release.KindOf(err) != release.KindDenied {
		t.Errorf("without a digest: %v", err)
	}
}

// Facts that were made by hand may lack lists; gates still see every field.
func TestEveryFieldIsDefined(t *testing.T) {
	v, err := input(release.Facts{Services: []release.ServiceFacts{{}}, Models: []release.ModelFinding{{}}})
	if err != nil {
		t.Fatal(err)
	}
	text := v.String()
	for _, want := range []string{`"file": ""`, `"line": 0`, `"bases": []`, `"summary": {}`, `"scannedAt": "0001-01-01T00:00:00Z"`, `"producible": false`} {
		if !strings.Contains(text, want) {
			t.Errorf("the facts lack %s: %s", want, text)
		}
	}
	if strings.Contains(text, "null") {
		t.Errorf("the facts hold null: %s", text)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for name, c := range map[string]struct{ rules, want string }{
		"text":               {`deny contains "no"`, "object with rule"},
		"a number":           {`deny contains 1`, "object with rule"},
		"no rule":            {`deny contains {"message": "m"}`, `want probe/<thing>`},
		"another gate's":     {`deny contains {"rule": "user/root", "message": "m"}`, `want probe/<thing>`},
		"the gate only":      {`deny contains {"rule": "probe/", "message": "m"}`, `want probe/<thing>`},
		"no message":         {`deny contains {"rule": "probe/x"}`, "no message"},
		"an empty message":   {`deny contains {"rule": "probe/x", "message": ""}`, "no message"},
		"a numeric message":  {`deny contains {"rule": "probe/x", "message": 1}`, "want text"},
		"an unknown field":   {`deny contains {"rule": "probe/x", "message": "m", "hint": "h"}`, `no field "hint"`},
		"a half line":        {`deny contains {"rule": "probe/x", "message": "m", "line": 1.5}`, "whole number"},
		"a line in words":    {`deny contains {"rule": "probe/x", "message": "m", "line": "one"}`, "whole number"},
		"a wrong warning":    {`warn contains "no"`, "warn:"},
		"a builtin's error":  {`deny contains {"rule": "probe/x", "message": "m"} if to_number(input.trust) == 1`, "to_number"},
		"division by zero":   {`deny contains {"rule": "probe/x", "message": "m"} if 1 / input.history.soakSeconds > 1`, "divide by zero"},
		"two values at once": {"deny contains {\"rule\": \"probe/x\", \"message\": m}\n\nm := input.trust\n\nm := input.kind", "complete rules"},
	} {
		t.Run(name, func(t *testing.T) {
			f := good(t)
			f.History.SoakSeconds, f.History.RequiredSoakSeconds = 0, 0
			verdicts, err := probe(t, c.rules).Judge(t.Context(), f)
			if verdicts != nil || release.KindOf(err) != release.KindConfig || !strings.Contains(err.Error(), c.want) {
				t.Errorf("verdicts %v, error %v; want %q", verdicts, err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), "probe.rego") {
				t.Errorf("%v does not say which file", err)
			}
		})
	}
}

// Only a plan may leave a question open.
func TestUnknownNeedsAPlan(t *testing.T) {
	p := probe(t, `unknown contains {"rule": "probe/later", "message": "m"}`+"\n\n"+`warn contains {"rule": "probe/hm", "message": "m"}`)
	f := good(t)
	if v := judge(t, p, f)["probe"]; v.Result != release.Failed || v.Reasons[0].Rule != "probe/later" {
		t.Errorf("unknown without a plan: %+v", v)
	}
	f.Producible = true
	if v := judge(t, p, f)["probe"]; v.Result != release.Unknown || len(v.Reasons) != 1 {
		t.Errorf("unknown in a plan: %+v", v)
	}
}

func TestReasonsAreReadInFull(t *testing.T) {
	p := probe(t, `deny contains {"rule": "probe/b", "message": "m", "file": "compose.yaml", "line": 7, "fix": "f"}
deny contains {"rule": "probe/a", "message": concat("", ["x", "\u001b[2J", "y\n"])}`)
	v := judge(t, p, good(t))["probe"]
	if len(v.Reasons) != 2 || v.Reasons[1] != (release.Reason{Rule: "probe/b", Message: "m", File: "compose.yaml", Line: 7, Fix: "f"}) {
		t.Errorf("got %+v", v)
	}
	if v.Reasons[0].Message != "x\ufffd[2Jy\ufffd" {
		t.Errorf("control characters reach the terminal: %q", v.Reasons[0].Message)
	}
}

func TestReasonsAreBounded(t *testing.T) {
	f := good(t)
	for i := range 3 * maxReasons {
		f.Services[0].Scan.Findings = append(f.Services[0].Scan.Findings, release.Finding{ID: fmt.Sprint("CVE-", i), Severity: "critical", Class: release.ClassVulnerability})
	}
	f.Services[0].Scan.Findings[0].Package = strings.Repeat("x", 10*maxText)
	v := judge(t, load(t), f)["vulnerabilities"]
	if len(v.Reasons) != maxReasons+1 || !strings.Contains(v.Reasons[maxReasons].Message, "200 reasons more") {
		t.Errorf("%d reasons, the last is %v", len(v.Reasons), v.Reasons[len(v.Reasons)-1])
	}
	for _, r := range v.Reasons {
		if len(r.Message) > maxText+4 || len(r.Fix) > maxText+4 {
			t.Errorf("a reason of %d bytes", len(r.Message))
		}
	}
}

// A gate that would take for ever is stopped, and decides nothing.
func TestJudgingIsBounded(t *testing.T) {
	dir := write(t, map[string]string{"probe.rego": "package promote.probe\n\n" + `deny contains {"rule": "probe/x", "message": "m"} if {
	n := split("a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a", " ")
	some a in n
	some b in n
	some c in n
	some d in n
	some e in n
	some f in n
	some g in n
	some h in n
	concat("", [a, b, c, d, e, f, g, h]) == input.trust
}`})
	p, err := Load(t.Context(), Options{Dirs: []string{dir}, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	verdicts, err := p.Judge(t.Context(), good(t))
	if verdicts != nil || release.KindOf(err) != release.KindUnavailable || !strings.Contains(err.Error(), "probe") {
		t.Errorf("verdicts %v, %v", verdicts, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if verdicts, err := p.Judge(ctx, good(t)); verdicts != nil || release.KindOf(err) != release.KindInterrupted {
		t.Errorf("cancelled: %v, %v", verdicts, err)
	}
}

func TestJudgingSideBySide(t *testing.T) {
	p := load(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			f := good(t)
			f.Services[0].Config.NonRoot = i%2 == 0
			verdicts, err := p.Judge(t.Context(), f)
			if err != nil {
				t.Error(err)
				return
			}
			for _, v := range verdicts {
				if v.Gate == "user" && (v.Result == release.Passed) != (i%2 == 0) {
					t.Errorf("judgement %d: %s", i, v.Result)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		p, err := Load(b.Context(), Options{})
		if err == nil {
			err = p.ready()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
