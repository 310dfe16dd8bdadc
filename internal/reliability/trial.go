package reliability

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Where a trial strikes.
const (
	AtRegistry = "registry request"
	AtEngine   = "engine request"
	AtCall     = "fsync or rename"
	AtRandom   = "random moment"
)

// What is struck.
const (
	OfUpdate = "update" // a promotion over another version
	OfFirst  = "first"  // the first promotion of an environment
	OfResume = "resume" // the resume of a promotion that was killed

	OfRestore       = "restore"      // a rollback that brings the state back, too
	OfUndo          = "undo"         // a promotion that resume has to undo
	OfUndoneRestore = "undo-restore" // a restore that resume has to undo
)

// Point is one place where a run is killed.
type Point struct {
	Of     string        `json:"of"`
	Where  string        `json:"where"`
	Call   string        `json:"call,omitempty"` // which request or call; empty: any
	At     int           `json:"at,omitempty"`   // the how manieth of these
	After  bool          `json:"after,omitempty"`
	Moment time.Duration `json:"moment,omitempty"` // since the start
}

// Key names a point among all.
func (p Point) Key() string {
	return fmt.Sprintf("%s/%s/%s/%d/%t/%d", p.Of, p.Where, p.Call, p.At, p.After, p.Moment)
}

// Row is what came of one trial.
type Row struct {
	Point
	Program string  `json:"program"`           // its version
	What    string  `json:"what"`              // the request or call that was struck
	Killed  bool    `json:"killed"`            // false: it ended before
	Ledger  string  `json:"ledger"`            // what it had recorded when it was killed
	Outcome string  `json:"outcome"`           // old or new, after resume
	Fault   string  `json:"fault,omitempty"`   // what is wrong; empty is what has to be
	Seconds float64 `json:"seconds,omitempty"` // of the whole trial
}

// What the ledger says of an attempt.
const (
	recordedNothing = "nothing"
	recordedIntent  = "intent"
	recordedEnd     = "end"
)

// way is the command that brings an environment from what runs to a version.
func (w *World) way(env, version string) []string {
	if env == production && version == versions[0] && w.running == versions[1] {
		return []string{"rollback", env, "--to", version, "--reason", "trial"}
	}
	return []string{"to", env, "--release", version}
}

// other is the version that production does not run.
func (w *World) other() string {
	if w.running == versions[1] {
		return versions[0]
	}
	return versions[1]
}

// resume is the command that ends what was interrupted, with the key that opens
// snapshots or without.
func (w *World) resume(env string, key bool) []string {
	if key && w.o.State {
		return []string{"resume", env, "--identity", w.identity()}
	}
	return []string{"resume", env}
}

// trial is one point's promotion, and what there was before it.
type trial struct {
	env, from, to string
	way           []string // the command
	before        []record
	was           memory // what production's volume holds
	will          memory // what it is to hold once the new version runs
	restores      bool   // will is another than was
	undo          bool   // resume must not finish it
}

// begin gets ready for a point's promotion, so that it does all there is to do.
func (w *World) begin(ctx context.Context, of string) (trial, error) {
	if w.running == "" && of != OfFirst { // a recovery failed
		if err := w.recover(ctx, production, nil); err != nil {
			return trial{}, err
		}
	}
	if of == OfRestore || of == OfUndoneRestore {
		return w.beginRestore(ctx, of)
	}
	t := trial{env: production, from: w.running, to: w.other(), undo: of == OfUndo}
	if of == OfFirst {
		t = trial{env: first, to: versions[1]}
	}
	t.way = w.way(t.env, t.to)
	var err error
	if !t.undo { // which may need the images of the release before
		err = w.prepare(ctx, t.env, t.to)
	}
	if err != nil {
		return t, err
	}
	if t.env == production {
		if err := w.teach(ctx, t.env); err != nil {
			return t, err
		}
		if t.was, err = w.read(ctx, t.env); err != nil {
			return t, err
		}
		t.will = t.was
	}
	t.before, err = w.glance(t.env)
	return t, err
}

