package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// TestADirectoryIsSyncedOnceForEachCheckpoint: whoever made the last checkpoint
// durable need not do it again; whoever only found it must.
func TestADirectoryIsSyncedOnceForEachCheckpoint(t *testing.T) {
	dir := memoryDir(t)
	var ops []string
	failing := false
	note := func(op string) error {
		ops = append(ops, op)
		if failing && op == "sync directory" && slices.Contains(ops, "rename") {
			return syscall.EIO
		}
		return nil
	}
	one, other := &fileStore{dir: dir, before: note}, &fileStore{dir: dir, before: note}
	short := []string{"write checkpoint.next", "write log", "sync checkpoint.next", "sync log", "rename", "sync directory"}
	long := append([]string{"sync directory"}, short...)
	for i, c := range []struct {
		store *fileStore
		fails bool
		want  []string
	}{
		{one, false, nil}, {one, false, short}, {one, false, short},
		{other, false, long}, {other, false, short}, // a checkpoint of somebody else's
		{one, false, long},
		{one, true, short}, {one, false, long}, // one that may not survive a power cut
	} {
		ops, failing = nil, c.fails
		size := int64(i)
		if err := put(t, c.store, fmt.Sprint(i), size); (err != nil) != c.fails {
			t.Fatalf("append %d: %v", i, err)
		}
		if c.want != nil && !slices.Equal(ops, c.want) {
			t.Errorf("append %d does\n%q\nwant\n%q", i, ops, c.want)
		}
	}
}

// TestBothFilesAreDurable: the log and the checkpoint, or the append fails and
// is taken back.
func TestBothFilesAreDurable(t *testing.T) {
	for _, fails := range []string{"", logFile, nextFile} {
		dir := memoryDir(t)
		if err := put(t, &fileStore{dir: dir}, "first", 0); err != nil {
			t.Fatal(err)
		}
		flushed := make(chan string, 2)
		err := put(t, &fileStore{dir: dir, flush: func(f *os.File) error {
			flushed <- filepath.Base(f.Name())
			if filepath.Base(f.Name()) == fails {
				return syscall.EIO
			}
			return f.Sync()
		}}, "second", 1)
		close(flushed)
		var got []string
		for name := range flushed {
			got = append(got, name)
		}
		if !slices.Contains(got, logFile) || !slices.Contains(got, nextFile) {
			t.Errorf("made durable: %q", got)
		}
		if n := len(get(t, dir)); (err != nil) != (fails != "") || n != 2 && fails == "" || n != 1 && fails != "" {
			t.Errorf("%q fails: %d records, %v", fails, n, err)
		}
	}
}
