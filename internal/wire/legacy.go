package wire

import (
	"context"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

// older reads, verifies and writes what cosign wrote before there were bundles.
type older struct {
	client *registry.Client
	keys   *keyring
}

var _ pipeline.Legacy = older{}

// Evidence implements pipeline.Legacy. Nothing is asked of the registry where
// nothing can be verified.
func (o older) Evidence(ctx context.Context, s release.Subject) ([]release.Evidence, error) {
	if o.keys.missing != nil {
		return nil, nil
	}
	list, err := o.client.LegacyAttachments(ctx, s)
	if err != nil {
		return nil, err
	}
	return o.keys.verifier.VerifyLegacy(ctx, s, list), nil
}

// Writes implements pipeline.Legacy.
func (o older) Writes() bool { return o.keys.config.Sign.LegacySignatures }

// Sign implements pipeline.Legacy.
func (o older) Sign(ctx context.Context, s release.Subject, by pipeline.Signer) error {
	key, ok := by.(signer)
	if !ok {
		return release.Faultf(release.KindInternal, "", "signing %s in cosign's older form: %T cannot", s, by)
	}
	signature, err := key.SignLegacy(ctx, s)
	if err != nil {
		return err
	}
	return o.client.AttachLegacy(ctx, s, signature)
}
