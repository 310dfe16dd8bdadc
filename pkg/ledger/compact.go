package ledger

import (
	"bytes"
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// Rewritten is what a change of the log's lines did, or would do.
type Rewritten struct {
	Records int64 // whose lines went, or came back
	Bytes   int64 // by which the log is shorter, or longer
}

// Strip puts stubs in place of all lines that compacted records say may go. It
// does nothing else: which may go, and that an archive holds them, is for
// whoever has the record signed. Stopped in the middle it leaves the log as it
// was, or as it shall be. Somebody who wrote at the same time is ErrMoved.
func (l *Ledger) Strip(ctx context.Context) (out Rewritten, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	step := event.Start(ctx, "[ledger] compacting %s", l.store)
	defer func() { step.Done(err) }()
	return l.rewrite(ctx, func(t *replay, n int64, line []byte) []byte {
		if _, stub := stubOf(line); stub || !t.gone.Has(n) {
			return line
		}
		return stubFor(tlog.RecordHash(line))
	})
}

// Weight gives how many bytes shorter the log would be without the lines of some
// records.
func (l *Ledger) Weight(ctx context.Context, list release.Ranges) (bytes int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, err := l.load(ctx)
	if err != nil {
		return 0, err
	}
	for _, r := range list {
		for n := max(1, r.From); n <= min(r.To, t.size()-1); n++ {
			if !t.entries[n].Stub() {
				bytes += t.ends[n] - t.ends[n-1] - int64(stubLength) - 1
			}
		}
	}
	return bytes, nil
}

// rewrite exchanges lines of the log for others with the same leaf hashes.
func (l *Ledger) rewrite(ctx context.Context, change func(t *replay, n int64, line []byte) []byte) (out Rewritten, err error) {
	state, err := l.store.Read(ctx)
	if err != nil {
		return out, err
	}
	t, err := l.replay(ctx, state, l.known, l.readOnce)
	if err != nil {
		return out, err
	}
	next := make([]byte, 0, len(state.Log))
	rest := state.Log
	for n := range t.size() {
		line, more, _ := bytes.Cut(rest, []byte{'\n'})
		changed := change(t, n, line)
		if !bytes.Equal(changed, line) {
			out.Records++
			out.Bytes += int64(len(line) - len(changed))
		}
		next, rest = append(append(next, changed...), '\n'), more
	}
	next = append(next, rest...) // what an interrupted append left
	if out.Records == 0 {
		return out, nil
	}
	out.Bytes = max(out.Bytes, -out.Bytes)
	// Everybody has to be able to read it.
	probe, err := l.replay(ctx, State{Log: next, Checkpoint: state.Checkpoint}, t.entries, l.readOnce)
	if err != nil {
		return Rewritten{}, fmt.Errorf("rewriting the ledger %s: nothing was changed: %w", l.store, err)
	}
	l.tip = nil
	if err := l.store.Rewrite(ctx, t.position(), next); err != nil {
		return Rewritten{}, err
	}
	now, err := l.load(ctx)
	if err == nil && now.stubs.Count() != probe.stubs.Count() { // somebody else rewrote it
		return Rewritten{}, moved(l.store, t.size(), now.size())
	}
	return out, err
}
