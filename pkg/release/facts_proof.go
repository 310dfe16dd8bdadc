package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// prove checks what every kind of evidence must meet: verified, of the type,
// signed in the type's role, about the subject, and not empty. Verify's own
// words come first, because they know more.
func prove(ev Evidence, predicateType string, about Digest) (Proof, error) {
	p := Proof{Signer: ev.Signer.Name, Evidence: ev.Digest}
	role, known := RoleOf(predicateType)
	var err error
	switch {
	case !known:
		err = fmt.Errorf("no role may sign %s", predicateType)
	case ev.PredicateType != predicateType:
		err = fmt.Errorf("the attestation is of type %s", clip(ev.PredicateType))
	case about.IsZero() || ev.Subject.Digest != about:
		err = fmt.Errorf("the attestation is about %s", describeDigest(ev.Subject.Digest))
	case !ev.Verified:
		err = errors.New(orElse(ev.Reason, "the signature could not be verified"))
	case !ev.Signer.Has(role):
		err = fmt.Errorf("signed by %s, who is no %s", orElse(ev.Signer.Name, "somebody unknown"), role)
	case ev.Digest.IsZero():
		err = errors.New("the attestation has no digest")
	case predicateType != PredicateSignature && !holdsObject(ev.Predicate):
		err = errors.New("the attestation is empty")
	}
	if err != nil {
		p.Reason = err.Error()
		return p, err
	}
	p.Verified = true
	return p, nil
}

// holdsObject reports whether a predicate is a JSON object with something in it.
func holdsObject(raw json.RawMessage) bool {
	var members map[string]json.RawMessage
	return json.Unmarshal(raw, &members) == nil && len(members) > 0
}

// absent is the proof of a kind that nobody attested.
func absent(what string) Proof { return Proof{Absent: true, Reason: "there is no " + what} }

// FactsFromSignature reads a signature about a subject. The error says why it
// does not count.
func FactsFromSignature(ev Evidence, about Digest) (Proof, error) {
	return prove(ev, PredicateSignature, about)
}

// FactsFromSBOM reads a CycloneDX attestation about a subject. The error says
// why it does not count: a document without components lists nothing.
func FactsFromSBOM(ev Evidence, about Digest) (SBOMFacts, error) {
	proof, err := prove(ev, PredicateCycloneDX, about)
	facts := SBOMFacts{Proof: proof}
	if err != nil {
		return facts, err
	}
	var bom struct {
		Format     string            `json:"bomFormat"`
		Components []json.RawMessage `json:"components"`
	}
	err = json.Unmarshal(ev.Predicate, &bom)
	switch {
	case err != nil:
		err = fmt.Errorf("the SBOM cannot be read: %w", err)
	case bom.Format != "CycloneDX":
		err = fmt.Errorf("the SBOM has the format %q", clip(bom.Format))
	case len(bom.Components) == 0:
		err = errors.New("the SBOM lists no components")
	}
	if err != nil {
		facts.Verified, facts.Reason = false, err.Error()
		return facts, err
	}
	facts.Components = len(bom.Components)
	return facts, nil
}

