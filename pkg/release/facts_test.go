package release

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

var (
	factsNow   = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	factsImage = DigestOf([]byte("image"))
	factsOther = DigestOf([]byte("another image"))
	factsRel   = DigestOf([]byte("release"))
	dayLimits  = Limits{MaxAgeSeconds: 24 * 3600, FailOn: "critical"}
)

func attested(t *testing.T, predicateType string, about Digest, predicate json.RawMessage) Evidence {
	t.Helper()
	role, ok := RoleOf(predicateType)
	if !ok {
		t.Fatalf("no role for %s", predicateType)
	}
	return Evidence{
		Subject: Subject{Repository: "registry.test/app", Digest: about}, PredicateType: predicateType,
		Predicate: predicate, Digest: DigestOf(append([]byte(predicateType), predicate...)), Verified: true,
		Signer: Signer{Name: "ci", Roles: []Role{role}}, Role: role,
	}
}

func cleanScan() Scan {
	findings := []Finding{
		{ID: "CVE-1", Severity: "high", Class: ClassVulnerability, Package: "a"},
		{ID: "debian 12", Severity: "high", Class: ClassCoverage, Suppressed: "the demo's database has no Debian data"},
	}
	return Scan{
		Subject:  Subject{Repository: "registry.test/app", Digest: factsImage},
		Database: Database{Version: 2, UpdatedAt: factsNow.Add(-2 * time.Hour), Digest: DigestOf([]byte("db")), Covers: []string{"pip"}},
		Summary:  Summarize(findings), Findings: findings, Result: JudgeFindings(findings, "critical"), Distribution: "debian 12.5",
	}
}

func scanEvidence(t *testing.T, s Scan, finished time.Time) Evidence {
	t.Helper()
	raw, err := ScanPredicate(s, ScanRun{Scanner: "pkg:x", Version: "1", FailOn: "critical", Started: finished.Add(-time.Second), Finished: finished})
	if err != nil {
		t.Fatal(err)
	}
	return attested(t, PredicateVulnerability, s.Subject.Digest, raw)
}

func cleanSmoke() Smoke {
	return Smoke{
		Release:  factsRel,
		Services: []SmokeService{{Name: "app", Healthy: true, Memory: Memory{Limit: 100, Peak: 50, Samples: 9}}},
		Checks:   []SmokeCheck{{Name: "answers", Result: Passed}},
		Result:   Passed, Started: factsNow.Add(-3 * time.Hour), Finished: factsNow.Add(-2 * time.Hour),
	}
}

func smokeEvidence(t *testing.T, s Smoke) Evidence {
	t.Helper()
	raw, err := SmokePredicate(s, map[string]Digest{"smoke": DigestOf([]byte("model"))})
	if err != nil {
		t.Fatal(err)
	}
	return attested(t, PredicateTestResult, s.Release, raw)
}

const builtPredicate = `{"buildDefinition":{"buildType":"https://promote.test/build","externalParameters":{"revision":"%s"},
"resolvedDependencies":[{"uri":"pkg:docker/registry.test%%3A5000/base/python@bookworm?digest=sha256%%3A%[2]s&platform=linux%%2Famd64","digest":{"sha256":"%[2]s"}},
{"uri":"pkg:docker/alpine@3.20?platform=linux%%2Famd64","digest":{"sha256":"%[2]s"}},
{"uri":"https://files.test/x.tar","digest":{"sha256":"%[2]s"}}]},"runDetails":{"builder":{"id":"https://ci.test/builder"}}}`

func provenanceEvidence(t *testing.T, revision string) Evidence {
	t.Helper()
	raw := fmt.Sprintf(builtPredicate, revision, DigestOf([]byte("base")).Hex())
	return attested(t, PredicateProvenance, factsImage, json.RawMessage(raw))
}

func sbomEvidence(t *testing.T) Evidence {
	return attested(t, PredicateCycloneDX, factsImage, json.RawMessage(`{"bomFormat":"CycloneDX","components":[{"name":"a"},{"name":"b"}]}`))
}

func signatureEvidence(t *testing.T) Evidence {
	return attested(t, PredicateSignature, factsImage, json.RawMessage(`{}`))
}

