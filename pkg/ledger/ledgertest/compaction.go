package ledgertest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/release"
)

// Compact appends a record that lets some records go, and takes their lines out.
func Compact(t testing.TB, l *ledger.Ledger, list ...release.Range) ledger.Rewritten {
	t.Helper()
	Authorise(t, l, list...)
	done, err := l.Strip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// Authorise appends a record that lets some records go.
func Authorise(t testing.TB, l *ledger.Ledger, list ...release.Range) {
	t.Helper()
	_, c, err := l.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Append(t.Context(), Compacted(list...), c.TreeSize); err != nil {
		t.Fatal(err)
	}
}

// Compacted is a record that lets some records go.
func Compacted(list ...release.Range) release.Record {
	return release.Record{Phase: release.Compacted, Actor: release.Actor{Name: "promoter", Host: "laptop"}, Compaction: &release.Compaction{
		Ranges: list, Archive: release.DigestOf([]byte("archive")), Bytes: 1, Before: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}}
}

// Stub is the line that stands for another one.
func Stub(line []byte) []byte {
	return fmt.Appendf(nil, `{"stub":"sha256:%s"}`, ledger.LeafHash(line).Hex())
}

// compacted takes lines out of a ledger that others have read, and brings them
// back: whoever holds an earlier checkpoint finds it, and every record keeps its
// place, its digest and its proof.
func (o effort) compacted(t *testing.T, reopen func() ledger.Store) {
	writer, other := open(t, Options(reopen())), open(t, Options(reopen()))
	whole := Fill(t, writer, o.records+3)
	_, early, err := other.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last := early.TreeSize - 2
	Authorise(t, writer, release.Range{From: 1, To: last})
	archive := filepath.Join(t.TempDir(), "archive")
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Export(t.Context(), f, nil); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	before := read(t, reopen())
	done, err := writer.Strip(t.Context())
	after := read(t, reopen())
	if err != nil || done.Records != last || size(before)-size(after) != done.Bytes || done.Bytes < 200*last {
		t.Fatalf("%+v, %v; the log had %d bytes and has %d", done, err, size(before), size(after))
	}
	if !bytes.Equal(before.Checkpoint, after.Checkpoint) {
		t.Fatal("the checkpoint is another one")
	}
	for name, l := range map[string]*ledger.Ledger{"the writer": writer, "another": other, "a new one": open(t, Options(reopen()))} {
		h, c, err := l.Read(t.Context())
		if err != nil || int64(len(h)) != early.TreeSize+1 || c.TreeSize != early.TreeSize+1 {
			t.Fatalf("%s reads %d records, %v", name, len(h), err)
		}
		for n, e := range whole {
			gone := n > 0 && int64(n) <= last
			if e.Digest != h[n].Digest || h[n].Record.Sequence != int64(n) || h[n].Stub() != gone || !gone && h[n].Record.Reason != e.Record.Reason {
				t.Errorf("%s reads record %d as %+v", name, n, h[n])
			}
			if p, err := l.Prove(t.Context(), int64(n)); err != nil || p.Check() != nil || (len(p.Envelope) == 0) != gone {
				t.Errorf("%s proves record %d: %v, %v", name, n, err, p.Check())
			}
		}
		if err := l.Contains(t.Context(), early.Envelope); err != nil {
			t.Errorf("%s: a checkpoint that was seen before: %v", name, err)
		}
		if found, err := l.Audit(t.Context(), nil, ledger.AuditOptions{Checkpoints: [][]byte{early.Envelope}}); err != nil || found.Result != "passed" || found.Compacted != last {
			t.Errorf("%s: the audit says %+v, %v", name, found, err)
		}
		if done, err := l.Strip(t.Context()); err != nil || done.Records != 0 {
			t.Errorf("%s: again: %+v, %v", name, done, err)
		}
	}
	if h := Fill(t, other, 1); int64(len(h)) != early.TreeSize+2 {
		t.Fatalf("%d records behind it", len(h))
	}
	back, err := writer.Import(t.Context(), ledger.ExportedFile{Path: archive}, false, nil)
	if err != nil || back.Restored != last || back.Added != 0 {
		t.Fatalf("%+v, %v", back, err)
	}
	if got := read(t, reopen()); !bytes.HasPrefix(got.Log, before.Log) {
		t.Fatal("what came back is not what went")
	}
	if h := Fill(t, other, 1); int64(len(h)) != early.TreeSize+3 || h[1].Stub() { // it knew the shorter log
		t.Fatalf("%d records behind it", len(h))
	}
}

// rewritten exchanges megabytes for less, and back; whoever read something else
// changes nothing.
func rewritten(t *testing.T, reopen func() ledger.Store) {
	a, b := reopen(), reopen()
	var long, short []byte
	for n := range 1500 {
		line := fmt.Appendf(nil, "%d %s", n, bytes.Repeat([]byte("æ"), n%499))
		long = append(append(long, line...), '\n')
		if n%7 > 0 {
			line = Stub(line)
		}
		short = append(append(short, line...), '\n')
	}
	checkpoint := []byte(`{}`)
	if err := a.Write(t.Context(), ledger.Position{}, long, checkpoint); err != nil {
		t.Fatal(err)
	}
	read(t, b)
	for _, next := range [][]byte{short, long} {
		now := read(t, a)
		from := ledger.Position{Found: size(now), Keep: size(now), Checkpoint: checkpoint}
		if err := a.Rewrite(t.Context(), from, next); err != nil {
			t.Fatal(err)
		}
		for name, s := range map[string]ledger.Store{"the writer": a, "another": b, "a new one": reopen()} {
			if got := read(t, s); !bytes.Equal(got.Log, next) || !bytes.Equal(got.Checkpoint, checkpoint) {
				t.Fatalf("%s reads %d bytes, want %d", name, len(got.Log), len(next))
			}
		}
		elsewhere := from
		elsewhere.Checkpoint = []byte(`{"another":1}`)
		for name, old := range map[string]ledger.Position{"the old length": from, "another checkpoint": {Found: int64(len(next)), Checkpoint: elsewhere.Checkpoint}} {
			if err := b.Rewrite(t.Context(), old, []byte("x\n")); !errors.Is(err, ledger.ErrMoved) {
				t.Fatalf("from %s: got %v, want ErrMoved", name, err)
			}
		}
	}
	if got := read(t, b); !bytes.Equal(got.Log, long) {
		t.Fatal("it is not the log that was there")
	}
}
