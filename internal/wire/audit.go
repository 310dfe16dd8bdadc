package wire

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign"
)

// audit verifies a ledger by the project's configuration, or by what the options
// say.
func audit(ctx context.Context, c *config.Config, o cli.AuditOptions) (release.LedgerAudit, error) {
	source, err := auditedLog(o.File)
	if err != nil {
		return release.LedgerAudit{}, err
	}
	options := ledger.AuditOptions{Anew: o.Anew}
	for _, path := range o.Checkpoints {
		text, err := readNamed("--checkpoint", path, 16<<20) // an attestation holds all that was decided
		if err != nil {
			return release.LedgerAudit{}, err
		}
		options.Checkpoints = append(options.Checkpoints, text)
	}
	for _, path := range o.Archives {
		options.Archives = append(options.Archives, ledger.ExportedFile{Path: path})
	}
	var log *ledger.Ledger
	var anchor pipeline.Anchor
	if c == nil {
		log, anchor, err = auditorsLedger(ctx, source, o)
	} else {
		log, anchor, err = projectsLedger(ctx, c, o)
	}
	if err != nil {
		return release.LedgerAudit{}, err
	}
	found, err := log.Audit(ctx, source, options)
	if err != nil {
		return release.LedgerAudit{}, err
	}
	return pipeline.JudgeAudit(found, anchor), nil
}

// auditedLog gives what is to be read; nil is the configured ledger.
func auditedLog(path string) (ledger.Source, error) {
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, release.Misuse("check the path", "no ledger: %w", err)
	case err != nil:
		return nil, release.Unavailable("check that you may read it", "reading a ledger: %w", err)
	case info.IsDir():
		return ledger.FromStore(ledger.NewFileStore(path)), nil
	}
	return ledger.ExportedFile{Path: path}, nil
}

// projectsLedger is judged by promote.yaml.
func projectsLedger(ctx context.Context, c *config.Config, o cli.AuditOptions) (*ledger.Ledger, pipeline.Anchor, error) {
	keys := &keyring{config: c, options: cli.PipelineOptions{Offline: o.Offline}}
	defer keys.close()
	if err := keys.openTrust(ctx); err != nil {
		return nil, pipeline.Anchor{}, err
	}
	log, err := openLedger(ctx, c, keys)
	return log, pipeline.Anchor{Trust: &keys.trust, From: "promote.yaml"}, err
}

// auditorsLedger is judged by a public key or a trust that the auditor has.
func auditorsLedger(ctx context.Context, source ledger.Source, o cli.AuditOptions) (*ledger.Ledger, pipeline.Anchor, error) {
	anchor, trust, err := anchors(o)
	if err != nil {
		return nil, anchor, err
	}
	roots := sync.OnceValues(func() (*sign.Root, error) { return publicRoot(ctx, o.Offline) })
	if o.TrustedRoot != "" {
		text, err := readNamed("--trusted-root", o.TrustedRoot, 5<<20)
		if err != nil {
			return nil, anchor, err
		}
		trust.TrustedRoot = release.DigestOf(text) // what is remembered was judged by it
		roots = sync.OnceValues(func() (*sign.Root, error) { return sign.ParseRoot(text) })
	}
	unpinned := func([]byte, string) ([]byte, release.Signer, error) {
		return nil, release.Signer{}, release.Denied("verify it with --key", "the log pins no trust")
	}
	if len(trust.Roles) > 0 {
		if unpinned, err = verifyBy(timeless(trust), roots); err != nil {
			return nil, anchor, err
		}
	}
	origin, err := ledger.OriginOf(ctx, source)
	if err != nil {
		return nil, anchor, err
	}
	if o.Name != "" {
		origin = "promote/" + o.Name
	}
	if origin == "" {
		origin = "unknown"
	}
	cache, err := cacheDir("ledger")
	if err != nil {
		return nil, anchor, err
	}
	log, err := ledger.Open(ctx, ledger.Options{Store: ledger.NewFileStore(o.File), Origin: origin, Verify: unpinned, Trust: trust.Digest(), Cache: cache, Secret: ledgerSecret,
		VerifyBy: func(t release.Trust) (ledger.Check, error) { return verifyBy(t, roots) }})
	return log, anchor, err
}

// anchors reads --key and --trust. The trust is for records that none is pinned
// for.
func anchors(o cli.AuditOptions) (a pipeline.Anchor, trust release.Trust, err error) {
	for _, path := range o.Keys {
		text, err := readNamed("--key", path, 64<<10)
		if err != nil {
			return a, trust, err
		}
		one := sign.TrustOf(text, filepath.Base(path))
		if _, err := sign.NewVerifier(one); err != nil {
			return a, trust, err
		}
		if a.From = "--key"; trust.Roles == nil {
			trust.Roles = map[release.Role][]release.Party{}
		}
		for role, parties := range one.Roles {
			trust.Roles[role] = append(trust.Roles[role], parties...)
		}
		a.Keys = append(a.Keys, one.Roles[release.Promoter][0].Fingerprint())
	}
	if o.Trust == "" {
		return a, trust, nil
	}
	a.From = "--trust"
	if d, err := release.ParseDigest(o.Trust); err == nil {
		a.TrustDigest = d
		return a, trust, nil
	}
	text, err := readNamed("--trust", o.Trust, release.MaxTrustFile)
	if err != nil {
		return a, trust, err
	}
	signed, err := release.ParseTrust(text)
	if err != nil {
		return a, trust, release.Misuse("promote trust list -o dsse=FILE writes one", "--trust %s: %w", o.Trust, err)
	}
	trust = signed.File.Trust()
	a.Trust = &trust
	return a, trust, nil
}

// ledgerSecret authenticates what audits remember. It lies with the
// configuration, where no CI caches; nil where there is no place for it.
func ledgerSecret() []byte {
	settings, err := os.UserConfigDir()
	if err != nil {
		return nil
	}
	path := filepath.Join(settings, "promote", "ledger.secret")
	secret, err := readCapped(path, 64)
	if errors.Is(err, fs.ErrNotExist) {
		secret = []byte(rand.Text() + rand.Text())
		if err := writeSecret(path, secret); err != nil {
			return nil
		}
		secret, err = readCapped(path, 64) // another process may have been first
	}
	if err != nil || len(secret) < 32 {
		return nil
	}
	return secret
}

func writeSecret(path string, secret []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.Write(secret)
	return errors.Join(err, f.Close())
}
