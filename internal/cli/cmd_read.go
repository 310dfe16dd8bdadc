package cli

import (
	"context"
	"encoding/csv"
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
		r.command(command{name: "log", usage: "the ledger's records, newest first", arguments: "[ENV]", most: 1, flags: []cli.Flag{
			&cli.IntFlag{Name: "limit", Aliases: []string{"n"}, Usage: "at most `N` records; 0 is all"},
			&cli.StringFlag{Name: "release", Usage: "of one release: its `DIGEST`, 12 hex digits of it, or its version"},
			&cli.StringSliceFlag{Name: "phase", Usage: "`PHASE` such as deployed or denied; repeatable"},
			&cli.StringFlag{Name: "actor", Usage: "`NAME` of who signed, or the user that the machine claimed"},
			&cli.StringFlag{Name: "since", Usage: "from a `TIME` on: 2026-03-01, 2026-03-01T12:00:00Z, or 72h ago"},
			&cli.StringFlag{Name: "until", Usage: "up to a `TIME`"},
		}, formats: []string{"csv"}, offline: true, action: r.log}),
		r.auditCommand(),
		r.ledgerCommand(),
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
type logResult pipeline.LogResult

func (r *run) log(ctx context.Context, c *cli.Context) error {
	filter, err := logFilter(c, time.Now())
	if err != nil {
		return err
	}
	return r.withPipeline(ctx, func(p *pipeline.Pipeline) error {
		found, err := p.Log(ctx, filter)
		if err != nil {
			return err
		}
		return r.emit(logResult(found), func(w io.Writer) error {
			var rows [][]string
			for _, e := range found.Records {
				rec := e.Record
				rows = append(rows, []string{strconv.FormatInt(rec.Sequence, 10), rec.Time.Format(time.RFC3339), string(rec.Phase), rec.Kind, rec.Environment,
					rec.Version, rec.Release.Short(), e.Signer.Name, because(rec)})
			}
			for _, c := range found.Compacted {
				rows = append(rows, []string{"…", "", "", "", "", "", "", "", c.String()})
			}
			return ui.Table(w, []string{"#", "TIME", "RECORD", "KIND", "ENVIRONMENT", "VERSION", "RELEASE", "SIGNER", "REASON"}, rows)
		})
	})
}

// because gives what a record says in words: until when, and why.
func because(r release.Record) string {
	text := firstLine(r.Reason)
	if c := r.Compaction; c != nil {
		return strings.TrimSuffix(fmt.Sprintf("%d records may go, archive %s: %s", c.Ranges.Count(), c.Archive, text), ": ")
	}
	if r.Until.IsZero() {
		return text
	}
	return strings.TrimSuffix("until "+r.Until.Format(time.RFC3339)+": "+text, ": ")
}

func logFilter(c *cli.Context, now time.Time) (pipeline.LogFilter, error) {
	f := pipeline.LogFilter{Environment: c.Args().First(), Release: c.String("release"), Actor: c.String("actor"), Limit: c.Int("limit")}
	for _, phase := range c.StringSlice("phase") {
		f.Phases = append(f.Phases, release.Phase(phase))
	}
	var err error
	if f.Since, err = moment("since", c.String("since"), now, false); err != nil {
		return f, err
	}
	f.Until, err = moment("until", c.String("until"), now, true)
	return f, err
}

// moment reads a time, a day (the end of it if so), or how long ago. Days are
// those of UTC, as the records' times.
func moment(flag, text string, now time.Time, end bool) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		if end {
			day = day.AddDate(0, 0, 1).Add(-time.Nanosecond)
		}
		return day, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	return time.Time{}, release.Misuse("--"+flag+" 2026-03-01, --"+flag+" 2026-03-01T12:00:00Z, or --"+flag+" 72h", "--%s %q is no time", flag, text)
}

// writeAs writes the records as a table for spreadsheets (RFC 4180). What a
// spreadsheet would take for a formula is text.
func (l logResult) writeAs(_ string, w io.Writer) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{"sequence", "time", "phase", "kind", "environment", "version", "release", "intent", "signer", "user", "host", "reason", "digest"})
	for _, e := range l.Records {
		r := e.Record
		intent := ""
		if r.Intent != nil {
			intent = strconv.FormatInt(*r.Intent, 10)
		}
		row := []string{strconv.FormatInt(r.Sequence, 10), r.Time.UTC().Format(time.RFC3339), string(r.Phase), r.Kind, r.Environment, r.Version, r.Release.String(), intent,
			e.Signer.Name, r.Actor.User, r.Actor.Host, r.Reason, e.Digest.String()}
		for i, cell := range row {
			if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
				row[i] = "'" + cell
			}
		}
		_ = out.Write(row) // Flush keeps the first error
	}
	for _, c := range l.Compacted {
		_ = out.Write([]string{"", "", "", "", "", "", "", "", "", "", "", c.String(), ""})
	}
	out.Flush()
	return out.Error()
}