// beginRestore promotes to the other version, so that there is a snapshot to go
// back to, and changes the state.
func (w *World) beginRestore(ctx context.Context, of string) (trial, error) {
	t := trial{env: production, from: w.other(), to: w.running, restores: true, undo: of == OfUndoneRestore}
	if err := errors.Join(w.teach(ctx, production), w.must(ctx, nil, w.way(production, t.from)...)); err != nil {
		return t, err
	}
	w.running = t.from
	list, err := w.records(ctx, production)
	if err != nil {
		return t, err
	}
	kept := newestSnapshot(list)
	t.way = []string{"rollback", production, "--restore", strconv.FormatInt(kept, 10), "--identity", w.identity(), "--reason", "trial"}
	if t.will, err = w.read(ctx, production); err != nil {
		return t, err
	}
	if err := w.teach(ctx, production); err != nil {
		return t, err
	}
	if t.was, err = w.read(ctx, production); err != nil {
		return t, err
	}
	t.before, err = w.glance(production)
	return t, err
}

// newestSnapshot names the newest snapshot that a deployment took, as --restore
// does; -1 if there is none.
func newestSnapshot(list []record) int64 {
	for _, r := range slices.Backward(list) {
		for _, target := range r.Targets {
			for _, s := range target.Snapshots {
				if r.Phase == "deployed" {
					return s.Sequence
				}
			}
		}
	}
	return -1
}

// prepare makes a promotion to a version do all there is to do: the
// environment's registry and the engine don't have its images. What a first
// deployment writes into the ledger is taken back afterwards, by forget.
func (w *World) prepare(ctx context.Context, env, version string) error {
	if env == first {
		if err := os.CopyFS(w.path("ledger.kept"), os.DirFS(w.ledger())); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(filepath.Join(w.path("registry"), "docker", "registry", "v2", "repositories", env)); err != nil {
		return err
	}
	for _, reference := range w.state.References[version] {
		reference = strings.Replace(reference, "/"+production+"/", "/"+env+"/", 1)
		if _, err := w.docker(ctx, "rmi", reference); err != nil && !strings.Contains(err.Error(), "No such image") {
			return err
		}
	}
	return nil
}

// forget makes the environment of first deployments one again.
func (w *World) forget(ctx context.Context) error {
	if _, err := os.Stat(w.path("ledger.kept")); err != nil {
		return nil
	}
	if err := w.down(ctx, first); err != nil {
		return err
	}
	if err := os.RemoveAll(w.ledger()); err != nil {
		return err
	}
	return os.Rename(w.path("ledger.kept"), w.ledger())
}

// struck is a run under a point, and what it was killed at.
type struck struct {
	ended
	killed bool
	what   string
	seen   map[string][]string // what was counted, by where
}

// strike runs a command and kills it at a point.
func (w *World) strike(ctx context.Context, p Point, args ...string) (struck, error) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	var s struck
	var cmd *exec.Cmd
	kill := func(what string) {
		s.what = what
		_ = syscall.Kill(cmd.Process.Pid, syscall.SIGKILL)
	}
	var wrap []string
	calls := w.path("calls")
	_ = os.Remove(calls)
	for where, tap := range map[string]*Tap{AtRegistry: w.registry, AtEngine: w.engine} {
		if p.At != Chosen || p.Where != where {
			tap.Count()
		}
	}
	if p.Call != "" { // more of one kind must not shift the others
		seen := 0
		chosen := func(what string) bool {
			if what == p.Call {
				seen++
			}
			return seen == p.At
		}
		w.registry.Choose(chosen)
		w.engine.Choose(chosen)
	}
	at := p.At
	if p.Call != "" {
		at = Chosen
	}
	switch p.Where {
	case AtRegistry:
		w.registry.Strike(at, p.After, kill)
	case AtEngine:
		w.engine.Strike(at, p.After, kill)
	case AtCall:
		wrap = []string{w.o.Tracer, "trace", strconv.Itoa(p.At), strconv.FormatBool(p.After), "0", p.Call, calls}
	}
	cmd = w.command(ctx, wrap, args...)
	var timer *time.Timer
	e, err := run(cmd, func() {
		if p.Where == AtRandom {
			timer = time.AfterFunc(p.Moment, func() { kill("a random moment") })
		}
	})
	if timer != nil {
		timer.Stop()
	}
	s.ended, s.killed = e, e.Code == 137
	s.seen = map[string][]string{AtRegistry: w.registry.Stop(), AtEngine: w.engine.Stop()}
	if raw, _ := os.ReadFile(calls); len(raw) > 0 {
		s.seen[AtCall] = strings.Split(strings.TrimSpace(string(raw)), "\n")
		if p.Where == AtCall && s.killed && len(s.seen[AtCall]) > 0 {
			s.what = s.seen[AtCall][len(s.seen[AtCall])-1]
		}
	}
	return s, err
}

