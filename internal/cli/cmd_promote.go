package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/internal/ui"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

func releaseFlag() cli.Flag {
	return &cli.StringFlag{Name: "release", Usage: "`RELEASE`: a digest, at least 12 hex digits of it, or a version"}
}

func stateChangeFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "state-change", Usage: "`VOLUME` that is meant to be new, another one, empty or gone; needs --reason; repeatable"}
}

// waiting is how long --wait waits: it may stand alone.
type waiting struct{ time.Duration }

const defaultWait = time.Hour

func (w *waiting) Set(text string) (err error) {
	if text == "true" {
		w.Duration = defaultWait
		return nil
	}
	w.Duration, err = duration(text)
	return err
}

func (w *waiting) String() string {
	if w == nil || w.Duration == 0 {
		return ""
	}
	return w.Duration.String()
}

// IsBoolFlag says so to package flag.
func (*waiting) IsBoolFlag() bool { return true }

func (*waiting) takes(word string) bool {
	_, err := duration(word)
	return err == nil
}

func waitFlag() cli.Flag {
	return &cli.GenericFlag{Name: "wait", Value: &waiting{}, Usage: "wait for another promotion of the environment to end: an hour, or `DURATION`"}
}

func waitOf(c *cli.Context) time.Duration {
	if w, ok := c.Generic("wait").(*waiting); ok {
		return w.Duration
	}
	return 0
}

func adoptFlag() cli.Flag {
	return &cli.BoolFlag{Name: "adopt", Usage: "take over, without a restart, what runs already and is just what the release says"}
}

func (r *run) promoteCommands() []*cli.Command {
	return []*cli.Command{
		r.command(command{name: "to", usage: "promote: verify, decide, copy, deploy, read back, record", arguments: "ENV", least: 1, most: 1,
			flags: []cli.Flag{
				releaseFlag(), allowDirtyFlag(), dryRunFlag(),
				adoptFlag(), &cli.BoolFlag{Name: "redeploy", Usage: "run it again even if nothing differs (applies changed secrets)"},
				&cli.StringFlag{Name: "reason", Usage: "`TEXT` for the ledger"}, stateChangeFlag(), waitFlag(),
				&cli.StringFlag{Name: "plan", Usage: "do what `FILE` says, that plan --save wrote, or nothing if the world moved since"},
			}, action: r.to}),
		r.command(command{name: "plan", usage: "what `to` would do, and why; only reads",
			flags: []cli.Flag{
				&cli.StringFlag{Name: "to", Required: true, Usage: "`ENV`"}, releaseFlag(), allowDirtyFlag(), stateChangeFlag(), adoptFlag(),
				&cli.BoolFlag{Name: "detailed-exitcode", Usage: "exit 7 where there is something to do"},
				&cli.StringFlag{Name: "save", Usage: "write the plan to `FILE`, for to --plan"},
			}, action: r.plan}),
		r.command(command{name: "rollback", usage: "go back to the release before, or to another one", arguments: "ENV", least: 1, most: 1,
			flags: []cli.Flag{
				&cli.StringFlag{Name: "to", Usage: "`RELEASE` to go back to"}, dryRunFlag(),
				&cli.StringFlag{Name: "reason", Usage: "`TEXT` for the ledger (required)"}, stateChangeFlag(), waitFlag(),
				&cli.Int64Flag{Name: "restore", Usage: "bring volumes back to the snapshots that the promotion with the `RECORD` took; needs --identity"}, identityFlag(),
			}, action: r.rollback}),
		r.command(command{name: "resume", usage: "finish or undo what was interrupted", arguments: "ENV", least: 1, most: 1,
			flags: []cli.Flag{dryRunFlag(), &cli.StringFlag{Name: "reason", Usage: "`TEXT` for the ledger"}, stateChangeFlag(), identityFlag()}, action: r.resume}),
	}
}

func (r *run) to(ctx context.Context, c *cli.Context) error {
	plan, err := savedPlan(c)
	if err != nil {
		return err
	}
	return r.withPipeline(ctx, func(p *pipeline.Pipeline) error {
		result, err := p.To(ctx, pipeline.PromoteOptions{
			Environment: c.Args().First(), Release: c.String("release"), Reason: c.String("reason"),
			AllowDirty: c.Bool("allow-dirty"), Redeploy: c.Bool("redeploy"), DryRun: c.Bool("dry-run"),
			Wait: waitOf(c), StateChanges: c.StringSlice("state-change"), Adopt: c.Bool("adopt"), Plan: plan,
		})
		return r.emitPromotion(result, err)
	})
}