func TestFactsFromScanKeepsWhatMatters(t *testing.T) {
	s := cleanScan()
	s.Findings = append(s.Findings, Finding{ID: "CVE-2", Severity: "critical", Class: ClassVulnerability, Package: "b"},
		Finding{ID: "private-key", Severity: "high", Class: ClassSecret, Path: "/root/id"})
	s.Result = JudgeFindings(s.Findings, "critical")
	got, err := FactsFromScan(scanEvidence(t, s, factsNow.Add(-time.Hour)), factsImage, dayLimits, factsNow)
	if err != nil || !got.Verified {
		t.Fatalf("verified %v, %v", got.Verified, err)
	}
	if len(got.Findings) != 2 || got.Findings[0].ID != "CVE-2" || got.Findings[1].ID != "private-key" {
		t.Errorf("findings %+v, want CVE-2 and the key", got.Findings)
	}
	if len(got.Waived) != 1 || got.Waived[0].ID != "debian 12" {
		t.Errorf("waived %+v, want the distribution", got.Waived)
	}
	if got.Result != "failed" || got.AgeSeconds != 3600 || got.Database.AgeSeconds != 7200 || got.Signer != "ci" {
		t.Errorf("got %+v", got)
	}
}

// A stricter threshold of today's configuration counts, whatever the scanner
// was told.
func TestFactsFromScanJudgesByTheLimitsOfNow(t *testing.T) {
	got, err := FactsFromScan(scanEvidence(t, cleanScan(), factsNow), factsImage, Limits{MaxAgeSeconds: 86400, FailOn: "high"}, factsNow)
	if err != nil || got.Result != "failed" || len(got.Findings) != 1 {
		t.Fatalf("result %s, findings %v, %v; want the high CVE to fail", got.Result, got.Findings, err)
	}
	for _, failOn := range []string{"", "severe", "CRITICAL"} {
		got, _ := FactsFromScan(scanEvidence(t, cleanScan(), factsNow), factsImage, Limits{MaxAgeSeconds: 86400, FailOn: failOn}, factsNow)
		if got.Result != "failed" {
			t.Errorf("threshold %q: result %s, want failed: an unknown threshold lets nothing through", failOn, got.Result)
		}
	}
}

func TestFindingsAreCapped(t *testing.T) {
	s := cleanScan()
	for i := range MaxFindings + 7 {
		s.Findings = append(s.Findings, Finding{ID: fmt.Sprint("CVE-", i), Severity: "critical", Class: ClassVulnerability})
	}
	s.Result = Failed
	got, err := FactsFromScan(scanEvidence(t, s, factsNow), factsImage, dayLimits, factsNow)
	if err != nil || len(got.Findings) != MaxFindings || got.Omitted != 7 {
		t.Fatalf("%d findings, %d omitted, %v", len(got.Findings), got.Omitted, err)
	}
}

// spoil lists the ways in which one attestation can be unusable.
var spoil = map[string]func(*Evidence){
	"unverified":       func(e *Evidence) { e.Verified, e.Reason = false, "bad signature" },
	"no signer":        func(e *Evidence) { e.Signer = Signer{} },
	"another role":     func(e *Evidence) { e.Signer.Roles = []Role{Approver} },
	"another subject":  func(e *Evidence) { e.Subject.Digest = factsOther },
	"no subject":       func(e *Evidence) { e.Subject.Digest = Digest{} },
	"another type":     func(e *Evidence) { e.PredicateType = PredicateDecision },
	"empty":            func(e *Evidence) { e.Predicate = nil },
	"empty object":     func(e *Evidence) { e.Predicate = json.RawMessage(`{}`) },
	"null":             func(e *Evidence) { e.Predicate = json.RawMessage(`null`) },
	"a list":           func(e *Evidence) { e.Predicate = json.RawMessage(`[]`) },
	"a string":         func(e *Evidence) { e.Predicate = json.RawMessage(`"passed"`) },
	"truncated":        func(e *Evidence) { e.Predicate = e.Predicate[:len(e.Predicate)/2] },
	"of another kind":  func(e *Evidence) { e.Predicate = json.RawMessage(`{"result":{"passed":true}}`) },
	"no bundle digest": func(e *Evidence) { e.Digest = Digest{} },
}

