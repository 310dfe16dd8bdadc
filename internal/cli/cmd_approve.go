package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/internal/ui"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

func (r *run) approvalCommands() []*cli.Command {
	return []*cli.Command{
		r.command(command{name: "approve", usage: "sign that a release may go into an environment", arguments: "ENV RELEASE", least: 2, most: 2,
			flags: []cli.Flag{
				&cli.StringFlag{Name: "expires", Usage: "`DURATION` for which it holds, such as 12h or 3d (default: 7d, at most 30d)"},
				&cli.StringFlag{Name: "reason", Usage: "`TEXT` for the ledger"}, keyFlag(), dryRunFlag(),
			}, offline: true, action: r.approve}),
		r.command(command{name: "freeze", usage: "keep promotions from beginning until a time", arguments: "ENV", least: 1, most: 1,
			flags: []cli.Flag{
				&cli.StringFlag{Name: "until", Usage: "`TIME`: 2027-01-04T08:00:00+01:00, 2027-01-03 (to its end, UTC), or from now: 8h, 3d (required)"},
				&cli.StringFlag{Name: "reason", Usage: "`TEXT` for the ledger and whoever is held up (required)"}, keyFlag(), dryRunFlag(),
			}, offline: true, action: r.freeze}),
		r.command(command{name: "unfreeze", usage: "lift a freeze", arguments: "ENV", least: 1, most: 1,
			flags: []cli.Flag{&cli.StringFlag{Name: "reason", Usage: "`TEXT` for the ledger"}, keyFlag(), dryRunFlag()}, offline: true, action: r.unfreeze}),
	}
}

func (r *run) approve(ctx context.Context, c *cli.Context) error {
	o := pipeline.ApproveOptions{Environment: c.Args().Get(0), Release: c.Args().Get(1), Reason: c.String("reason"), DryRun: c.Bool("dry-run")}
	if text := c.String("expires"); text != "" {
		var err error
		if o.Expires, err = duration(text); err != nil {
			return release.Misuse("write --expires 24h, or 3d", "--expires: %w", err)
		}
	}
	if !c.Bool("yes") && ui.IsTerminal(r.std.In) && ui.IsTerminal(r.std.Err) {
		o.Confirm = func(a pipeline.ApproveResult) error {
			r.closeProgress()
			if err := printApproval(r.std.Err, a); err != nil {
				return err
			}
			return ask(ctx, r.std.In, r.std.Err, fmt.Sprintf("Approve %s for %s as %s?", a.Version, a.Environment, a.Approver))
		}
	}
	return r.withKey(ctx, c.String("key"), func(p *pipeline.Pipeline) error {
		result, err := p.Approve(ctx, o)
		if err != nil {
			return err
		}
		return r.emit(result, func(w io.Writer) error { return printApproval(w, result) })
	})
}

// printApproval shows what is approved, or would be.
func printApproval(w io.Writer, a pipeline.ApproveResult) error {
	fmt.Fprintf(w, "environment  %s\nrelease      %s\nversion      %s (commit %s)\n", a.Environment, a.Release, a.Version, a.Revision)
	switch {
	case a.Running == nil:
		fmt.Fprintln(w, "runs now     nothing")
	case a.Running.Release == a.Release:
		fmt.Fprintf(w, "runs now     this release, since %s\n", a.Running.Since.Format(time.RFC3339))
	default:
		fmt.Fprintf(w, "runs now     %s, since %s\n", a.Running.Version, a.Running.Since.Format(time.RFC3339))
	}
	for _, d := range a.RunsIn {
		if d.Environment != a.Environment {
			fmt.Fprintf(w, "runs in      %s, since %s\n", d.Environment, d.Since.Format(time.RFC3339))
		}
	}
	printChanges(w, a)
	printDecision(w, a.Decision)
	fmt.Fprintf(w, "approvals    %s\n", approvals(a.Approvals))
	if a.Reason != "" {
		fmt.Fprintf(w, "reason       %s\n", ui.Clean(firstLine(a.Reason)))
	}
	var err error
	switch until := a.Until.Format(time.RFC3339); {
	case a.Existing:
		_, err = fmt.Fprintf(w, "record       none: %s has approved it already, until %s\n", a.Approver, until)
	case a.Record != nil:
		_, err = fmt.Fprintf(w, "record       %d  %s\napproved     by %s, until %s\n", a.Record.Sequence, a.Record.Digest, a.Approver, until)
	case a.DryRun:
		_, err = fmt.Fprintf(w, "record       none: %s would approve it, until %s\n", a.Approver, until)
	default:
		_, err = fmt.Fprintf(w, "to sign      by %s, until %s\n", a.Approver, until)
	}
	return err
}

func printChanges(w io.Writer, a pipeline.ApproveResult) {
	if !a.Compared && !a.Existing && a.Record == nil {
		fmt.Fprintln(w, "changes      not known: see the warning")
	}
	for i, line := range a.Changes {
		word := "changes"
		if i > 0 {
			word = ""
		}
		fmt.Fprintf(w, "%-12s %s\n", word, ui.Clean(line))
	}
}

// printDecision shows the last decision, with what speaks against the release.
func printDecision(w io.Writer, d *pipeline.DecisionResult) {
	if d == nil {
		fmt.Fprintln(w, "decision     none yet")
		return
	}
	fmt.Fprintf(w, "decision     %s, when it was last judged\n", d.Result)
	for _, v := range d.Verdicts {
		for _, reason := range v.Reasons {
			fmt.Fprintf(w, "             %s %s: %s\n", v.Result, reason.Rule, ui.Clean(firstLine(reason.Message)))
		}
	}
}

// approvals puts a count into words.
func approvals(f release.ApprovalFacts) string {
	text := f.String()
	if f.Required == 0 && len(f.Given) == 0 {
		return "none needed"
	}
	if f.Missing() > 0 && len(f.Approvers) > 0 {
		text += "; may still: " + strings.Join(f.Approvers, ", ")
	}
	return text
}

// ask asks a question on a terminal; everything but yes is no.
func ask(ctx context.Context, in io.Reader, out io.Writer, question string) error {
	fmt.Fprintf(out, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(io.LimitReader(in, 1<<10)).ReadString('\n') // no answer is no
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(out)
		return ctx.Err()
	case text := <-answer:
		if text == "y" || text == "yes" {
			return nil
		}
	}
	return release.Faultf(release.KindInterrupted, "answer y, or pass --yes", "nothing was signed")
}
