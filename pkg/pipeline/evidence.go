package pipeline

import (
	"context"
	"fmt"
	"slices"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// evidence fetches and verifies every attestation about a subject. What cosign
// wrote before there were bundles is looked at only if something that is needed
// is not among the bundles: it costs three requests.
func (p *Pipeline) evidence(ctx context.Context, s release.Subject, needs ...string) ([]release.Evidence, error) {
	attachments, err := p.Attestations.Attachments(ctx, s)
	if err != nil {
		return nil, err
	}
	found := p.Verifier.Verify(ctx, s, attachments)
	if p.Legacy == nil || !slices.ContainsFunc(needs, func(predicateType string) bool { return !p.enough(found, predicateType) }) {
		return found, interrupted(ctx)
	}
	legacy, err := p.Legacy.Evidence(ctx, s)
	if err != nil {
		return nil, err
	}
	return append(found, legacy...), interrupted(ctx)
}

// interrupted is an error once the context is done: what was not verified
// for lack of time is no answer.
func interrupted(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("verifying attestations: %w", err)
	}
	return nil
}

// enough reports whether enough distinct parties gave evidence of a type that
// the policies would accept today.
func (p *Pipeline) enough(found []release.Evidence, predicateType string) bool {
	return release.QuorumOf(p.Project.Trust, p.freshOf(found), predicateType).Met()
}

// needed are the types of evidence that a service's image, or a release, needs.
func needed(origin release.Origin) []string {
	list := []string{release.PredicateVulnerability, release.PredicateCycloneDX}
	if origin == release.Built {
		list = append(list, release.PredicateSignature, release.PredicateProvenance)
	}
	return list
}

var neededOfRelease = []string{release.PredicateSignature, release.PredicateTestResult}

// freshEvidence gives what need not be made again: verified evidence by the
// right role that the policies would accept today.
func (p *Pipeline) freshEvidence(ctx context.Context, s release.Subject, needs ...string) ([]release.Evidence, error) {
	all, err := p.evidence(ctx, s, needs...)
	if err != nil {
		return nil, err
	}
	return p.freshOf(all), nil
}

func (p *Pipeline) freshOf(all []release.Evidence) []release.Evidence {
	var fresh []release.Evidence
	for _, e := range all {
		if p.fresh(e) {
			fresh = append(fresh, e)
		}
	}
	return fresh
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

// spoken reports whether nothing has to be said any more: enough distinct
// parties have, or this one has. list is evidence that counts.
func (p *Pipeline) spoken(list []release.Evidence, predicateType string, signer release.Signer) bool {
	return release.QuorumOf(p.Project.Trust, list, predicateType).Met() || slices.ContainsFunc(list, func(e release.Evidence) bool {
		return e.PredicateType == predicateType && e.Signer.Name == signer.Name
	})
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
	kept := m.kept[s]
	if m.p.spoken(kept, predicateType, signer.Party()) && predicateType == release.PredicateSignature {
		return m.p.signLegacy(ctx, signer, s)
	}
	if m.p.spoken(kept, predicateType, signer.Party()) || len(body) == 0 && has(kept, predicateType) {
		return nil
	}
	_, err := m.p.attest(ctx, signer, s, predicateType, body)
	if err == nil {
		m.act(predicateType, signer.Party().Name)
	}
	return err
}

// act notes who attested something that the release rests on.
func (m *making) act(predicateType, name string) {
	role, known := release.RoleOf(predicateType)
	if !known || name == "" || slices.Contains(m.acted[role], name) {
		return
	}
	if m.acted == nil {
		m.acted = map[release.Role][]string{}
	}
	m.acted[role] = append(m.acted[role], name)
	slices.Sort(m.acted[role])
}

// actors gives, by role, who attested what the release rests on. It goes into
// the released record: whoever holds the registry can take an attestation away,
// and with it who may not approve.
func (m *making) actors() map[release.Role][]string {
	for _, kept := range m.kept {
		for _, e := range kept {
			m.act(e.PredicateType, e.Signer.Name)
		}
	}
	return m.acted
}

// attest signs one predicate about a subject and attaches it; it gives the
// digest of what was attached.
func (p *Pipeline) attest(ctx context.Context, signer Signer, s release.Subject, predicateType string, body []byte) (release.Digest, error) {
	if err := p.mayAttest(s, predicateType, signer.Party()); err != nil {
		return release.Digest{}, err
	}
	if len(body) == 0 {
		return release.Digest{}, release.Faultf(release.KindInternal, "", "nothing to attest as %s about %s", predicateType, s)
	}
	attachment, err := signer.Sign(ctx, release.NewStatement(s, predicateType, body))
	if err != nil {
		return release.Digest{}, err
	}
	if err := p.Attestations.Attach(ctx, s, attachment); err != nil {
		return release.Digest{}, err
	}
	if predicateType != release.PredicateSignature {
		return attachment.Digest, nil
	}
	return attachment.Digest, p.signLegacy(ctx, signer, s)
}

// signLegacy signs a subject in cosign's older form too, where that is asked
// for and this signer has not: keys of services give another signature each time.
func (p *Pipeline) signLegacy(ctx context.Context, signer Signer, s release.Subject) error {
	party := signer.Party()
	if !p.writesLegacy() || !party.Has(release.Builder) {
		return nil
	}
	there, err := p.legacySigners(ctx, s)
	if err != nil || slices.ContainsFunc(there, func(other release.Signer) bool { return other.Name == party.Name && other.ID == party.ID }) {
		return err
	}
	return p.Legacy.Sign(ctx, s, signer)
}

func (p *Pipeline) writesLegacy() bool { return p.Legacy != nil && p.Legacy.Writes() }

// lacksLegacy reports whether a signature in cosign's older form is asked for
// and no trusted builder's is there.
func (p *Pipeline) lacksLegacy(ctx context.Context, s release.Subject) (bool, error) {
	if !p.writesLegacy() {
		return false, nil
	}
	there, err := p.legacySigners(ctx, s)
	return err == nil && len(there) == 0, err
}

// legacySigners gives the trusted builders whose signatures in cosign's older
// form are there.
func (p *Pipeline) legacySigners(ctx context.Context, s release.Subject) (list []release.Signer, err error) {
	found, err := p.Legacy.Evidence(ctx, s)
	for _, e := range found {
		if e.Counts(release.PredicateSignature) {
			list = append(list, e.Signer)
		}
	}
	return list, err
}

func (p *Pipeline) mayAttest(s release.Subject, predicateType string, signer release.Signer) error {
	role, known := release.RoleOf(predicateType)
	if !known {
		return release.Misuse("one of "+release.PredicateNames(), "no role signs predicate type %q", predicateType)
	}
	if !signer.Has(role) {
		return release.Denied("run this step with a key that the trust policy names for the role "+string(role),
			"evidence %s about %s is missing and must be signed by a %s; this key is not one", predicateType, s, role)
	}
	return nil
}
