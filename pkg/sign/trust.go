package sign

import (
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// TrustOf is the trust of a project that configures none: one key, called name,
// speaks for every role but approver and breakGlass. NewVerifier checks the key.
func TrustOf(publicPEM []byte, name string) release.Trust {
	return envelope.SingleKey(publicPEM, name)
}

// EmptyTrustedRoot gives a sigstore trusted_root.json that trusts no authority
// and no log. Stock cosign wants such a file as soon as it reads bundles, and
// would fetch the public one otherwise; with --key and without a log nothing in
// it is needed.
func EmptyTrustedRoot() []byte {
	return []byte("{\n  \"mediaType\": \"application/vnd.dev.sigstore.trustedroot+json;version=0.1\"\n}\n")
}
