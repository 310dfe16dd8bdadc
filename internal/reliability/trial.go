package reliability

import (
	"context"
	"errors"
	"fmt"
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

func oneLine(err error) string {
	if err == nil {
		return ""
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}
