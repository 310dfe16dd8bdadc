package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/internal/report"
	"github.com/promote-dev/promote/internal/ui"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

func (r *run) watchCommands() []*cli.Command {
	return []*cli.Command{
		r.command(command{name: "watch", usage: "look at what runs: drift, health, memory, checks, vulnerabilities; record and tell what changed", arguments: "ENV", least: 1, most: 1,
			flags: []cli.Flag{
				&cli.StringFlag{Name: "every", Usage: "look again every `DURATION` until it is stopped (SIGINT, SIGTERM); without it once"},
				&cli.StringFlag{Name: "metrics", Usage: "write Prometheus metrics to `FILE`, for the node exporter's textfile collector"},
				&cli.BoolFlag{Name: "no-record", Usage: "write no record and tell nobody; takes no key"},
				&cli.BoolFlag{Name: "no-match", Usage: "don't ask today's vulnerability database"},
				dryRunFlag(),
			}, action: r.watch}),
	}
}

// leastEvery keeps a slip from asking hosts without a pause.
const leastEvery = time.Second

func (r *run) watch(ctx context.Context, c *cli.Context) error {
	metrics, err := r.metricsFile(c.String("metrics"))
	if err != nil {
		return err
	}
	l := looking{run: r, metrics: metrics, options: pipeline.WatchOptions{
		Environment: c.Args().First(), NoRecord: c.Bool("no-record") || c.Bool("dry-run"), NoMatch: c.Bool("no-match"), Memory: &pipeline.WatchMemory{},
	}}
	if c.Bool("dry-run") {
		l.metrics = ""
	}
	if !c.IsSet("every") {
		return l.once(ctx)
	}
	every, err := duration(c.String("every"))
	if err != nil {
		return release.Misuse("--every 1h", "--every: %w", err)
	}
	if every < leastEvery {
		return release.Misuse("--every 1h", "--every %s: want at least %s", every, leastEvery)
	}
	r.lines = true
	return l.until(ctx, every)
}

// metricsFile checks before anything else that a file can be written.
func (r *run) metricsFile(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.dir, path)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return "", release.Misuse("name a file, such as promote.prom", "--metrics %s is no file", path)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return "", release.Misuse("make the directory that the collector reads", "--metrics: there is no directory %s", filepath.Dir(path))
	}
	return path, nil
}

// looking is one look, or one after the other.
type looking struct {
	run     *run
	options pipeline.WatchOptions
	metrics string
}

// once opens everything anew: what changed in promote.yaml counts.
func (l looking) once(ctx context.Context) error {
	looked := false
	err := l.run.withPipeline(ctx, func(p *pipeline.Pipeline) error {
		result, err := p.Watch(ctx, l.options)
		if looked = result.Result != ""; !looked {
			return err
		}
		if written := l.write(result.Watch); written != nil && release.KindOf(err) == "" {
			err = written
		} else if written != nil {
			printError(l.run.std.Err, written, false, false)
		}
		return l.run.emitWith(err, result, func(w io.Writer) error { return printWatch(w, result) })
	})
	if kind := release.KindOf(err); !looked && err != nil && ctx.Err() == nil && kind != release.KindUsage && kind != release.KindConfig {
		// Old metrics must not go on saying that all is well.
		blind := release.Watch{Environment: l.options.Environment, Time: time.Now().UTC(), Result: release.WatchUnknown}
		if written := l.write(blind); written != nil {
			printError(l.run.std.Err, written, false, false)
		}
	}
	return err
}

// write leaves the metrics as they were where it was not looked.
func (l looking) write(w release.Watch) error {
	if l.metrics == "" || w.Result == release.WatchSkipped {
		return nil
	}
	if err := report.WriteMetrics(l.metrics, w); err != nil {
		return release.Unavailable("free space, or make the directory writable", "writing the metrics: %w", err)
	}
	return nil
}

