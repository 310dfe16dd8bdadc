package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/internal/report"
	"github.com/promote-dev/promote/internal/ui"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

func (r *run) smokeCommand() *cli.Command {
	return r.command(command{
		name: "smoke", usage: "run a release under production's conditions", arguments: "[RELEASE]", most: 1,
		flags:   []cli.Flag{&cli.BoolFlag{Name: "compose", Usage: "run the working tree's local images, as docker compose build left them; no evidence"}},
		formats: []string{"junit", "html"}, action: r.smoke,
	})
}

// smokeResult is a run's result, which can also be written for CI systems and
// as a page with pictures.
type smokeResult struct{ release.Smoke }

func (s smokeResult) writeAs(format string, w io.Writer) error {
	if format == "junit" {
		return report.JUnit(w, s.Smoke)
	}
	return report.HTML(w, s.Smoke)
}

func (r *run) smoke(ctx context.Context, c *cli.Context) error {
	if c.Bool("compose") {
		return r.smokeTree(ctx, c)
	}
	return r.withPipeline(ctx, func(p *pipeline.Pipeline) error {
		result, err := p.Smoke(ctx, c.Args().First())
		return r.emitWith(err, smokeResult{result}, func(w io.Writer) error { return printSmoke(w, result) })
	})
}

// smokeTree is the inner loop: what is on this machine, not a release.
func (r *run) smokeTree(ctx context.Context, c *cli.Context) error {
	if c.NArg() > 0 {
		return release.Misuse("leave out --compose, or "+c.Args().First(), "promote smoke --compose runs the working tree, not release %s", c.Args().First())
	}
	configuration, err := r.load()
	if err != nil {
		return err
	}
	p, closePipeline, err := r.wiring.Pipeline(ctx, configuration, PipelineOptions{Tree: true})
	if err != nil {
		return err
	}
	defer closePipeline()
	result, err := p.SmokeTree(ctx)
	return r.emitWith(err, smokeResult{result}, func(w io.Writer) error { return printSmoke(w, result) })
}

// sparkCells is how wide a service's memory is drawn in the summary.
const sparkCells = 24

func printSmoke(w io.Writer, s release.Smoke) error {
	if s.Release.IsZero() {
		fmt.Fprintln(w, "release  none: a working tree's images")
	} else {
		fmt.Fprintf(w, "release  %s\n", s.Release)
	}
	fmt.Fprintf(w, "result   %s\n\n", s.Result)
	var rows [][]string
	for _, svc := range s.Services {
		state := "healthy"
		switch {
		case svc.OOMKilled:
			state = "OUT OF MEMORY"
		case !svc.Healthy:
			state = "NOT HEALTHY"
		}
		rows = append(rows, []string{svc.Name, state, strconv.Itoa(svc.Restarts), memoryText(svc.Memory), release.Sparkline(svc.Memory.Series, svc.Memory.Limit, sparkCells)})
	}
	if err := ui.Table(w, []string{"SERVICE", "STATE", "RESTARTS", "MEMORY", ""}, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	rows = nil
	for _, c := range s.Checks {
		rows = append(rows, []string{c.Name, c.Result.String(), c.Detail})
	}
	return ui.Table(w, []string{"CHECK", "RESULT", "DETAIL"}, rows)
}

func memoryText(m release.Memory) string {
	switch {
	case m.Samples == 0 && m.Peak == 0:
		return "not measured"
	case m.Limit <= 0:
		return release.FormatSize(m.Peak) + ", no limit"
	}
	text := fmt.Sprintf("%s of %s (%.0f %%)", release.FormatSize(m.Peak), release.FormatSize(m.Limit), 100*float64(m.Peak)/float64(m.Limit))
	if m.SlopePerSecond != 0 {
		sign := ""
		if m.SlopePerSecond > 0 {
			sign = "+"
		}
		text += fmt.Sprintf(", %s%s/s", sign, release.FormatSize(int64(m.SlopePerSecond)))
	}
	return text
}