// Try kills one run and holds what is left to what has to be. A row with a
// fault is a finding; an error means that the trial could not be held.
func (w *World) Try(ctx context.Context, p Point) (Row, error) {
	began := time.Now()
	row := Row{Point: p}
	t, err := w.begin(ctx, p.Of)
	if err != nil {
		return row, err
	}
	way := t.way
	if p.Of == OfResume {
		if err := w.halfway(ctx, p, way); err != nil {
			return row, err
		}
		way = w.resume(t.env, false)
	}
	s, err := w.strike(ctx, p, way...)
	if err != nil {
		return row, err
	}
	row.Killed, row.What = s.killed, s.what
	var faults []error
	if !s.killed && s.Code != 0 {
		faults = append(faults, fmt.Errorf("it was not killed and gave %s", s.ended))
	}
	row.Ledger, row.Outcome, err = w.hold(ctx, t)
	if t.env == first {
		err = errors.Join(err, w.forget(ctx))
	}
	row.Fault = oneLine(errors.Join(append(faults, err)...))
	row.Seconds = time.Since(began).Seconds()
	return row, nil
}

// halfway kills a promotion when a part of its effects is there: at another
// place for each trial of resume, but the same for the same one.
func (w *World) halfway(ctx context.Context, p Point, way []string) error {
	places := []string{"POST /containers/create", "POST /containers/…/rename", "POST /containers/…/start", "POST /containers/…/stop", "DELETE /containers/…"}
	place := places[p.At%len(places)]
	n := 1 + p.At/len(places)%2
	seen := 0
	w.engine.Choose(func(what string) bool {
		if what == place {
			seen++
		}
		return seen == n
	})
	s, err := w.strike(ctx, Point{Where: AtEngine, At: Chosen, After: p.At%3 == 0}, way...)
	if err == nil && !s.killed {
		err = fmt.Errorf("the promotion was to be killed at %s: %s", place, s.ended)
	}
	return err
}

// nextEvery is how often a trial is followed by an undisturbed promotion. The
// others are followed by the next trial, which begins where they ended.
const nextEvery = 4

// hold resumes and holds what is left to what has to be: fully old or fully
// new, with the state that belongs to it, nothing lost, doubled or open, nothing
// left behind, and the next promotion works.
func (w *World) hold(ctx context.Context, t trial) (ledger, outcome string, fault error) {
	var faults []error
	check := func(what string, err error) bool {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", what, err))
		}
		return err == nil
	}
	killed, err := w.glance(t.env)
	check("the ledger after the kill", err)
	ledger = recorded(t.before, killed)
	forward, err := w.finish(ctx, t, ledger)
	check("resume", err)
	after, err := w.records(ctx, t.env)
	check("the ledger after resume", errors.Join(err, settled(killed, after)))
	version, err := w.which(ctx, t.env, t.from, t.to)
	if !check("after resume", err) {
		return ledger, "mixed", w.recover(ctx, t.env, faults)
	}
	outcome = "old"
	if version == t.to {
		outcome = "new"
	}
	if n := deployments(after) - deployments(t.before); n > 1 || n == 1 && version != t.to || n == 0 && version != t.from {
		check("the ledger after resume", fmt.Errorf("%d deployments were recorded, and what runs is %s", n, named(version)))
	}
	if ledger == recordedNothing && version != t.from {
		check("the ledger after the kill", errors.New("an effect without an intent"))
	}
	if t.undo && !forward && ledger == recordedIntent && version != t.from {
		check("after resume", errors.New("it was to be undone"))
	}
	check("after resume", w.leftovers(ctx, t.env, after))
	check("after resume", w.remembers(ctx, t, ledger, version))
	if t.env == production {
		w.running = version
	}
	if w.held++; w.held%nextEvery != 0 {
		return ledger, outcome, errors.Join(faults...) // the next trial begins here
	}
	if err := w.next(ctx, t, version, after); err != nil {
		faults = append(faults, fmt.Errorf("the next promotion: %w", err))
		return ledger, outcome, w.recover(ctx, t.env, faults)
	}
	return ledger, outcome, errors.Join(faults...)
}

