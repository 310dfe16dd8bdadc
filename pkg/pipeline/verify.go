package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Attestation is one attestation as `verify` shows it.
type Attestation struct {
	// Signer is the party's name in the trust policy; of somebody who has none
	// there it is the key's fingerprint or the certificate's identity.
	Signer        string         `json:"signer"`
	Issuer        string         `json:"issuer"`
	Role          string         `json:"role"`
	PredicateType string         `json:"predicateType"`
	Digest        release.Digest `json:"digest"`
	// Time is when it was signed, as far as that is proven.
	Time     time.Time `json:"time,omitzero"`
	Verified bool      `json:"verified"`
	Reason   string    `json:"reason"`
}

// Verification is what `verify` gives: every attestation about a subject, and
// for a release every one about its services' images too.
type Verification struct {
	Subject      release.Subject `json:"subject"`
	Attestations []Attestation   `json:"attestations"`
	// Threshold says who signed the subject as a builder, and how many must.
	Threshold release.Quorum        `json:"threshold"`
	Services  []ServiceVerification `json:"services,omitempty"`
	Result    string                `json:"result"` // passed or failed
}

// ServiceVerification is what there is about one service's image.
type ServiceVerification struct {
	Service string         `json:"service"`
	Origin  release.Origin `json:"origin"`
	Verification
}

const (
	verificationPassed = "passed"
	verificationFailed = "failed"
)

// Verify judges every attestation about an image or a release. An image passes
// when as many distinct builders signed it as the trust policy asks for; a
// release when it does and each image that was built for it does. Anything
// else is a KindDenied fault. What was verified is shown, and decides nothing
// but this: a promotion verifies for itself.
func (p *Pipeline) Verify(ctx context.Context, argument string) (Verification, error) {
	out := Verification{Attestations: []Attestation{}, Threshold: release.Quorum{Signers: []string{}}, Result: verificationFailed}
	history, _, err := p.Ledger.Read(ctx)
	if err != nil {
		return out, err
	}
	if LocalSource(argument) {
		return p.verifyLocal(ctx, argument, out)
	}
	subject, err := p.subjectIn(ctx, history, argument)
	if err != nil {
		return out, err
	}
	if out, err = p.verifySubject(ctx, subject, out); err != nil {
		return out, err
	}
	if _, ok := history.Released(subject.Digest); ok {
		if err := p.verifyServices(ctx, subject, &out); err != nil {
			return out, err
		}
	}
	return out, out.judge()
}

// LocalSource reports whether an argument names an image layout or an archive on
// this machine.
func LocalSource(argument string) bool {
	return strings.HasPrefix(argument, "oci:") || strings.HasPrefix(argument, "oci-archive:")
}

func (p *Pipeline) verifyLocal(ctx context.Context, source string, out Verification) (Verification, error) {
	if p.Layouts == nil {
		return out, release.Misuse("give a registry's reference", "%s: image layouts are not read here", source)
	}
	subject, found, err := p.Layouts.Evidence(ctx, source)
	if err != nil {
		return out, err
	}
	out = p.verification(subject, found)
	return out, out.judge()
}

// verifySubject looks at everything, cosign's older form too.
func (p *Pipeline) verifySubject(ctx context.Context, s release.Subject, out Verification) (Verification, error) {
	out.Subject = s
	attachments, err := p.Attestations.Attachments(ctx, s)
	if err != nil {
		return out, err
	}
	found := p.Verifier.Verify(ctx, s, attachments)
	if p.Legacy != nil {
		legacy, err := p.Legacy.Evidence(ctx, s)
		if err != nil {
			return out, err
		}
		found = append(found, legacy...)
	}
	return p.verification(s, found), interrupted(ctx)
}

func (p *Pipeline) verifyServices(ctx context.Context, s release.Subject, out *Verification) error {
	doc, err := p.Documents.PullRelease(ctx, s)
	if err != nil {
		return err
	}
	registry := strings.TrimSuffix(s.Repository, "/"+p.Project.Name)
	names := doc.Release.ServiceNames()
	out.Services = make([]ServiceVerification, len(names))
	return each(ctx, names, func(ctx context.Context, name string) error {
		subject, err := doc.Release.Subject(name, registry)
		if err != nil {
			return err
		}
		v, err := p.verifySubject(ctx, subject, Verification{})
		out.Services[slices.Index(names, name)] = ServiceVerification{name, doc.Release.Services[name].Origin, v}
		return err
	})
}

// verification is what the evidence about a subject comes to.
func (p *Pipeline) verification(s release.Subject, found []release.Evidence) Verification {
	out := Verification{Subject: s, Attestations: []Attestation{}, Result: verificationFailed,
		Threshold: release.QuorumOf(p.Project.Trust, found, release.PredicateSignature)}
	for _, e := range found {
		out.Attestations = append(out.Attestations, shown(e))
	}
	slices.SortStableFunc(out.Attestations, func(a, b Attestation) int {
		return cmp.Or(strings.Compare(a.PredicateType, b.PredicateType), strings.Compare(a.Signer, b.Signer), strings.Compare(a.Digest.String(), b.Digest.String()))
	})
	if out.Threshold.Met() {
		out.Result = verificationPassed
	}
	return out
}

func shown(e release.Evidence) Attestation {
	counts := e.Counts(e.PredicateType)
	a := Attestation{Signer: cmp.Or(e.Signer.Name, e.Signer.ID), Issuer: e.Signer.Issuer, Role: string(e.Role), PredicateType: e.PredicateType,
		Digest: e.Digest, Time: e.Time.UTC(), Verified: counts, Reason: e.Reason}
	switch {
	case counts || a.Reason != "":
	case e.Role == "":
		a.Reason = "no role may say this"
	default:
		a.Reason = fmt.Sprintf("the signer is no %s", e.Role)
	}
	return a
}

// judge gives the denial of a verification that fails, and fails it.
func (v *Verification) judge() error {
	var failed []string
	if v.Result != verificationPassed {
		failed = append(failed, v.describe())
	}
	for _, s := range v.Services {
		if s.Origin == release.Built && s.Result != verificationPassed {
			failed = append(failed, s.describe())
		}
	}
	if len(failed) == 0 {
		return nil
	}
	v.Result = verificationFailed
	return release.Denied("sign it with a key that the trust policy names as builder: promote sign, or find out why its signature is gone",
		"%s", strings.Join(failed, "; "))
}

func (v *Verification) describe() string {
	if v.Threshold.Required > 1 {
		return fmt.Sprintf("%s is signed by %d of %d distinct trusted builders (%d attestations found)", v.Subject, len(v.Threshold.Signers), v.Threshold.Required, len(v.Attestations))
	}
	return fmt.Sprintf("%s has no signature by a trusted builder (%d attestations found)", v.Subject, len(v.Attestations))
}
