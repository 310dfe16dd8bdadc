package reliability

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

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
