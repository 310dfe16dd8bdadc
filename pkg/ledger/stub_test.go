package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/promote-dev/promote/pkg/release"
)

func letting(list ...release.Range) release.Record {
	return release.Record{Phase: release.Compacted, Compaction: &release.Compaction{Ranges: list, Archive: release.DigestOf(nil), Bytes: 1, Before: time.Unix(1, 0).UTC()}}
}

// told gives a ledger with these records in a store.
func told(t *testing.T, s Store, records ...release.Record) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), plain(s))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := more(t, l, r); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func more(t *testing.T, l *Ledger, r release.Record) error {
	t.Helper()
	_, c, err := l.Read(t.Context())
	if err == nil {
		_, _, err = l.Append(t.Context(), r, c.TreeSize)
	}
	return err
}

func at(n int64) *int64 { return &n }

// everything is a history in which each kind of record stands that always stays,
// or stays as long as it says what is there: the last two deployments of
// staging, and an open intent.
var everything = []release.Record{
	{Phase: release.Released}, {Phase: release.Released}, {Phase: release.Frozen, Environment: "production"}, {Phase: release.Unfrozen, Environment: "production"},
	{Phase: release.Exception}, {Phase: release.BreakGlassed}, {Phase: release.Intended, Environment: "staging"},
	{Phase: release.Deployed, Environment: "staging", Intent: at(6)}, {Phase: release.Intended, Environment: "staging"},
	{Phase: release.Deployed, Environment: "staging", Intent: at(8)}, {Phase: release.Intended, Environment: "production"}, {Phase: release.Released},
}

// TestWhatAlwaysStays: nobody can have it taken out, whoever signs.
func TestWhatAlwaysStays(t *testing.T) {
	stays := map[int64]bool{2: true, 3: true, 4: true, 5: true, 9: true, 10: true}
	s := &fileStore{dir: memoryDir(t)}
	l := told(t, s, everything...)
	base, _ := s.Read(t.Context())
	for n := range int64(len(everything)) {
		err := more(t, l, letting(release.Range{From: n, To: n}))
		if want := stays[n] || n == 0; want != (err != nil) {
			t.Errorf("record %d, %s: %v", n, everything[n].Phase, err)
		}
		now, _ := s.Read(t.Context())
		if err := s.Write(t.Context(), Position{Found: int64(len(now.Log)), Keep: int64(len(base.Log)), Checkpoint: now.Checkpoint}, nil, base.Checkpoint); err != nil {
			t.Fatal(err)
		}
	}
	if err := more(t, l, letting(release.Range{From: 7, To: 8})); err != nil {
		t.Fatal(err)
	}
	if err := more(t, l, letting(release.Range{From: 12, To: 12})); err == nil {
		t.Error("a compacted record may go")
	}
}

var plainRecords = []release.Record{
	{Phase: release.Released}, {Phase: release.Released}, {Phase: release.Released}, {Phase: release.Released}, {Phase: release.Released}, {Phase: release.Released},
}