func TestUnusableEvidenceIsNeverVerified(t *testing.T) {
	readers := map[string]struct {
		evidence Evidence
		read     func(Evidence) (Proof, error)
	}{
		"scan": {scanEvidence(t, cleanScan(), factsNow), func(e Evidence) (Proof, error) {
			f, err := FactsFromScan(e, factsImage, dayLimits, factsNow)
			return f.Proof, err
		}},
		"provenance": {provenanceEvidence(t, "c0ffee"), func(e Evidence) (Proof, error) {
			f, err := FactsFromProvenance(e, factsImage)
			return f.Proof, err
		}},
		"sbom": {sbomEvidence(t), func(e Evidence) (Proof, error) {
			f, err := FactsFromSBOM(e, factsImage)
			return f.Proof, err
		}},
		"smoke": {smokeEvidence(t, cleanSmoke()), func(e Evidence) (Proof, error) {
			f, err := FactsFromSmoke(e, factsRel, factsNow)
			return f.Proof, err
		}},
		"signature": {signatureEvidence(t), func(e Evidence) (Proof, error) { return FactsFromSignature(e, factsImage) }},
	}
	for kind, r := range readers {
		if proof, err := r.read(r.evidence); err != nil || !proof.Verified || proof.Reason != "" {
			t.Errorf("%s: sound evidence gives %+v, %v", kind, proof, err)
		}
		for name, harm := range spoil {
			if kind == "signature" && strings.HasPrefix(r.evidence.PredicateType, "https://sigstore.dev/") && isPredicateHarm(name) {
				continue // a signature's predicate says nothing
			}
			ev := r.evidence
			harm(&ev)
			proof, err := r.read(ev)
			if err == nil || proof.Verified || proof.Reason == "" {
				t.Errorf("%s, %s: verified %v, reason %q, error %v", kind, name, proof.Verified, proof.Reason, err)
			}
		}
	}
}

func isPredicateHarm(name string) bool {
	switch name {
	case "empty", "empty object", "null", "a list", "a string", "truncated", "of another kind":
		return true
	}
	return false
}

func TestScanTimes(t *testing.T) {
	for _, c := range []struct {
		name           string
		scan, database time.Duration // relative to now
		signed         time.Duration // 0 is unproven
		want           string
	}{
		{"fresh", -time.Hour, -2 * time.Hour, -time.Hour, ""},
		{"a clock two minutes ahead", 2 * time.Minute, -time.Hour, 0, ""},
		{"old scan", -25 * time.Hour, -26 * time.Hour, 0, "old"},
		{"old database", -time.Hour, -24*time.Hour - time.Second, 0, "database is 24h"},
		{"future scan", time.Hour, -time.Hour, 0, "future"},
		{"future database", -time.Hour, time.Hour, 0, "future"},
		{"dated after its signature", -time.Minute, -time.Hour, -time.Hour, "after it was signed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := cleanScan()
			s.Database.UpdatedAt = factsNow.Add(c.database)
			ev := scanEvidence(t, s, factsNow.Add(c.scan))
			if c.signed != 0 {
				ev.Time = factsNow.Add(c.signed)
			}
			got, err := FactsFromScan(ev, factsImage, dayLimits, factsNow)
			switch {
			case c.want == "" && (err != nil || !got.Verified):
				t.Errorf("refused: %v", err)
			case c.want != "" && (err == nil || got.Verified || !strings.Contains(got.Reason, c.want)):
				t.Errorf("verified %v, reason %q, want %q", got.Verified, got.Reason, c.want)
			}
		})
	}
	if _, err := FactsFromScan(scanEvidence(t, cleanScan(), factsNow), factsImage, Limits{FailOn: "critical"}, factsNow); err == nil {
		t.Error("a scan passes although no maximum age is set")
	}
	undated := cleanScan()
	undated.Database.UpdatedAt = time.Time{}
	if _, err := FactsFromScan(scanEvidence(t, undated, factsNow), factsImage, dayLimits, factsNow); err == nil {
		t.Error("a scan passes whose database has no date")
	}
}

