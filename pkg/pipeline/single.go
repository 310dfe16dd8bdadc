package pipeline

import (
	"context"
	"fmt"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// BuildResult is what `build` gives.
type BuildResult struct {
	Images []release.Image `json:"images"`
}

// Build builds and pushes every service of HEAD once. A dry run only merges
// the models and reads HEAD.
func (p *Pipeline) Build(ctx context.Context, o ReleaseOptions) (BuildResult, error) {
	out := BuildResult{Images: []release.Image{}}
	head, version, err := p.head(ctx, o.AllowDirty)
	if err != nil {
		return out, err
	}
	m := &making{p: p, head: head, version: version, images: map[string]release.Image{}}
	if err := m.load(ctx); err != nil || o.DryRun {
		return out, err
	}
	if err := m.build(ctx); err != nil {
		return out, err
	}
	for _, name := range sortedKeys(m.images) {
		image := m.images[name]
		image.Provenance = nil // evidence is signed and attached, not printed
		out.Images = append(out.Images, image)
	}
	return out, nil
}

// Scan scans the image that a reference names. A result that is not passed or
// warned comes with a KindDenied fault.
func (p *Pipeline) Scan(ctx context.Context, reference string) (release.Scan, error) {
	subject, err := p.Images.Resolve(ctx, reference)
	if err != nil {
		return release.Scan{Result: release.Unknown}, err
	}
	scan, err := p.Scanner.Scan(ctx, subject)
	if err != nil {
		return release.Scan{Subject: subject, Result: release.Unknown}, err
	}
	scan.Predicate, scan.SBOM = nil, nil
	if scan.Result < release.Warned {
		return scan, denial("the scan found what must not ship", ScanReasons(subject.Repository, scan))
	}
	return scan, nil
}

// SignResult is what `sign` gives.
type SignResult struct {
	Subject release.Subject `json:"subject"`
	Signer  release.Signer  `json:"signer"`
	// Existing is true when a signature that counts was there already.
	Existing bool `json:"existing"`
}

// Sign signs the image or release that a reference names; once is enough.
func (p *Pipeline) Sign(ctx context.Context, reference string, dryRun bool) (SignResult, error) {
	subject, err := p.subject(ctx, reference)
	if err != nil {
		return SignResult{}, err
	}
	out := SignResult{Subject: subject}
	kept, err := p.freshEvidence(ctx, subject)
	if err != nil {
		return out, err
	}
	for _, e := range kept {
		if e.PredicateType == release.PredicateSignature {
			out.Signer, out.Existing = e.Signer, true
			return out, nil
		}
	}
	signer, err := p.Keys.Open(ctx)
	if err != nil {
		return out, err
	}
	out.Signer = signer.Party()
	if dryRun {
		return out, nil
	}
	return out, p.attest(ctx, signer, subject, release.PredicateSignature, []byte("{}"))
}

// subject reads a reference, or a release argument that the ledger knows.
func (p *Pipeline) subject(ctx context.Context, argument string) (release.Subject, error) {
	history, _, err := p.Ledger.Read(ctx)
	if err != nil {
		return release.Subject{}, err
	}
	if d, err := findRelease(history, argument); err == nil {
		return release.Subject{Repository: p.Project.Repository(p.Project.Registry), Digest: d}, nil
	}
	return p.Images.Resolve(ctx, argument)
}

// Attestation is one attestation as `verify` shows it.
type Attestation struct {
	Signer        string         `json:"signer"`
	Issuer        string         `json:"issuer"`
	Role          string         `json:"role"`
	PredicateType string         `json:"predicateType"`
	Digest        release.Digest `json:"digest"`
	Verified      bool           `json:"verified"`
	Reason        string         `json:"reason"`
}

// Verification is what `verify` gives.
type Verification struct {
	Subject      release.Subject `json:"subject"`
	Attestations []Attestation   `json:"attestations"`
	Result       string          `json:"result"` // passed or failed
}

// Verify judges every attestation about an image or a release. It passes when
// the builder's signature is among those that count; anything else is a
// KindDenied fault.
func (p *Pipeline) Verify(ctx context.Context, argument string) (Verification, error) {
	out := Verification{Attestations: []Attestation{}, Result: "failed"}
	subject, err := p.subject(ctx, argument)
	if err != nil {
		return out, err
	}
	out.Subject = subject
	found, err := p.evidence(ctx, subject)
	if err != nil {
		return out, err
	}
	signed := false
	for _, e := range found {
		counts := e.Counts(e.PredicateType)
		a := Attestation{Signer: e.Signer.Name, Issuer: e.Signer.Issuer, Role: string(e.Role), PredicateType: e.PredicateType, Digest: e.Digest, Verified: counts, Reason: e.Reason}
		if !counts && a.Reason == "" {
			a.Reason = fmt.Sprintf("the signer is no %s", e.Role)
		}
		out.Attestations = append(out.Attestations, a)
		signed = signed || counts && e.PredicateType == release.PredicateSignature
	}
	if !signed {
		return out, release.Denied("sign it with a key that the trust policy names as builder: promote sign, or find out why its signature is gone",
			"%s has no signature by a trusted builder (%d attestations found)", subject, len(found))
	}
	out.Result = "passed"
	return out, nil
}

// Smoke runs a release under production's conditions; without an argument
// HEAD's. The result is shown, not recorded: `release` makes the evidence.
func (p *Pipeline) Smoke(ctx context.Context, argument string) (release.Smoke, error) {
	history, _, err := p.Ledger.Read(ctx)
	if err != nil {
		return release.Smoke{}, err
	}
	var digest release.Digest
	if argument == "" {
		digest, err = p.releaseOfHead(ctx, history, true)
	} else {
		digest, err = findRelease(history, argument)
	}
	if err != nil {
		return release.Smoke{}, err
	}
	doc, err := p.Documents.PullRelease(ctx, release.Subject{Repository: p.Project.Repository(p.Project.Registry), Digest: digest})
	if err != nil {
		return release.Smoke{}, err
	}
	images := map[string]release.Subject{}
	for _, name := range doc.Release.ServiceNames() {
		if images[name], err = doc.Release.Subject(name, p.Project.Registry); err != nil {
			return release.Smoke{}, err
		}
	}
	result, err := p.Smoker.Smoke(ctx, SmokeRequest{Release: digest, Model: doc.Models[release.SmokeModel], Variables: smokeVariables(doc), Images: images})
	if err != nil {
		return result, err
	}
	result.Predicate = nil
	if result.Result < release.Warned {
		return result, denial("the prod-like run failed", SmokeReasons(result))
	}
	event.Noticef(ctx, "this run is no evidence; promote release signs its own")
	return result, nil
}