// finish resumes what was killed. Without the key that opens snapshots nothing
// goes on that needs it, and nothing is changed. Where it is to be undone and
// the containers that ran before are gone, a restore says so and can be finished:
// then it went forward.
func (w *World) finish(ctx context.Context, t trial, ledger string) (forward bool, err error) {
	want := 0
	if t.undo {
		if err := os.WriteFile(w.path("refuse"), nil, 0o600); err != nil {
			return false, err
		}
		defer os.Remove(w.path("refuse"))
		if ledger == recordedIntent {
			want = 4
		}
	}
	if t.restores {
		if done, err := w.keyless(ctx, t, want); done || err != nil {
			return false, err
		}
	}
	e, err := w.promote(ctx, w.resume(t.env, t.restores)...)
	if forward = err == nil && t.restores && t.undo && e.Code == 5 && strings.Contains(e.Stderr, "are gone"); forward {
		if err := os.Remove(w.path("refuse")); err != nil {
			return true, err
		}
		want = 0
		e, err = w.promote(ctx, w.resume(t.env, true)...)
	}
	if err == nil && e.Code != want {
		err = fmt.Errorf("want exit %d: %s", want, e)
	}
	return forward, err
}

// keyless resumes a restore without the key: it is done, or says that it needs
// the key, and has left the containers as they were.
func (w *World) keyless(ctx context.Context, t trial, want int) (done bool, err error) {
	before, err := w.containers(ctx, t.env)
	if err != nil {
		return false, err
	}
	e, err := w.promote(ctx, w.resume(t.env, false)...)
	if err != nil || e.Code == want {
		return true, err
	}
	after, err := w.containers(ctx, t.env)
	switch {
	case err != nil:
		return false, err
	case e.Code != 2 && e.Code != 5 || !strings.Contains(e.Stderr, "--identity"):
		return false, fmt.Errorf("without the key, want exit 2 or 5 and to be asked for it: %s", e)
	case !slices.EqualFunc(before, after, func(a, b container) bool { return a.Name == b.Name && a.Image == b.Image && a.State == b.State }):
		return false, fmt.Errorf("without the key: %s; it changed %v to %v", e, before, after)
	}
	return false, nil
}

// remembers reports why the volume does not hold what belongs to the version
// that runs: what it held before, or what was to be brought back.
func (w *World) remembers(ctx context.Context, t trial, ledger, version string) error {
	if t.env != production {
		return nil
	}
	now, err := w.read(ctx, t.env)
	if err != nil {
		return err
	}
	want := t.was
	if version == t.to {
		want = t.will
	}
	stopped, err := now.since(want)
	switch {
	case err != nil || !w.o.State:
		return err
	case ledger == recordedNothing && stopped > 0:
		return errors.New("a hook ran without an intent")
	case version == t.to && stopped == 0 && !t.restores:
		return errors.New("the store was replaced, and its hook did not run")
	}
	return nil
}

// next promotes undisturbed over what runs, and holds that to what has to be.
func (w *World) next(ctx context.Context, t trial, runs string, before []record) error {
	version, way := t.to, append(w.way(t.env, t.to), "--redeploy")
	if t.env == production {
		version = w.other()
		way = w.way(t.env, version)
	}
	var was memory
	var err error
	if runs != "" {
		if was, err = w.read(ctx, t.env); err != nil {
			return err
		}
	}
	if err := w.must(ctx, nil, way...); err != nil {
		return err
	}
	if err := w.whole(ctx, t.env, version); err != nil {
		return err
	}
	if t.env == production {
		w.running = version
	}
	if runs != "" {
		err = w.once(ctx, t.env, was)
	}
	list, reading := w.records(ctx, t.env)
	return errors.Join(err, reading, settled(before, list), w.leftovers(ctx, t.env, list))
}

// once reports why the state is not what it was before an undisturbed promotion,
// which stops the store one time.
func (w *World) once(ctx context.Context, env string, was memory) error {
	now, err := w.read(ctx, env)
	if err != nil {
		return err
	}
	stopped, err := now.since(was)
	if err == nil && w.o.State && stopped != 1 {
		err = fmt.Errorf("the store was stopped once, and its hook ran %d times", stopped)
	}
	return err
}

// recorded says how far the ledger shows an attempt.
func recorded(before, after []record) string {
	switch n := len(after); {
	case n <= len(before):
		return recordedNothing
	case after[n-1].Phase == "intended":
		return recordedIntent
	}
	return recordedEnd
}