func TestScanOfAnotherSubjectInside(t *testing.T) {
	s := cleanScan()
	ev := scanEvidence(t, s, factsNow)
	ev.Predicate = json.RawMessage(strings.ReplaceAll(string(ev.Predicate), factsImage.Hex(), factsOther.Hex()))
	if _, err := FactsFromScan(ev, factsImage, dayLimits, factsNow); err == nil {
		t.Error("a scan of another image counts because its statement names this one")
	}
}

func TestFactsFromProvenance(t *testing.T) {
	got, err := FactsFromProvenance(provenanceEvidence(t, "c0ffee"), factsImage)
	if err != nil {
		t.Fatal(err)
	}
	if got.Revision != "c0ffee" || got.Builder != "https://ci.test/builder" || len(got.Bases) != 2 {
		t.Fatalf("got %+v", got)
	}
	if b := got.Bases[0]; b.Name != "registry.test:5000/base/python:bookworm" || !b.Pinned {
		t.Errorf("first base %+v, want a pinned one with its name as written", b)
	}
	if b := got.Bases[1]; b.Name != "alpine:3.20" || b.Pinned {
		t.Errorf("second base %+v, want an unpinned one", b)
	}
	ev := provenanceEvidence(t, "c0ffee")
	ev.Predicate = json.RawMessage(`{"buildDefinition":{"buildType":"x","externalParameters":{"revision":"aaa"}},
		"runDetails":{"metadata":{"buildkit_metadata":{"vcs":{"revision":"bbb"}}}}}`)
	if _, err := FactsFromProvenance(ev, factsImage); err == nil || !strings.Contains(err.Error(), "two commits") {
		t.Errorf("contradicting revisions: %v", err)
	}
}

func TestFactsFromSmokeBelievesTheWorstOfWhatItSays(t *testing.T) {
	for name, harm := range map[string]func(*Smoke){
		"failed":         func(s *Smoke) { s.Result = Failed },
		"unknown":        func(s *Smoke) { s.Result = Unknown },
		"a failed check": func(s *Smoke) { s.Checks = append(s.Checks, SmokeCheck{Name: "remembers"}) },
	} {
		s := cleanSmoke()
		harm(&s)
		got, err := FactsFromSmoke(smokeEvidence(t, s), factsRel, factsNow)
		if err != nil || got.Result != "failed" {
			t.Errorf("%s: result %s, %v", name, got.Result, err)
		}
	}
	got, err := FactsFromSmoke(smokeEvidence(t, cleanSmoke()), factsRel, factsNow)
	if err != nil || got.Result != "passed" || got.AgeSeconds != 7200 || got.Services[0].Memory.Peak != 50 {
		t.Errorf("got %+v, %v", got, err)
	}
	s := cleanSmoke()
	s.Services = nil
	if _, err := FactsFromSmoke(smokeEvidence(t, s), factsRel, factsNow); err == nil {
		t.Error("a run of nothing counts")
	}
	s = cleanSmoke()
	s.Finished = factsNow.Add(time.Hour)
	if _, err := FactsFromSmoke(smokeEvidence(t, s), factsRel, factsNow); err == nil {
		t.Error("a run from the future counts")
	}
}

func known(evidence ...Evidence) Known {
	return Known{
		Environment: Environment{Name: "production", After: "staging", Registry: "registry.test/prod", Soak: time.Hour},
		Digest:      factsRel,
		Release: Release{Name: "app", Version: "1.0.0", Revision: "c0ffee",
			Services: map[string]Service{"app": {Path: "app", Digest: factsImage, Origin: Built}}},
		Evidence: evidence, Limits: dayLimits, Now: factsNow,
		Images: map[string][]PlatformImage{"app": {{User: "1000", Healthcheck: true}}},
		History: History{
			{Record: Record{Phase: Released, Release: factsRel}},
			{Record: Record{Phase: Deployed, Environment: "staging", Release: factsRel, Time: factsNow.Add(-3 * time.Hour)}},
		},
	}
}

