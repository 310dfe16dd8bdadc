// Package ledgertest holds what tests of ledgers need: the contract of
// ledger.Store as a suite that every store runs, a store in memory, and keys.
//
// A fast ledger for the tests of other packages:
//
//	l := ledgertest.New(t)
package ledgertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/release"
)

// New gives an empty ledger in memory, signed by Promoter unless keys are
// given: then the first one signs and all are trusted.
func New(t testing.TB, keys ...Key) *ledger.Ledger {
	t.Helper()
	return open(t, Options(&Memory{}, keys...))
}

func open(t testing.TB, o ledger.Options) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Fill appends n records and gives them.
func Fill(t testing.TB, l *ledger.Ledger, n int) release.History {
	t.Helper()
	for range n {
		_, c, err := l.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.Append(t.Context(), Released(int(c.TreeSize)), c.TreeSize); err != nil {
			t.Fatal(err)
		}
	}
	h, _, err := l.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Released gives a record to append; n tells it from others.
func Released(n int) release.Record {
	return release.Record{
		Phase: release.Released, Release: release.DigestOf(fmt.Append(nil, n)), Version: fmt.Sprintf("1.0.%d", n),
		Actor: release.Actor{Name: "promoter", Host: "laptop"}, Reason: "æ <&> \u2028 \"quoted\"",
	}
}

// Run runs the contract of a store. reopen gives a handle of its own, as
// another process has, on the same store each time; each call of fresh gives
// such a function for a new, empty store.
func Run(t *testing.T, fresh func(t *testing.T) (reopen func() ledger.Store)) {
	effort{records: 9, turns: 6, contenders: 4, wins: 8}.run(t, fresh)
}

// RunBriefly runs the same cases with fewer rounds, for a store whose every
// operation starts programs.
func RunBriefly(t *testing.T, fresh func(t *testing.T) (reopen func() ledger.Store)) {
	effort{records: 2, turns: 2, contenders: 3, wins: 1}.run(t, fresh)
}

// effort is how often the cases repeat what they do.
type effort struct{ records, turns, contenders, wins int }

func (o effort) run(t *testing.T, fresh func(t *testing.T) (reopen func() ledger.Store)) {
	cases := []struct {
		name string
		run  func(t *testing.T, reopen func() ledger.Store)
	}{
		{"an absent ledger is empty", absent},
		{"what was appended is read", o.roundTrip},
		{"a record is seen by everybody at once", o.otherHandle},
		{"a write on an old position changes nothing", oldPosition},
		{"one of many wins each round", o.race},
		{"a tail that no checkpoint covers is cut", cutTail},
		{"a long tail that no checkpoint covers is cut", cutLongTail},
		{"a log of megabytes grows", bulk},
		{"a checkpoint alone is replaced", checkpointOnly},
		{"lines are taken out and brought back", o.compacted},
		{"a rewritten log takes the other's place", rewritten},
		{"counters move and rest", counters},
		{"a cancelled context stops", cancelled},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, fresh(t)) })
	}
}

func absent(t *testing.T, reopen func() ledger.Store) {
	l := open(t, Options(reopen()))
	h, c, err := l.Read(t.Context())
	if err != nil || len(h) != 0 || c.TreeSize != 0 || !c.RootHash.IsZero() || c.Envelope != nil {
		t.Fatalf("got %v, %+v, %v, want nothing at all", h, c, err)
	}
}

func (o effort) roundTrip(t *testing.T, reopen func() ledger.Store) {
	l := open(t, Options(reopen()))
	var last release.Digest
	for n := range o.records {
		e, c, err := l.Append(t.Context(), Released(n), int64(n))
		if err != nil {
			t.Fatal(err)
		}
		if e.Record.Sequence != int64(n) || e.Record.Previous != last || e.Record.SchemaVersion != 1 || e.Record.Time.IsZero() {
			t.Fatalf("record %d was filled in as %+v", n, e.Record)
		}
		if c.TreeSize != int64(n+1) || c.Origin != "promote/test" {
			t.Fatalf("after record %d the checkpoint is %+v", n, c)
		}
		last = e.Digest
	}
	h, c, err := open(t, Options(reopen())).Read(t.Context())
	if err != nil || len(h) != o.records || c.TreeSize != int64(o.records) {
		t.Fatalf("read %d records, %+v, %v", len(h), c, err)
	}
	for n, e := range h {
		if e.Record.Version != Released(n).Version || e.Record.Reason != Released(n).Reason || e.Signer.Name != "promoter" {
			t.Errorf("record %d reads %+v", n, e)
		}
	}
}

