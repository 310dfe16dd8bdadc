package pipeline_test

import (
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
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

var (
	races    = flag.Int("races", 8, "how many races are run on the file store")
	gitRaces = flag.Int("git-races", sampleOfGit, "how many on the git store, which takes a process for each request")
	racesOut = flag.String("races-out", "", "a file that gets what came of them")
)

// raced is what came of the races on one store.
type raced struct {
	Store        string `json:"store"`
	Runs         int    `json:"runs"`
	Operators    int    `json:"operators"`
	Winners      int    `json:"winners"`
	Told         int    `json:"told"` // losers who were told who won
	Operations   int    `json:"operations"`
	Linearizable int    `json:"linearizable"` // runs
}

// TestRaces lets 2 to 8 operators promote into one environment at once, each
// with a ledger of its own over the same store: one wins, every other one is
// told who, and what each saw of the ledger fits into one order.
func TestRaces(t *testing.T) {
	stores := map[string]func(t *testing.T) func() ledger.Store{
		"file": func(t *testing.T) func() ledger.Store {
			dir := filepath.Join(memoryDir(t), "ledger")
			return func() ledger.Store { return ledger.NewFileStore(dir) }
		},
		// Operators on two machines.
		"git": func(t *testing.T) func() ledger.Store {
			remote, caches, n := bare(t), []string{memoryDir(t), memoryDir(t)}, 0
			return func() ledger.Store {
				n++
				return ledger.NewGitStore(ledger.GitOptions{Remote: remote, Branch: "promote-ledger", Cache: caches[n%2]})
			}
		},
	}
	var all []*raced
	for _, name := range []string{"file", "git"} {
		make, runs := stores[name], *races
		if name == "git" {
			runs = *gitRaces
		}
		sum := &raced{Store: name}
		all = append(all, sum)
		t.Run(name, func(t *testing.T) {
			for i := range runs {
				race(t, make(t), 2+i%7, uint64(i), sum)
				if t.Failed() {
					t.Fatalf("race %d of %s", i, name)
				}
			}
		})
	}
	if *racesOut == "" {
		return
	}
	raw, err := json.Marshal(all)
	if err == nil {
		err = os.WriteFile(*racesOut, raw, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// memoryDir gives a directory on a file system in memory where there is one.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "races-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// bare makes an empty repository.
func bare(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(memoryDir(t), "ledger.git")
	if out, err := exec.CommandContext(t.Context(), "git", "init", "-q", "--bare", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// operator is somebody who promotes, and what came of it.
type operator struct {
	name string
	p    *pipeline.Pipeline
	out  pipeline.Promotion
	err  error
}

func race(t *testing.T, store func() ledger.Store, n int, seed uint64, sum *raced) {
	t.Helper()
	w := newWorld()
	log := &observed{}
	hosts := map[string]*sharedHost{}
	for name, h := range w.hosts {
		hosts[name] = &sharedHost{fakeHost: h}
	}
	operators := make([]*operator, n)
	// Every other time, all have judged before anybody writes: then only the
	// ledger's compare-and-swap is between them. Else they come as they come.
	var judged sync.WaitGroup
	together := seed%2 == 0
	for i := range operators {
		operators[i] = &operator{name: fmt.Sprintf("operator-%d", i), p: w.pipeline()}
		o := operators[i]
		l, err := ledger.Open(t.Context(), ledgertest.Options(store()))
		if err != nil {
			t.Fatal(err)
		}
		o.p.Project.Actor = release.Actor{User: o.name, Host: "host", Process: "process"}
		o.p.Project.Trust = release.Trust{SingleKey: true, Roles: map[release.Role][]release.Party{}}
		for _, role := range ledgertest.Promoter().Signer.Roles {
			o.p.Project.Trust.Roles[role] = []release.Party{ledgertest.Promoter().Party()}
		}
		o.p.Project.Lease, o.p.Now = 10*time.Second, time.Now
		o.p.Ledger = &observedLedger{Ledger: l, log: log, client: i}
		o.p.Targets = sharedTargets{hosts}
	}
	w.roles = ledgertest.Promoter().Signer.Roles
	if _, err := operators[0].p.To(t.Context(), pipeline.PromoteOptions{Environment: "staging"}); err != nil {
		t.Fatalf("to staging: %v", err)
	}
	losers := make(chan struct{}) // closed when all but the winner have ended
	var lost atomic.Int64
	for _, h := range hosts {
		h.during = func() {
			select {
			case <-losers:
			case <-time.After(20 * time.Second):
				stacks := make([]byte, 1<<20)
				t.Errorf("%d of %d have lost, and the others don't end\n%s", lost.Load(), n, stacks[:runtime.Stack(stacks, true)])
			}
		}
	}
	if together {
		judged.Add(n)
		for _, o := range operators {
			o.p.Judge = &meeting{world: w, arrive: sync.OnceFunc(func() { judged.Done(); judged.Wait() })}
		}
	}
	random := rand.New(rand.NewPCG(6, seed))
	var all sync.WaitGroup
	for _, o := range operators {
		pause := time.Duration(random.IntN(2000)) * time.Microsecond
		if together {
			pause = 0
		}
		all.Go(func() {
			time.Sleep(pause)
			o.out, o.err = o.p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
			if o.err != nil && lost.Add(1) == int64(n-1) {
				close(losers)
			}
		})
	}
	all.Wait()
	judge(t, operators, log, hosts, sum)
}

// judge holds what came of a race to what has to.
func judge(t *testing.T, operators []*operator, log *observed, hosts map[string]*sharedHost, sum *raced) {
	t.Helper()
	winner := ""
	for _, o := range operators {
		if o.err == nil {
			if winner != "" || o.out.Record == nil {
				t.Errorf("%s ended well, too, after %q: %+v", o.name, winner, o.out)
			}
			winner = o.name
			sum.Winners++
		}
	}
	for _, o := range operators {
		switch {
		case o.err == nil:
		case release.KindOf(o.err) != release.KindHeld || winner == "" || !strings.Contains(o.err.Error(), winner+" on host, process"):
			t.Errorf("%s, who lost against %q, was told: %v", o.name, winner, o.err)
		default:
			sum.Told++
		}
	}
	h, _, err := operators[0].p.Ledger.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	count := map[release.Phase]int{}
	for _, e := range h {
		if e.Record.Environment == "production" {
			count[e.Record.Phase]++
		}
	}
	if count[release.Intended] != 1 || count[release.Deployed] != 1 || len(count) != 2 {
		t.Errorf("production has the records %v", count)
	}
	for name, h := range hosts {
		if h.lock != nil || h.applied > 1 {
			t.Errorf("%s is locked by %v and was deployed to %d times", name, h.lock, h.applied)
		}
	}
	sum.Runs++
	sum.Operators += len(operators)
	sum.Operations += len(log.operations)
	switch porcupine.CheckOperationsTimeout(logModel, log.operations, time.Minute) {
	case porcupine.Ok:
		sum.Linearizable++
	default:
		t.Errorf("%d operations fit into no order", len(log.operations))
	}
}

// meeting is a judge at which all operators meet once.
type meeting struct {
	*world
	arrive func()
}

func (m *meeting) Judge(ctx context.Context, f release.Facts) ([]release.Verdict, error) {
	m.arrive()
	return m.world.Judge(ctx, f)
}

// sharedHost is a target that several operators use at once.
type sharedHost struct {
	*fakeHost
	mu      sync.Mutex
	during  func() // in the middle of Apply
	applied int
}

type sharedTargets struct{ hosts map[string]*sharedHost }

func (t sharedTargets) Open(_ context.Context, target release.Target) (pipeline.Host, error) {
	return t.hosts[target.Name], nil
}

func (h *sharedHost) Plan(ctx context.Context, d pipeline.Desired) (release.Plan, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fakeHost.Plan(ctx, d)
}

func (h *sharedHost) Running(ctx context.Context, project string, images map[string]release.PlatformImage) ([]release.Running, []release.Reason, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fakeHost.Running(ctx, project, images)
}

func (h *sharedHost) ReadBack(ctx context.Context, d pipeline.Desired) ([]release.Running, []release.Reason, error) {
	return h.Running(ctx, d.Workload.Project, d.Images)
}

func (h *sharedHost) Lock(ctx context.Context, name string, note release.LockNote) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fakeHost.Lock(ctx, name, note)
}

func (h *sharedHost) ReadLock(ctx context.Context, name string) (release.LockNote, bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fakeHost.ReadLock(ctx, name)
}

func (h *sharedHost) Unlock(ctx context.Context, name string, sequence int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fakeHost.Unlock(ctx, name, sequence)
}

func (h *sharedHost) SaveCheckpoint(ctx context.Context, name, text string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fakeHost.SaveCheckpoint(ctx, name, text)
}

func (h *sharedHost) ReadCheckpoint(ctx context.Context, name string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fakeHost.ReadCheckpoint(ctx, name)
}

func (h *sharedHost) Apply(ctx context.Context, d pipeline.Desired, guard pipeline.Guard) error {
	if h.during != nil {
		h.during()
	}
	if err := guard(ctx); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.applied++
	return h.fakeHost.Apply(ctx, d, func(context.Context) error { return nil })
}

// observed lists what was asked of a ledger and answered, with when.
type observed struct {
	mu         sync.Mutex
	operations []porcupine.Operation
}

func (o *observed) add(client int, call time.Time, input logInput, output logOutput) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.operations = append(o.operations, porcupine.Operation{ClientId: client, Input: input, Call: call.UnixNano(), Output: output, Return: now.UnixNano()})
}

// observedLedger notes what goes through it. A heartbeat may come while its
// operator does something else; heartbeats are beside the log.
type observedLedger struct {
	*ledger.Ledger
	log    *observed
	client int
}

// The log as a state machine: it has a length and a last record, and takes a
// record only from whoever knows its length.
type (
	logInput  struct{ append, size int64 } // append: 1 for an append
	logOutput struct {
		size  int64
		last  release.Digest
		moved bool
	}
	logState struct {
		size int64
		last release.Digest
	}
)

var logModel = porcupine.Model{
	Init: func() any { return logState{} },
	Step: func(s, in, out any) (bool, any) {
		state, input, output := s.(logState), in.(logInput), out.(logOutput)
		switch {
		case input.append == 0:
			return output.size == state.size && output.last == state.last, state
		case output.moved:
			return input.size != state.size, state
		}
		return input.size == state.size && output.size == state.size+1, logState{output.size, output.last}
	},
}

func (l *observedLedger) Read(ctx context.Context) (release.History, release.Checkpoint, error) {
	call := time.Now()
	h, c, err := l.Ledger.Read(ctx)
	if err == nil {
		output := logOutput{size: int64(len(h))}
		if len(h) > 0 {
			output.last = h[len(h)-1].Digest
		}
		l.log.add(l.client, call, logInput{}, output)
	}
	return h, c, err
}

func (l *observedLedger) Append(ctx context.Context, r release.Record, size int64) (release.Entry, release.Checkpoint, error) {
	call := time.Now()
	e, c, err := l.Ledger.Append(ctx, r, size)
	if err == nil || errors.Is(err, release.ErrMoved) {
		l.log.add(l.client, call, logInput{1, size}, logOutput{c.TreeSize, e.Digest, err != nil})
	}
	return e, c, err
}

// The model would notice: a lost record, a fork, and an append that goes through
// although the log has moved.
func TestTheModelNotices(t *testing.T) {
	a, b := release.DigestOf([]byte("a")), release.DigestOf([]byte("b"))
	step := func(at int64, in logInput, out logOutput) porcupine.Operation {
		return porcupine.Operation{Input: in, Output: out, Call: at, Return: at + 1}
	}
	for name, c := range map[string]struct {
		ok   bool
		list []porcupine.Operation
	}{
		"in order": {true, []porcupine.Operation{step(1, logInput{1, 0}, logOutput{1, a, false}), step(3, logInput{}, logOutput{1, a, false}), step(5, logInput{1, 0}, logOutput{moved: true})}},
		"lost":     {false, []porcupine.Operation{step(1, logInput{1, 0}, logOutput{1, a, false}), step(3, logInput{}, logOutput{})}},
		"forked":   {false, []porcupine.Operation{step(1, logInput{1, 0}, logOutput{1, a, false}), step(1, logInput{1, 0}, logOutput{1, b, false})}},
		"refused":  {false, []porcupine.Operation{step(1, logInput{1, 0}, logOutput{moved: true})}},
	} {
		if got := porcupine.CheckOperations(logModel, c.list); got != c.ok {
			t.Errorf("%s: %t", name, got)
		}
	}
}
