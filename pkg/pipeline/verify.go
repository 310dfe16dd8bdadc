package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

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
// else is a KindDenied fault; what could not be read is another, with the zero
// Verification. What was verified is shown, and decides nothing
// but this: a promotion verifies for itself.
func (p *Pipeline) Verify(ctx context.Context, argument string) (Verification, error) {
	history, _, err := p.Ledger.Read(ctx)
	if err != nil {
		return Verification{}, err
	}
	if LocalSource(argument) {
		return p.verifyLocal(ctx, argument)
	}
	out, err := p.named(ctx, history, argument)
	if err != nil {
		return Verification{}, err
	}
	if p.isRelease(ctx, history, out.Subject) {
		if err := p.verifyServices(ctx, out.Subject, &out); err != nil {
			return Verification{}, err
		}
	}
	return out, out.judge()
}

// LocalSource reports whether an argument names an image layout or an archive on
// this machine.
func LocalSource(argument string) bool {
	return strings.HasPrefix(argument, "oci:") || strings.HasPrefix(argument, "oci-archive:")
}

func (p *Pipeline) verifyLocal(ctx context.Context, source string) (Verification, error) {
	if p.Layouts == nil {
		return Verification{}, release.Misuse("give a registry's reference", "%s: image layouts are not read here", source)
	}
	subject, found, err := p.Layouts.Evidence(ctx, source)
	if err != nil {
		return Verification{}, err
	}
	out := p.verification(subject, found)
	return out, out.judge()
}

// named verifies what an argument names. A digest says itself what is asked
// about, so its evidence is read while the registry is asked whether it is there.
func (p *Pipeline) named(ctx context.Context, h release.History, argument string) (out Verification, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	said, err := release.ParseSubject(argument)
	if err != nil {
		said = release.Subject{}
	}
	early := make(chan error, 1)
	var ahead Verification
	if !said.IsZero() {
		go func() {
			var err error
			ahead, err = p.verifySubject(ctx, said)
			early <- err
		}()
	}
	subject, err := p.subjectIn(ctx, h, argument)
	if err != nil {
		return out, err
	}
	if subject == said {
		err := <-early
		return ahead, err
	}
	return p.verifySubject(ctx, subject)
}

// verifySubject looks at everything, cosign's older form too.
func (p *Pipeline) verifySubject(ctx context.Context, s release.Subject) (Verification, error) {
	var found, older []release.Evidence
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		attachments, err := p.Attestations.Attachments(gctx, s)
		if err == nil {
			found = p.Verifier.Verify(gctx, s, attachments)
		}
		return err
	})
	if p.Legacy != nil {
		group.Go(func() (err error) {
			older, err = p.Legacy.Evidence(gctx, s)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return Verification{}, err
	}
	if err := interrupted(ctx); err != nil {
		return Verification{}, err
	}
	return p.verification(s, append(found, older...)), nil
}

// isRelease reports whether the ledger knows a release by that digest, or may
// have known it before its record was taken out.
func (p *Pipeline) isRelease(ctx context.Context, h release.History, s release.Subject) bool {
	_, known := h.Released(s.Digest)
	if known || h.Stubs() == 0 {
		return known
	}
	_, err := p.Documents.PullRelease(ctx, s)
	if err != nil {
		compactedUnknown(ctx, h, s.Digest.String())
	}
	return err == nil
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
		v, err := p.verifySubject(ctx, subject)
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
