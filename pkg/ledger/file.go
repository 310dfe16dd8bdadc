package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/promote-dev/promote/pkg/release"
)

// The files of a file ledger.
const (
	logFile        = "log"
	checkpointFile = "checkpoint"
	nextFile       = "checkpoint.next"
	lockFile       = "lock"
	beatsDir       = "heartbeats"
)

// lockWait bounds how long a reader or writer waits for another one, which
// holds the lock for some milliseconds.
const lockWait = 10 * time.Second

// fileStore keeps a ledger in a directory of a local file system. The rename
// of the checkpoint is the moment at which an append counts.
type fileStore struct {
	dir string
	// before is called ahead of each change of the disk; tests let it fail.
	before func(op string) error
}

func (s *fileStore) String() string { return s.dir }

func (s *fileStore) path(name string) string { return filepath.Join(s.dir, name) }

func (s *fileStore) step(op string) error {
	if s.before == nil {
		return nil
	}
	return s.before(op)
}

// Read takes the lock shared, so that it never sees half an append.
func (s *fileStore) Read(ctx context.Context) (State, error) {
	unlock, err := s.share(ctx)
	if err != nil {
		return State{}, err
	}
	defer unlock()
	log, err := readBounded(s.path(logFile), maxLog)
	if err != nil {
		return State{}, s.unreadable(err)
	}
	checkpoint, err := readBounded(s.path(checkpointFile), maxCheckpoint)
	if err != nil {
		return State{}, s.unreadable(err)
	}
	return State{Log: log, Checkpoint: checkpoint}, nil
}

// share takes the lock shared. Without a lock file nobody has written yet.
func (s *fileStore) share(ctx context.Context) (unlock func(), err error) {
	lock := flock.New(s.path(lockFile), flock.SetFlag(os.O_RDONLY))
	err = s.acquire(ctx, lock.TryRLockContext)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return func() {}, nil
	case err != nil:
		return nil, s.unreadable(err)
	}
	return func() { _ = lock.Close() }, nil
}

// Write appends under the exclusive lock. Space for the checkpoint is taken
// first: a full disk shows before the log is touched.
func (s *fileStore) Write(ctx context.Context, from Position, add, checkpoint []byte) error {
	if err := s.make(); err != nil {
		return s.unwritable(err)
	}
	lock := flock.New(s.path(lockFile), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o644))
	if err := s.acquire(ctx, lock.TryLockContext); err != nil {
		return s.unwritable(err)
	}
	defer lock.Close()
	if err := s.unchanged(from); err != nil {
		return err
	}
	// A writer that was killed after its rename may have left the directory
	// unsynced; two appends without a durable checkpoint must never pile up.
	if err := s.syncDir(s.dir); err != nil {
		return s.unwritable(err)
	}
	if err := s.writeFile(nextFile, checkpoint); err != nil {
		_ = os.Remove(s.path(nextFile))
		return s.unwritable(err)
	}
	if err := s.extend(from, add); err != nil {
		return s.undo(from, err)
	}
	if err := s.step("rename"); err != nil {
		return s.undo(from, err)
	}
	if err := os.Rename(s.path(nextFile), s.path(checkpointFile)); err != nil {
		return s.undo(from, err)
	}
	if err := s.syncDir(s.dir); err != nil {
		return release.Unavailable("run the command again: it reads what is there and goes on from it",
			"appending to the ledger %s: the record is written, but may not survive a power cut: %w", s.dir, err)
	}
	return nil
}

// make creates the directory and what is missing above it, durably.
func (s *fileStore) make() error {
	if _, err := os.Stat(s.dir); err == nil {
		return nil
	}
	if err := s.step("mkdir"); err != nil {
		return err
	}
	there := filepath.Dir(s.dir) // the nearest directory that exists already
	for there != filepath.Dir(there) {
		if _, err := os.Stat(there); err == nil {
			break
		}
		there = filepath.Dir(there)
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	for dir := filepath.Dir(s.dir); ; dir = filepath.Dir(dir) {
		if err := s.syncDir(dir); err != nil || dir == there || dir == filepath.Dir(dir) {
			return err
		}
	}
}

// acquire waits for the lock.
func (s *fileStore) acquire(ctx context.Context, try func(context.Context, time.Duration) (bool, error)) error {
	waiting, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	_, err := try(waiting, time.Millisecond)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("waiting for the lock of the ledger %s: %w", s.dir, ctx.Err())
	case errors.Is(err, context.DeadlineExceeded):
		return release.Unavailable("a process that stands still holds it; fuser "+s.path(lockFile)+" names it",
			"waiting for the lock of the ledger %s: not free within %s", s.dir, lockWait)
	}
	return err
}

