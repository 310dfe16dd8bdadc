package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/internal/ui"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

func (r *run) driftCommands() []*cli.Command {
	return []*cli.Command{
		r.command(command{name: "drift", usage: "in what each host differs from the record of what was deployed; exit 7 if in anything", arguments: "[ENV]", most: 1,
			flags: []cli.Flag{
				&cli.BoolFlag{Name: "fix", Usage: "deploy the recorded release again where something differs"},
				&cli.StringFlag{Name: "reason", Usage: "`TEXT` for the ledger, with --fix"},
				&cli.BoolFlag{Name: "dry-run", Usage: "with --fix: only say what it would do"},
			}, action: r.drift}),
	}
}

func (r *run) drift(ctx context.Context, c *cli.Context) error {
	if !c.Bool("fix") && (c.IsSet("reason") || c.Bool("dry-run")) {
		return release.Misuse("promote drift only reads; add --fix, or leave them out", "--reason and --dry-run belong to --fix")
	}
	return r.withPipeline(ctx, func(p *pipeline.Pipeline) error {
		result, err := p.Drift(ctx, pipeline.DriftOptions{
			Environment: c.Args().First(), Fix: c.Bool("fix"), Reason: c.String("reason"), DryRun: c.Bool("dry-run"),
		})
		return r.emitWith(err, result, func(w io.Writer) error { return printDrift(w, result) })
	})
}

func printDrift(w io.Writer, result pipeline.DriftResult) error {
	if err := printDriftTargets(w, result.Targets); err != nil {
		return err
	}
	for _, fix := range result.Fixes {
		fmt.Fprintln(w)
		if err := printPromotion(w, fix); err != nil {
			return err
		}
	}
	if len(result.Left) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nafter the fix:")
	return printDriftTargets(w, result.Left)
}

func printDriftTargets(w io.Writer, list []pipeline.DriftTarget) error {
	var rows [][]string
	for _, t := range list {
		for _, d := range t.Differences {
			rows = append(rows, []string{t.Environment, t.Name, d.Service, d.Field, orNone(d.Recorded), orNone(d.Running)})
		}
		switch {
		case t.Error != "":
			rows = append(rows, []string{t.Environment, t.Name, "", "not compared", "", firstLine(t.Error)})
		case len(t.Differences) == 0:
			rows = append(rows, []string{t.Environment, t.Name, "", "as recorded", "", ""})
		}
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "nothing was deployed yet")
		return err
	}
	return ui.Table(w, []string{"ENVIRONMENT", "TARGET", "SERVICE", "FIELD", "RECORDED", "RUNNING"}, rows)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
