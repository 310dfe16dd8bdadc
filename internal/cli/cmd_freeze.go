package cli

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/internal/ui"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

func (r *run) freeze(ctx context.Context, c *cli.Context) error {
	const write = "write --until 2027-01-04T08:00:00+01:00, 2027-01-03 (to its end, UTC), 8h or 3d"
	if c.String("until") == "" {
		return release.Misuse(write, "a freeze needs an end")
	}
	until, err := instant(c.String("until"), time.Now())
	if err != nil {
		return release.Misuse(write, "--until: %w", err)
	}
	o := pipeline.FreezeOptions{Environment: c.Args().First(), Until: until, Reason: c.String("reason"), DryRun: c.Bool("dry-run")}
	return r.withKey(ctx, c.String("key"), func(p *pipeline.Pipeline) error {
		result, err := p.Freeze(ctx, o)
		if err != nil {
			return err
		}
		return r.emit(result, func(w io.Writer) error { return printFreeze(w, result) })
	})
}

func printFreeze(w io.Writer, f pipeline.FreezeResult) error {
	word := "frozen"
	if f.DryRun {
		word = "would be frozen"
	}
	fmt.Fprintf(w, "%s %s by %s until %s: %s\n", f.Environment, word, f.By, f.Until.Format(time.RFC3339), ui.Clean(firstLine(f.Reason)))
	for _, other := range f.Freezes {
		if f.Record == nil || other.Sequence != f.Record.Sequence {
			fmt.Fprintf(w, "beside it    %s\n", freezeLine(other))
		}
	}
	if f.Open != nil {
		rec := f.Open.Record
		fmt.Fprintf(w, "goes on      record %d (%s of %s) began before and may finish; resumed, it is undone\n", rec.Sequence, rec.Kind, rec.Version)
	}
	if f.Record != nil {
		fmt.Fprintf(w, "record       %d  %s\n", f.Record.Sequence, f.Record.Digest)
	}
	_, err := fmt.Fprintf(w, "promote rollback %s is not held up\n", f.Environment)
	return err
}

func (r *run) unfreeze(ctx context.Context, c *cli.Context) error {
	o := pipeline.UnfreezeOptions{Environment: c.Args().First(), Reason: c.String("reason"), DryRun: c.Bool("dry-run")}
	return r.withKey(ctx, c.String("key"), func(p *pipeline.Pipeline) error {
		result, err := p.Unfreeze(ctx, o)
		if err != nil {
			return err
		}
		return r.emit(result, func(w io.Writer) error { return printUnfreeze(w, result) })
	})
}

func printUnfreeze(w io.Writer, u pipeline.UnfreezeResult) error {
	word := "lifted"
	if u.DryRun {
		word = "would lift"
	}
	for _, f := range u.Lifted {
		fmt.Fprintf(w, "%-12s %s\n", word, freezeLine(f))
	}
	for _, f := range u.Freezes {
		fmt.Fprintf(w, "still there  %s\n", freezeLine(f))
	}
	if u.Record != nil {
		fmt.Fprintf(w, "record       %d  %s\n", u.Record.Sequence, u.Record.Digest)
	}
	state := "is not frozen any more"
	switch {
	case u.DryRun && len(u.Freezes) == 0:
		state = "would not be frozen any more"
	case len(u.Freezes) > 0:
		state = "stays frozen: an approver or whoever froze it lifts the rest"
	}
	_, err := fmt.Fprintf(w, "%s %s\n", u.Environment, state)
	return err
}

func freezeLine(f release.FreezeFacts) string {
	return fmt.Sprintf("record %d: by %s until %s: %s", f.Sequence, f.By, f.Until.Format(time.RFC3339), ui.Clean(firstLine(f.Reason)))
}

var days = regexp.MustCompile(`^(\d{1,4})d$`)

// duration reads a duration; days are 24 hours.
func duration(text string) (time.Duration, error) {
	if m := days.FindStringSubmatch(text); m != nil {
		n, err := strconv.Atoi(m[1])
		return time.Duration(n) * 24 * time.Hour, err
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("expected a duration, got %.40q", text)
	}
	if d <= 0 {
		return 0, fmt.Errorf("expected a duration above zero, got %s", d)
	}
	return d, nil
}

// instant reads a time: an instant, a day, which counts to its end in UTC, or a
// duration from now.
func instant(text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	if at, err := time.Parse(time.DateOnly, text); err == nil {
		return at.AddDate(0, 0, 1), nil
	}
	if d, err := duration(text); err == nil {
		return now.Add(d), nil
	}
	return time.Time{}, fmt.Errorf("expected an instant with its zone, a day or a duration, got %.40q", text)
}
