package config

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/promote-dev/promote/pkg/release"
)

// The public instance of sigstore.
const (
	publicFulcio = "https://fulcio.sigstore.dev"
	publicRekor  = "https://rekor.sigstore.dev"
)

// keyless wants what signing without a key needs beside the services.
func (k *checker) keyless(p path, s *Keyless) {
	before := len(k.errs)
	for name, value := range map[string]string{"fulcio": s.Fulcio, "rekor": s.Rekor, "timestamp": s.Timestamp, "issuer": s.Issuer} {
		k.link(p.key(name), value)
	}
	switch version := p.key("rekorVersion"); {
	case len(k.errs) > before:
	case s.RekorVersion != 1 && s.RekorVersion != 2:
		k.fail(version, "write 1 or 2", "Rekor of version %d is unknown", s.RekorVersion)
	case k.c.Sign.LegacySignatures && s.RekorVersion != 1:
		k.fail(at("sign", "legacySignatures"), "remove it, or write sign.keyless.rekorVersion: 1", "cosign's older form holds the entry of a log of version 1 only")
	case s.RekorVersion == 2 && s.Timestamp == "":
		k.fail(version, "write timestamp: https://…/api/v1/timestamp", "a log of version 2 gives no time: a timestamp authority is needed too")
	case (s.Fulcio != publicFulcio || s.Rekor != publicRekor) && k.c.Sign.TrustedRoot == "":
		k.fail(p, "write trustedRoot: keys/trusted_root.json", "sign.trustedRoot is missing: the public one knows nothing of these services")
	case k.c.File.Trust == nil:
		k.fail(p, "write trust: {builder: [{name: ci, identity: …, issuer: …}], promoter: [{name: ci, identity: …, issuer: …}], …}", "signing with an identity needs a trust section that names it")
	}
}

// maxTrustedRoot bounds a trusted_root.json; the public one has 7 KiB.
const maxTrustedRoot = 4 << 20

func (k *checker) trustedRoot(p path, name string) {
	if name == "" {
		return
	}
	if isURI(name) {
		k.fail(p, "bring the file into the project", "expected a file, got %.80q", name)
		return
	}
	text, err := readAtMost(k.c.Abs(name), maxTrustedRoot)
	if errors.Is(err, fs.ErrNotExist) {
		k.exists(p, name, false)
		return
	}
	if err == nil {
		_, err = release.CanonicalJSON(text)
	}
	if err != nil {
		k.fail(p, "cosign trusted-root create makes one", "%s: %w", name, err)
		return
	}
	k.c.trustedRoot = text
}

func readAtMost(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = errors.New("too long")
	}
	return text, withoutPath(err)
}

// TrustedRoot gives what the file of sign.trustedRoot held when promote.yaml was
// loaded; nil for the public instance's.
func (c *Config) TrustedRoot() []byte { return c.trustedRoot }

// trustedRootDigest is zero for the public instance's.
func (c *Config) trustedRootDigest() release.Digest {
	if c.trustedRoot == nil {
		return release.Digest{}
	}
	return release.DigestOf(c.trustedRoot)
}
