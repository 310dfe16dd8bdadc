// Command cmd runs the side-by-side benchmarks of copies: `make bench`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/promote-dev/promote/internal/bench"
	"github.com/promote-dev/promote/internal/localregistry"
	"github.com/promote-dev/promote/pkg/registry"
)

// settings are the command line.
type settings struct {
	bench.Options
	root, cache, storage, out string
}

func main() { bench.Main(run) }

func run(ctx context.Context, args []string) error {
	if len(args) == 2 && args[0] == "worker" {
		known := registry.RememberCapabilities(args[1])
		return bench.Work(os.Stdin, os.Stdout, func(o bench.Order) error { return copyImage(ctx, o, known) })
	}
	if len(args) == 1 && args[0] == "gate" {
		warm := gates{}
		return bench.Work(os.Stdin, os.Stdout, func(o bench.Order) error { return warm.do(ctx, o) })
	}
	s, err := parse(args)
	if err != nil {
		return err
	}
	copied, verified, err := measure(ctx, s)
	if err != nil || s.out != "" {
		return err
	}
	if len(copied) > 0 {
		err = bench.NewReport(s.Options, s.storage, copied).Markdown(os.Stdout)
	}
	if len(verified) > 0 {
		err = errors.Join(err, bench.NewEvidenceReport(s.Options, s.storage, verified).Markdown(os.Stdout))
	}
	return err
}

func parse(args []string) (settings, error) {
	s := settings{Options: bench.Options{Log: os.Stderr}}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("only", "", "run these benchmarks: B2,B3")
	delays := flags.String("delays", "0,5,20,80", "milliseconds that each request waits")
	flags.IntVar(&s.Runs, "runs", 10, "runs of each copy; large ones have fewer")
	largest := flags.Int64("largest", 0, "leave out images of more megabytes")
	flags.StringVar(&s.root, "root", ".", "the checkout")
	flags.StringVar(&s.cache, "cache", "", "where peers are built (default: in the user's cache)")
	flags.StringVar(&s.storage, "storage", "", "where the registries keep their content (default: memory, else the temporary directory)")
	flags.StringVar(&s.out, "out", "", "write registry.md, evidence.md and their .json here, and keep what they say of other benchmarks (default: docs/benchmarks for a whole run, else standard output)")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("%q is no flag", flags.Arg(0))
	}
	s.Largest = *largest << 20
	if *only != "" {
		s.Only = strings.Split(*only, ",")
	}
	for _, text := range strings.Split(*delays, ",") {
		d, err := strconv.Atoi(text)
		if err != nil || d < 0 {
			return s, fmt.Errorf("-delays %q: want milliseconds, as in 0,20", *delays)
		}
		s.Delays = append(s.Delays, d)
	}
	return s, s.defaults(flags.NFlag() == 0)
}

func (s *settings) defaults(whole bool) error {
	if s.out == "" && whole {
		s.out = filepath.Join(s.root, "docs", "benchmarks")
	}
	if s.cache == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		s.cache = filepath.Join(cache, "promote-bench")
	}
	if s.storage == "" {
		s.storage = os.TempDir()
		if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
			s.storage = "/dev/shm"
		}
	}
	return nil
}

func measure(ctx context.Context, s settings) (copied, verified []bench.Result, err error) {
	evidence := s.Wants("B5") || s.Wants("B15")
	programs, err := bench.BuildPeers(ctx, s.root, s.cache, s.Wants("B4") || evidence, evidence, s.Log)
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp(s.storage, "promote-bench-")
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	world, err := bench.NewWorld(filepath.Join(dir, "registries"), localregistry.Handler)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, world.Close()) }()
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	tools, err := bench.NewToolset(ctx, programs, world, dir, self, "worker", filepath.Join(dir, "capabilities.json"))
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, tools.Close()) }()
	suite := &bench.Suite{World: world, Tools: tools.For, Options: s.Options}
	if s.out != "" {
		suite.Found = func(found []bench.Result) error {
			report := bench.NewReport(s.Options, s.storage, found)
			if err := report.KeepOthers(s.out); err != nil {
				return err
			}
			return report.Write(s.out)
		}
	}
	if copied, err = suite.Run(ctx); err != nil || !evidence {
		return copied, nil, err
	}
	if verified, err = verifying(ctx, s, programs, world, dir, self); err != nil || s.out == "" {
		return copied, verified, err
	}
	report := bench.NewEvidenceReport(s.Options, s.storage, verified)
	if err := report.KeepOthers(s.out); err != nil {
		return copied, verified, err
	}
	return copied, verified, report.Write(s.out)
}

// copyImage copies with our library, with a new client.
func copyImage(ctx context.Context, o bench.Order, known *registry.Capabilities) error {
	client, err := registry.New(registry.Options{Capabilities: known})
	if err != nil {
		return err
	}
	_, err = client.Transfer(ctx, o.Source, o.Target, registry.CopyOptions{Referrers: o.Evidence})
	return err
}