func (o effort) otherHandle(t *testing.T, reopen func() ledger.Store) {
	a, b := open(t, Options(reopen())), open(t, Options(reopen()))
	for n := range int64(o.turns) {
		writer, reader := a, b
		if n%2 == 1 {
			writer, reader = b, a
		}
		if _, _, err := writer.Append(t.Context(), Released(int(n)), n); err != nil {
			t.Fatal(err)
		}
		if _, _, err := reader.Append(t.Context(), Released(99), n); !errors.Is(err, ledger.ErrMoved) {
			t.Fatalf("appending on %d records of %d gave %v, want ErrMoved", n, n+1, err)
		}
		if h, _, err := reader.Read(t.Context()); err != nil || int64(len(h)) != n+1 {
			t.Fatalf("the other handle reads %d records, %v; want %d", len(h), err, n+1)
		}
	}
}

func oldPosition(t *testing.T, reopen func() ledger.Store) {
	l, s := open(t, Options(reopen())), reopen()
	Fill(t, l, 2)
	old := read(t, s)
	Fill(t, l, 1)
	now := read(t, s)
	for name, from := range map[string]ledger.Position{
		"nothing":        {},
		"old":            {Found: size(old), Keep: size(old), Checkpoint: old.Checkpoint},
		"old checkpoint": {Found: size(now), Keep: size(now), Checkpoint: old.Checkpoint},
		"old log":        {Found: size(old), Keep: size(old), Checkpoint: now.Checkpoint},
	} {
		if err := s.Write(t.Context(), from, []byte("x\n"), []byte("{}")); !errors.Is(err, ledger.ErrMoved) {
			t.Errorf("%s: got %v, want ErrMoved", name, err)
		}
		if got := read(t, s); !bytes.Equal(got.Log, now.Log) || !bytes.Equal(got.Checkpoint, now.Checkpoint) {
			t.Fatalf("%s: the refused write changed the ledger", name)
		}
	}
}

