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
	"sync"
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

	mu      sync.Mutex
	durable []byte // the checkpoint that was made durable here last

	// flush is what makes a file durable; nil is its Sync.
	flush func(*os.File) error
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

// ReadRange gives a part of the log.
func (s *fileStore) ReadRange(ctx context.Context, from, to int64) (State, bool, error) {
	unlock, err := s.share(ctx)
	if err != nil {
		return State{}, false, err
	}
	defer unlock()
	checkpoint, err := readBounded(s.path(checkpointFile), maxCheckpoint)
	if err != nil {
		return State{}, false, s.unreadable(err)
	}
	f, err := os.Open(s.path(logFile))
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, false, nil
	}
	if err != nil {
		return State{}, false, s.unreadable(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return State{}, false, s.unreadable(err)
	}
	if to < 0 {
		to = info.Size()
	}
	if from < 0 || from > to || to > info.Size() || to-from > maxLog {
		return State{}, false, nil
	}
	part := make([]byte, to-from)
	if _, err := f.ReadAt(part, from); err != nil {
		return State{}, false, s.unreadable(err)
	}
	return State{Log: part, Checkpoint: checkpoint}, true, nil
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

// hold takes the exclusive lock of a store that is as it was read.
func (s *fileStore) hold(ctx context.Context, from Position) (*flock.Flock, error) {
	lock := flock.New(s.path(lockFile), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o644))
	if err := s.acquire(ctx, lock.TryLockContext); err != nil {
		return nil, s.unwritable(err)
	}
	if err := s.unchanged(from); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return lock, nil
}

// Write appends under the exclusive lock. The checkpoint is written first: a
// full disk shows before the log is touched. Both are durable before the
// rename; which of them is first does not matter, so the disk is asked for both
// at once.
func (s *fileStore) Write(ctx context.Context, from Position, add, checkpoint []byte) error {
	if err := s.make(); err != nil {
		return s.unwritable(err)
	}
	lock, err := s.hold(ctx, from)
	if err != nil {
		return err
	}
	defer lock.Close()
	// A writer that was killed after its rename may have left the directory
	// unsynced; two appends without a durable checkpoint must never pile up.
	if !s.isDurable(from.Checkpoint) {
		if err := s.syncDir(s.dir); err != nil {
			return s.unwritable(err)
		}
	}
	next, err := s.begin(checkpoint)
	if err != nil {
		_ = os.Remove(s.path(nextFile))
		return s.unwritable(err)
	}
	defer next.Close()
	if err := s.extend(from, add, next); err != nil {
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
	s.mu.Lock()
	defer s.mu.Unlock()
	s.durable = bytes.Clone(checkpoint)
	return nil
}

// isDurable reports whether this process has made the checkpoint that was read
// durable itself: nobody has appended since.
func (s *fileStore) isDurable(checkpoint []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(checkpoint) > 0 && bytes.Equal(s.durable, checkpoint)
}

// begin writes the checkpoint, under a name of its own.
func (s *fileStore) begin(checkpoint []byte) (*os.File, error) {
	f, err := os.OpenFile(s.path(nextFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := s.write(f, checkpoint, 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// extend makes the log's bytes durable, and the checkpoint's.
func (s *fileStore) extend(from Position, add []byte, next *os.File) error {
	log, err := os.OpenFile(s.path(logFile), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	if from.Keep < from.Found {
		if err := s.step("truncate"); err != nil {
			return err
		}
		if err := log.Truncate(from.Keep); err != nil {
			return err
		}
	}
	if err := s.write(log, add, from.Keep); err != nil {
		return err
	}
	if err := s.syncBoth(next, log); err != nil {
		return err
	}
	if from.Found > 0 {
		return nil
	}
	return s.syncDir(s.dir) // the log's name is durable before a checkpoint's
}

// syncBoth asks the disk for two files at once: a journal takes them together.
func (s *fileStore) syncBoth(one, other *os.File) error {
	for _, f := range []*os.File{one, other} {
		if err := s.step("sync " + filepath.Base(f.Name())); err != nil {
			return err
		}
	}
	second := make(chan error, 1)
	flush := s.flush
	if flush == nil {
		flush = (*os.File).Sync
	}
	go func() { second <- flush(other) }()
	return errors.Join(flush(one), <-second)
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
	case errors.Is(err, syscall.EFBIG):
		hint = "raise the limit of a file's size (ulimit -f)"
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
