package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/internal/ui"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

func dryRunFlag() cli.Flag {
	return &cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, change nothing"}
}

func allowDirtyFlag() cli.Flag {
	return &cli.BoolFlag{Name: "allow-dirty", Usage: "take a tree with uncommitted changes; no later environment takes such a release"}
}

func (r *run) releaseCommands() []*cli.Command {
	return []*cli.Command{
		r.command(command{name: "release", usage: "build, scan, sign and smoke; push, sign and record the release",
			flags: []cli.Flag{allowDirtyFlag(), dryRunFlag()}, action: r.release}),
		r.command(command{name: "build", usage: "build and push every service once, and print the digests",
			flags: []cli.Flag{allowDirtyFlag(), dryRunFlag()}, action: r.build}),
		r.command(command{name: "scan", usage: "find vulnerabilities and secrets in an image", arguments: "REF", least: 1, most: 1, action: r.scan}),
		r.command(command{name: "sign", usage: "sign an image or a release", arguments: "REF", least: 1, most: 1, flags: []cli.Flag{keyFlag(), dryRunFlag()}, action: r.sign}),
		r.attestCommand(),
		r.verifyCommand(),
		r.smokeCommand(),
	}
}

func (r *run) release(ctx context.Context, c *cli.Context) error {
	return r.withPipeline(ctx, func(p *pipeline.Pipeline) error {
		result, err := p.Release(ctx, pipeline.ReleaseOptions{AllowDirty: c.Bool("allow-dirty"), DryRun: c.Bool("dry-run")})
		return r.emitWith(err, result, func(w io.Writer) error { return printRelease(w, result) })
	})
}

func printRelease(w io.Writer, result pipeline.ReleaseResult) error {
	if result.Release.IsZero() {
		_, err := fmt.Fprintf(w, "release   %s (not made)\n", result.Version)
		return err
	}
	fmt.Fprintf(w, "release   %s\nversion   %s\nrevision  %s\n", result.Release, result.Version, result.Revision)
	if result.Record != nil {
		fmt.Fprintf(w, "record    %d  %s\n", result.Record.Sequence, result.Record.Digest)
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, s := range result.Services {
		rows = append(rows, []string{s.Service, string(s.Origin), s.Repository + "@" + s.Digest.String()})
	}
	return ui.Table(w, []string{"SERVICE", "ORIGIN", "IMAGE"}, rows)
}

func (r *run) build(ctx context.Context, c *cli.Context) error {
	return r.withPipeline(ctx, func(p *pipeline.Pipeline) error {
		result, err := p.Build(ctx, pipeline.ReleaseOptions{AllowDirty: c.Bool("allow-dirty"), DryRun: c.Bool("dry-run")})
		return r.emitWith(err, result, func(w io.Writer) error {
			var rows [][]string
			for _, i := range result.Images {
				rows = append(rows, []string{i.Service, i.Repository + "@" + i.Digest.String(), map[bool]string{true: "cached", false: "built"}[i.Cached]})
			}
			return ui.Table(w, []string{"SERVICE", "IMAGE", ""}, rows)
		})
	})
}

func (r *run) scan(ctx context.Context, c *cli.Context) error {
	return r.withPipeline(ctx, func(p *pipeline.Pipeline) error {
		result, err := p.Scan(ctx, c.Args().First())
		return r.emitWith(err, result, func(w io.Writer) error { return printScan(w, result) })
	})
}

func printScan(w io.Writer, s release.Scan) error {
	fmt.Fprintf(w, "subject   %s\ndatabase  %s, %s\nresult    %s\n\n", s.Subject, s.Database.UpdatedAt.Format("2006-01-02 15:04"), s.Database.Digest, s.Result)
	var rows [][]string
	for _, f := range s.Findings {
		waived := ""
		if f.Suppressed != "" {
			waived = "waived: " + f.Suppressed
		}
		where := f.Path
		if f.Line > 0 {
			where += ":" + strconv.Itoa(f.Line)
		}
		what := f.Package + " " + f.Version
		if f.Package == "" {
			what = f.Title
		}
		rows = append(rows, []string{f.Severity, f.Class, f.ID, what, f.FixedIn, where, waived})
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "nothing found")
		return err
	}
	return ui.Table(w, []string{"SEVERITY", "CLASS", "ID", "WHAT", "FIXED IN", "WHERE", ""}, rows)
}

func (r *run) sign(ctx context.Context, c *cli.Context) error {
	return r.withKey(ctx, c.String("key"), func(p *pipeline.Pipeline) error {
		result, err := p.Sign(ctx, c.Args().First(), c.Bool("dry-run"))
		return r.emitWith(err, result, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%s signed by %s (%s)\n", result.Subject, result.Signer.Name, result.Signer.ID)
			return err
		})
	})
}
