package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/internal/ui"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/release"
)

// LedgerOptions are `ledger export` and `ledger import`.
type LedgerOptions struct {
	// Place is a file's path, or where an artifact is: a reference, "oci:DIR" or
	// "oci-archive:FILE", if Artifact says so.
	Place    string
	Artifact bool
	DryRun   bool
	Offline  bool
}

// ExportResult is what `ledger export` wrote, or would write.
type ExportResult struct {
	Ledger  string `json:"ledger"`
	To      string `json:"to"`
	Records int64  `json:"records"`
	// Compacted are those of the records whose lines had been taken out.
	Compacted int64          `json:"compacted,omitempty"`
	Bytes     int64          `json:"bytes"`
	Digest    release.Digest `json:"digest"` // of the export's bytes
	// Artifact is the digest of the manifest that holds it; absent for a file.
	Artifact release.Digest `json:"artifact,omitzero"`
	RootHash release.Digest `json:"rootHash"`
	DryRun   bool           `json:"dryRun,omitempty"`
}

// ImportResult is what `ledger import` added to the ledger, or would add.
type ImportResult struct {
	Ledger  string `json:"ledger"`
	From    string `json:"from"`
	Records int64  `json:"records"` // of the log that was brought
	Added   int64  `json:"added"`   // of these, what the ledger lacked
	// Restored are records whose lines had been taken out, and came back.
	Restored int64          `json:"restored,omitempty"`
	RootHash release.Digest `json:"rootHash"`
	DryRun   bool           `json:"dryRun,omitempty"`
}

func (r *run) ledgerCommand() *cli.Command {
	const place = "FILE|oci:PLACE"
	return &cli.Command{Name: "ledger", Usage: "bring the ledger elsewhere and back", HideHelpCommand: true, Subcommands: []*cli.Command{
		r.command(command{name: "export", usage: "write the whole ledger into a file, or an OCI artifact", arguments: place, least: 1, most: 1,
			flags: []cli.Flag{dryRunFlag()}, offline: true, action: r.ledgerExport}),
		r.command(command{name: "import", usage: "bring an exported ledger into an empty one, or one that holds its beginning", arguments: place, least: 1, most: 1,
			flags: []cli.Flag{dryRunFlag()}, offline: true, action: r.ledgerImport}),
		r.compactCommand(),
	}}
}

func (r *run) ledgerExport(ctx context.Context, c *cli.Context) error {
	project, o, err := r.ledgerPlace(c, c.Args().First())
	if err != nil {
		return err
	}
	result, err := r.wiring.ExportLedger(ctx, project, o)
	if err != nil {
		return err
	}
	return r.emit(result, func(w io.Writer) error {
		word := "exported"
		if result.DryRun {
			word = "would export"
		}
		fmt.Fprintf(w, "%s %d records (%s) of %s to %s\n%s\n", word, result.Records, release.FormatSize(result.Bytes), ui.Clean(result.Ledger), ui.Clean(result.To), result.Digest)
		if result.Compacted > 0 {
			fmt.Fprintf(w, "of %d of them the lines were taken out before: archives hold them\n", result.Compacted)
		}
		return nil
	})
}

func (r *run) ledgerImport(ctx context.Context, c *cli.Context) error {
	project, o, err := r.ledgerPlace(c, c.Args().First())
	if err != nil {
		return err
	}
	result, err := r.wiring.ImportLedger(ctx, project, o)
	if err != nil {
		return err
	}
	return r.emit(result, func(w io.Writer) error {
		word := "added"
		if result.DryRun {
			word = "would add"
		}
		fmt.Fprintf(w, "%s %d of %d records to %s\n", word, result.Added, result.Records, ui.Clean(result.Ledger))
		if result.Restored > 0 {
			fmt.Fprintf(w, "the lines of %d compacted records come back\n", result.Restored)
		}
		return nil
	})
}

func (r *run) ledgerPlace(c *cli.Context, place string) (*config.Config, LedgerOptions, error) {
	project, err := r.load()
	if err != nil {
		return nil, LedgerOptions{}, err
	}
	o := LedgerOptions{DryRun: c.Bool("dry-run"), Offline: r.offline}
	var registry bool
	if o.Place, o.Artifact, registry = artifactPlace(place, project.Registry+"/"+project.Name+":ledger"); registry && r.offline {
		return nil, o, release.Misuse("leave --offline out, or name a file", "%s is in a registry", o.Place)
	}
	if !o.Artifact && !filepath.IsAbs(o.Place) {
		o.Place = filepath.Join(r.dir, o.Place)
	}
	return project, o, nil
}

// artifactPlace reads where an artifact is. "oci:" and what begins with a host,
// as Docker tells one, is in a registry; "oci:" alone is in the project's.
// Everything else behind it, and "oci-archive:", is as in promote copy.
func artifactPlace(place, project string) (location string, artifact, registry bool) {
	rest, ok := strings.CutPrefix(place, "oci:")
	if !ok {
		return place, strings.HasPrefix(place, "oci-archive:"), false
	}
	if rest == "" {
		return project, true, true
	}
	host, _, path := strings.Cut(rest, "/")
	if path && !strings.HasPrefix(host, ".") && (host == "localhost" || strings.ContainsAny(host, ".:")) {
		return rest, true, true
	}
	return place, true, false
}
