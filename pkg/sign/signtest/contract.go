package signtest

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// Signer is what a signing key can do.
type Signer interface {
	PublicPEM() []byte
	Fingerprint() string
	Sign(ctx context.Context, st release.Statement) (release.Attachment, error)
	SignEnvelope(ctx context.Context, payloadType string, payload []byte) ([]byte, error)
	Close()
}

// Judge is what a verifier can do.
type Judge interface {
	Verify(ctx context.Context, s release.Subject, attachments []release.Attachment) []release.Evidence
	VerifyEnvelope(text []byte, payloadType string) ([]byte, release.Signer, error)
}

// Implementation is what the contract suite runs on.
type Implementation struct {
	// NewKey gives a key of that name; the suite closes it.
	NewKey      func(t *testing.T, name string) Signer
	NewVerifier func(release.Trust) (Judge, error)
}

var (
	_ Signer = (*Key)(nil)
	_ Judge  = (*Verifier)(nil)
)

// Run runs the contract: the same cases on the fake and on the real thing.
func Run(t *testing.T, impl Implementation) {
	for name, test := range map[string]func(*testing.T, *bench){
		"signs what it verifies":           testRoundTrip,
		"signs the same twice":             testRepeatable,
		"keeps roles apart":                testRoles,
		"refuses altered bundles":          testAltered,
		"refuses statements":               testStatements,
		"survives any bytes":               testGarbage,
		"bounds what it reads":             testBounds,
		"judges each by itself":            testMixed,
		"stops when told":                  testInterrupted,
		"verifies envelopes":               testEnvelopes,
		"refuses altered envelopes":        testAlteredEnvelopes,
		"refuses to sign":                  testRefusesToSign,
		"refuses trust that means nothing": testTrust,
		"does not sign with a closed key":  testClosed,
	} {
		t.Run(name, func(t *testing.T) { test(t, newBench(t, impl)) })
	}
}

// bench is what most cases need: the project's key, somebody else's, a
// subject, and a verifier that trusts the first as a single key.
type bench struct {
	impl         Implementation
	ours, theirs Signer
	subject      release.Subject
	verifier     Judge
}

func newBench(t *testing.T, impl Implementation) *bench {
	b := &bench{impl: impl, ours: impl.NewKey(t, "ours"), theirs: impl.NewKey(t, "theirs"), subject: Subject("planner")}
	t.Cleanup(b.ours.Close)
	t.Cleanup(b.theirs.Close)
	b.verifier = b.trusting(t, TrustOf(b.ours.PublicPEM(), "ci"))
	return b
}

func (b *bench) trusting(t *testing.T, trust release.Trust) Judge {
	t.Helper()
	v, err := b.impl.NewVerifier(trust)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (b *bench) sign(t *testing.T, key Signer, st release.Statement) release.Attachment {
	t.Helper()
	a, err := key.Sign(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// one verifies a single attachment.
func (b *bench) one(t *testing.T, a release.Attachment) release.Evidence {
	t.Helper()
	list := b.verifier.Verify(t.Context(), b.subject, []release.Attachment{a})
	if len(list) != 1 {
		t.Fatalf("%d pieces of evidence for one attachment", len(list))
	}
	return list[0]
}

// sealed signs any payload whatever and puts it into a bundle.
func (b *bench) sealed(t *testing.T, key Signer, payloadType string, payload []byte) release.Attachment {
	t.Helper()
	text, err := key.SignEnvelope(t.Context(), payloadType, payload)
	if err != nil {
		t.Fatal(err)
	}
	e, err := envelope.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := envelope.EncodeBundle(e, envelope.Hint(key.Fingerprint()))
	if err != nil {
		t.Fatal(err)
	}
	return release.Attachment{Bundle: bundle}
}

// Subject gives a made-up subject.
func Subject(name string) release.Subject {
	return release.Subject{Repository: "registry.example/agent/" + name, Digest: release.DigestOf([]byte(name))}
}

// Scan gives a made-up statement that only a scanner may make.
func Scan(s release.Subject) release.Statement {
	return release.NewStatement(s, release.PredicateVulnerability, json.RawMessage(`{"scanner":{"result":{"findings":[]}}}`))
}

// Refused fails the test unless the evidence is unverified, says why, and
// counts for nothing.
func Refused(t *testing.T, e release.Evidence) {
	t.Helper()
	if e.Reason == envelope.Unexpected {
		t.Error("refused only by a panic")
	}
	if e.Verified || e.Reason == "" || e.Predicate != nil || e.Counts(e.PredicateType) {
		t.Errorf("not refused: verified %v, reason %q, predicate of %d bytes", e.Verified, e.Reason, len(e.Predicate))
	}
}

func kind(t *testing.T, err error, want release.Kind) {
	t.Helper()
	var fault *release.Fault
	if !errors.As(err, &fault) || release.KindOf(err) != want {
		t.Errorf("error %v of kind %q, want a fault of kind %q", err, release.KindOf(err), want)
	}
}
