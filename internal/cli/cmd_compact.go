package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/internal/ui"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

func (r *run) compactCommand() *cli.Command {
	return r.command(command{name: "compact", usage: "take old records' lines out of the ledger, into an archive; hashes and proofs stay", flags: []cli.Flag{
		&cli.StringFlag{Name: "archive", Usage: "`FILE|oci:PLACE` for the whole ledger as it is now, before anything goes (required)"},
		&cli.IntFlag{Name: "keep", Value: 10, Usage: "the last `N` deployments of each environment stay, whatever their age"},
		&cli.StringFlag{Name: "older-than", Value: "90d", Usage: "`DURATION`: only records older than that go"},
		&cli.StringFlag{Name: "reason", Usage: "`TEXT` for the ledger"}, keyFlag(), dryRunFlag(),
	}, offline: true, action: r.ledgerCompact})
}

func (r *run) ledgerCompact(ctx context.Context, c *cli.Context) error {
	const write = "promote ledger compact --archive ledger-2026-03.export"
	o := pipeline.CompactOptions{Keep: c.Int("keep"), Reason: c.String("reason"), DryRun: c.Bool("dry-run")}
	var err error
	if o.OlderThan, err = duration(c.String("older-than")); err != nil {
		return release.Misuse("write --older-than 90d", "--older-than: %w", err)
	}
	if c.String("archive") == "" && !o.DryRun {
		return release.Misuse(write, "compacting needs an archive: what goes out of the ledger has to be somewhere")
	}
	project, place, err := r.compactPlace(c)
	if err != nil {
		return err
	}
	compactor, err := r.wiring.Compactor(ctx, project, place)
	if err != nil {
		return err
	}
	return r.withKey(ctx, c.String("key"), func(p *pipeline.Pipeline) error {
		result, err := p.Compact(ctx, compactor, o)
		if err != nil {
			return err
		}
		return r.emit(result, func(w io.Writer) error { return printCompact(w, result) })
	})
}

func (r *run) compactPlace(c *cli.Context) (*config.Config, LedgerOptions, error) {
	if c.String("archive") == "" {
		project, err := r.load()
		return project, LedgerOptions{DryRun: true, Offline: r.offline}, err
	}
	return r.ledgerPlace(c, c.String("archive"))
}

func printCompact(w io.Writer, c pipeline.CompactResult) error {
	if c.Compacted == 0 {
		fmt.Fprintf(w, "nothing to compact: all %d records stay (%d went before)\n", c.Records, c.Earlier)
		return printStays(w, c.Kept)
	}
	word := "compacted"
	switch {
	case c.DryRun:
		word = "would compact"
	case c.Finished:
		word = "finished compacting"
	}
	fmt.Fprintf(w, "%s %d of %d records (%d went before); the log is %s shorter\n", word, c.Compacted, c.Records, c.Earlier, release.FormatSize(c.Bytes))
	if a := c.Archive; a != nil {
		fmt.Fprintf(w, "archive      %s (%d records, %s)\n             %s\n", ui.Clean(a.Place), a.Records, release.FormatSize(a.Bytes), a.Digest)
	}
	if c.Record != nil {
		fmt.Fprintf(w, "record       %d  %s\n", c.Record.Sequence, c.Record.Digest)
	}
	return printStays(w, c.Kept)
}

func printStays(w io.Writer, kept []pipeline.KeptRecords) error {
	for _, k := range kept {
		if _, err := fmt.Fprintf(w, "kept  %6d %s\n", k.Records, k.Why); err != nil {
			return err
		}
	}
	return nil
}