// unchanged reports whether the store is still what the caller read.
func (s *fileStore) unchanged(from Position) error {
	checkpoint, err := readBounded(s.path(checkpointFile), maxCheckpoint)
	if err != nil {
		return s.unreadable(err)
	}
	var size int64
	switch info, err := os.Stat(s.path(logFile)); {
	case err == nil:
		size = info.Size()
	case !errors.Is(err, fs.ErrNotExist):
		return s.unreadable(err)
	}
	if size != from.Found || !bytes.Equal(checkpoint, from.Checkpoint) {
		return release.Unavailable("somebody else appended at the same time; run the command again",
			"appending to the ledger %s: %w", s.dir, ErrMoved)
	}
	return nil
}

// extend makes the log's bytes durable.
func (s *fileStore) extend(from Position, add []byte) error {
	f, err := os.OpenFile(s.path(logFile), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if from.Keep < from.Found {
		if err := s.step("truncate"); err != nil {
			return err
		}
		if err := f.Truncate(from.Keep); err != nil {
			return err
		}
	}
	if err := s.write(f, add, from.Keep); err != nil {
		return err
	}
	if err := s.sync(f); err != nil {
		return err
	}
	if from.Found > 0 {
		return nil
	}
	return s.syncDir(s.dir) // the log's name is durable before a checkpoint's
}

// undo takes a failed append back. The log then ends where it ended before;
// where even that fails, the next append settles what is left.
func (s *fileStore) undo(from Position, cause error) error {
	_ = os.Remove(s.path(nextFile))
	err := os.Truncate(s.path(logFile), min(from.Keep, from.Found))
	if err == nil {
		var f *os.File
		if f, err = os.OpenFile(s.path(logFile), os.O_WRONLY, 0); err == nil {
			err = errors.Join(s.sync(f), f.Close())
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		cause = fmt.Errorf("%w (and taking it back: %w; the record may come to count later)", cause, err)
	}
	return s.unwritable(cause)
}

func (s *fileStore) writeFile(name string, content []byte) error {
	f, err := os.OpenFile(s.path(name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.write(f, content, 0); err != nil {
		return err
	}
	return s.sync(f)
}

// write lets tests tear a write in the middle.
func (s *fileStore) write(f *os.File, content []byte, at int64) error {
	half := len(content) / 2
	if _, err := f.WriteAt(content[:half], at); err != nil {
		return err
	}
	if err := s.step("write " + filepath.Base(f.Name())); err != nil {
		return err
	}
	_, err := f.WriteAt(content[half:], at+int64(half))
	return err
}

func (s *fileStore) sync(f *os.File) error {
	if err := s.step("sync " + filepath.Base(f.Name())); err != nil {
		return err
	}
	return f.Sync()
}

func (s *fileStore) syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.step("sync directory"); err != nil {
		return err
	}
	return f.Sync()
}

// Beat replaces the counter's file; it is not synced.
func (s *fileStore) Beat(_ context.Context, intent, count int64) error {
	path := s.path(filepath.Join(beatsDir, strconv.FormatInt(intent, 10)))
	if count == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.unwritable(err)
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return s.unwritable(err)
	}
	if err := os.WriteFile(path+".next", []byte(strconv.FormatInt(count, 10)), 0o644); err != nil {
		return s.unwritable(err)
	}
	if err := os.Rename(path+".next", path); err != nil {
		return s.unwritable(err)
	}
	return nil
}

// Beats reads the counter's file. One that cannot be understood counts as
// zero: it does not move.
func (s *fileStore) Beats(_ context.Context, intent int64) (int64, error) {
	raw, err := readBounded(s.path(filepath.Join(beatsDir, strconv.FormatInt(intent, 10))), 64)
	if err != nil {
		return 0, s.unreadable(err)
	}
	count, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil {
		return 0, nil
	}
	return count, nil
}

// readBounded gives a file's bytes; a file that is absent is empty.
func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > most {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return raw, nil
}

func (s *fileStore) unreadable(err error) error {
	if release.KindOf(err) != release.KindInternal {
		return err
	}
	return release.Unavailable("check that "+s.dir+" is a directory that you may read", "reading the ledger %s: %w", s.dir, err)
}

func (s *fileStore) unwritable(err error) error {
	if release.KindOf(err) != release.KindInternal {
		return err
	}
	hint := "check that " + s.dir + " is a directory that you may write"
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		hint = "free some space under " + s.dir + ""
	case errors.Is(err, syscall.EROFS):
		hint = s.dir + " lies on a read-only file system; mount it writable, or set ledger.file in promote.yaml"
	case errors.Is(err, syscall.EIO):
		hint = "the disk under " + s.dir + " fails; look at the kernel's log before you go on"
	}
	return release.Unavailable(hint, "appending to the ledger %s: %w", s.dir, err)
}

// NewFileStore gives the store that Options.Dir stands for: a directory of a
// file system with flock and atomic renames.
func NewFileStore(dir string) Store { return &fileStore{dir: dir} }