func (r *run) rollback(ctx context.Context, c *cli.Context) error {
	identity, err := identityOf(c)
	if err != nil {
		return err
	}
	var restore *int64
	if c.IsSet("restore") {
		sequence := c.Int64("restore")
		restore = &sequence
	}
	return r.withPipeline(ctx, func(p *pipeline.Pipeline) error {
		result, err := p.Rollback(ctx, pipeline.PromoteOptions{
			Restore: restore, Identity: identity,
			Environment: c.Args().First(), Release: c.String("to"), Reason: c.String("reason"), DryRun: c.Bool("dry-run"),
			Wait: waitOf(c), StateChanges: c.StringSlice("state-change"),
		})
		return r.emitPromotion(result, err)
	})
}

func (r *run) resume(ctx context.Context, c *cli.Context) error {
	identity, err := identityOf(c)
	if err != nil {
		return err
	}
	return r.withPipeline(ctx, func(p *pipeline.Pipeline) error {
		result, err := p.Resume(ctx, pipeline.ResumeOptions{
			Environment: c.Args().First(), DryRun: c.Bool("dry-run"), StateChanges: c.StringSlice("state-change"), Reason: c.String("reason"), Identity: identity,
		})
		return r.emitPromotion(result, err)
	})
}

func identityFlag() cli.Flag {
	return &cli.StringFlag{Name: "identity", Usage: "the private key that opens snapshots: `FILE`, or env://VARIABLE"}
}

// mostIdentity bounds what is read of a private key, in bytes.
const mostIdentity = 64 << 10

