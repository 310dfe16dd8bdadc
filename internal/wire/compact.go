package wire

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// compactor implements pipeline.Compactor.
type compactor struct {
	config  *config.Config
	options cli.LedgerOptions
	log     *ledger.Ledger
	anchor  pipeline.Anchor
}

func openCompactor(ctx context.Context, c *config.Config, o cli.LedgerOptions) (pipeline.Compactor, error) {
	log, anchor, err := projectsLedger(ctx, c, cli.AuditOptions{Offline: o.Offline})
	o.DryRun = false // what is written, the pipeline says
	return compactor{c, o, log, anchor}, err
}

func (c compactor) Weight(ctx context.Context, list release.Ranges) (int64, error) {
	return c.log.Weight(ctx, list)
}

func (c compactor) Strip(ctx context.Context) (records, bytes int64, err error) {
	done, err := c.log.Strip(ctx)
	return done.Records, done.Bytes, err
}

// Archive exports the ledger and reads back what lies there. The same ledger
// gives the same bytes, so an archive of it that is there already is as good.
func (c compactor) Archive(ctx context.Context) (pipeline.Archive, error) {
	there, ok, err := c.Archived(ctx)
	if err != nil {
		return pipeline.Archive{}, err
	}
	if ok {
		now, err := c.log.Export(ctx, io.Discard, judging(c.anchor))
		if err == nil && now.Digest != there.Digest {
			err = release.Misuse("name a place where nothing is yet", "archiving the ledger: %s is another archive", c.options.Place)
		}
		return there, err
	}
	made, err := exportLedger(ctx, c.config, c.options)
	if err != nil {
		return pipeline.Archive{}, err
	}
	there, ok, err = c.Archived(ctx)
	if err == nil && (!ok || there.Digest != made.Digest || there.Records != made.Records) {
		err = release.Unavailable("check the disk, or the registry; nothing was taken out of the ledger", "archiving the ledger: %s does not hold what was written", c.options.Place)
	}
	return there, err
}

// Archived reads and verifies what lies where the archive shall be: a sound
// export of this very log.
func (c compactor) Archived(ctx context.Context) (pipeline.Archive, bool, error) {
	path, remove, err := localCopy(ctx, c.config, c.options)
	if errors.Is(err, release.ErrNotFound) {
		return pipeline.Archive{}, false, nil
	}
	if err != nil {
		return pipeline.Archive{}, false, err
	}
	defer remove()
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return pipeline.Archive{}, false, nil
	}
	if err != nil {
		return pipeline.Archive{}, false, release.Unavailable("check that you may read it, or name another place", "archiving the ledger: %w", err)
	}
	defer file.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, io.LimitReader(file, ledger.MaxExport+1))
	if err != nil {
		return pipeline.Archive{}, false, release.Unavailable("check the disk, or name another place", "archiving the ledger: %w", err)
	}
	found, err := c.log.Audit(ctx, nil, ledger.AuditOptions{Archives: []ledger.Source{ledger.ExportedFile{Path: path}}})
	if err != nil {
		return pipeline.Archive{}, false, err
	}
	if err := pipeline.AuditDenial(pipeline.JudgeAudit(found, c.anchor)); err != nil {
		return pipeline.Archive{}, false, release.Denied("if the ledger itself is sound (promote audit verify), what lies at "+c.options.Place+" is no archive of it: name another place", "archiving the ledger: %w", err)
	}
	records := found.Records
	if n := len(found.Contained); n > 0 {
		records = found.Contained[n-1].TreeSize
	}
	return pipeline.Archive{Place: c.options.Place, Records: records, Bytes: size, Digest: release.DigestFromSum([sha256.Size]byte(sum.Sum(nil)))}, true, nil
}
