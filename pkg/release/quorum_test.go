package release

import (
	"strings"
	"testing"
	"time"
)

func by(name string, ev Evidence) Evidence {
	ev.Signer.Name = name
	ev.Digest = DigestOf([]byte(name + ev.Digest.String()))
	return ev
}

// Case 21: a quorum of two is two parties, not two keys of one; and both must
// have said what the decision rests on.
func TestAThresholdCountsParties(t *testing.T) {
	failed := cleanScan()
	failed.Findings = append(failed.Findings, Finding{ID: "CVE-9", Severity: "critical", Class: ClassVulnerability})
	failed.Result = Failed
	good, again, bad := scanEvidence(t, cleanScan(), factsNow), scanEvidence(t, cleanScan(), factsNow.Add(-time.Minute)), scanEvidence(t, failed, factsNow)
	for name, c := range map[string]struct {
		evidence []Evidence
		verified bool
		result   string
		says     string
	}{
		"two parties":                      {[]Evidence{by("anna", good), by("bob", again)}, true, "warned", ""},
		"one party":                        {[]Evidence{by("anna", good)}, false, "", "1 of 2 distinct parties that must (scanner): anna"},
		"one party twice":                  {[]Evidence{by("anna", good), by("anna", again)}, false, "", "1 of 2"},
		"nobody in particular":             {[]Evidence{by("anna", good), by("", again)}, false, "", "1 of 2"},
		"the second finds something":       {[]Evidence{by("anna", good), by("bob", bad)}, true, "failed", ""},
		"the second is one of three":       {[]Evidence{by("anna", good), by("bob", bad), by("carol", again)}, true, "warned", ""},
		"one who says both still counts 1": {[]Evidence{by("anna", good), by("anna", bad), by("bob", again)}, true, "warned", ""},
	} {
		t.Run(name, func(t *testing.T) {
			k := known(c.evidence...)
			k.Trust.Thresholds = map[Role]int{Scanner: 2}
			got := GatherFacts(k).Services[0].Scan
			if got.Verified != c.verified || c.verified && got.Result != c.result || !strings.Contains(got.Reason, c.says) {
				t.Errorf("got %+v, result %q", got.Proof, got.Result)
			}
			if q := QuorumOf(k.Trust, c.evidence, PredicateVulnerability); q.Met() != c.verified || q.Required != 2 || q.Role != Scanner {
				t.Errorf("quorum %+v", q)
			}
		})
	}
}

func TestQuorumCountsOnlyWhatCounts(t *testing.T) {
	trust := Trust{Thresholds: map[Role]int{Builder: 1}}
	unverified, otherRole := signatureEvidence(t), signatureEvidence(t)
	unverified.Verified = false
	otherRole.Signer.Roles = []Role{Scanner}
	if q := QuorumOf(trust, []Evidence{unverified, otherRole}, PredicateSignature); q.Met() || len(q.Signers) != 0 {
		t.Errorf("%+v", q)
	}
	if q := QuorumOf(trust, []Evidence{signatureEvidence(t)}, "https://example.com/unknown"); q.Met() {
		t.Errorf("a type that no role may say is met: %+v", q)
	}
}
