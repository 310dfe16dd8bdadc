// Command hosts measures promotions to many hosts: `make bench-hosts`.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/promote-dev/promote/internal/bench"
	"github.com/promote-dev/promote/pkg/engine/stub"
	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// settings are the command line.
type settings struct {
	cases []bench.HostsCase
	runs  int
	pace  stub.Pace
	out   string
}

// usual is what an engine on another machine takes: 20 ms a request, as in the
// other benchmarks, and what small containers take.
var usual = stub.Pace{
	Request: 20 * time.Millisecond, Pull: 500 * time.Millisecond, Create: 50 * time.Millisecond,
	Start: 200 * time.Millisecond, Stop: 200 * time.Millisecond, Healthy: 500 * time.Millisecond,
}

// away is how long a ledger in another place takes for an answer. It answers one
// after the other.
const away = 100 * time.Millisecond

func main() { bench.Main(run) }

func run(ctx context.Context, args []string) error {
	s := settings{pace: usual}
	flags := flag.NewFlagSet("hosts", flag.ContinueOnError)
	most := flags.Int("hosts", 50, "how many hosts")
	flags.IntVar(&s.runs, "runs", 10, "runs of each case")
	flags.StringVar(&s.out, "out", "", "write hosts.md and hosts.json here (default: standard output)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s.cases = cases(*most)
	report, err := measure(ctx, s)
	if err != nil || s.out != "" {
		return err
	}
	_, err = os.Stdout.Write(report.Markdown())
	return err
}

// cases are one host and n of them, beside each other.
func cases(n int) []bench.HostsCase {
	return []bench.HostsCase{
		{Hosts: 1, Parallel: 1}, {Hosts: max(1, n/5), Parallel: max(1, n/5)}, {Hosts: n, Parallel: n}, {Hosts: n, Parallel: max(1, n/5)},
		{Hosts: 1, Parallel: 1, Away: away.Seconds()}, {Hosts: n, Parallel: n, Away: away.Seconds()},
	}
}

// measure makes a run of each case, then the next of each.
func measure(ctx context.Context, s settings) (*bench.HostsReport, error) {
	report := &bench.HostsReport{Machine: bench.ThisMachine(os.TempDir()), Pace: s.pace, Fetches: pipeline.MostFetches}
	samples := make([][]float64, len(s.cases))
	for _, c := range s.cases {
		report.Results = append(report.Results, bench.HostsResult{HostsCase: c})
	}
	for n := range s.runs {
		for i, c := range s.cases {
			took, err := s.once(ctx, c, &report.Results[i])
			if err != nil {
				return nil, fmt.Errorf("%+v, run %d: %w", c, n+1, err)
			}
			samples[i] = append(samples[i], float64(took.Microseconds())/1000)
			report.Results[i].Took = bench.Summarize(samples[i])
			report.Results[i].Load = bench.Load()
			raw, _ := json.Marshal(report.Results[i])
			fmt.Fprintln(os.Stderr, string(raw))
		}
		if s.out == "" {
			continue
		}
		if err := report.Write(s.out); err != nil {
			return nil, err
		}
	}
	return report, nil
}

// once promotes a second release to fresh hosts that run a first one.
func (s settings) once(ctx context.Context, c bench.HostsCase, result *bench.HostsResult) (took time.Duration, err error) {
	dir, err := os.MkdirTemp("", "bench-hosts-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	store := &distant{Store: ledger.NewFileStore(filepath.Join(dir, "ledger"))}
	log, err := openLedger(ctx, store)
	if err != nil {
		return 0, err
	}
	engines, stop, err := start(c.Hosts+1, s.pace)
	defer stop()
	if err != nil {
		return 0, err
	}
	w, production := newWorld(), []release.Target{}
	for i, e := range engines[1:] {
		production = append(production, release.Target{Name: fmt.Sprintf("host-%d", i+1), Host: e.Address})
	}
	p := w.pipeline(log, []release.Target{{Name: "stage", Host: engines[0].Address}}, production)
	for range 2 {
		w.revision++
		for _, environment := range []string{"staging", "production"} {
			if environment == "production" && w.revision == 2 {
				break
			}
			if err := promote(ctx, p, environment); err != nil {
				return 0, fmt.Errorf("release %d to %s: %w", w.revision, environment, err)
			}
		}
	}
	before, reads := total(engines[1:]), store.reads.Load()
	w.most.Store(0)
	p.Project.Environments[1].Strategy.Parallel = c.Parallel
	store.away.Store(int64(time.Duration(c.Away * float64(time.Second))))
	began := time.Now()
	err = promote(ctx, p, "production")
	took = time.Since(began)
	if err != nil {
		return 0, err
	}
	after := total(engines[1:])
	result.Requests = (after.Requests - before.Requests) / int64(c.Hosts)
	result.Reads = store.reads.Load() - reads
	result.Connections = max(result.Connections, after.Connections)
	result.Refused += after.Refused
	result.AtOnce = max(result.AtOnce, w.most.Load())
	return took, nil
}

// start starts stubs; stop ends those that were started.
func start(n int, p stub.Pace) (engines []*stub.Engine, stop func(), err error) {
	stop = func() {
		for _, e := range engines {
			_ = e.Close()
		}
	}
	for range n {
		e, err := stub.Start(p)
		if err != nil {
			return nil, stop, err
		}
		engines = append(engines, e)
	}
	return engines, stop, nil
}

// total adds up; of connections it is the most of any.
func total(engines []*stub.Engine) (sum stub.Count) {
	for _, e := range engines {
		c := e.Count()
		sum.Requests, sum.Refused, sum.Connections = sum.Requests+c.Requests, sum.Refused+c.Refused, max(sum.Connections, c.Connections)
	}
	return sum
}

// promote promotes, and believes nothing but what was read back from all.
func promote(ctx context.Context, p *pipeline.Pipeline, environment string) error {
	out, err := p.To(ctx, pipeline.PromoteOptions{Environment: environment})
	if err != nil {
		return err
	}
	for _, t := range out.Targets {
		if t.Status != "deployed" || len(t.Running) != len(services) {
			return fmt.Errorf("%s is %s and runs %+v", t.Name, t.Status, t.Running)
		}
		for _, r := range t.Running {
			if i := indexOf(out.Images, r.Service); i < 0 || r.Digest != out.Images[i].Digest {
				return fmt.Errorf("%s runs %s as %s", t.Name, r.Digest, r.Service)
			}
		}
	}
	return nil
}