func deployments(list []record) int {
	n := 0
	for _, r := range list {
		if r.Phase == "deployed" {
			n++
		}
	}
	return n
}

// recover gets production into a known state after a finding, so that the next
// trial says something of its own.
func (w *World) recover(ctx context.Context, env string, faults []error) error {
	if env == first {
		return errors.Join(faults...) // it is forgotten anyway
	}
	_, _ = w.promote(ctx, w.resume(production, true)...)
	w.running = ""
	err := w.must(ctx, nil, "to", production, "--release", versions[1], "--redeploy")
	if err == nil {
		w.running = versions[1]
		err = w.whole(ctx, production, w.running)
	}
	if err != nil {
		err = fmt.Errorf("recovering: %w", err)
	}
	return errors.Join(append(faults, err)...)
}

// Survey runs what is struck undisturbed, and gives what there is to strike at,
// and how long it takes.
func (w *World) Survey(ctx context.Context, of string) (map[string][]string, time.Duration, error) {
	p := Point{Of: of, Where: AtCall}
	if w.o.Tracer == "" {
		p.Where = ""
	}
	t, err := w.begin(ctx, of)
	if err != nil {
		return nil, 0, err
	}
	way := t.way
	if of == OfResume {
		if err := w.halfway(ctx, Point{At: 2}, way); err != nil {
			return nil, 0, err
		}
		way = w.resume(t.env, false)
	}
	s, err := w.strike(ctx, p, way...)
	if err != nil {
		return nil, 0, err
	}
	if s.Code != 0 {
		return nil, 0, fmt.Errorf("undisturbed: %s", s.ended)
	}
	if err := errors.Join(w.whole(ctx, t.env, t.to), w.remembers(ctx, t, recordedEnd, t.to)); err != nil {
		return nil, 0, err
	}
	if t.env == first {
		return s.seen, s.Took, w.forget(ctx)
	}
	w.running = t.to
	return s.seen, s.Took, nil
}

// Points lists the points of a survey: each request and each call, before and
// after, and random moments. most bounds those of each kind, evenly spread; 0
// is all of them.
func Points(of string, seen map[string][]string, took time.Duration, randoms, most int) []Point {
	var list []Point
	for _, where := range []string{AtEngine, AtRegistry, AtCall} {
		var some []Point
		count := map[string]int{}
		for _, what := range seen[where] {
			count[what]++
			p := Point{Of: of, Where: where, Call: what, At: count[what]}
			some = append(some, p)
			p.After = true
			some = append(some, p)
		}
		list = append(list, thin(some, most)...)
	}
	source := rand.New(rand.NewPCG(6, uint64(len(of))))
	var some []Point
	for range randoms {
		moment := time.Duration(source.Float64() * 1.05 * float64(took)).Round(time.Microsecond)
		some = append(some, Point{Of: of, Where: AtRandom, Moment: moment})
	}
	return append(list, thin(some, most)...)
}

// urgency orders the points so that a run that is cut short has tried something
// of everything: the last of each kind of request or call of a promotion or a
// restore, on each side, first, and of all others those that change something.
// The sooner the lower.
func urgency(p Point, seen []string, random *rand.Rand) float64 {
	u := random.Float64()
	if p.Of != OfUpdate && p.Of != OfRestore {
		return 0.3 + u*0.7
	}
	if p.Where == AtRandom {
		return 0.2 + u*0.8
	}
	kind := 0
	for _, what := range seen {
		if what == p.Call {
			kind++
		}
	}
	idle := reads(p.Call) || strings.Contains(p.Call, "heartbeats") // they prove nothing
	switch last := p.At == kind; {
	case !idle && (last || p.Where != AtRegistry):
		return u * 0.2
	case idle && !last:
		return 1 + u
	}
	return 0.2 + u*0.8
}

// reads reports whether a request changes nothing.
func reads(what string) bool {
	return strings.HasPrefix(what, "GET") || strings.HasPrefix(what, "HEAD")
}

// thin keeps most of a list, evenly spread.
func thin(list []Point, most int) []Point {
	if most <= 0 || len(list) <= most {
		return list
	}
	var kept []Point
	for i := range most {
		kept = append(kept, list[i*len(list)/most])
	}
	return slices.Compact(kept)
}

func oneLine(err error) string {
	if err == nil {
		return ""
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}
