package sign

import (
	"context"
	"encoding/base64"
	"encoding/json"

	"github.com/promote-dev/promote/pkg/release"
)

// simpleSigning is what cosign signed before there were bundles. It has no
// type of its own beside the one in it.
// https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md
type simpleSigning struct {
	Critical struct {
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional map[string]any `json:"optional"`
}

// signatureType is the type of a container image's signature.
const signatureType = "cosign container image signature"

// SignLegacy signs a subject in cosign's older form, for tools that read no
// bundles: a layer of the manifest under release.LegacyTag(digest,
// release.LegacySignature), whose annotation holds the signature. It says as
// much as a statement of type release.PredicateSignature, and no more.
func (k *Key) SignLegacy(ctx context.Context, s release.Subject) (release.LegacyAttachment, error) {
	text, err := simpleSigningOf(s)
	if err != nil {
		return release.LegacyAttachment{}, signing(release.MediaTypeSimpleSigning, err)
	}
	if err := ctx.Err(); err != nil {
		return release.LegacyAttachment{}, signing(release.MediaTypeSimpleSigning, err)
	}
	sig, _, err := k.sign(ctx, text)
	if err != nil {
		return release.LegacyAttachment{}, signing(release.MediaTypeSimpleSigning, err)
	}
	return legacySignature(text, sig), nil
}

func simpleSigningOf(s release.Subject) ([]byte, error) {
	var payload simpleSigning
	payload.Critical.Identity.Reference = s.Repository
	payload.Critical.Image.Digest = s.Digest.String()
	payload.Critical.Type = signatureType
	return json.Marshal(payload)
}

func legacySignature(text, sig []byte) release.LegacyAttachment {
	return release.LegacyAttachment{Kind: release.LegacySignature, MediaType: release.MediaTypeSimpleSigning, Digest: release.DigestOf(text), Content: text,
		Annotations: map[string]string{release.AnnotationLegacySignature: base64.StdEncoding.EncodeToString(sig)}}
}
