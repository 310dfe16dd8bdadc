package wire

import (
	"context"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

// offline stands where registries are read and written, and does neither.
type offline struct{}

var (
	_ pipeline.Images       = offline{}
	_ pipeline.Attestations = offline{}
	_ pipeline.Documents    = offline{}
)

func refuse(what string) error {
	return release.Misuse("leave --offline out, or bring the image and what is attached to it onto this machine: promote copy REF oci:DIR, then promote --offline verify oci:DIR",
		"%s is in a registry", what)
}

func (offline) Resolve(_ context.Context, reference string) (release.Subject, error) {
	return release.Subject{}, refuse(reference)
}

func (offline) Platform(_ context.Context, s release.Subject, _ string) (release.PlatformImage, error) {
	return release.PlatformImage{}, refuse(s.String())
}

func (offline) Copy(_ context.Context, s release.Subject, _ string, _ bool) error {
	return refuse(s.String())
}

func (offline) Tag(_ context.Context, s release.Subject, _ string) error { return refuse(s.String()) }

func (offline) Attach(_ context.Context, s release.Subject, _ release.Attachment) error {
	return refuse(s.String())
}

func (offline) Attachments(_ context.Context, s release.Subject) ([]release.Attachment, error) {
	return nil, refuse(s.String())
}

func (offline) PushRelease(_ context.Context, repository string, _ release.Document, _ []string) (release.Subject, error) {
	return release.Subject{}, refuse(repository)
}

func (offline) PullRelease(_ context.Context, s release.Subject) (release.Document, error) {
	return release.Document{}, refuse(s.String())
}

// layouts verifies what lies in image layouts and archives on this machine.
type layouts struct {
	client *registry.Client
	keys   *keyring
}

// verifyHeld judges bundles and what stands under cosign's tags by the same trust.
func (k *keyring) verifyHeld(ctx context.Context, h registry.Held) []release.Evidence {
	if k.missing != nil {
		return nil
	}
	return append(k.verifier.Verify(ctx, h.Subject, h.Attachments), k.verifier.VerifyLegacy(ctx, h.Subject, h.Legacy)...)
}

func (l layouts) Evidence(ctx context.Context, source string) (release.Subject, []release.Evidence, error) {
	held, err := l.client.Held(ctx, source)
	if err != nil {
		return release.Subject{}, nil, err
	}
	return held.Subject, l.keys.verifyHeld(ctx, held), nil
}