// TestWhatCompactedRecordsMaySay: one meaning, one spelling.
func TestWhatCompactedRecordsMaySay(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*release.Record)
		ok     bool
	}{
		"as it should be": {func(*release.Record) {}, true},
		"no record":       {func(r *release.Record) { r.Compaction.Ranges = nil }, false},
		"itself":          {func(r *release.Record) { r.Compaction.Ranges = release.Ranges{{From: 6, To: 6}} }, false},
		"what is to come": {func(r *release.Record) { r.Compaction.Ranges = release.Ranges{{From: 7, To: 9}} }, false},
		"backwards":       {func(r *release.Record) { r.Compaction.Ranges = release.Ranges{{From: 1, To: 0}} }, false},
		"out of order":    {func(r *release.Record) { r.Compaction.Ranges = release.Ranges{{From: 3, To: 3}, {From: 1, To: 1}} }, false},
		"twice":           {func(r *release.Record) { r.Compaction.Ranges = release.Ranges{{From: 1, To: 2}, {From: 2, To: 3}} }, false},
		"without a gap":   {func(r *release.Record) { r.Compaction.Ranges = release.Ranges{{From: 1, To: 2}, {From: 3, To: 3}} }, false},
		"negative":        {func(r *release.Record) { r.Compaction.Ranges = release.Ranges{{From: -3, To: 2}} }, false},
		"no archive":      {func(r *release.Record) { r.Compaction.Archive = release.Digest{} }, false},
		"an empty one":    {func(r *release.Record) { r.Compaction.Bytes = 0 }, false},
		"no time":         {func(r *release.Record) { r.Compaction.Before = time.Time{} }, false},
		"nothing":         {func(r *release.Record) { r.Compaction = nil }, false},
		"another phase":   {func(r *release.Record) { r.Phase = release.Watched }, false},
	} {
		l := told(t, &fileStore{dir: memoryDir(t)}, plainRecords...)
		r := letting(release.Range{From: 1, To: 1})
		c.change(&r)
		if err := more(t, l, r); c.ok != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStubsHaveOneSpelling: what reads like one is a stub or no line at all.
func TestStubsHaveOneSpelling(t *testing.T) {
	leaf := tlog.RecordHash([]byte("line"))
	good := string(stubFor(leaf))
	if got, ok := stubOf([]byte(good)); !ok || got != leaf || leafOf([]byte(good)) != leaf || len(good) != stubLength {
		t.Fatalf("%s reads as %x, %v", good, got, ok)
	}
	for _, other := range []string{
		"", good + " ", " " + good, strings.ToUpper(good), strings.Replace(good, "stub", "Stub", 1), strings.Replace(good, ":", ": ", 1),
		good[:len(good)-3] + `G"}`, good[:len(good)-3] + `"}`, good[:len(good)-2] + `0"}`, strings.Replace(good, "sha256:", "sha256-", 1),
		`{"stub":"sha256:` + strings.ToUpper(good[len(stubBegins):]),
	} {
		if _, ok := stubOf([]byte(other)); ok && other != good {
			t.Errorf("%q is taken for a stub", other)
		}
		if other != good && leafOf([]byte(other)) == leaf {
			t.Errorf("%q stands for the same line", other)
		}
	}
}

// TestKilledWhileCompacting kills the exchange of the log ahead of each change
// of the disk. What is read afterwards is the log with all lines or the one
// without; doing it again ends it.
func TestKilledWhileCompacting(t *testing.T) {
	for i := range 20 {
		dir := memoryDir(t)
		told(t, &fileStore{dir: dir}, append(everything[:10:10], letting(release.Range{From: 6, To: 7}))...)
		whole := readFile(t, dir, logFile)
		n := 0
		dying := told(t, &fileStore{dir: dir, before: func(string) error {
			if n++; n > i {
				panic(killed{})
			}
			return nil
		}})
		ended := func() (ended bool) {
			defer func() { _, was := recover().(killed); ended = !was }()
			_, err := dying.Strip(t.Context())
			return err == nil
		}()
		now := readFile(t, dir, logFile)
		if h := get(t, dir); len(h) != 11 || !bytes.Equal(now, whole) && bytes.Count(now, []byte("stub")) != 2 {
			t.Fatalf("killed at step %d: %d records", i, len(h))
		}
		if err := put(t, &fileStore{dir: dir}, "next", 11); err != nil {
			t.Fatal(err)
		}
		if done, err := told(t, &fileStore{dir: dir}).Strip(t.Context()); err != nil || done.Records > 0 != bytes.Equal(now, whole) {
			t.Fatalf("killed at step %d: again: %+v, %v", i, done, err)
		}
		if files, _ := os.ReadDir(dir); len(files) > 3 {
			t.Errorf("killed at step %d: left behind: %v", i, files)
		}
		if ended {
			if i < 4 {
				t.Errorf("it took only %d steps", i)
			}
			return
		}
	}
	t.Fatal("it never ends")
}

// TestCompactingLeavesWhatIsBehind: an append that was interrupted is not
// decided by it.
func TestCompactingLeavesWhatIsBehind(t *testing.T) {
	dir := memoryDir(t)
	s := &fileStore{dir: dir}
	told(t, s, append(everything[:10:10], letting(release.Range{From: 6, To: 7}))...)
	before := readFile(t, dir, checkpointFile)
	if err := put(t, s, "interrupted", 11); err != nil {
		t.Fatal(err)
	}
	rewrite(t, dir, checkpointFile, before)
	if done, err := told(t, &fileStore{dir: dir}).Strip(t.Context()); err != nil || done.Records != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	l := told(t, &fileStore{dir: dir})
	if settled, err := l.Settle(t.Context()); !settled || err != nil {
		t.Fatalf("settled %t, %v", settled, err)
	}
	if h, _, err := l.Read(t.Context()); err != nil || len(h) != 12 || h[11].Record.Reason != "interrupted" {
		t.Errorf("%d records, %v", len(h), err)
	}
}

// TestWhatNobodyCouldReadIsNotWritten: a record lets an intent go, and not what
// closes it.
func TestWhatNobodyCouldReadIsNotWritten(t *testing.T) {
	dir := memoryDir(t)
	l := told(t, &fileStore{dir: dir}, append(everything[:10:10], letting(release.Range{From: 6, To: 6}))...)
	whole := readFile(t, dir, logFile)
	if _, err := l.Strip(t.Context()); err == nil || !bytes.Equal(readFile(t, dir, logFile), whole) {
		t.Errorf("the log was changed: %v", err)
	}
}

// TestCompactingOnAFailingDisk changes nothing unless it says that it did.
func TestCompactingOnAFailingDisk(t *testing.T) {
	dir := memoryDir(t)
	told(t, &fileStore{dir: dir}, append(everything[:10:10], letting(release.Range{From: 6, To: 7}))...)
	whole := readFile(t, dir, logFile)
	for _, op := range []string{"write log.next", "sync log.next", "rename log"} {
		cause := errors.New("the disk is full")
		l := told(t, &fileStore{dir: dir, before: func(at string) error {
			if at == op {
				return cause
			}
			return nil
		}})
		if _, err := l.Strip(t.Context()); !errors.Is(err, cause) || release.KindOf(err) != release.KindUnavailable {
			t.Errorf("%s: %v", op, err)
		}
		if _, err := os.Stat(filepath.Join(dir, rewrittenFile)); err == nil || !bytes.Equal(readFile(t, dir, logFile), whole) {
			t.Errorf("%s: something is left, or the log is another one", op)
		}
	}
}

// TestHiddenRecords: a line that nobody let go is missed by everybody, and so is
// one without which others mean nothing.
func TestHiddenRecords(t *testing.T) {
	dir := memoryDir(t)
	l := told(t, &fileStore{dir: dir}, append(everything[:10:10], letting(release.Range{From: 6, To: 7}))...)
	lines := bytes.SplitAfter(readFile(t, dir, logFile), []byte{'\n'})
	lines = lines[:len(lines)-1]
	hide := func(list ...int) {
		var log []byte
		for n, line := range lines {
			if slices.Contains(list, n) {
				line = append(stubFor(tlog.RecordHash(line[:len(line)-1])), '\n')
			}
			log = append(log, line...)
		}
		rewrite(t, dir, logFile, log)
	}
	try := func(rule string, list ...int) {
		t.Helper()
		hide(list...)
		for name, l := range map[string]*Ledger{"one that knew it": l, "a new one": told(t, &fileStore{dir: dir})} {
			if _, _, err := l.Read(t.Context()); rule == "" != (err == nil) || err != nil && release.KindOf(err) != release.KindIntegrity {
				t.Errorf("%s, stubs %v: %v", name, list, err)
			}
		}
		found, err := told(t, &fileStore{dir: dir}).Audit(t.Context(), nil, AuditOptions{})
		if err != nil || rule == "" != (found.Result == "passed") || rule == "" && found.Compacted != int64(len(list)) {
			t.Errorf("stubs %v: the audit says %+v, %v", list, found, err)
		}
		if rule != "" && !slices.ContainsFunc(found.Findings, func(f release.LedgerFinding) bool { return f.Rule == rule }) {
			t.Errorf("stubs %v: the audit says %+v, want %s", list, found.Findings, rule)
		}
	}
	try("", 6, 7)
	try("", 7)
	try("")
	try(release.AuditOrder, 6) // what closes it is there
	for n := range lines {
		if n != 6 && n != 7 {
			try(release.AuditCompaction, n)
			try(release.AuditCompaction, 6, 7, n)
		}
	}
}

// TestAnArchiveShowsWhatWasHidden: a promoter can sign that a freeze may go, and
// once its line is gone a log does not show that it was one. Who holds the
// archive does.
func TestAnArchiveShowsWhatWasHidden(t *testing.T) {
	o := plain(nil)
	var lines [][]byte
	var last release.Digest
	add := func(r release.Record) {
		lines = append(lines, seal(t, o, PayloadTypeRecord, payload(t, func(to *release.Record) {
			*to = r
			to.SchemaVersion, to.Sequence, to.Previous = 1, int64(len(lines)), last
		})))
		last = LeafHash(lines[len(lines)-1])
	}
	for _, r := range []release.Record{{Phase: release.Released}, {Phase: release.Released}, {Phase: release.Frozen, Environment: "production"}, {Phase: release.Released}} {
		add(r)
	}
	archive := craft(t, o, lines...)
	var files []Source
	for n, text := range [][]byte{bytes.Join([][]byte{archive.Checkpoint, archive.Log}, []byte{'\n'}), bytes.Replace(archive.Log, []byte(`"sig":"`), []byte(`"sig":"A`), 1)} {
		file := ExportedFile{filepath.Join(t.TempDir(), fmt.Sprint(n))}
		if err := os.WriteFile(file.Path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	for name, c := range map[string]struct {
		goes     release.Range
		archives []Source
		archived int64
		rule     string
	}{
		"a release":                    {release.Range{From: 1, To: 1}, files[:1], 1, ""},
		"a release, no archive":        {release.Range{From: 1, To: 1}, nil, 0, ""},
		"a release, a damaged archive": {release.Range{From: 1, To: 1}, files, 1, release.AuditCheckpoint},
		"a freeze, no archive":         {release.Range{From: 2, To: 2}, nil, 0, ""},
		"a freeze":                     {release.Range{From: 1, To: 3}, files[:1], 3, release.AuditCompaction},
	} {
		lines, last = lines[:4:4], LeafHash(lines[3])
		add(letting(c.goes))
		state := craft(t, o, lines...)
		sound := told(t, &crafted{state})
		if _, _, err := sound.Read(t.Context()); (err != nil) != (c.goes.To >= 2) {
			t.Errorf("%s: with all lines: %v", name, err)
		}
		for n := c.goes.From; n <= c.goes.To; n++ {
			state.Log = bytes.Replace(state.Log, lines[n], stubFor(tlog.RecordHash(lines[n])), 1)
		}
		found, err := told(t, &crafted{state}).Audit(t.Context(), nil, AuditOptions{Archives: c.archives})
		if err != nil || found.Archived != c.archived || (c.rule == "") != (found.Result == "passed") || c.rule != "" && found.Findings[0].Rule != c.rule {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
		own := ExportedFile{filepath.Join(t.TempDir(), "own")} // it lacks the same lines
		if err := os.WriteFile(own.Path, bytes.Join([][]byte{state.Checkpoint, state.Log}, []byte{'\n'}), 0o600); err != nil {
			t.Fatal(err)
		}
		if found, err := told(t, &crafted{state}).Audit(t.Context(), nil, AuditOptions{Archives: []Source{own}}); err != nil || found.Archived != 0 || found.Result != "passed" {
			t.Errorf("%s: by itself: %+v, %v", name, found, err)
		}
	}
}

// TestTheAuditRemembersWhatWent: lines that it found good and that were taken out
// since need no archive, and what must stay is known.
func TestTheAuditRemembersWhatWent(t *testing.T) {
	s := &fileStore{dir: memoryDir(t)}
	o := plain(s)
	o.Cache, o.Trust, o.Secret = t.TempDir(), release.DigestOf([]byte("trust")), func() []byte { return []byte("secret") }
	told(t, s, everything[:10]...)
	audit := func(verified, remembered, compacted int64, anew bool) {
		t.Helper()
		l, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		found, err := l.Audit(t.Context(), nil, AuditOptions{Anew: anew})
		if err != nil || found.Result != "passed" || found.Verified != verified || found.Remembered != remembered || found.Compacted != compacted {
			t.Fatalf("%+v, %v", found, err)
		}
	}
	audit(10, 0, 0, false)
	good := readFile(t, s.dir, logFile)
	first, rest, _ := bytes.Cut(good, []byte{'\n'})
	second, rest, _ := bytes.Cut(rest, []byte{'\n'})
	rewrite(t, s.dir, logFile, bytes.Join([][]byte{first, stubFor(tlog.RecordHash(second)), rest}, []byte{'\n'}))
	l, _ := Open(t.Context(), o)
	if found, err := l.Audit(t.Context(), nil, AuditOptions{}); err != nil || len(found.Findings) != 1 || found.Findings[0].Rule != release.AuditCompaction || found.Remembered != 9 {
		t.Fatalf("a line that was found good is hidden: %+v, %v", found, err)
	}
	rewrite(t, s.dir, logFile, good)
	l = told(t, s, letting(release.Range{From: 6, To: 7}))
	if _, err := l.Strip(t.Context()); err != nil {
		t.Fatal(err)
	}
	audit(1, 8, 2, false)
	audit(0, 9, 2, false)
	audit(9, 0, 2, true)
	line := seal(t, o, PayloadTypeRecord, payload(t, func(r *release.Record) { // it names an exception
		*r = letting(release.Range{From: 4, To: 4})
		r.SchemaVersion, r.Sequence, r.Previous = 1, 11, l.tip.last()
	}))
	log := bytes.Split(bytes.TrimSuffix(readFile(t, s.dir, logFile), []byte{'\n'}), []byte{'\n'})
	o.Store = &crafted{craft(t, o, append(log, line)...)}
	for _, anew := range []bool{false, true} {
		l, _ := Open(t.Context(), o)
		found, err := l.Audit(t.Context(), nil, AuditOptions{Anew: anew})
		if err != nil || len(found.Findings) == 0 || found.Findings[0].Rule != release.AuditCompaction || found.Remembered > 0 == anew {
			t.Errorf("%+v, %v", found, err)
		}
	}
}
