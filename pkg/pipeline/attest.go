package pipeline

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// SignResult is what `sign` gives.
type SignResult struct {
	Subject release.Subject `json:"subject"`
	Signer  release.Signer  `json:"signer"`
	// Existing is true when a signature that counts was there already.
	Existing bool `json:"existing"`
}

// Sign signs the image or release that a reference names; once is enough, or as
// many distinct parties as the trust policy asks for.
func (p *Pipeline) Sign(ctx context.Context, reference string, dryRun bool) (SignResult, error) {
	subject, err := p.subject(ctx, reference)
	if err != nil {
		return SignResult{}, err
	}
	out := SignResult{Subject: subject}
	kept, err := p.freshEvidence(ctx, subject, release.PredicateSignature)
	if err != nil {
		return out, err
	}
	lacks, err := p.lacksLegacy(ctx, subject)
	if err != nil {
		return out, err
	}
	if release.QuorumOf(p.Project.Trust, kept, release.PredicateSignature).Met() && !lacks {
		for _, e := range kept {
			if e.PredicateType == release.PredicateSignature {
				out.Signer, out.Existing = e.Signer, true
				return out, nil
			}
		}
	}
	signer, err := p.Keys.Open(ctx)
	if err != nil {
		return out, err
	}
	out.Signer = signer.Party()
	out.Existing = p.spoken(kept, release.PredicateSignature, out.Signer)
	switch {
	case dryRun:
		return out, nil
	case out.Existing:
		return out, p.signLegacy(ctx, signer, subject)
	}
	_, err = p.attest(ctx, signer, subject, release.PredicateSignature, []byte("{}"))
	return out, err
}

// AttestOptions are `attest`.
type AttestOptions struct {
	Reference string
	// Type is a predicate type's short name or URI.
	Type string
	// Predicate is a JSON object.
	Predicate []byte
	DryRun    bool
}

// AttestResult is what `attest` gives.
type AttestResult struct {
	Subject       release.Subject `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Signer        release.Signer  `json:"signer"`
	// Digest is that of the attestation's bundle; absent after a dry run.
	Digest release.Digest `json:"digest,omitzero"`
	// Existing is true when the signer had said the very same already.
	Existing bool `json:"existing"`
	DryRun   bool `json:"dryRun,omitempty"`
}

// Attest signs a predicate about the image or release that a reference names
// and attaches it. The type must be one that a role may say, and the key's
// holder must have that role. The same predicate by the same signer is attached
// once. A predicate that no gate could rely on is attached with a warning.
func (p *Pipeline) Attest(ctx context.Context, o AttestOptions) (AttestResult, error) {
	predicateType, ok := release.PredicateType(o.Type)
	if !ok {
		return AttestResult{}, release.Misuse("one of "+release.PredicateNames()+", or its URI", "--type %q: no role may say this", o.Type)
	}
	if predicateType == release.PredicateSignature {
		return AttestResult{}, release.Misuse("promote sign "+o.Reference, "--type %s: a signature has no predicate", o.Type)
	}
	body, err := predicateObject(o.Predicate)
	if err != nil {
		return AttestResult{}, err
	}
	out := AttestResult{PredicateType: predicateType, DryRun: o.DryRun}
	if out.Subject, err = p.subject(ctx, o.Reference); err != nil {
		return out, err
	}
	found, err := p.evidence(ctx, out.Subject)
	if err != nil {
		return out, err
	}
	signer, err := p.Keys.Open(ctx)
	if err != nil {
		return out, err
	}
	out.Signer = signer.Party()
	for _, e := range found {
		if e.Counts(predicateType) && e.Signer.Name == out.Signer.Name && sameJSON(e.Predicate, body) {
			out.Digest, out.Existing = e.Digest, true
			return out, nil
		}
	}
	p.warnOfUse(ctx, out, body)
	if o.DryRun {
		return out, p.mayAttest(out.Subject, predicateType, out.Signer)
	}
	out.Digest, err = p.attest(ctx, signer, out.Subject, predicateType, body)
	return out, err
}

// predicateObject holds a predicate to what will be read of it.
func predicateObject(raw []byte) (json.RawMessage, error) {
	const hint = "--predicate takes a file with the predicate alone: a JSON object, without the statement around it"
	canonical, err := release.CanonicalJSON(raw)
	if err != nil {
		return nil, release.Misuse(hint, "reading the predicate: %w", err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(canonical, &members); err != nil || members == nil {
		return nil, release.Misuse(hint, "the predicate is no JSON object")
	}
	if len(members) == 0 {
		return nil, release.Misuse(hint, "the predicate is empty")
	}
	if string(members["_type"]) == `"`+release.StatementType+`"` {
		return nil, release.Misuse(hint, "this is a whole statement, with its own subject")
	}
	return canonical, nil
}

// warnOfUse says why no gate would rely on what is about to be attested.
func (p *Pipeline) warnOfUse(ctx context.Context, a AttestResult, body json.RawMessage) {
	if err := release.CheckPredicate(a.Subject, a.PredicateType, body, p.limits(), p.Now()); err != nil {
		event.Warnf(ctx, "no gate will rely on this: %v", err)
	}
}

func sameJSON(a, b []byte) bool {
	x, errX := release.CanonicalJSON(a)
	y, errY := release.CanonicalJSON(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// subject reads a reference, or a release argument that the ledger knows.
func (p *Pipeline) subject(ctx context.Context, argument string) (release.Subject, error) {
	history, _, err := p.Ledger.Read(ctx)
	if err != nil {
		return release.Subject{}, err
	}
	return p.subjectIn(ctx, history, argument)
}

func (p *Pipeline) subjectIn(ctx context.Context, h release.History, argument string) (release.Subject, error) {
	if d, err := findRelease(h, argument); err == nil {
		return release.Subject{Repository: p.Project.Repository(p.Project.Registry), Digest: d}, nil
	}
	return p.Images.Resolve(ctx, argument)
}
