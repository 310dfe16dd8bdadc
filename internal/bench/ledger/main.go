// Command ledger measures ledgers of several sizes: `make bench-ledger`.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/promote-dev/promote/internal/bench"
	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/release"
)

// settings are the command line.
type settings struct {
	sizes           []int64
	appends, proofs int
	dir, memory     string
	out             string
}

func main() { bench.Main(run) }

func run(ctx context.Context, args []string) error {
	if len(args) == 3 && args[0] == "audit" {
		return audit(ctx, args[1], args[2])
	}
	s, err := parse(args)
	if err != nil {
		return err
	}
	report, err := measure(ctx, s)
	if err != nil || s.out != "" {
		return err
	}
	_, err = os.Stdout.Write(report.Markdown())
	return err
}

func parse(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("ledger", flag.ContinueOnError)
	sizes := flags.String("sizes", "1000,100000,1000000", "records")
	flags.IntVar(&s.appends, "appends", 500, "appends of each kind")
	flags.IntVar(&s.proofs, "proofs", 1000, "proofs")
	flags.StringVar(&s.dir, "dir", os.TempDir(), "a directory of the disk that is measured")
	flags.StringVar(&s.memory, "memory", "/dev/shm", "a directory of a file system in memory")
	flags.StringVar(&s.out, "out", "", "write ledger.md and ledger.json here (default: standard output)")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	for _, text := range strings.Split(*sizes, ",") {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 2 || len(s.sizes) > 0 && n <= s.sizes[len(s.sizes)-1] {
			return s, fmt.Errorf("-sizes %q: numbers above 1 that grow", *sizes)
		}
		s.sizes = append(s.sizes, n)
	}
	return s, nil
}

