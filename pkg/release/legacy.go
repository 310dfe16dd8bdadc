package release

// Cosign's older form, before bundles: signatures and attestations about a
// digest are layers of the manifest under the tag sha256-<hex>.sig or .att, an
// SBOM is the layer of the one under .sbom.
// https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md
const (
	MediaTypeSimpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"
	MediaTypeDSSE          = "application/vnd.dsse.envelope.v1+json"

	AnnotationLegacySignature   = "dev.cosignproject.cosign/signature" // base64, over a signature's content
	AnnotationLegacyCertificate = "dev.sigstore.cosign/certificate"    // PEM
	AnnotationLegacyChain       = "dev.sigstore.cosign/chain"          // PEM
	AnnotationLegacyBundle      = "dev.sigstore.cosign/bundle"         // a log's signed entry, JSON
	AnnotationLegacyTimestamp   = "dev.sigstore.cosign/rfc3161timestamp"
)

// LegacyKind is what stands behind one of cosign's tags; it is the tag's ending.
type LegacyKind string

// The kinds that cosign writes.
const (
	LegacySignature   LegacyKind = "sig"
	LegacyAttestation LegacyKind = "att"
	LegacySBOM        LegacyKind = "sbom"
)

// LegacyKinds are all of them.
var LegacyKinds = []LegacyKind{LegacySignature, LegacyAttestation, LegacySBOM}

// Takes reports whether a content of this media type can be of the kind.
func (k LegacyKind) Takes(mediaType string) bool {
	switch k {
	case LegacySignature:
		return mediaType == MediaTypeSimpleSigning
	case LegacyAttestation:
		return mediaType == MediaTypeDSSE
	}
	return k == LegacySBOM
}

// LegacyTag gives the tag under which cosign keeps what is of a kind and about
// a digest.
func LegacyTag(d Digest, kind LegacyKind) string {
	return "sha256-" + d.Hex() + "." + string(kind)
}

// LegacyAttachment is one signature, attestation or SBOM in that form, as a
// registry holds it. The tag claims what it is about; only what is signed, in
// Content, counts.
type LegacyAttachment struct {
	Kind LegacyKind
	// MediaType of Content: MediaTypeSimpleSigning for a signature,
	// MediaTypeDSSE for an attestation, any for an SBOM.
	MediaType string
	Digest    Digest // of Content
	Content   []byte
	// Annotations of the layer, which nothing has verified: AnnotationLegacy….
	// Signatures by several keys share one Content and differ here.
	Annotations map[string]string
}
