package envelope

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Sealed is a bundle that was read but is not believed yet.
type Sealed interface {
	// Content gives the payload type and the payload as they were signed.
	Content() (payloadType string, payload []byte)
	// Proof verifies the signature and that the payload is about the digest,
	// and says which key or whose certificate made it, and when. ErrStranger
	// means: no trusted key.
	Proof(release.Digest) (Proof, error)
}

// ErrStranger says that no key of the trust policy made the signature.
var ErrStranger = errors.New("no trusted key made this signature")

// Unexpected is the reason when judging panicked: a defect, never a pass.
const Unexpected = "verifying it failed unexpectedly"

// Opener reads a bundle's bytes without believing them.
type Opener func(bundle []byte) (Sealed, error)

// Rules are what attachments are judged by.
type Rules struct {
	Open   Opener
	Policy *Policy
	// Now bounds what has no proven time.
	Now time.Time
}

// JudgeAll judges each attachment by itself and gives one piece of evidence for
// each, in the same order. A panic while judging outside bytes costs that
// evidence, not the run. When there are more than MaxAttachments nothing is
// looked at and nothing is verified: which of them a registry lists first must
// not decide. Once ctx is done the rest stays unverified; the caller has to
// look at ctx before it takes that for an answer.
func JudgeAll(ctx context.Context, s release.Subject, list []release.Attachment, rules Rules) []release.Evidence {
	evidence := make([]release.Evidence, len(list))
	for i, a := range list {
		evidence[i] = unjudged(s, a)
		switch {
		case len(list) > MaxAttachments:
			evidence[i].Reason = fmt.Sprintf("one of %d attestations: at most %d are looked at", len(list), MaxAttachments)
		case ctx.Err() != nil:
			evidence[i].Reason = "interrupted before it was verified"
		default:
			evidence[i] = judgeSafely(s, a, rules)
		}
	}
	return evidence
}

func judgeSafely(s release.Subject, a release.Attachment, rules Rules) (e release.Evidence) {
	defer func() {
		if recover() != nil {
			e = unjudged(s, a)
			e.Reason = Unexpected
		}
	}()
	return Judge(s, a, rules)
}

func unjudged(s release.Subject, a release.Attachment) release.Evidence {
	e := release.Evidence{Subject: s, Digest: release.DigestOf(a.Bundle)}
	// The claim may come from anyone: shown if it is fit to be, never relied on.
	if PlainURI(a.PredicateType) {
		e.PredicateType = a.PredicateType
		e.Role, _ = release.RoleOf(a.PredicateType)
	}
	return e
}

// Judge decides whether one attachment is evidence about the subject: the
// bytes are the ones the registry named, one trusted key signed one in-toto
// statement, about this digest only, of the type that was claimed, and the
// key's holder has the role that may say so. What is not verified carries the
// reason and no predicate.
func Judge(s release.Subject, a release.Attachment, rules Rules) release.Evidence {
	e := unjudged(s, a)
	st, err := judge(&e, a, rules)
	if err != nil {
		e.Reason = err.Error()
		return e
	}
	e.Predicate, e.Verified = st.Predicate, true
	return e
}

func judge(e *release.Evidence, a release.Attachment, rules Rules) (release.Statement, error) {
	st, sealed, err := read(a, e.Digest, rules.Open)
	if err != nil {
		return st, err
	}
	e.PredicateType = st.PredicateType
	e.Role, _ = release.RoleOf(st.PredicateType)
	if a.PredicateType != "" && a.PredicateType != st.PredicateType {
		return st, fmt.Errorf("announced as %s, signed as %s", Tidy(a.PredicateType), st.PredicateType)
	}
	if !st.About(e.Subject.Digest) {
		return st, fmt.Errorf("about sha256:%s, not about %s", st.Subject[0].Digest["sha256"], e.Subject.Digest)
	}
	proof, err := sealed.Proof(e.Subject.Digest)
	if err != nil {
		return st, err
	}
	e.Time = proof.Time
	if e.Signer, err = rules.Policy.Signer(proof, rules.Now); err != nil {
		return st, err
	}
	return st, mayClaim(e.Signer, st.PredicateType)
}

// read takes the statement out of an attachment, unbelieved.
func read(a release.Attachment, got release.Digest, open Opener) (release.Statement, Sealed, error) {
	if len(a.Bundle) > MaxBundle {
		return release.Statement{}, nil, fmt.Errorf("bundle of %d bytes: at most %d are read", len(a.Bundle), MaxBundle)
	}
	if !a.Digest.IsZero() && a.Digest != got {
		return release.Statement{}, nil, fmt.Errorf("bytes are %s, named %s", got, a.Digest)
	}
	sealed, err := open(a.Bundle)
	if err != nil {
		return release.Statement{}, nil, err
	}
	payloadType, payload := sealed.Content()
	if payloadType != PayloadType {
		return release.Statement{}, nil, fmt.Errorf("payload is %s, want %s", Tidy(payloadType), PayloadType)
	}
	st, err := ParseStatement(payload)
	return st, sealed, err
}

func mayClaim(signer release.Signer, predicateType string) error {
	role, ok := release.RoleOf(predicateType)
	if !ok {
		return fmt.Errorf("signed by %s, but no role may say %s", Tidy(signer.Name), predicateType)
	}
	if !signer.Has(role) {
		return fmt.Errorf("signed by %s, who is not trusted as %s", Tidy(signer.Name), role)
	}
	return nil
}
