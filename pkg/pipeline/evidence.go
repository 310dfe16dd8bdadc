package pipeline

import (
	"context"
	"slices"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// evidence fetches and verifies every attestation about a subject.
func (p *Pipeline) evidence(ctx context.Context, s release.Subject) ([]release.Evidence, error) {
	attachments, err := p.Attestations.Attachments(ctx, s)
	if err != nil {
		return nil, err
	}
	return p.Verifier.Verify(ctx, s, attachments), nil
}

// freshEvidence gives what need not be made again: verified evidence by the
// right role that the policies would accept today.
func (p *Pipeline) freshEvidence(ctx context.Context, s release.Subject) ([]release.Evidence, error) {
	all, err := p.evidence(ctx, s)
	if err != nil {
		return nil, err
	}
	var fresh []release.Evidence
	for _, e := range all {
		if p.fresh(e) {
			fresh = append(fresh, e)
		}
	}
	return fresh, nil
}

func (p *Pipeline) fresh(e release.Evidence) bool {
	if !e.Counts(e.PredicateType) {
		return false
	}
	switch e.PredicateType {
	case release.PredicateVulnerability:
		scan, err := release.FactsFromScan(e, e.Subject.Digest, p.limits(), p.Now())
		return err == nil && scan.Verified && scan.Result != release.Failed.String()
	case release.PredicateTestResult:
		smoke, err := release.FactsFromSmoke(e, e.Subject.Digest, p.Now())
		return err == nil && smoke.Verified && smoke.Result != release.Failed.String()
	}
	return true
}

func has(list []release.Evidence, predicateType string) bool {
	return slices.ContainsFunc(list, func(e release.Evidence) bool { return e.PredicateType == predicateType })
}

// sign opens the key, now that nothing untrusted runs any more, and attests
// what this run built and scanned.
func (m *making) sign(ctx context.Context) (err error) {
	step := event.Start(ctx, "[sign] attesting builds and scans")
	defer func() { step.Done(err) }()
	signer, err := m.p.Keys.Open(ctx)
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(m.subjects()) {
		subject := m.subjects()[name]
		if image, built := m.images[name]; built {
			if err := m.attest(ctx, signer, subject, release.PredicateSignature, []byte("{}")); err != nil {
				return err
			}
			if err := m.attest(ctx, signer, subject, release.PredicateProvenance, image.Provenance); err != nil {
				return err
			}
		}
		scan, scanned := m.scans[subject.Digest]
		if !scanned {
			continue
		}
		if err := m.attest(ctx, signer, subject, release.PredicateCycloneDX, scan.SBOM); err != nil {
			return err
		}
		if err := m.attest(ctx, signer, subject, release.PredicateVulnerability, scan.Predicate); err != nil {
			return err
		}
	}
	return nil
}

// attestRelease attests the smoke result and signs the release itself.
func (m *making) attestRelease(ctx context.Context, subject release.Subject) error {
	signer, err := m.p.Keys.Open(ctx)
	if err != nil {
		return err
	}
	if m.smoke != nil {
		if err := m.attest(ctx, signer, subject, release.PredicateTestResult, m.smoke.Predicate); err != nil {
			return err
		}
	}
	return m.attest(ctx, signer, subject, release.PredicateSignature, []byte("{}"))
}

// attest signs and attaches one predicate unless one that counts is there.
func (m *making) attest(ctx context.Context, signer Signer, s release.Subject, predicateType string, body []byte) error {
	if has(m.kept[s], predicateType) {
		return nil
	}
	return m.p.attest(ctx, signer, s, predicateType, body)
}

func (p *Pipeline) attest(ctx context.Context, signer Signer, s release.Subject, predicateType string, body []byte) error {
	role, known := release.RoleOf(predicateType)
	if !known {
		return release.Misuse("", "no role signs predicate type %q", predicateType)
	}
	if !signer.Party().Has(role) {
		return release.Denied("run this step with a key that the trust policy names for the role "+string(role),
			"evidence %s about %s is missing and must be signed by a %s; this key is not one", predicateType, s, role)
	}
	if len(body) == 0 {
		return release.Faultf(release.KindInternal, "", "nothing to attest as %s about %s", predicateType, s)
	}
	attachment, err := signer.Sign(ctx, release.NewStatement(s, predicateType, body))
	if err != nil {
		return err
	}
	return p.Attestations.Attach(ctx, s, attachment)
}
