package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

// counted is a file store that counts what is read of its log.
type counted struct {
	*fileStore
	whole, bytes int
}

func (s *counted) Read(ctx context.Context) (State, error) {
	s.whole++
	return s.fileStore.Read(ctx)
}

func (s *counted) ReadRange(ctx context.Context, from, to int64) (State, bool, error) {
	state, ok, err := s.fileStore.ReadRange(ctx, from, to)
	s.bytes += len(state.Log)
	return state, ok, err
}

// grownLedger gives a ledger that has read some records of a directory.
func grownLedger(t *testing.T, records int) (*Ledger, *counted) {
	t.Helper()
	store := &counted{fileStore: &fileStore{dir: memoryDir(t)}}
	for i := range records {
		if err := put(t, store.fileStore, fmt.Sprint(i), int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := Open(t.Context(), plain(store))
	if err != nil {
		t.Fatal(err)
	}
	if h, _, err := l.Read(t.Context()); err != nil || len(h) != records {
		t.Fatalf("%d records, %v", len(h), err)
	}
	return l, store
}

// TestReadingOn: a ledger that was read reads what was added since, and nothing
// else, and comes to what a new one reads.
func TestReadingOn(t *testing.T) {
	l, store := grownLedger(t, 20)
	before, first, err := l.Read(t.Context())
	if err != nil || store.whole != 1 || store.bytes > 1024 { // the newest line
		t.Fatalf("read %d times and %d bytes, %v", store.whole, store.bytes, err)
	}
	for i := range 3 {
		if err := put(t, store.fileStore, "more", int64(20+i)); err != nil {
			t.Fatal(err)
		}
	}
	h, c, err := l.Read(t.Context())
	if err != nil || len(h) != 23 || c.TreeSize != 23 || store.whole != 1 || store.bytes == 0 || store.bytes > 5*1024 {
		t.Fatalf("%d records, checkpoint over %d; read %d times and %d bytes, %v", len(h), c.TreeSize, store.whole, store.bytes, err)
	}
	for i, e := range get(t, store.dir) {
		if h[i].Digest != e.Digest || h[i].Record.Reason != e.Record.Reason {
			t.Errorf("record %d is another one", i)
		}
	}
	if len(before) != 20 || first.TreeSize != 20 {
		t.Error("what was read before changed")
	}
	if _, _, err := l.Append(t.Context(), release.Record{Phase: release.Released}, 23); err != nil {
		t.Fatal(err)
	}
	if n := len(get(t, store.dir)); n != 24 {
		t.Errorf("%d records", n)
	}
}

// What no append leads to is refused as it is by whoever reads the whole log.
func TestReadingOnRefuses(t *testing.T) {
	another := func(t *testing.T, records int) (log, checkpoint []byte) {
		dir := memoryDir(t)
		for i := range records {
			if err := put(t, &fileStore{dir: dir}, fmt.Sprint("another ", i), int64(i)); err != nil {
				t.Fatal(err)
			}
		}
		return readFile(t, dir, logFile), readFile(t, dir, checkpointFile)
	}
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"another log, longer": func(t *testing.T, dir string) {
			log, checkpoint := another(t, 30)
			rewrite(t, dir, logFile, append(readFile(t, dir, logFile), log[bytes.LastIndexByte(log[:len(log)-1], '\n')+1:]...))
			rewrite(t, dir, checkpointFile, checkpoint)
		},
		"a line that nobody signed": func(t *testing.T, dir string) {
			log := readFile(t, dir, logFile)
			rewrite(t, dir, logFile, append(log, log[:bytes.IndexByte(log, '\n')+1]...))
		},
		"an older checkpoint": func(t *testing.T, dir string) {
			old := readFile(t, dir, checkpointFile)
			for i := range 2 {
				if err := put(t, &fileStore{dir: dir}, "more", int64(20+i)); err != nil {
					t.Fatal(err)
				}
			}
			rewrite(t, dir, checkpointFile, old)
		},
		"cut off": func(t *testing.T, dir string) {
			log := readFile(t, dir, logFile)
			rewrite(t, dir, logFile, log[:len(log)-1])
		},
		"no checkpoint": func(t *testing.T, dir string) { rewrite(t, dir, checkpointFile, nil) },
		"a bit of the checkpoint": func(t *testing.T, dir string) {
			c := readFile(t, dir, checkpointFile)
			c[len(c)/2] ^= 1
			rewrite(t, dir, checkpointFile, c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, store := grownLedger(t, 20)
			spoil(t, store.dir)
			if _, _, err := l.Read(t.Context()); release.KindOf(err) != release.KindIntegrity {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A line that was changed under a ledger that has verified it proves nothing.
func TestAProofIsOfWhatWasVerified(t *testing.T) {
	l, store := grownLedger(t, 20)
	for n := range int64(20) {
		p, err := l.Prove(t.Context(), n)
		if err != nil || p.Check() != nil || p.Sequence != n {
			t.Fatalf("record %d: %v, %v", n, err, p.Check())
		}
	}
	if store.whole != 1 || store.bytes > 3*len(readFile(t, store.dir, logFile)) { // each proof reads two lines
		t.Errorf("read %d times and %d bytes", store.whole, store.bytes)
	}
	log := readFile(t, store.dir, logFile)
	log[len(log)/2] ^= 1
	rewrite(t, store.dir, logFile, log)
	failed := 0
	for n := range int64(20) {
		if _, err := l.Prove(t.Context(), n); err != nil {
			failed++
			if release.KindOf(err) != release.KindIntegrity {
				t.Errorf("record %d: %v", n, err)
			}
		}
	}
	if failed == 0 {
		t.Error("a line that nobody signed was proven")
	}
}

func readFile(t *testing.T, dir, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func rewrite(t *testing.T, dir, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Somebody else's append costs nothing of what was verified before, and nothing
// that was not written counts.
func TestAMovedAppendReadsOn(t *testing.T) {
	l, store := grownLedger(t, 20)
	if _, _, err := l.Append(t.Context(), release.Record{Phase: release.Frozen, Environment: "staging"}, 20); err != nil {
		t.Fatal(err)
	}
	if err := put(t, store.fileStore, "faster", 21); err != nil {
		t.Fatal(err)
	}
	freeze := release.Record{Phase: release.Frozen, Environment: "production", Reason: "moved"}
	if _, _, err := l.Append(t.Context(), freeze, 21); !errors.Is(err, ErrMoved) {
		t.Fatalf("got %v", err)
	}
	if h, _, err := l.Read(t.Context()); err != nil || len(h) != 22 || h[21].Record.Reason != "faster" || store.whole != 1 {
		t.Errorf("%d records, %v; the whole log was read %d times", len(h), err, store.whole)
	}
	unfreeze := release.Record{Phase: release.Unfrozen, Environment: "production"}
	if _, _, err := l.Append(t.Context(), unfreeze, 22); release.KindOf(err) != release.KindDenied {
		t.Errorf("whoever did not freeze it could unfreeze it: %v", err)
	}
	for i, r := range []release.Record{freeze, unfreeze} {
		if _, _, err := l.Append(t.Context(), r, int64(22+i)); err != nil {
			t.Error(err)
		}
	}
	if n := len(get(t, store.dir)); n != 24 {
		t.Errorf("%d records", n)
	}
}
