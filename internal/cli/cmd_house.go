package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/internal/ui"
	"github.com/promote-dev/promote/pkg/release"
)

// RegistryCommand is the hidden command that serves the embedded registry.
const RegistryCommand = "__registry"

func (r *run) houseCommands() []*cli.Command {
	return []*cli.Command{
		r.command(command{name: "doctor", usage: "check this machine and the configuration", action: r.doctor}),
		r.command(command{name: "demo", usage: "tell the whole story on a throw-away workspace",
			flags: []cli.Flag{
				&cli.BoolFlag{Name: "keep", Usage: "leave everything running; promote clean removes it"},
				&cli.StringFlag{Name: "example", Usage: "`DIR` with the agent stack (default: the embedded one)"},
			}, action: r.demo}),
		r.command(command{name: "clean", usage: "remove what smoke runs and demos left behind", action: r.clean,
			flags: []cli.Flag{dryRunFlag(), &cli.BoolFlag{Name: "all", Usage: "smoke runs that are still going on, too"}}}),
		r.command(command{name: "version", usage: "which promote this is", offline: true, action: r.version}),
		r.command(command{name: RegistryCommand, usage: "serve the embedded registry", hidden: true,
			flags: []cli.Flag{&cli.StringFlag{Name: "root", Required: true}, &cli.StringFlag{Name: "address", Value: "127.0.0.1:0"}, &cli.StringFlag{Name: "address-file"}, &cli.BoolFlag{Name: "bases"}},
			action: func(ctx context.Context, c *cli.Context) error {
				return r.wiring.Registry(ctx, c.String("root"), c.String("address"), c.String("address-file"), c.Bool("bases"))
			}}),
	}
}

func (r *run) version(_ context.Context, _ *cli.Context) error {
	v := r.wiring.Version
	return r.emit(v, func(w io.Writer) error {
		scanner := ""
		if !v.Scanner {
			scanner = " (without the scanner: build it with make install)"
		}
		_, err := fmt.Fprintf(w, "promote %s %s %s %s%s\n", v.Version, v.Revision, v.Go, v.Platform, scanner)
		return err
	})
}

// finding is one line of doctor's result.
type finding struct {
	Check  string `json:"check"`
	Result string `json:"result"` // passed or failed
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
}

type doctorResult struct {
	Findings []finding `json:"findings"`
	Result   string    `json:"result"`
}

func (r *run) doctor(ctx context.Context, _ *cli.Context) error {
	out := doctorResult{Findings: []finding{}, Result: "passed"}
	add := func(name, detail string, err error) {
		f := finding{Check: name, Result: "passed", Detail: detail}
		if err != nil {
			f.Result, f.Detail, out.Result = "failed", err.Error(), "failed"
			if list := hints(err); len(list) > 0 {
				f.Fix = list[0]
			}
		}
		out.Findings = append(out.Findings, f)
	}
	c, err := r.load()
	if err != nil {
		c = nil
		add("configuration", "", err)
	} else {
		add("configuration", c.Path(), nil)
	}
	for _, check := range r.wiring.Doctor(c) {
		detail, err := check.Run(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		add(check.Name, detail, err)
	}
	var work error
	if out.Result == "failed" {
		work = release.Faultf(release.KindFindings, "", "doctor found something to mend")
	}
	return r.emitWith(work, out, func(w io.Writer) error {
		for _, f := range out.Findings {
			mark := "✓"
			if f.Result == "failed" {
				mark = "✗"
			}
			fmt.Fprintf(w, "%s %-14s %s\n", mark, f.Check, ui.Clean(firstLine(f.Detail)))
			if f.Fix != "" {
				fmt.Fprintf(w, "  %-14s → %s\n", "", f.Fix)
			}
		}
		return nil
	})
}

func (r *run) clean(ctx context.Context, c *cli.Context) error {
	result, err := r.wiring.Clean(ctx, CleanOptions{DryRun: c.Bool("dry-run"), All: c.Bool("all")})
	if err != nil {
		return err
	}
	return r.emit(result, func(w io.Writer) error {
		verb := "removed"
		if result.DryRun {
			verb = "would remove"
		}
		_, err := fmt.Fprintf(w, "%s %d containers, %d networks, %d volumes, %d processes, %d directories\n", verb,
			len(result.Containers), len(result.Networks), len(result.Volumes), len(result.Processes), len(result.Files))
		return err
	})
}

func (r *run) demo(ctx context.Context, c *cli.Context) error {
	r.closeProgress()
	return r.wiring.Demo(ctx, DemoOptions{Keep: c.Bool("keep"), Story: c.String("example"), Streams: r.std})
}