// provenance is the part of a SLSA v1 predicate that is judged. Revisions are
// read from where builders write them: a git source among the resolved
// dependencies, BuildKit's metadata, or our own external parameter.
// https://slsa.dev/spec/v1.1/provenance
type provenance struct {
	BuildDefinition struct {
		BuildType          string `json:"buildType"`
		ExternalParameters struct {
			Revision string `json:"revision"`
		} `json:"externalParameters"`
		ResolvedDependencies []resource `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
		Metadata struct {
			BuildKit struct {
				VCS struct {
					Revision string `json:"revision"`
				} `json:"vcs"`
			} `json:"buildkit_metadata"`
		} `json:"metadata"`
	} `json:"runDetails"`
}

type resource struct {
	Name   string            `json:"name"`
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest"`
}

// FactsFromProvenance reads a SLSA v1 provenance attestation about a subject.
// The error says why it does not count.
func FactsFromProvenance(ev Evidence, about Digest) (ProvenanceFacts, error) {
	proof, err := prove(ev, PredicateProvenance, about)
	facts := ProvenanceFacts{Proof: proof, Bases: []Base{}}
	if err != nil {
		return facts, err
	}
	var p provenance
	err = json.Unmarshal(ev.Predicate, &p)
	switch {
	case err != nil:
		err = fmt.Errorf("the provenance cannot be read: %w", err)
	case p.BuildDefinition.BuildType == "":
		err = errors.New("the provenance does not say how the image was built")
	}
	if err == nil {
		facts.Bases, err = bases(p.BuildDefinition.ResolvedDependencies)
	}
	if err == nil {
		facts.Revision, err = revision(p)
	}
	if err != nil {
		facts.Verified, facts.Reason = false, err.Error()
		return facts, err
	}
	facts.Builder = p.RunDetails.Builder.ID
	return facts, nil
}

// revision gives the one commit that the provenance names. Two that differ
// contradict each other, which is not evidence.
func revision(p provenance) (string, error) {
	found := ""
	for _, candidate := range revisions(p) {
		if candidate == "" || candidate == found {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("the provenance names two commits, %s and %s", clip(found), clip(candidate))
		}
		found = candidate
	}
	return found, nil
}

func revisions(p provenance) []string {
	list := []string{p.BuildDefinition.ExternalParameters.Revision, p.RunDetails.Metadata.BuildKit.VCS.Revision}
	for _, d := range p.BuildDefinition.ResolvedDependencies {
		if commit := d.Digest["gitCommit"]; commit != "" && (d.Name == "source" || strings.HasPrefix(d.URI, "git+")) {
			list = append(list, commit)
		}
	}
	return list
}

// imageScheme is how package URLs name images.
// https://github.com/package-url/purl-spec
const imageScheme = "pkg:docker/"

// bases picks the images among what a build resolved. BuildKit writes the
// digest into the package URL's qualifiers only where the Dockerfile names it.
func bases(resolved []resource) ([]Base, error) {
	list := []Base{}
	for _, d := range resolved {
		if !strings.HasPrefix(d.URI, imageScheme) {
			continue
		}
		digest := d.Digest["sha256"]
		if _, err := ParseDigest(digestPrefix + digest); err != nil {
			return list, fmt.Errorf("the provenance gives base %s without its digest", clip(d.URI))
		}
		name, pinned, err := parseImageURL(d.URI)
		if err != nil {
			return list, err
		}
		list = append(list, Base{Name: name, Digest: digestPrefix + digest, Pinned: pinned})
	}
	return list, nil
}

// FactsFromSmoke reads a test-result attestation about a release. The error
// says why it does not count.
func FactsFromSmoke(ev Evidence, about Digest, now time.Time) (SmokeFacts, error) {
	facts := noSmoke(Proof{})
	proof, err := prove(ev, PredicateTestResult, about)
	facts.Proof = proof
	if err != nil {
		return facts, err
	}
	if err := facts.read(ev.Predicate); err != nil {
		return facts.reject(err)
	}
	facts.AgeSeconds = seconds(now.Sub(facts.FinishedAt))
	switch {
	case facts.FinishedAt.After(now.Add(clockSkew)):
		return facts.reject(fmt.Errorf("the smoke test is dated %s, in the future", stamp(facts.FinishedAt)))
	case !ev.Time.IsZero() && facts.FinishedAt.After(ev.Time.Add(clockSkew)):
		return facts.reject(fmt.Errorf("the smoke test is dated %s, after it was signed", stamp(facts.FinishedAt)))
	}
	return facts, nil
}

func (f SmokeFacts) reject(err error) (SmokeFacts, error) {
	f.Verified, f.Reason = false, err.Error()
	return f, err
}

func noSmoke(p Proof) SmokeFacts {
	return SmokeFacts{Proof: p, Services: []SmokeService{}, FailedChecks: []SmokeCheck{}, WarnedChecks: []SmokeCheck{}}
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
