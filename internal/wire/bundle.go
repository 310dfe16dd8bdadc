package wire

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign"
)

// verifyBundle reads the files of `verify-bundle` and has the bundle judged.
func verifyBundle(ctx context.Context, o cli.BundleOptions) (cli.BundleResult, error) {
	check := sign.BundleCheck{Identity: o.Identity, IdentityMatch: o.IdentityMatch, Issuer: o.Issuer, IssuerMatch: o.IssuerMatch}
	var err error
	if check.Bundle, err = readNamed("--bundle", o.Bundle, 33<<20); err != nil {
		return cli.BundleResult{}, err
	}
	if o.Key != "" {
		if check.Key, err = readNamed("--key", o.Key, 64<<10); err != nil {
			return cli.BundleResult{}, err
		}
	}
	if check.Root, err = bundleRoot(ctx, o); err != nil {
		return cli.BundleResult{}, err
	}
	if check.Artifact, err = artifact(ctx, o.Artifact); err != nil {
		return cli.BundleResult{}, err
	}
	r, err := sign.VerifyBundle(check)
	if err != nil {
		return cli.BundleResult{}, err
	}
	return cli.BundleResult{Result: "passed", Artifact: check.Artifact, MediaType: r.MediaType, PredicateType: r.PredicateType,
		Signer: r.Signer, Claims: r.Claims, Time: r.Time}, nil
}

// bundleRoot gives what certificates and log entries are checked against.
func bundleRoot(ctx context.Context, o cli.BundleOptions) (*sign.Root, error) {
	if o.TrustedRoot == "" {
		if o.Key != "" {
			return nil, nil
		}
		return publicRoot(ctx, o.Offline)
	}
	text, err := readNamed("--trusted-root", o.TrustedRoot, 5<<20)
	if err != nil {
		return nil, err
	}
	return sign.ParseRoot(text)
}

func readNamed(flag, path string, most int64) ([]byte, error) {
	text, err := readCapped(path, most)
	if err != nil {
		return nil, release.Misuse("check the path", "%s: %w", flag, err)
	}
	return text, nil
}

// artifact reads "sha256:…" as a digest unless a file is called so, and
// everything else as a file's path.
func artifact(ctx context.Context, name string) (release.Digest, error) {
	if d, err := release.ParseDigest(name); err == nil {
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return d, nil
		}
	}
	f, err := os.Open(name)
	if err != nil {
		return release.Digest{}, release.Misuse("give a file, or sha256: and 64 hex digits", "artifact: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	buffer := make([]byte, 1<<20)
	for ctx.Err() == nil {
		n, err := f.Read(buffer)
		sum.Write(buffer[:n])
		if errors.Is(err, io.EOF) {
			return release.DigestFromSum([sha256.Size]byte(sum.Sum(nil))), nil
		}
		if err != nil {
			return release.Digest{}, release.Misuse("give a regular file", "artifact: %w", err)
		}
	}
	return release.Digest{}, ctx.Err()
}
