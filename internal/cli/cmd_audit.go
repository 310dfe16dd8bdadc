package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/internal/ui"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// AuditOptions are `audit verify`.
type AuditOptions struct {
	// File is an exported ledger, or the directory of a file ledger; empty is the
	// configured one.
	File        string
	Checkpoints []string // files with earlier checkpoints
	Archives    []string // exports that hold lines that were taken out
	Keys        []string // files with public keys; one signed the newest checkpoint
	Trust       string   // a trust file, or the digest of a trust
	TrustedRoot string   // file that certificates are checked against
	Name        string   // of the project; empty is whatever the log says
	Anew        bool
	Offline     bool
}

// anchored reports whether the flags say whom to believe, so that nothing is
// asked of promote.yaml.
func (o AuditOptions) anchored() bool { return len(o.Keys) > 0 || o.Trust != "" }

func (r *run) auditCommand() *cli.Command {
	text := func(name, usage string) cli.Flag { return &cli.StringFlag{Name: name, Usage: usage} }
	list := func(name, usage string) cli.Flag { return &cli.StringSliceFlag{Name: name, Usage: usage} }
	return &cli.Command{Name: "audit", Usage: "what an auditor asks of the ledger", HideHelpCommand: true, Subcommands: []*cli.Command{
		r.command(command{name: "verify", usage: "check every record, signature and checkpoint of the ledger, or of an exported one", arguments: "[FILE]", most: 1, flags: []cli.Flag{
			list("checkpoint", "`FILE` with an earlier checkpoint that the log must contain, as a target keeps it, or the attestation of a decision; repeatable"),
			list("archive", "`FILE` that holds lines that were taken out of the log, to verify them too; repeatable"),
			list("key", "public key `FILE` of whoever signed the newest checkpoint, instead of promote.yaml; repeatable"),
			text("trust", "trust `FILE`, or sha256 digest, that must be in force at the end, instead of promote.yaml"),
			text("trusted-root", "`FILE` with the trusted root for identities' certificates, where promote.yaml is not read"),
			text("name", "`NAME` of the project whose log it must be, where promote.yaml is not read"),
			&cli.BoolFlag{Name: "anew", Usage: "check every signature, also those that were found good on this machine before"},
		}, offline: true, action: r.auditVerify}),
	}}
}

func (r *run) auditVerify(ctx context.Context, c *cli.Context) error {
	here := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(r.dir, path)
	}
	o := AuditOptions{File: here(c.Args().First()), Name: c.String("name"), Anew: c.Bool("anew"), Offline: r.offline,
		Trust: c.String("trust"), TrustedRoot: here(c.String("trusted-root"))}
	if _, err := release.ParseDigest(o.Trust); err != nil {
		o.Trust = here(o.Trust)
	}
	for _, path := range c.StringSlice("checkpoint") {
		o.Checkpoints = append(o.Checkpoints, here(path))
	}
	for _, path := range c.StringSlice("archive") {
		o.Archives = append(o.Archives, here(path))
	}
	for _, path := range c.StringSlice("key") {
		o.Keys = append(o.Keys, here(path))
	}
	project, err := r.auditedProject(o)
	if err != nil {
		return err
	}
	found, err := r.wiring.Audit(ctx, project, o)
	if err != nil {
		return err
	}
	if found.Pending {
		event.Warnf(ctx, "record %d lies behind the checkpoint: an append was interrupted, and the next one completes it", found.Records)
	}
	return r.emitWith(pipeline.AuditDenial(found), found, func(w io.Writer) error { return printAudit(w, found) })
}

// auditedProject reads promote.yaml, unless a file is judged by what the flags
// say.
func (r *run) auditedProject(o AuditOptions) (*config.Config, error) {
	switch {
	case o.File == "" && o.anchored():
		return nil, release.Misuse("promote audit verify --key ops.pub FILE; the configured ledger is judged by promote.yaml", "--key and --trust are for a FILE")
	case o.anchored():
		return nil, nil
	case o.Name != "" || o.TrustedRoot != "":
		return nil, release.Misuse("leave them out, or say whom to believe: --key or --trust", "--name and --trusted-root stand in for promote.yaml, which is read")
	}
	project, err := r.load()
	if o.File != "" && release.KindOf(err) == release.KindUsage {
		return nil, release.Misuse("say whom to believe: --key ops.pub, or --trust trust.json, or -c promote.yaml", "verifying %s: %w", o.File, err)
	}
	return project, err
}

func printAudit(w io.Writer, a release.LedgerAudit) error {
	rows := [][]string{{"ledger", ui.Clean(a.Ledger)}, {"log", fmt.Sprintf("%s, %d records, %s", ui.Clean(a.Origin), a.Records, release.FormatSize(a.Bytes))}}
	if c := a.Checkpoint; c != nil {
		rows = append(rows, []string{"checkpoint", shownCheckpoint(*c)})
	}
	for _, c := range a.Contained {
		rows = append(rows, []string{"contains", shownCheckpoint(c)})
	}
	trust := "none pinned"
	if !a.Trust.IsZero() {
		trust = a.Trust.String()
	}
	rows = append(rows, []string{"trust", trust}, []string{"signatures", fmt.Sprintf("%d checked now, %d before (--anew checks all)", a.Verified, a.Remembered)})
	if a.Compacted > 0 {
		rows = append(rows, []string{"compacted", fmt.Sprintf("%d records, of which the archives given hold %d", a.Compacted, a.Archived)})
	}
	for _, row := range rows {
		fmt.Fprintf(w, "%-11s %s\n", row[0], row[1])
	}
	for _, f := range a.Findings {
		where := ""
		if f.Line > 0 {
			where = fmt.Sprintf(" line %d", f.Line)
		}
		if f.Record != nil {
			where = fmt.Sprintf(" record %d,%s", *f.Record, where)
		}
		fmt.Fprintf(w, "✗ %s%s: %s\n", f.Rule, where, ui.Clean(f.Message))
	}
	word := "✓ sound"
	if a.Result != "passed" {
		word = fmt.Sprintf("✗ not sound: %d findings", int64(len(a.Findings))+a.More)
	}
	_, err := fmt.Fprintln(w, word)
	return err
}

func shownCheckpoint(c release.AuditedCheckpoint) string {
	by := ""
	if c.Signer != nil {
		by = ", signed by " + ui.Clean(c.Signer.Name)
	}
	return fmt.Sprintf("%d records, %s%s: %s", c.TreeSize, c.RootHash, by, c.Result)
}
