// Package cli is the front door: a file per command turns flags into options
// and makes one library call; results go to standard output, everything else
// to standard error; exit.go turns the kind of a failure into the exit code.
// The adapters are handed in, so that tests run it with fakes.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/internal/ui"
	"github.com/promote-dev/promote/internal/worker"
	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// Streams are where a run reads and writes.
type Streams struct {
	In  *os.File
	Out *os.File // results only
	Err *os.File // progress and messages
}

// run is one invocation of promote.
type run struct {
	std      Streams
	wiring   Wiring
	dir      string
	environ  []string
	config   string
	outputs  []output
	lines    bool   // results follow one another, each on a line
	mode     string // of progress
	debug    bool
	offline  bool
	github   bool
	progress *ui.Progress
}

// Main runs promote with the words after its name and gives its exit code. A
// panic is never a success.
func Main(args []string, std Streams, w Wiring) (code int) {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(std.Err, "error: a defect in promote: %v\n  → please report it with these lines:\n%s", p, debug.Stack())
			code = 1
		}
	}()
	ctx, stop := signalContext(context.Background())
	defer stop()
	if len(args) == 2 && args[0] == worker.Command {
		return worker.Serve(ctx, args[1], w.Workers, std.In, std.Out)
	}
	keepMemory() // before anything reads a secret; workers are given none
	dir, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(std.Err, "error: finding the working directory:", err)
		return 1
	}
	r := &run{std: std, wiring: w, dir: dir, environ: os.Environ(), github: os.Getenv("GITHUB_ACTIONS") == "true"}
	return r.main(ctx, args)
}

// signalContext ends at the first SIGINT or SIGTERM; a second one kills the
// process at once.
func signalContext(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
			signal.Stop(signals) // the next one has its default effect
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel() }
}

func (r *run) main(ctx context.Context, args []string) int {
	app := r.app()
	line, err := normalize(args, app)
	if err == nil {
		err = app.RunContext(ctx, append([]string{app.Name}, line...))
	} else {
		// Where the line could not be read, its -o still says how to answer.
		r.outputs, _ = parseOutputs(guessOutputs(args), nil)
	}
	r.closeProgress()
	if fault := (*release.Fault)(nil); errors.Is(err, context.Canceled) && (!errors.As(err, &fault) || fault.Hint == "") {
		err = release.Faultf(release.KindInterrupted, "", "stopped by a signal")
	}
	if err != nil && ctx.Err() != nil && release.KindOf(err) != release.KindInterrupted && mayRelabel(err) {
		err = release.Faultf(release.KindInterrupted, "", "interrupted: %w", err)
	}
	if err != nil {
		printError(r.std.Err, err, r.wants("json"), r.github)
	}
	return exitCode(err)
}

// mayRelabel: what fails because a signal cancelled it is an interruption, but
// an outcome that was reached stays what it is.
func mayRelabel(err error) bool {
	switch release.KindOf(err) {
	case release.KindUnavailable, release.KindInternal:
		return true
	}
	return errors.Is(err, context.Canceled)
}

func guessOutputs(args []string) []string {
	for i, a := range args {
		if (a == "-o" || a == "--output") && i+1 < len(args) {
			return []string{args[i+1]}
		}
	}
	return nil
}

func (r *run) app() *cli.App {
	commands := slices.Concat(r.releaseCommands(), r.promoteCommands(), r.approvalCommands(), r.readCommands(), r.driftCommands(), r.watchCommands(), r.toolCommands(), r.houseCommands())
	return &cli.App{
		Name:      "promote",
		Usage:     "build once, judge on evidence, run the identical digest everywhere",
		UsageText: "promote [global flags] COMMAND [flags] [ARG]\npromote --to ENV",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "configuration `FILE` (default: promote.yaml here or above)"},
			&cli.StringSliceFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FORMAT[=PATH]` of the result: text, json; smoke: also junit, html; repeatable"},
			&cli.StringFlag{Name: "progress", Value: "auto", Usage: "`MODE`: auto, tty, plain, rawjson, quiet"},
			&cli.BoolFlag{Name: "yes", Usage: "answer yes where a terminal would be asked"},
			&cli.BoolFlag{Name: "offline", Usage: "touch no network; a command that needs it is refused"},
			&cli.BoolFlag{Name: "debug", Usage: "show what helps to find a defect"},
		},
		Commands:                  commands,
		Writer:                    r.std.Out,
		ErrWriter:                 r.std.Err,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              usageError,
		HideVersion:               true,
		DisableSliceFlagSeparator: true,
		CommandNotFound:           nil,
		Action: func(c *cli.Context) error {
			return cli.ShowAppHelp(c)
		},
	}
}

func usageError(_ *cli.Context, err error, _ bool) error {
	return release.Misuse("promote COMMAND --help", "%w", err)
}

// command describes one command: its action gets the arguments checked.
type command struct {
	name, usage, arguments string
	least, most            int // number of arguments
	flags                  []cli.Flag
	formats                []string // beside text and json
	hidden                 bool
	offline                bool // works without a network
	action                 func(ctx context.Context, c *cli.Context) error
}

func (r *run) command(d command) *cli.Command {
	return &cli.Command{
		Name: d.name, Usage: d.usage, ArgsUsage: d.arguments, Flags: d.flags, Hidden: d.hidden, OnUsageError: usageError, HideHelpCommand: true,
		Action: func(c *cli.Context) error {
			if n := c.NArg(); n < d.least || n > d.most {
				return release.Misuse("promote "+d.name+" --help", "promote %s takes %s, got %d arguments", d.name, argumentsWord(d), n)
			}
			if err := r.open(c, d.formats); err != nil {
				return err
			}
			if r.offline && !d.offline {
				return release.Misuse("leave --offline out", "%s needs the network", c.Command.HelpName)
			}
			ctx := event.With(c.Context, r.progress.Sink())
			if r.progress.Live() {
				ctx = event.WithLive(ctx)
			}
			return d.action(ctx, c)
		},
	}
}

func argumentsWord(d command) string {
	if d.arguments == "" {
		return "no argument"
	}
	return d.arguments
}

// open reads the global flags and starts showing progress.
func (r *run) open(c *cli.Context, formats []string) (err error) {
	r.config, r.debug, r.offline, r.mode = c.String("config"), c.Bool("debug"), c.Bool("offline"), c.String("progress")
	if !slices.Contains(ui.Modes, r.mode) {
		return release.Misuse(fmt.Sprintf("one of %q", ui.Modes), "--progress %q", r.mode)
	}
	if r.outputs, err = parseOutputs(c.StringSlice("output"), formats); err != nil {
		return err
	}
	if r.progress, err = ui.NewProgress(r.std.Err, r.mode); err != nil {
		return release.Misuse("--progress plain", "%w", err)
	}
	return nil
}

func (r *run) closeProgress() {
	if r.progress != nil {
		r.progress.Close()
	}
}