func TestGatherFacts(t *testing.T) {
	f := GatherFacts(known(scanEvidence(t, cleanScan(), factsNow), provenanceEvidence(t, "c0ffee"), sbomEvidence(t),
		signatureEvidence(t), smokeEvidence(t, cleanSmoke())))
	s := f.Services[0]
	if !s.Scan.Verified || !s.Provenance.Verified || !s.SBOM.Verified || !s.Signature.Verified || !f.Smoke.Verified {
		t.Errorf("not all verified: %+v %+v", s, f.Smoke)
	}
	if s.Repository != "registry.test/prod/app" || !s.Config.NonRoot || !s.Pinned || s.Match.Made {
		t.Errorf("service %+v", s)
	}
	if !f.History.Released || !f.History.DeployedToAfter || f.History.SoakSeconds != 3*3600 || f.History.RequiredSoakSeconds != 3600 {
		t.Errorf("history %+v", f.History)
	}
	if got := f.EvidenceDigests(); len(got) != 5 {
		t.Errorf("rests on %d attestations, want 5", len(got))
	}
}

func TestGatherFactsWithoutAnything(t *testing.T) {
	f := GatherFacts(Known{Digest: factsRel, Release: known().Release, Now: factsNow})
	s := f.Services[0]
	for kind, p := range map[string]Proof{"scan": s.Scan.Proof, "provenance": s.Provenance.Proof, "sbom": s.SBOM.Proof,
		"signature": s.Signature, "smoke": f.Smoke.Proof} {
		if p.Verified || !p.Absent || p.Reason == "" {
			t.Errorf("%s: %+v", kind, p)
		}
	}
	if s.Config.NonRoot || s.Config.Known || f.History.Released || f.History.DeployedToAfter {
		t.Errorf("something is believed without evidence: %+v %+v", s.Config, f.History)
	}
	raw, err := json.Marshal(f)
	if err != nil || strings.Contains(string(raw), "null") {
		t.Errorf("facts have an undefined value: %s, %v", raw, err)
	}
}

// A failing scan beside a passing one must not be what a denial rests on:
// whoever holds the registry can strip it.
func TestTheBestScanCounts(t *testing.T) {
	bad := cleanScan()
	bad.Findings = append(bad.Findings, Finding{ID: "CVE-9", Severity: "critical", Class: ClassVulnerability})
	bad.Result = Failed
	bad.Database.UpdatedAt = factsNow
	good, failing := scanEvidence(t, cleanScan(), factsNow.Add(-time.Hour)), scanEvidence(t, bad, factsNow)
	old := scanEvidence(t, cleanScan(), factsNow.Add(-48*time.Hour))
	for _, order := range [][]Evidence{{good, failing, old}, {failing, old, good}, {old, good, failing}} {
		if got := GatherFacts(known(order...)).Services[0].Scan; got.Result != "warned" || got.Evidence != good.Digest {
			t.Errorf("the scan that counts is %s, %+v", got.Result, got.Proof)
		}
	}
	if got := GatherFacts(known(old, failing)).Services[0].Scan; got.Result != "failed" || got.Evidence != failing.Digest {
		t.Errorf("without the good one: %s", got.Result)
	}
	k := known(good)
	k.Matches = map[string]Scan{"app": bad}
	if got := GatherFacts(k).Services[0].Match; !got.Made || len(got.Findings) != 1 {
		t.Errorf("today's findings are lost: %+v", got)
	}
}

// Going back must not wait for a scanner: for what ran here before, age is a
// fact and no reason to reject.
func TestGoingBackAcceptsAnOldScan(t *testing.T) {
	old := scanEvidence(t, cleanScan(), factsNow.Add(-90*24*time.Hour))
	k := known(old)
	if got := GatherFacts(k); got.Kind != KindPromote || got.Services[0].Scan.Verified {
		t.Errorf("a promotion takes a scan of %d s", got.Services[0].Scan.AgeSeconds)
	}
	k.Kind = KindRollback
	k.History = append(k.History, Entry{Record: Record{Phase: Deployed, Environment: "production", Release: factsRel}})
	got := GatherFacts(k)
	if s := got.Services[0].Scan; !s.Verified || s.AgeSeconds != 90*24*3600 {
		t.Errorf("a rollback refuses it: %+v", s.Proof)
	}
	if !got.History.RanHere || got.Limits != k.Limits {
		t.Errorf("history %+v, limits %+v", got.History, got.Limits)
	}
	future := scanEvidence(t, cleanScan(), factsNow.Add(time.Hour))
	k.Evidence = []Evidence{future}
	if GatherFacts(k).Services[0].Scan.Verified {
		t.Error("a rollback takes a scan from the future")
	}
}

