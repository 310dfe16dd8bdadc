package release

import (
	"slices"
	"strings"
	"time"
)

// predicateNames are short names of predicate types: cosign's where it has one.
var predicateNames = []struct{ name, uri string }{
	{"signature", PredicateSignature},
	{"slsaprovenance1", PredicateProvenance},
	{"cyclonedx", PredicateCycloneDX},
	{"vuln", PredicateVulnerability},
	{"test-result", PredicateTestResult},
	{"verification-summary", PredicateDecision},
}

// PredicateType gives the URI of a predicate type that promote knows, by its
// short name or by the URI itself.
func PredicateType(name string) (uri string, ok bool) {
	for _, p := range predicateNames {
		if name == p.name || name == p.uri {
			return p.uri, true
		}
	}
	return "", false
}

// PredicateName is the short name of a predicate type; a type without one is
// its own.
func PredicateName(uri string) string {
	for _, p := range predicateNames {
		if uri == p.uri {
			return p.name
		}
	}
	return uri
}

// PredicateNames lists the short names, for messages.
func PredicateNames() string {
	names := make([]string, 0, len(predicateNames))
	for _, p := range predicateNames {
		names = append(names, p.name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// CheckPredicate reads a predicate about a subject as a gate would if the right
// party had signed it, and says why no gate could rely on it. Whether it passes
// is not asked.
func CheckPredicate(s Subject, predicateType string, predicate []byte, limits Limits, now time.Time) error {
	role, _ := RoleOf(predicateType)
	supposed := Evidence{Subject: s, PredicateType: predicateType, Predicate: predicate, Digest: DigestOf(predicate),
		Signer: Signer{Roles: []Role{role}}, Role: role, Verified: true}
	var err error
	switch predicateType {
	case PredicateProvenance:
		_, err = FactsFromProvenance(supposed, s.Digest)
	case PredicateVulnerability:
		_, err = FactsFromScan(supposed, s.Digest, limits, now)
	case PredicateCycloneDX:
		_, err = FactsFromSBOM(supposed, s.Digest)
	case PredicateTestResult:
		_, err = FactsFromSmoke(supposed, s.Digest, now)
	}
	return err
}
