package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
	"github.com/promote-dev/promote/pkg/release"
)

// exporting writes a ledger to a file.
func exporting(t *testing.T, l *ledger.Ledger) ledger.ExportedFile {
	t.Helper()
	var out bytes.Buffer
	done, err := l.Export(t.Context(), &out, nil)
	if err != nil || done.Bytes != int64(out.Len()) || done.Digest != release.DigestOf(out.Bytes()) {
		t.Fatalf("%+v, %v", done, err)
	}
	file := ledger.ExportedFile{Path: filepath.Join(t.TempDir(), "export")}
	if err := os.WriteFile(file.Path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func stateOf(t testing.TB, s ledger.Store) ledger.State {
	t.Helper()
	state, err := s.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// TestExportAndImport: byte for byte from one kind of store to another, into an
// empty one, one that holds the beginning, one that holds all and more; and back.
func TestExportAndImport(t *testing.T) {
	from := ledger.NewFileStore(filepath.Join(t.TempDir(), "ledger"))
	l := opened(t, ledgertest.Options(from))
	ledgertest.Fill(t, l, 3)
	early := exporting(t, l)
	ledgertest.Fill(t, l, 4)
	late := exporting(t, l)
	want := stateOf(t, from)
	text, _ := os.ReadFile(late.Path)
	if !bytes.Equal(text, bytes.Join([][]byte{want.Checkpoint, want.Log}, []byte{'\n'})) {
		t.Fatal("the export is not checkpoint and log, byte for byte")
	}
	to := &ledgertest.Memory{}
	other := opened(t, ledgertest.Options(to))
	bring := func(file ledger.ExportedFile, dry bool, added int64) {
		t.Helper()
		done, err := other.Import(t.Context(), file, dry, nil)
		if err != nil || done.Added != added {
			t.Fatalf("%+v, %v; want %d added", done, err, added)
		}
	}
	bring(late, true, 7)
	if s := stateOf(t, to); len(s.Log) != 0 {
		t.Fatal("a dry run wrote")
	}
	bring(early, false, 3)
	bring(early, false, 0)
	bring(late, false, 4)
	bring(late, false, 0)
	bring(early, false, 0) // of the same log, shorter
	if s := stateOf(t, to); !bytes.Equal(s.Log, want.Log) || !bytes.Equal(s.Checkpoint, want.Checkpoint) {
		t.Fatal("what was imported is not what was exported")
	}
	ledgertest.Fill(t, other, 1)
	back := exporting(t, other)
	if done, err := l.Import(t.Context(), back, false, nil); err != nil || done.Added != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	if !bytes.Equal(stateOf(t, from).Log, stateOf(t, to).Log) {
		t.Fatal("the two stores differ")
	}
}

// TestImportRefuses what has diverged, is damaged, is another project's or is
// not accepted, and changes nothing.
func TestImportRefuses(t *testing.T) {
	m := &ledgertest.Memory{}
	l := opened(t, ledgertest.Options(m))
	ledgertest.Fill(t, l, 2)
	before := exporting(t, l)
	ledgertest.Fill(t, l, 1)
	sound := stateOf(t, m)

	forked := opened(t, ledgertest.Options(&ledgertest.Memory{}))
	if _, err := forked.Import(t.Context(), before, false, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := forked.Append(t.Context(), ledgertest.Released(77), 2); err != nil {
		t.Fatal(err)
	}
	fork := exporting(t, forked)
	ledgertest.Fill(t, forked, 2)
	longFork := exporting(t, forked)
	o := ledgertest.Options(&ledgertest.Memory{})
	o.Origin = "promote/another"
	another := opened(t, o)
	ledgertest.Fill(t, another, 1)
	stranger := opened(t, ledgertest.Options(&ledgertest.Memory{}, ledgertest.NewKey("mallory", release.Promoter)))
	ledgertest.Fill(t, stranger, 5)
	damaged := exporting(t, l)
	raw, _ := os.ReadFile(damaged.Path)
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(damaged.Path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]ledger.ExportedFile{
		"a fork": fork, "a longer fork": longFork, "another project's": exporting(t, another), "a stranger's": exporting(t, stranger), "damaged": damaged,
	} {
		if done, err := l.Import(t.Context(), file, false, nil); release.KindOf(err) != release.KindDenied {
			t.Errorf("%s: %+v, %v; want a denial", name, done, err)
		}
		if now := stateOf(t, m); !bytes.Equal(now.Log, sound.Log) || !bytes.Equal(now.Checkpoint, sound.Checkpoint) {
			t.Fatalf("%s: the ledger was changed", name)
		}
	}
	no := errors.New("no")
	if done, err := l.Import(t.Context(), before, false, func(release.LedgerAudit) error { return no }); err != nil || done.Added != 0 {
		t.Errorf("what the ledger holds already is judged anew: %+v, %v", done, err)
	}
	empty := opened(t, ledgertest.Options(&ledgertest.Memory{}))
	if _, err := empty.Import(t.Context(), before, false, func(release.LedgerAudit) error { return no }); !errors.Is(err, no) {
		t.Errorf("what is not accepted: %v", err)
	}
	if _, err := l.Export(t.Context(), &bytes.Buffer{}, func(release.LedgerAudit) error { return no }); !errors.Is(err, no) {
		t.Errorf("what is not accepted is exported: %v", err)
	}
	m.Replace(ledger.State{Log: raw, Checkpoint: sound.Checkpoint})
	if _, err := opened(t, ledgertest.Options(m)).Export(t.Context(), &bytes.Buffer{}, nil); release.KindOf(err) != release.KindDenied {
		t.Errorf("a damaged ledger is exported: %v", err)
	}
}

// TestImportOverAnInterruptedAppend keeps the record that was meant.
func TestImportOverAnInterruptedAppend(t *testing.T) {
	m := &ledgertest.Memory{}
	l := opened(t, ledgertest.Options(m))
	ledgertest.Fill(t, l, 2)
	two := stateOf(t, m)
	ledgertest.Fill(t, l, 1)
	three := stateOf(t, m)
	file := exporting(t, l)
	m.Replace(ledger.State{Log: three.Log, Checkpoint: two.Checkpoint}) // record 2 is pending
	if done, err := l.Import(t.Context(), file, false, nil); err != nil || done.Added != 1 {
		t.Fatalf("the same record: %+v, %v", done, err)
	}
	if now := stateOf(t, m); !bytes.Equal(now.Log, three.Log) || !bytes.Equal(now.Checkpoint, three.Checkpoint) {
		t.Fatal("it is not what was imported")
	}
	other := &ledgertest.Memory{}
	other.Replace(two)
	writer := opened(t, ledgertest.Options(other))
	if _, _, err := writer.Append(t.Context(), ledgertest.Released(55), 2); err != nil {
		t.Fatal(err)
	}
	pending := ledger.State{Log: stateOf(t, other).Log, Checkpoint: two.Checkpoint}
	m.Replace(pending)
	if _, err := l.Import(t.Context(), file, false, nil); release.KindOf(err) != release.KindDenied {
		t.Fatalf("another record: %v", err)
	}
	if !bytes.Equal(stateOf(t, m).Log, pending.Log) {
		t.Fatal("the pending record is gone")
	}
}

// changing is a source that is another one the second time.
type changing struct {
	ledger.ExportedFile
	reads *int
	other ledger.ExportedFile
}

func (c changing) Stream(ctx context.Context) (*ledger.Stream, error) {
	if *c.reads++; *c.reads > 1 {
		return c.other.Stream(ctx)
	}
	return c.ExportedFile.Stream(ctx)
}

// TestWhatIsImportedIsWhatWasVerified: a file that is exchanged in between is
// noticed.
func TestWhatIsImportedIsWhatWasVerified(t *testing.T) {
	l := opened(t, ledgertest.Options(&ledgertest.Memory{}))
	ledgertest.Fill(t, l, 3)
	file := exporting(t, l)
	raw, _ := os.ReadFile(file.Path)
	raw[len(raw)-20] ^= 1
	other := ledger.ExportedFile{Path: filepath.Join(t.TempDir(), "other")}
	if err := os.WriteFile(other.Path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	reads := 0
	m := &ledgertest.Memory{}
	if done, err := opened(t, ledgertest.Options(m)).Import(t.Context(), changing{file, &reads, other}, false, nil); err == nil || len(stateOf(t, m).Log) > 0 {
		t.Errorf("%+v, %v", done, err)
	}
}

// TestTheLedgerMovesToABranch and from there into a directory; it is larger than
// one file of a branch.
func TestTheLedgerMovesToABranch(t *testing.T) {
	l := opened(t, ledgertest.Options(&ledgertest.Memory{}))
	ledgertest.Fill(t, l, 90)
	branch := gitStore(bare(t), shm(t))
	there := opened(t, ledgertest.Options(branch))
	if done, err := there.Import(t.Context(), exporting(t, l), false, nil); err != nil || done.Added != 90 {
		t.Fatalf("%+v, %v", done, err)
	}
	ledgertest.Fill(t, there, 2)
	directory := ledger.NewFileStore(filepath.Join(t.TempDir(), "ledger"))
	home := opened(t, ledgertest.Options(directory))
	if done, err := home.Import(t.Context(), exporting(t, there), false, nil); err != nil || done.Added != 92 {
		t.Fatalf("%+v, %v", done, err)
	}
	if a, b := stateOf(t, branch), stateOf(t, directory); !bytes.Equal(a.Log, b.Log) || !bytes.Equal(a.Checkpoint, b.Checkpoint) {
		t.Fatal("branch and directory differ")
	}
}
