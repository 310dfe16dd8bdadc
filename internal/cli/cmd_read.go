package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/internal/ui"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

func (r *run) readCommands() []*cli.Command {
	return []*cli.Command{
		r.command(command{name: "status", usage: "what the ledger says runs where", arguments: "[ENV]", most: 1, offline: true, action: r.status}),
		r.command(command{name: "log", usage: "the ledger's records, newest first", arguments: "[ENV]", most: 1,
			flags: []cli.Flag{&cli.IntFlag{Name: "limit", Aliases: []string{"n"}, Usage: "at most `N` records; 0 is all"}}, offline: true, action: r.log}),
		r.auditCommand(),
	}
}

func (r *run) status(ctx context.Context, c *cli.Context) error {
	return r.withPipeline(ctx, func(p *pipeline.Pipeline) error {
		result, err := p.Status(ctx, c.Args().First())
		if err != nil {
			return err
		}
		return r.emit(result, func(w io.Writer) error {
			var rows [][]string
			for _, e := range result.Environments {
				rows = append(rows, statusRow(e))
			}
			return ui.Table(w, []string{"ENVIRONMENT", "VERSION", "RELEASE", "SINCE", "TARGETS", "OPEN", "GATES"}, rows)
		})
	})
}

func statusRow(e pipeline.EnvironmentStatus) []string {
	row := []string{e.Name, "-", "-", "-", "-", "-", gates(e)}
	if e.Since != nil {
		row[1], row[2], row[3] = e.Version, e.Release.String(), e.Since.Format(time.RFC3339)
		healthy := 0
		for _, t := range e.Targets {
			if t.Status == "deployed" || t.Status == "unchanged" {
				healthy++
			}
		}
		row[4] = fmt.Sprintf("%d of %d", healthy, len(e.Targets))
	}
	if e.Open != nil {
		a := e.Open.Record.Actor
		row[5] = fmt.Sprintf("record %d of %s by %s on %s; promote resume %s", e.Open.Record.Sequence, e.Open.Record.Version, a.User, a.Host, e.Name)
	}
	return row
}

// gates says what people and time have to add before the next promotion.
func gates(e pipeline.EnvironmentStatus) string {
	var list []string
	for _, f := range e.Freezes {
		list = append(list, fmt.Sprintf("frozen until %s by %s: %s", f.Until.Format(time.RFC3339), f.By, ui.Clean(firstLine(f.Reason))))
	}
	if !e.Window.Open && e.Window.Changes != "" {
		list = append(list, "opens "+e.Window.Changes)
	} else if !e.Window.Open {
		list = append(list, "closed: "+e.Window.Why)
	}
	if n := e.Next; n != nil {
		if a := n.Approvals; a.Required > 0 {
			list = append(list, fmt.Sprintf("%s: %s approvals", n.Version, a))
		}
		if rest := n.RequiredSoakSeconds - n.SoakSeconds; rest > 0 {
			list = append(list, fmt.Sprintf("%s: soaks %s more", n.Version, time.Duration(rest)*time.Second))
		}
	}
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, "; ")
}

// logResult is what `log -o json` gives.
type logResult struct {
	Records release.History `json:"records"`
}

func (r *run) log(ctx context.Context, c *cli.Context) error {
	return r.withPipeline(ctx, func(p *pipeline.Pipeline) error {
		records, err := p.Log(ctx, c.Args().First(), c.Int("limit"))
		if err != nil {
			return err
		}
		return r.emit(logResult{records}, func(w io.Writer) error {
			var rows [][]string
			for _, e := range records {
				rec := e.Record
				rows = append(rows, []string{strconv.FormatInt(rec.Sequence, 10), rec.Time.Format(time.RFC3339), string(rec.Phase), rec.Kind, rec.Environment,
					rec.Version, rec.Release.Short(), e.Signer.Name, firstLine(rec.Reason)})
			}
			return ui.Table(w, []string{"#", "TIME", "RECORD", "KIND", "ENVIRONMENT", "VERSION", "RELEASE", "SIGNER", "REASON"}, rows)
		})
	})
}
