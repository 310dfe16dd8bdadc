package envelope

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/promote-dev/promote/pkg/release"
)

// maxSimpleSigning bounds a simple signing payload, in bytes.
const maxSimpleSigning = 64 << 10

const simpleSigningType = "cosign container image signature"

// ParseSimpleSigning reads what cosign signed about an image before there were
// bundles, and gives it as the statement it amounts to: a signature about a
// digest. Its docker-reference is who the image was for the signer; the digest
// decides.
// https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md#payload
func ParseSimpleSigning(payload []byte) (release.Statement, error) {
	d, reference, err := simpleSigning(payload)
	if err != nil {
		return release.Statement{}, fmt.Errorf("reading simple signing payload: %w", err)
	}
	return release.NewStatement(release.Subject{Repository: reference, Digest: d}, release.PredicateSignature, nil), nil
}

func simpleSigning(payload []byte) (d release.Digest, reference string, err error) {
	if len(payload) > maxSimpleSigning {
		return d, "", fmt.Errorf("%d bytes: at most %d are read", len(payload), maxSimpleSigning)
	}
	if err := strict(payload); err != nil {
		return d, "", err
	}
	members, err := object(payload, "critical", "optional")
	if err != nil {
		return d, "", err
	}
	critical, err := object(members["critical"], "identity", "image", "type")
	if err != nil {
		return d, "", fmt.Errorf("critical: %w", err)
	}
	var kind, digest string
	if err := text(critical["type"], maxPayloadType, &kind); err != nil || kind != simpleSigningType {
		return d, "", fmt.Errorf("its type is not %q", simpleSigningType)
	}
	image, err := object(critical["image"], "docker-manifest-digest")
	if err != nil {
		return d, "", fmt.Errorf("image: %w", err)
	}
	if err := text(image["docker-manifest-digest"], maxPayloadType, &digest); err != nil {
		return d, "", fmt.Errorf("docker-manifest-digest: %w", err)
	}
	if d, err = release.ParseDigest(digest); err != nil {
		return d, "", errors.New("docker-manifest-digest is no sha256 digest")
	}
	identity, err := object(critical["identity"], "docker-reference")
	if err != nil {
		return d, "", fmt.Errorf("identity: %w", err)
	}
	if err := json.Unmarshal(orNull(identity["docker-reference"]), &reference); err != nil || len(reference) > maxPredicateURI {
		return d, "", errors.New("docker-reference is no short string")
	}
	return d, reference, nil
}
