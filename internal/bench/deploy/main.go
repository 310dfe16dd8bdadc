// Command deploy measures deployments and rollbacks: `make bench-deploy`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/promote-dev/promote/internal/bench"
	"github.com/promote-dev/promote/internal/reliability"
)

func main() { bench.Main(run) }

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("deploy", flag.ContinueOnError)
	binary := flags.String("binary", "bin/promote", "the program")
	runs := flags.Int("runs", 20, "runs of each way")
	out := flags.String("out", "", "write deploy.md and deploy.json here (default: standard output)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	program, err := filepath.Abs(*binary)
	if err != nil {
		return err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	compose, err := bench.BuildCompose(ctx, filepath.Join(cache, "promote-bench"), os.Stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-deploy-")
	if err != nil {
		return err
	}
	w, err := reliability.Open(ctx, reliability.Options{Binary: program, Dir: dir, Docker: os.Getenv("DOCKER_HOST"), Log: os.Stderr})
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	defer func() {
		after := context.WithoutCancel(ctx)
		err = errors.Join(err, w.Decompose(after), w.Remove(after))
	}()
	report, err := measure(ctx, w, compose, *runs)
	if err != nil {
		return err
	}
	if *out != "" {
		return report.Write(*out)
	}
	_, err = os.Stdout.Write(report.Markdown())
	return err
}

// measure swings there and back, with one tool and then the other. The first
// change of each only brings it to where it begins.
func measure(ctx context.Context, w *reliability.World, compose string, runs int) (*bench.DeployReport, error) {
	version, err := exec.CommandContext(ctx, "docker", "version", "--format", "{{.Server.Version}}").Output()
	if err != nil {
		return nil, err
	}
	report := &bench.DeployReport{Machine: bench.ThisMachine(os.TempDir()), Engine: strings.TrimSpace(string(version))}
	tools := []struct {
		name  string
		ours  bool
		swing func(context.Context) (reliability.Swing, error)
	}{
		{"promote", true, w.Swing},
		{"docker compose up --wait", false, func(ctx context.Context) (reliability.Swing, error) { return w.Compose(ctx, compose) }},
	}
	type key struct{ what, tool string }
	samples := map[key][3][]float64{}
	for n := range 2*runs + 1 {
		for _, t := range tools {
			s, err := t.swing(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s, run %d: %w", t.name, n, err)
			}
			what := bench.Deploy
			if s.Back {
				what = bench.Rollback
			}
			fmt.Fprintf(os.Stderr, "bench: %s, %s: %s, of which %s until ready\n", t.name, what, s.Took, s.Ready)
			if n == 0 {
				continue
			}
			k := key{what, t.name}
			all := samples[k]
			for i, d := range []float64{s.Took.Seconds(), s.Ready.Seconds(), (s.Took - s.Ready).Seconds()} {
				all[i] = append(all[i], 1000*d)
			}
			samples[k] = all
		}
	}
	report.Load = bench.Load()
	for _, what := range []string{bench.Deploy, bench.Rollback} {
		for _, t := range tools {
			all := samples[key{what, t.name}]
			report.Results = append(report.Results, bench.DeployResult{What: what, Tool: t.name, Ours: t.ours,
				Took: bench.Summarize(all[0]), Ready: bench.Summarize(all[1]), Work: bench.Summarize(all[2])})
		}
	}
	return report, nil
}