// until looks again and again. What a look finds, or that it could not be made,
// is said and does not end it; being stopped is the way it ends.
func (l looking) until(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for first := true; ; first = false {
		err := l.once(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case first && (release.KindOf(err) == release.KindUsage || release.KindOf(err) == release.KindConfig):
			return err // it never worked
		case err != nil && !errors.Is(err, context.Canceled):
			printError(l.run.std.Err, err, l.run.wants("json"), l.run.github)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func printWatch(w io.Writer, result pipeline.WatchResult) error {
	fmt.Fprintf(w, "%s  %s %s: %s\n", result.Time.Format(time.RFC3339), result.Environment, result.Version, ui.Clean(result.Summary()))
	if result.Message != "" {
		fmt.Fprintf(w, "  %s\n", ui.Clean(result.Message))
	}
	if result.Result == release.WatchSkipped {
		return nil
	}
	var rows [][]string
	for _, t := range result.Targets {
		if t.Error != "" {
			rows = append(rows, []string{t.Name, "", "not looked at", firstLine(t.Error)})
		}
		for _, s := range t.Services {
			rows = append(rows, []string{t.Name, s.Name, stateOf(s), memoryOf(s)})
		}
		for _, c := range t.Checks {
			rows = append(rows, []string{t.Name, c.Service, "check " + c.Name + " " + c.Result, firstLine(c.Detail)})
		}
		for _, d := range t.Differences {
			rows = append(rows, []string{t.Name, d.Service, "drift " + d.Field, "recorded " + orNone(d.Recorded) + ", running " + orNone(d.Running)})
		}
	}
	for _, s := range result.Scans {
		for _, service := range s.Services {
			rows = append(rows, []string{"", service, "scan", scanOf(s)})
		}
	}
	if len(rows) > 0 {
		fmt.Fprintln(w)
		if err := ui.Table(w, []string{"TARGET", "SERVICE", "WHAT", "HOW"}, rows); err != nil {
			return err
		}
	}
	fmt.Fprintln(w)
	return printChange(w, result)
}

// printChange says what is another outcome than was recorded.
func printChange(w io.Writer, result pipeline.WatchResult) error {
	switch {
	case result.Before == nil:
		fmt.Fprintln(w, "no outcome was recorded before")
	case !result.Changed:
		fmt.Fprintln(w, "as recorded before")
	default:
		fmt.Fprintf(w, "it was %s before\n", result.Before.Result)
		for _, f := range result.Appeared {
			fmt.Fprintf(w, "  + %s\n", ui.Clean(f.String()))
		}
		for _, f := range result.Gone {
			fmt.Fprintf(w, "  - %s\n", ui.Clean(f.String()))
		}
	}
	if result.Record != nil {
		fmt.Fprintf(w, "record %d  %s\n", result.Record.Sequence, result.Record.Digest)
	}
	return nil
}

func stateOf(s release.WatchedService) string {
	text := s.State
	if s.Health != "none" && s.Health != "" {
		text += ", " + s.Health
	}
	if s.Restarts > 0 {
		text += ", restarted " + strconv.Itoa(s.Restarts) + " times"
	}
	return text
}

func memoryOf(s release.WatchedService) string {
	switch {
	case s.Memory == nil:
		return ""
	case s.Limit == 0:
		return release.FormatSize(*s.Memory) + ", no limit"
	}
	return fmt.Sprintf("%s of %s (%.0f %%)", release.FormatSize(*s.Memory), release.FormatSize(s.Limit), s.PercentOfLimit())
}

func scanOf(s release.WatchedScan) string {
	text := "no scan"
	if s.AgeSeconds != nil {
		text = (time.Duration(*s.AgeSeconds) * time.Second).String() + " old"
	}
	switch {
	case s.Matched && len(s.Failing) == 0:
		text += "; nothing by today's database"
	case s.Matched:
		text += fmt.Sprintf("; %d findings by today's database", len(s.Failing))
	}
	if s.Message != "" {
		text += "; " + firstLine(s.Message)
	}
	return text
}
