package sign

import (
	"context"
	"time"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// Signer signs statements, with a key or an identity; Close it soon.
type Signer interface {
	// Proof says what its signatures will prove: a key's fingerprint, or a
	// certificate's identity and claims.
	Proof() Proof
	Sign(ctx context.Context, st release.Statement) (release.Attachment, error)
	// SignLegacy signs a subject in cosign's older form.
	SignLegacy(ctx context.Context, s release.Subject) (release.LegacyAttachment, error)
	// SignEnvelope signs a ledger's record or checkpoint: a key gives a bare DSSE
	// envelope, an identity a sigstore bundle around one.
	SignEnvelope(ctx context.Context, payloadType string, payload []byte) ([]byte, error)
	Close()
}

var (
	_ Signer = (*Key)(nil)
	_ Signer = (*Identity)(nil)
)

// Proof says what this key's signatures prove.
func (k *Key) Proof() Proof { return Proof{ID: k.fingerprint} }

// PartyOf says who a signer is under a trust policy now: name and roles. Whom
// the policy does not know, or does not let sign now, has no role; why, the
// error says.
func PartyOf(t release.Trust, s Signer) (release.Signer, error) {
	proof := s.Proof()
	policy, err := envelope.NewPolicy(t)
	if err != nil {
		return release.Signer{ID: proof.ID, Issuer: proof.Issuer}, err
	}
	party, err := policy.Signer(proof, time.Now())
	return certifying(party, proof), err
}
