package wire

import (
	"context"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

// older reads and verifies what cosign wrote before there were bundles.
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

// Sign implements pipeline.Legacy: only bundles are written.
func (older) Sign(context.Context, release.Subject, pipeline.Signer) error { return nil }
