package sign

import (
	"fmt"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// maxRoot bounds a trusted root, in bytes: the public one has about 10 KiB.
const maxRoot = 4 << 20

// Root is a sigstore trusted root: the certificate authorities, transparency
// logs and timestamp authorities that certificates are checked against.
// https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_trustroot.proto
type Root struct {
	digest       release.Digest
	material     root.TrustedMaterial
	logs         map[string]bool // key ids of its transparency logs
	stamps       bool            // it has timestamp authorities
	certificates *verify.Verifier
	lacks        string // why no certificate can be checked; empty if one can
}

// ParseRoot reads a trusted_root.json of at most 4 MiB. One that trusts nobody
// is good, too; it verifies no certificate. Every error is a KindConfig fault.
func ParseRoot(text []byte) (*Root, error) {
	var r *Root
	err := guarded(func() (err error) {
		r, err = parseRoot(text)
		return err
	})
	if err != nil {
		return nil, release.Faultf(release.KindConfig, "bring a trusted_root.json that `cosign trusted-root create` or the sigstore instance made",
			"reading trusted root: %w", err)
	}
	return r, nil
}

func parseRoot(text []byte) (*Root, error) {
	if len(text) > maxRoot {
		return nil, fmt.Errorf("%d bytes: at most %d are read", len(text), maxRoot)
	}
	if _, err := release.CanonicalJSON(text); err != nil {
		return nil, tidied(err)
	}
	material, err := root.NewTrustedRootFromJSON(text)
	if err != nil {
		return nil, tidied(err)
	}
	r := &Root{digest: release.DigestOf(text), material: material, logs: map[string]bool{}}
	for _, log := range material.RekorLogs() {
		r.logs[string(log.ID)] = true
	}
	r.stamps = len(material.TimestampingAuthorities()) > 0
	return r, r.forCertificates()
}

// forCertificates makes the verifier of certificates: each must be in a
// certificate log and each signature in a transparency log, wherever the root
// knows any, and something must prove when it was made: a certificate lives for
// minutes.
func (r *Root) forCertificates() (err error) {
	switch {
	case len(r.material.FulcioCertificateAuthorities()) == 0:
		r.lacks = "the trusted root names no certificate authority"
		return nil
	case len(r.logs) == 0 && !r.stamps:
		r.lacks = "the trusted root names neither a transparency log nor a timestamp authority, so nothing proves when it was signed"
		return nil
	}
	options := []verify.VerifierOption{verify.WithObserverTimestamps(1)}
	if len(r.logs) > 0 {
		options = append(options, verify.WithTransparencyLog(1))
	}
	if len(r.material.CTLogs()) > 0 {
		options = append(options, verify.WithSignedCertificateTimestamps(1))
	}
	r.certificates, err = verify.NewVerifier(r.material, options...)
	return err
}

// Digest is that of the text it was read from.
func (r *Root) Digest() release.Digest { return r.digest }

// tidied makes an error about outside text fit to be shown.
func tidied(err error) error { return fmt.Errorf("%s", envelope.Tidy(err.Error())) }

// guarded turns a panic over outside bytes into an error.
func guarded(work func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("%s", envelope.Unexpected)
		}
	}()
	return work()
}
