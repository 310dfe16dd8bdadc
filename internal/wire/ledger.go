package wire

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

// exportLedger writes the configured ledger into a file that is not there yet, or
// an artifact.
func exportLedger(ctx context.Context, c *config.Config, o cli.LedgerOptions) (cli.ExportResult, error) {
	log, anchor, err := projectsLedger(ctx, c, cli.AuditOptions{Offline: o.Offline})
	if err != nil {
		return cli.ExportResult{}, err
	}
	if _, err := os.Lstat(o.Place); !o.Artifact && err == nil {
		return cli.ExportResult{}, release.Misuse("name a file that is not there yet", "exporting the ledger: %s exists", o.Place)
	}
	dir := os.TempDir()
	if !o.Artifact {
		dir = filepath.Dir(o.Place)
	}
	var file *os.File
	to := io.Discard
	if !o.DryRun {
		if file, err = os.CreateTemp(dir, ".promote-ledger-*"); err != nil {
			return cli.ExportResult{}, unwritable(err)
		}
		defer os.Remove(file.Name())
		defer file.Close()
		to = file
	}
	done, err := log.Export(ctx, to, judging(anchor))
	if err != nil {
		return cli.ExportResult{}, unwritable(err)
	}
	out := cli.ExportResult{Ledger: log.String(), To: o.Place, Records: done.Records, Compacted: done.Compacted, Bytes: done.Bytes, Digest: done.Digest, RootHash: done.Checkpoint.RootHash, DryRun: o.DryRun}
	switch {
	case o.DryRun:
		return out, nil
	case o.Artifact:
		out.Artifact, err = pushLedger(ctx, c, o.Place, file.Name(), done)
		return out, err
	}
	err = errors.Join(file.Chmod(0o644), file.Sync(), file.Close())
	if err == nil { // unlike a rename, it takes nobody's place
		err = os.Link(file.Name(), o.Place)
	}
	if err == nil {
		err = syncDir(dir)
	}
	return out, unwritable(err)
}

func pushLedger(ctx context.Context, c *config.Config, place, path string, done ledger.Exported) (release.Digest, error) {
	client, err := openRegistry(registryHosts(c.RegistrySettings()))
	if err != nil {
		return release.Digest{}, err
	}
	pushed, err := client.PushFile(ctx, place, registry.File{Path: path, Digest: done.Digest, Size: done.Bytes, Type: ledger.MediaTypeExport, Title: "ledger"})
	return pushed.Digest, err
}

// importLedger brings what was exported into the configured ledger.
func importLedger(ctx context.Context, c *config.Config, o cli.LedgerOptions) (cli.ImportResult, error) {
	log, anchor, err := projectsLedger(ctx, c, cli.AuditOptions{Offline: o.Offline})
	if err != nil {
		return cli.ImportResult{}, err
	}
	path, remove, err := localCopy(ctx, c, o)
	if err != nil {
		return cli.ImportResult{}, err
	}
	defer remove()
	source, err := auditedLog(path)
	if err != nil {
		return cli.ImportResult{}, err
	}
	if !o.DryRun && c.Ledger.Git == nil {
		if err := keepOutOfGit(c.Abs(c.Ledger.File.Path)); err != nil {
			return cli.ImportResult{}, err
		}
	}
	done, err := log.Import(ctx, source, o.DryRun, judging(anchor))
	return cli.ImportResult{Ledger: log.String(), From: o.Place, Records: done.Records, Added: done.Added, Restored: done.Restored, RootHash: done.Checkpoint.RootHash, DryRun: o.DryRun}, err
}

// localCopy gives the file of an export, which is fetched if it is an artifact.
func localCopy(ctx context.Context, c *config.Config, o cli.LedgerOptions) (path string, remove func(), err error) {
	if !o.Artifact {
		return o.Place, func() {}, nil
	}
	file, err := os.CreateTemp("", "promote-ledger-*")
	if err != nil {
		return "", nil, unwritable(err)
	}
	remove = func() { _ = os.Remove(file.Name()) }
	client, err := openRegistry(registryHosts(c.RegistrySettings()))
	if err == nil {
		_, err = client.PullFile(ctx, o.Place, ledger.MediaTypeExport, ledger.MaxExport, file)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		remove()
		return "", nil, err
	}
	return file.Name(), remove, nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// judging denies what an audit found, by what the project knows.
func judging(anchor pipeline.Anchor) func(release.LedgerAudit) error {
	return func(found release.LedgerAudit) error { return pipeline.AuditDenial(pipeline.JudgeAudit(found, anchor)) }
}

// unwritable says what a disk did not take; what has a kind keeps it.
func unwritable(err error) error {
	var fault *release.Fault
	if err == nil || errors.As(err, &fault) {
		return err
	}
	if errors.Is(err, fs.ErrExist) {
		return release.Misuse("name a file that is not there yet", "exporting the ledger: %w", err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return release.Misuse("make the directory first", "exporting the ledger: %w", err)
	}
	return release.Unavailable("free some space, or name a place that you may write", "exporting the ledger: %w", err)
}