// identityOf reads the private key that opens snapshots; empty where none is
// given. What it holds is never shown.
func identityOf(c *cli.Context) (string, error) {
	const hint = "give a file as age-keygen writes it, or an ssh private key without a passphrase; or env://VARIABLE"
	place := c.String("identity")
	if place == "" {
		if c.IsSet("identity") {
			return "", release.Misuse(hint, "--identity names no private key")
		}
		return "", nil
	}
	if name, ok := strings.CutPrefix(place, "env://"); ok {
		if text := os.Getenv(name); text != "" {
			return text, nil
		}
		return "", release.Misuse(hint, "--identity: the variable %s is not set", name)
	}
	file, err := os.Open(place)
	if err != nil {
		return "", release.Misuse(hint, "--identity: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, mostIdentity+1))
	switch {
	case err != nil:
		return "", release.Misuse(hint, "--identity: %w", err)
	case len(text) > mostIdentity:
		return "", release.Misuse(hint, "--identity: %s takes more than %d bytes", place, mostIdentity)
	case strings.TrimSpace(string(text)) == "":
		return "", release.Misuse(hint, "--identity: %s is empty", place)
	}
	return string(text), nil
}

func (r *run) emitPromotion(result pipeline.Promotion, err error) error {
	return r.emitWith(err, result, func(w io.Writer) error { return printPromotion(w, result) })
}

func printPromotion(w io.Writer, p pipeline.Promotion) error {
	if p.Release.IsZero() {
		if p.Unchanged {
			fmt.Fprintf(w, "%s: nothing to do\n", p.Environment)
		}
		return nil
	}
	fmt.Fprintf(w, "environment  %s\nrelease      %s\nversion      %s\n", p.Environment, p.Release, p.Version)
	if p.Decision != nil {
		fmt.Fprintf(w, "decision     %s (trust: %s, policy %s)\n", p.Decision.Result, p.Decision.Trust, p.Decision.Policy.Short())
	}
	switch {
	case p.Record != nil:
		fmt.Fprintf(w, "record       %d  %s\n", p.Record.Sequence, p.Record.Digest)
	case p.Unchanged:
		fmt.Fprintln(w, "record       none: it runs everywhere already")
	}
	if p.Plan != nil {
		printRollout(w, p.Rollout)
		if err := printGates(w, p.Decision); err != nil {
			return err
		}
		return printSteps(w, p.Plan.Steps)
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, t := range p.Targets {
		if len(t.Running) == 0 {
			rows = append(rows, []string{t.Name, t.Status, "", "", firstLine(t.Message)})
		}
		for _, s := range t.Running {
			rows = append(rows, []string{t.Name, t.Status, s.Service, s.Digest.String(), cmp.Or(s.State, s.Health)})
		}
	}
	if err := ui.Table(w, []string{"TARGET", "STATUS", "SERVICE", "RUNS", "HEALTH"}, rows); err != nil {
		return err
	}
	for _, t := range p.Targets {
		if t.Message != "" && len(t.Running) > 0 {
			fmt.Fprintf(w, "%s: %s\n", t.Name, ui.Clean(firstLine(t.Message)))
		}
	}
	if n := len(p.Pruned); n > 0 {
		fmt.Fprintf(w, "\nimages of older releases removed from targets: %d\n", n)
	}
	return nil
}

// printRollout says in which order targets are changed, if there are several.
func printRollout(w io.Writer, r *pipeline.Rollout) {
	if r == nil {
		return
	}
	if len(r.Batches) > 1 || len(r.Batches) == 1 && len(r.Batches[0].Targets) > 1 {
		var parts []string
		for _, b := range r.Batches {
			text := strings.Join(b.Targets, " + ")
			if b.Canary {
				text = "canary " + text
			}
			if b.Pause > 0 {
				text += fmt.Sprintf(", watched for %s", time.Duration(b.Pause*float64(time.Second)))
			}
			parts = append(parts, text)
		}
		fmt.Fprintf(w, "order        %s (on failure: %s)\n", strings.Join(parts, " → "), r.OnFailure)
	}
	for _, t := range r.Gone {
		fmt.Fprintf(w, "gone         %s is not a target any more; what runs there stays\n", t.Name)
	}
}

// printGates shows how each gate judged, and what it has to say.
func printGates(w io.Writer, d *pipeline.DecisionResult) error {
	if d == nil {
		return nil
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, v := range d.Verdicts {
		row := []string{v.Gate, v.Result.String(), ""}
		if len(v.Reasons) > 0 {
			row[2] = ui.Clean(firstLine(v.Reasons[0].Message))
		}
		if more := len(v.Reasons) - 1; more > 0 {
			row[2] += fmt.Sprintf(" (and %d more)", more)
		}
		rows = append(rows, row)
	}
	return ui.Table(w, []string{"GATE", "RESULT", "WHY"}, rows)
}

func printSteps(w io.Writer, steps []release.Step) error {
	fmt.Fprintln(w)
	if len(steps) == 0 {
		_, err := fmt.Fprintln(w, "nothing to do: everything runs as it should")
		return err
	}
	var rows [][]string
	for _, s := range steps {
		change := s.To
		if s.From != "" {
			change = s.From + " → " + s.To
		}
		cause := s.Cause
		if s.Order != "" {
			cause += "; " + s.Order
		}
		if s.OrderCause != "" {
			cause += ": " + s.OrderCause
		}
		rows = append(rows, []string{s.Target, s.Action, s.Service, change, cause})
	}
	return ui.Table(w, []string{"TARGET", "STEP", "SERVICE", "CHANGE", "CAUSE"}, rows)
}

func (r *run) plan(ctx context.Context, c *cli.Context) error {
	return r.withPipeline(ctx, func(p *pipeline.Pipeline) error {
		result, err := p.Plan(ctx, pipeline.PromoteOptions{Environment: c.String("to"), Release: c.String("release"), AllowDirty: c.Bool("allow-dirty"), StateChanges: c.StringSlice("state-change"), Adopt: c.Bool("adopt")})
		if file := c.String("save"); file != "" && err == nil {
			result.Saved, err = savePlan(file, result)
		}
		if err == nil && result.Changes && c.Bool("detailed-exitcode") {
			err = release.Faultf(release.KindChanged, "", "%d steps to do", len(result.Steps))
		}
		return r.emitWith(err, result, func(w io.Writer) error {
			fmt.Fprintf(w, "environment  %s\nrelease      %s\nversion      %s\n", result.Environment, result.Release, result.Version)
			if result.Decision != nil {
				fmt.Fprintf(w, "decision     %s (trust: %s)\n", result.Decision.Result, result.Decision.Trust)
			}
			if err := printGates(w, result.Decision); err != nil {
				return err
			}
			printRollout(w, result.Rollout)
			if err := printSteps(w, result.Steps); err != nil || result.Saved == nil {
				return err
			}
			_, err := fmt.Fprintf(w, "\nsaved in %s; run it with: promote to %s --plan %s\n", result.Saved.File, result.Environment, result.Saved.File)
			return err
		})
	})
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
