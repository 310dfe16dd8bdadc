package wire

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/promote-dev/promote/data/osv"
	"github.com/promote-dev/promote/internal/advisories"
	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/internal/localregistry"
	"github.com/promote-dev/promote/pkg/build"
	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign"
)

func copyImages(ctx context.Context, o cli.CopyOptions) (cli.CopyResult, error) {
	client, err := openRegistry(registryHosts(o.Registries))
	if err != nil {
		return cli.CopyResult{}, err
	}
	r, err := client.Transfer(ctx, o.Source, o.Destination, registry.CopyOptions{Referrers: o.Referrers, DryRun: o.DryRun})
	if err != nil {
		return cli.CopyResult{}, err
	}
	return cli.CopyResult{Source: r.Source, Destination: r.Destination, Digest: r.Digest, Tags: append([]string{}, r.Tags...), Unchanged: r.Unchanged,
		Bytes: r.Bytes, Blobs: r.Blobs, Mounted: r.Mounted, Present: r.Present, Foreign: r.Foreign, Manifests: r.Manifests, Referrers: r.Referrers, Legacy: r.Legacy, Kept: r.Kept,
		Requests: r.Requests, DryRun: r.DryRun}, nil
}

func pin(ctx context.Context, o cli.PinOptions) (cli.PinResult, error) {
	client, err := openRegistry(registryHosts(o.Registries))
	if err != nil {
		return cli.PinResult{}, err
	}
	mode := build.PinWrite
	switch {
	case o.Check:
		mode = build.PinCheck
	case o.Update:
		mode = build.PinUpdate
	}
	files := o.Files
	if len(files) == 0 {
		files = nil // find them
	}
	r, err := build.Pin(ctx, build.PinOptions{Dir: o.Dir, Files: files, Mode: mode, Map: o.Map, Resolve: client.Resolve, DryRun: o.DryRun})
	out := cli.PinResult{Changes: []cli.PinChange{}, Unpinned: []cli.PinChange{}, Result: "passed"}
	if err != nil {
		out.Result = "failed"
		return out, err
	}
	for _, c := range r.Changes {
		out.Changes = append(out.Changes, cli.PinChange{File: c.File, Line: c.Line, From: c.From, To: c.To})
	}
	for _, u := range r.Unpinned {
		out.Unpinned = append(out.Unpinned, cli.PinChange{File: u.File, Line: u.Line, From: u.Reference})
		out.Result = "failed"
	}
	return out, r.Err()
}

// keys makes a key pair, or shows the public half of a key.
func keys(ctx context.Context, o cli.KeyOptions) (cli.KeyResult, error) {
	if !o.Generate {
		key, err := sign.LoadKey(ctx, o.Key, passphrase)
		if err != nil {
			return cli.KeyResult{}, err
		}
		defer key.Close()
		return cli.KeyResult{PublicKey: string(key.PublicPEM()), Fingerprint: key.Fingerprint()}, nil
	}
	secret, err := passphrase()
	if err != nil {
		return cli.KeyResult{}, err
	}
	private, public, err := sign.GenerateKey(secret)
	if err != nil {
		return cli.KeyResult{}, err
	}
	out := cli.KeyResult{Private: o.Key, Public: strings.TrimSuffix(o.Key, filepath.Ext(o.Key)) + ".pub", PublicKey: string(public)}
	if out.Public == out.Private {
		return out, release.Misuse("promote keys generate keys/promote.key", "a private key must not be named %s", o.Key)
	}
	out.TrustedRoot = filepath.Join(filepath.Dir(o.Key), "trusted_root.json")
	if err := os.MkdirAll(filepath.Dir(o.Key), 0o700); err != nil {
		return out, release.Misuse("choose a directory that you can write to", "making a key: %w", err)
	}
	// The private half first, and never over another key.
	if err := writeNew(out.Private, private, 0o600); err != nil {
		return out, err
	}
	if err := writeNew(out.Public, public, 0o644); err != nil {
		return out, err
	}
	if err := writeNew(out.TrustedRoot, sign.EmptyTrustedRoot(), 0o644); err != nil && !errors.Is(err, fs.ErrExist) {
		return out, err
	}
	key, err := sign.LoadKey(ctx, o.Key, passphrase)
	if err != nil {
		return out, err
	}
	defer key.Close()
	out.Fingerprint = key.Fingerprint()
	return out, nil
}

func writeNew(path string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return release.Misuse("choose another name; keys are never overwritten", "writing %s: %w", path, err)
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// serveRegistry is the body of the embedded registry's own process.
func serveRegistry(ctx context.Context, root, address, addressFile string, withBases bool) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	err := localregistry.Run(ctx, localregistry.Options{Root: root, Addr: address}, func(addr string) {
		if err := announce(ctx, addr, addressFile, withBases); err != nil {
			stop(err)
		}
	})
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

func announce(ctx context.Context, addr, file string, withBases bool) error {
	if withBases {
		if err := pushBases(ctx, addr); err != nil {
			return err
		}
	}
	if file == "" {
		return nil
	}
	// Whole or not at all: somebody waits for it.
	if err := os.WriteFile(file+".new", []byte(addr+"\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// buildDatabase makes the demo's vulnerability database from the advisories in
// this binary.
func buildDatabase(ctx context.Context, repository string) (release.Digest, error) {
	dir, err := os.MkdirTemp("", "promote-db-")
	if err != nil {
		return release.Digest{}, fmt.Errorf("making a directory for the database: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := advisories.Build(ctx, osv.Files, dir, time.Now().UTC()); err != nil {
		return release.Digest{}, err
	}
	client, err := openRegistry(nil)
	if err != nil {
		return release.Digest{}, err
	}
	return advisories.Push(ctx, client, dir, repository)
}
