package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/promote-dev/promote/pkg/release"
)

// The parts of a git store's cache.
const (
	repositoryDir = "repository" // bare, shallow: objects of the newest commit
	copyFile      = "log"        // the log's bytes, checked against the segments' ids
	askedFile     = "asked"      // its time is when the repository was last asked
	gitBeatsDir   = "heartbeats" // bare: what moves counters
)

// Refs of the cache's repository.
const (
	seenRef    = "refs/promote/seen" // the branch as last read or written
	fetchedRef = "refs/promote/fetched"
	nextRef    = "refs/promote/next"
)

// cacheWait bounds how long a process waits for another one of this user that
// fetches the same ledger, or pushes to it.
const cacheWait = 2 * time.Minute

// damagedError is a cache that cannot be made sense of. What it held is at the
// repository.
type damagedError struct{ error }

func (e *damagedError) Unwrap() error { return e.error }

func (s *gitStore) repository() string { return filepath.Join(s.dir(), repositoryDir) }

// lock keeps other processes of this machine from the cache.
func (s *gitStore) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(s.dir(), 0o700); err != nil {
		return nil, s.uncached(err)
	}
	path := filepath.Join(s.dir(), lockFile)
	lock := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	waiting, cancel := context.WithTimeout(ctx, cacheWait)
	defer cancel()
	_, err = lock.TryLockContext(waiting, 2*time.Millisecond)
	switch {
	case err == nil:
		return func() { _ = lock.Close() }, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return nil, release.Unavailable("a process that stands still holds it; fuser "+path+" names it", "the cache %s was not free within %s", s.dir(), cacheWait)
	}
	return nil, s.uncached(err)
}

// uncached is the fault of a cache directory that does not do.
func (s *gitStore) uncached(err error) error {
	hint := "check that " + s.o.Cache + " is a directory that you may write, or set XDG_CACHE_HOME to another place"
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		hint = "free some space under " + s.o.Cache + ", or set XDG_CACHE_HOME to another place"
	}
	return release.Unavailable(hint, "keeping the ledger's cache: %w", err)
}

// prepare makes the cache's repository if there is none, or one of another
// hash: id is one of the remote's.
func (s *gitStore) prepare(ctx context.Context, id string) error {
	format := formatOf(id)
	switch has, err := s.format(ctx); {
	case err != nil:
		return err
	case has == format, has != "" && id == "":
		return nil
	case has != "":
		if err := s.wipe(ctx); err != nil {
			return err
		}
	}
	return s.local(initBare(ctx, s.repository(), id))
}

// initBare makes a bare repository for objects with ids like that one.
func initBare(ctx context.Context, dir, id string) error {
	_, err := call{args: []string{"init", "--quiet", "--bare", "--template=", "--object-format=" + formatOf(id), dir}, limit: localTime}.run(ctx)
	return err
}

// formatOf gives the hash that an object id was made with.
func formatOf(id string) string {
	if len(id) == 64 {
		return "sha256"
	}
	return "sha1"
}

// format gives the hash of the cache's repository; empty: there is none.
func (s *gitStore) format(ctx context.Context) (string, error) {
	if _, err := os.Stat(s.repository()); errors.Is(err, fs.ErrNotExist) {
		s.hash = ""
		return "", nil
	}
	if s.hash == "" {
		out, err := s.at(localTime, "rev-parse", "--show-object-format").run(ctx)
		if err != nil {
			return "", s.local(err)
		}
		s.hash = strings.TrimSpace(string(out))
	}
	return s.hash, nil
}

// local tells what a run of git that touches the cache only failed from: the
// disk, or that the cache is damaged.
func (s *gitStore) local(err error) error {
	var failed *gitError
	if !errors.As(err, &failed) || failed.late {
		return err
	}
	for said, cause := range map[string]error{
		"No space left on device": syscall.ENOSPC, "Disk quota exceeded": syscall.EDQUOT,
		"Read-only file system": syscall.EROFS, "Permission denied": syscall.EACCES,
	} {
		if strings.Contains(failed.said, said) {
			return s.uncached(fmt.Errorf("%w (%w)", err, cause))
		}
	}
	return &damagedError{err}
}