func TestConfigOf(t *testing.T) {
	for _, c := range []struct {
		name  string
		users []string
		model string
		want  bool
	}{
		{"a user", []string{"1000:1000"}, "", true},
		{"a name", []string{"agent"}, "", true},
		{"unset", []string{""}, "", false},
		{"root", []string{"root"}, "", false},
		{"zero with a group", []string{"0:1000"}, "", false},
		{"many zeros", []string{"000"}, "", false},
		{"one platform is root", []string{"1000", "0"}, "", false},
		{"the model's user counts", []string{""}, "70:70", true},
		{"the model makes it root", []string{"1000"}, "root", false},
		{"nothing known", nil, "1000", false},
	} {
		k := known()
		k.Images["app"] = nil
		for _, u := range c.users {
			k.Images["app"] = append(k.Images["app"], PlatformImage{User: u})
		}
		k.Users = map[string]string{"app": c.model}
		if got := GatherFacts(k).Services[0].Config; got.NonRoot != c.want {
			t.Errorf("%s: non-root %v, want %v", c.name, got.NonRoot, c.want)
		}
	}
}

func TestHistoryFactsOf(t *testing.T) {
	e := Environment{Name: "production", After: "staging"}
	h := known().History
	later := append(h[:2:2], Entry{Record: Record{Phase: Deployed, Environment: "staging", Release: factsOther, Time: factsNow}})
	if got := HistoryFactsOf(later, e, factsRel, factsNow); got.DeployedToAfter {
		t.Error("staging runs another release by now")
	}
	ahead := History{{Record: Record{Phase: Deployed, Environment: "staging", Release: factsRel, Time: factsNow.Add(time.Hour)}}}
	if got := HistoryFactsOf(ahead, e, factsRel, factsNow); got.SoakSeconds != 0 {
		t.Errorf("a record from the future has soaked %d s", got.SoakSeconds)
	}
	if got := HistoryFactsOf(h, e, Digest{}, factsNow); got.Released || got.DeployedToAfter {
		t.Error("no release has a history")
	}
}

func TestJudgeFindings(t *testing.T) {
	waived := Finding{Severity: "critical", Class: ClassVulnerability, Suppressed: "not reachable"}
	for _, c := range []struct {
		f    []Finding
		want Result
	}{
		{nil, Passed},
		{[]Finding{{Severity: "high", Class: ClassVulnerability}}, Passed},
		{[]Finding{{Severity: "critical", Class: ClassVulnerability}}, Failed},
		{[]Finding{{Severity: "low", Class: ClassSecret}}, Failed},
		{[]Finding{{Severity: "high", Class: ClassCoverage}}, Failed},
		{[]Finding{waived}, Warned},
		{[]Finding{waived, {Severity: "critical", Class: ClassVulnerability}}, Failed},
		{[]Finding{{Severity: "dreadful", Class: ClassVulnerability}}, Failed},
		{[]Finding{{Severity: "critical", Class: ClassLicence}}, Passed},
	} {
		if got := JudgeFindings(c.f, "critical"); got != c.want {
			t.Errorf("%+v: %s, want %s", c.f, got, c.want)
		}
	}
}

// A checkout without a remote has a commit and no URL.
func TestRevisionOfACheckoutWithoutRemote(t *testing.T) {
	commit := strings.Repeat("a", 40)
	about := DigestOf([]byte("image"))
	raw := []byte(`{"buildDefinition":{"buildType":"t","resolvedDependencies":[{"name":"source","digest":{"gitCommit":"` + commit + `"}}]},"runDetails":{"builder":{"id":"b"}}}`)
	facts, err := FactsFromProvenance(Evidence{
		Subject: Subject{Repository: "r", Digest: about}, PredicateType: PredicateProvenance, Predicate: raw, Digest: about,
		Signer: Signer{Name: "ci", Roles: []Role{Builder}}, Role: Builder, Verified: true,
	}, about)
	if err != nil || facts.Revision != commit {
		t.Errorf("got %q, %v", facts.Revision, err)
	}
}