// race lets several handles append with the size that they read until each has
// won some rounds. Every loser must be told, and every winner must be found.
func (o effort) race(t *testing.T, reopen func() ledger.Store) {
	var group sync.WaitGroup
	var mu sync.Mutex
	written := map[int64]string{}
	for i := range o.contenders {
		l := open(t, Options(reopen()))
		group.Go(func() {
			for n := 0; n < o.wins; {
				_, c, err := l.Read(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				r := Released(i)
				r.Reason = fmt.Sprintf("contender %d, round %d", i, n)
				e, _, err := l.Append(t.Context(), r, c.TreeSize)
				if errors.Is(err, ledger.ErrMoved) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if other, twice := written[e.Record.Sequence]; twice {
					t.Errorf("record %d was won by %q and %q", e.Record.Sequence, other, r.Reason)
				}
				written[e.Record.Sequence] = r.Reason
				mu.Unlock()
				n++
			}
		})
	}
	group.Wait()
	h, _, err := open(t, Options(reopen())).Read(t.Context())
	if err != nil || len(h) != o.contenders*o.wins {
		t.Fatalf("%d records, %v; want %d", len(h), err, o.contenders*o.wins)
	}
	for n, e := range h {
		if e.Record.Reason != written[int64(n)] {
			t.Errorf("record %d is %q, its winner wrote %q", n, e.Record.Reason, written[int64(n)])
		}
	}
}

func cutTail(t *testing.T, reopen func() ledger.Store) {
	l, s := open(t, Options(reopen())), reopen()
	Fill(t, l, 2)
	whole := read(t, s)
	torn := ledger.Position{Found: size(whole), Keep: size(whole), Checkpoint: whole.Checkpoint}
	if err := s.Write(t.Context(), torn, []byte(`{"payload":"torn`), whole.Checkpoint); err != nil {
		t.Fatal(err)
	}
	h := Fill(t, open(t, Options(reopen())), 1)
	if len(h) != 3 {
		t.Fatalf("%d records behind a torn tail, want 3", len(h))
	}
	if got := read(t, s); !bytes.HasPrefix(got.Log, whole.Log) || bytes.Contains(got.Log, []byte(`"torn`)) {
		t.Fatal("the torn tail is still in the log, or more than the tail went")
	}
}

// cutLongTail has more than a piece of any store behind the checkpoint.
func cutLongTail(t *testing.T, reopen func() ledger.Store) {
	l, s := open(t, Options(reopen())), reopen()
	Fill(t, l, 2)
	whole := read(t, s)
	torn := bytes.Repeat([]byte("x"), 300_000)
	if err := s.Write(t.Context(), ledger.Position{Found: size(whole), Keep: size(whole), Checkpoint: whole.Checkpoint}, torn, whole.Checkpoint); err != nil {
		t.Fatal(err)
	}
	if got := read(t, reopen()); !bytes.Equal(got.Log, append(bytes.Clone(whole.Log), torn...)) {
		t.Fatalf("read %d bytes with the tail, want %d", len(got.Log), len(whole.Log)+len(torn))
	}
	if h := Fill(t, open(t, Options(reopen())), 1); len(h) != 3 {
		t.Fatalf("%d records behind a torn tail, want 3", len(h))
	}
	if got := read(t, s); !bytes.HasPrefix(got.Log, whole.Log) || len(got.Log) > 2*len(whole.Log) {
		t.Fatalf("%d bytes are left of the tail, or more than the tail went", len(got.Log))
	}
}

// bulk writes what an import does, then by small steps; what was handed out
// before stays as it was.
func bulk(t *testing.T, reopen func() ledger.Store) {
	a, b := reopen(), reopen()
	var want []byte
	var checkpoint []byte
	var handedOut ledger.State
	for step, lines := range []int{0, 3000, 1, 700} {
		var add []byte
		for n := range lines {
			add = fmt.Appendf(add, "%d %d %s\n", step, n, bytes.Repeat([]byte("æ"), n%499))
		}
		next := fmt.Appendf(nil, `{"step":%d}`, step)
		from := ledger.Position{Found: int64(len(want)), Keep: int64(len(want)), Checkpoint: checkpoint}
		if err := a.Write(t.Context(), from, add, next); err != nil {
			t.Fatal(err)
		}
		if err := a.Write(t.Context(), from, add, next); !errors.Is(err, ledger.ErrMoved) {
			t.Fatalf("step %d twice: got %v, want ErrMoved", step, err)
		}
		before := bytes.Clone(handedOut.Log)
		want, checkpoint = append(want, add...), next
		for name, s := range map[string]ledger.Store{"the writer": a, "another": b} {
			if got := read(t, s); !bytes.Equal(got.Log, want) || !bytes.Equal(got.Checkpoint, checkpoint) {
				t.Fatalf("step %d: %s reads %d bytes and checkpoint %s, want %d bytes", step, name, len(got.Log), got.Checkpoint, len(want))
			}
		}
		if !bytes.Equal(before, handedOut.Log) {
			t.Fatalf("step %d changed bytes that were handed out", step)
		}
		handedOut = read(t, a)
		_ = append(handedOut.Log, "what a caller appends is the caller's"...)
	}
	if got := read(t, a); !bytes.Equal(got.Log, want) {
		t.Fatal("a caller changed what is handed out")
	}
}

func checkpointOnly(t *testing.T, reopen func() ledger.Store) {
	s := reopen()
	for n, checkpoint := range []string{"{}", `{"second":true}`, `{"third":true}`} {
		old := read(t, s)
		add := []byte("line\n")
		if n > 0 {
			add = nil
		}
		if err := s.Write(t.Context(), ledger.Position{Found: size(old), Keep: size(old), Checkpoint: old.Checkpoint}, add, []byte(checkpoint)); err != nil {
			t.Fatal(err)
		}
		if got := read(t, reopen()); string(got.Log) != "line\n" || string(got.Checkpoint) != checkpoint {
			t.Fatalf("read %q and %s, want checkpoint %s", got.Log, got.Checkpoint, checkpoint)
		}
	}
}

func counters(t *testing.T, reopen func() ledger.Store) {
	a, b := reopen(), reopen()
	for _, want := range []int64{0, 1, 2, 900, 0, 1} {
		if err := a.Beat(t.Context(), 7, want); err != nil {
			t.Fatal(err)
		}
		if got, err := b.Beats(t.Context(), 7); err != nil || got != want {
			t.Fatalf("counter is %d, %v; want %d", got, err, want)
		}
		if got, err := b.Beats(t.Context(), 8); err != nil || got != 0 {
			t.Fatalf("another intent's counter is %d, %v; want 0", got, err)
		}
	}
	if s := read(t, a); len(s.Log) != 0 || len(s.Checkpoint) != 0 {
		t.Fatal("a heartbeat wrote to the log")
	}
}

func cancelled(t *testing.T, reopen func() ledger.Store) {
	l := open(t, Options(reopen()))
	Fill(t, l, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	begin := time.Now()
	if _, _, err := l.Read(ctx); release.KindOf(err) != release.KindInterrupted {
		t.Errorf("reading gave %v, want the cancellation", err)
	}
	if _, _, err := l.Append(ctx, Released(1), 1); release.KindOf(err) != release.KindInterrupted {
		t.Errorf("appending gave %v, want the cancellation", err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("stopping took %s", took)
	}
	if h, _, err := l.Read(t.Context()); err != nil || len(h) != 1 {
		t.Errorf("%d records, %v; want 1", len(h), err)
	}
}

func read(t testing.TB, s ledger.Store) ledger.State {
	t.Helper()
	state, err := s.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func size(s ledger.State) int64 { return int64(len(s.Log)) }