func measure(ctx context.Context, s settings) (report *bench.LedgerReport, err error) {
	work, err := os.MkdirTemp(s.dir, "bench-ledger-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	report = &bench.LedgerReport{Machine: bench.ThisMachine(work)}
	g := &generator{dir: filepath.Join(work, "ledger")}
	for _, n := range s.sizes {
		if err := g.grow(ctx, n); err != nil {
			return nil, fmt.Errorf("making %d records: %w", n, err)
		}
		result, err := s.size(ctx, g.dir, n)
		if err != nil {
			return nil, fmt.Errorf("%d records: %w", n, err)
		}
		raw, _ := json.Marshal(result)
		fmt.Fprintln(os.Stderr, string(raw))
		report.Results = append(report.Results, result)
		if s.out == "" {
			continue
		}
		if err := report.Write(s.out); err != nil { // a large one may take too long for somebody
			return nil, err
		}
	}
	return report, nil
}

// size measures one ledger and leaves it as it was.
func (s settings) size(ctx context.Context, dir string, n int64) (bench.LedgerResult, error) {
	r := bench.LedgerResult{Records: n}
	log, checkpoint := filepath.Join(dir, "log"), filepath.Join(dir, "checkpoint")
	info, err := os.Stat(log)
	if err != nil {
		return r, err
	}
	r.Bytes = info.Size()
	kept, err := os.ReadFile(checkpoint)
	if err != nil {
		return r, err
	}
	cache := filepath.Join(filepath.Dir(dir), "cache")
	if r.Audit, err = auditing(ctx, dir, cache); err == nil {
		r.AuditAgain, err = auditing(ctx, dir, cache)
	}
	if err != nil {
		return r, err
	}
	store := &movable{now: ledger.NewFileStore(dir)}
	l, err := ledger.Open(ctx, options(store))
	if err != nil {
		return r, err
	}
	if err := s.read(ctx, l, &r); err != nil {
		return r, err
	}
	if err := s.write(ctx, l, store, dir, &r); err != nil {
		return r, err
	}
	r.Load = bench.Load()
	runtime.KeepAlive(l)
	return r, errors.Join(os.Truncate(log, r.Bytes), os.WriteFile(checkpoint, kept, 0o644))
}

// read measures reading and proofs.
func (s settings) read(ctx context.Context, l *ledger.Ledger, r *bench.LedgerResult) error {
	cold, err := timed(func() error { _, _, err := l.Read(ctx); return err })
	if err != nil {
		return err
	}
	r.Cold = cold.Seconds()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r.Resident = int64(m.HeapAlloc)
	warm, err := several(20, func(int) error { _, _, err := l.Read(ctx); return err })
	if err != nil {
		return err
	}
	r.Warm = warm.Median / 1000
	r.Proof, err = several(s.proofs, func(int) error {
		p, err := l.Prove(ctx, rand.Int64N(r.Records))
		return errors.Join(err, p.Check())
	})
	return err
}

// write measures appends: on the disk, in turns with a sync, then in memory.
func (s settings) write(ctx context.Context, l *ledger.Ledger, store *movable, dir string, r *bench.LedgerResult) error {
	n := r.Records
	put := func() error {
		_, _, err := l.Append(ctx, record(n), n)
		n++
		return err
	}
	side, err := os.Create(filepath.Join(filepath.Dir(dir), "side"))
	if err != nil {
		return err
	}
	defer side.Close()
	block := make([]byte, r.Bytes/r.Records)
	var appends, syncs []float64
	for range s.appends {
		took, err := timed(put)
		if err != nil {
			return err
		}
		synced, err := timed(func() error {
			_, err := side.Write(block)
			return errors.Join(err, side.Sync())
		})
		if err != nil {
			return err
		}
		appends, syncs = append(appends, milliseconds(took)), append(syncs, milliseconds(synced))
	}
	r.Append, r.Sync = bench.Summarize(appends), bench.Summarize(syncs)
	memory, err := os.MkdirTemp(s.memory, "bench-ledger-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(memory)
	if err := store.move(dir, memory); err != nil {
		return err
	}
	r.AppendMemory, err = several(s.appends, func(int) error { return put() })
	return err
}

// movable is a file store that goes on in another directory: appending reads
// nothing of the log but its length, so an empty file of that length will do.
type movable struct{ now ledger.Store }

func (m *movable) move(from, to string) error {
	info, err := os.Stat(filepath.Join(from, "log"))
	if err != nil {
		return err
	}
	checkpoint, err := os.ReadFile(filepath.Join(from, "checkpoint"))
	if err != nil {
		return err
	}
	log := filepath.Join(to, "log")
	if err := errors.Join(os.WriteFile(log, nil, 0o644), os.Truncate(log, info.Size()), os.WriteFile(filepath.Join(to, "checkpoint"), checkpoint, 0o644)); err != nil {
		return err
	}
	m.now = ledger.NewFileStore(to)
	return nil
}

func (m *movable) String() string                                 { return m.now.String() }
func (m *movable) Read(ctx context.Context) (ledger.State, error) { return m.now.Read(ctx) }
func (m *movable) Beat(ctx context.Context, i, n int64) error     { return m.now.Beat(ctx, i, n) }
func (m *movable) Rewrite(ctx context.Context, from ledger.Position, log []byte) error {
	return m.now.Rewrite(ctx, from, log)
}

func (m *movable) Beats(ctx context.Context, intent int64) (int64, error) {
	return m.now.Beats(ctx, intent)
}

func (m *movable) Write(ctx context.Context, from ledger.Position, add, checkpoint []byte) error {
	return m.now.Write(ctx, from, add, checkpoint)
}

func (m *movable) ReadRange(ctx context.Context, from, to int64) (ledger.State, bool, error) {
	return m.now.(ledger.Ranger).ReadRange(ctx, from, to)
}

// auditing verifies a ledger in a process of its own, whose memory is its own.
func auditing(ctx context.Context, dir, cache string) (bench.LedgerAudit, error) {
	self, err := os.Executable()
	if err != nil {
		return bench.LedgerAudit{}, err
	}
	cmd := exec.CommandContext(ctx, self, "audit", dir, cache)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, os.Stderr
	took, err := timed(cmd.Run)
	if err != nil {
		return bench.LedgerAudit{}, fmt.Errorf("verifying: %w", err)
	}
	peak, err := strconv.ParseInt(strings.TrimSpace(said.String()), 10, 64)
	return bench.LedgerAudit{Seconds: took.Seconds(), Peak: peak}, err
}

// peak is the most memory in bytes that this process has had since it was
// executed. What wait4 says of a child holds what its parent had, too.
func peak() (int64, error) {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("/proc/self/status: no VmHWM")
}

func audit(ctx context.Context, dir, cache string) error {
	o := options(ledger.NewFileStore(dir))
	o.Cache, o.Trust, o.Secret = cache, release.DigestOf([]byte("trust")), func() []byte { return []byte("a secret that lies elsewhere") }
	l, err := ledger.Open(ctx, o)
	if err != nil {
		return err
	}
	found, err := l.Audit(ctx, nil, ledger.AuditOptions{})
	if err == nil && found.Result != "passed" {
		err = fmt.Errorf("%+v", found.Findings)
	}
	if err != nil {
		return err
	}
	most, err := peak()
	fmt.Println(most)
	return err
}

func several(times int, f func(int) error) (bench.Times, error) {
	var list []float64
	for i := range times {
		took, err := timed(func() error { return f(i) })
		if err != nil {
			return bench.Times{}, err
		}
		list = append(list, milliseconds(took))
	}
	return bench.Summarize(list), nil
}

func timed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