// wipe makes the cache empty. Directories are renamed first: what a process
// that was killed left running goes on elsewhere.
func (s *gitStore) wipe(ctx context.Context) error {
	s.tip, s.hash = nil, ""
	old, err := os.MkdirTemp(s.dir(), "old-")
	if err != nil {
		return s.uncached(err)
	}
	for _, name := range []string{repositoryDir, copyFile} {
		if err := os.Rename(filepath.Join(s.dir(), name), filepath.Join(old, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.uncached(err)
		}
	}
	if err := os.RemoveAll(old); err != nil {
		return s.uncached(err)
	}
	return ctx.Err()
}

// seen gives the commit at which the branch was last read or written.
func (s *gitStore) seen(ctx context.Context) (string, error) {
	if format, err := s.format(ctx); err != nil || format == "" {
		return "", err
	}
	id, err := s.commitOf(ctx, seenRef)
	return id, s.local(err)
}

// see remembers that the branch is at t.
func (s *gitStore) see(ctx context.Context, t *tip, before string) error {
	if t.commit == before {
		return nil
	}
	_, err := s.at(localTime, "update-ref", seenRef, t.commit).run(ctx)
	s.tidy(ctx)
	return s.local(err)
}

// remember makes what was pushed the newest state that is known. Nothing
// depends on it: what fails is fetched the next time.
func (s *gitStore) remember(ctx context.Context, next *tip, keep int64) {
	s.tip = next
	_ = s.see(ctx, next, "")
	s.copyLog(next.log, keep)
}

// asked gives the time when the repository was last asked.
func (s *gitStore) asked() time.Time {
	info, err := os.Stat(filepath.Join(s.dir(), askedFile))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

func (s *gitStore) askedNow() {
	if !s.place().local {
		_ = os.WriteFile(filepath.Join(s.dir(), askedFile), nil, 0o600) // only a time to show
	}
}

// unlockStale removes the lock of a fetch that was killed: whoever holds the
// cache's lock knows that no other one goes on for long.
func (s *gitStore) unlockStale() {
	path := filepath.Join(s.repository(), "shallow.lock")
	if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > time.Minute {
		_ = os.Remove(path)
	}
}

// copyLog brings the copy of the log up to date, whose first keep bytes are
// right. It is checked when it is read, and not needed.
func (s *gitStore) copyLog(log []byte, keep int64) {
	f, err := os.OpenFile(filepath.Join(s.dir(), copyFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	if _, err := f.WriteAt(log[keep:], keep); err == nil {
		_ = f.Truncate(int64(len(log)))
	}
}

// Housekeeping of the cache's repository, by what lies in one of its 256
// directories of loose objects, as git's own does.
const (
	crowded  = 24 // about 6000 loose objects
	packsTo  = 32
	sampleOf = "17"
)

// tidy drops what older commits left behind. It takes time by what is new.
func (s *gitStore) tidy(ctx context.Context) {
	loose, _ := filepath.Glob(filepath.Join(s.repository(), "objects", sampleOf, "*"))
	packs, _ := filepath.Glob(filepath.Join(s.repository(), "objects", "pack", "*.pack"))
	if len(loose) < crowded && len(packs) < packsTo {
		return
	}
	repack := []string{"repack", "-d", "-q"}
	if len(packs) >= packsTo {
		repack = []string{"repack", "-a", "-d", "-q"}
	}
	if _, err := s.at(localTime, "prune", "--expire=now").run(ctx); err == nil {
		_, _ = s.at(localTime, repack...).run(ctx)
	}
}

// batch reads objects of the cache's repository, in the order of their names.
// A name that is not there gives nil.
func (s *gitStore) batch(ctx context.Context, most int64, names ...string) ([][]byte, error) {
	c := s.at(localTime, "cat-file", "--batch")
	c.stdin = strings.NewReader(strings.Join(names, "\n") + "\n")
	c.most = most + int64(len(names))*128
	out, err := c.run(ctx)
	var excess *excessError
	if errors.As(err, &excess) {
		return nil, &foreignError{fmt.Errorf("%s is larger than %d bytes", strings.Join(names, " or "), most)}
	}
	if err != nil {
		return nil, s.local(err)
	}
	objects := make([][]byte, len(names))
	for i, name := range names {
		head, rest, ok := bytes.Cut(out, []byte("\n"))
		if string(head) == name+" missing" {
			out = rest
			continue
		}
		var id, kind string
		var size int
		if n, _ := fmt.Sscan(string(head), &id, &kind, &size); !ok || n != 3 || size < 0 || size >= len(rest) {
			return nil, &damagedError{fmt.Errorf("git cat-file answers %.80q for %s", head, name)}
		}
		objects[i], out = rest[:size:size], rest[size+1:]
		if kind != "blob" {
			return nil, &foreignError{fmt.Errorf("%s is a %s", name, kind)}
		}
	}
	return objects, nil
}
