package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// GitOptions says where a git store is.
type GitOptions struct {
	// Dir is the directory that Remote is understood from: in a checkout its
	// remotes count, and what it configures about transport and credentials.
	// Nothing is ever written there.
	Dir string
	// Remote is the name of one of the checkout's remotes, a URL, or a path.
	Remote string
	// Branch is the ledger's own branch, without refs/heads/.
	Branch string
	// Cache is a directory of this machine, private to the user. What is in it
	// can be lost: it is fetched again. It also remembers what the branch held
	// when it was last read, so that a rewritten one is noticed.
	Cache string
	// Offline reads what the cache holds, and asks no other machine. A remote
	// on this one is read as always.
	Offline bool
}

// gitStore keeps a ledger in a branch of a git repository. The update of the
// branch, compared and swapped by the repository that holds it, is the moment
// at which an append counts.
type gitStore struct {
	o GitOptions

	mu    sync.Mutex // one operation on the log at a time; heartbeats go beside
	tip   *tip       // the branch as last read or written here; nil is unknown
	hash  string     // of the cache's repository; empty is unknown
	setup struct {
		sync.Mutex
		done    bool
		place   place
		version [2]int
	}
	beats gitBeats
	grace time.Duration // how long a push goes on after a signal
}

// NewGitStore gives a store in a branch of a git repository. It asks nothing
// yet: what is wrong with the place shows when it is first used.
func NewGitStore(o GitOptions) Store { return &gitStore{o: o, grace: pushGrace} }

// String names the branch and its repository, without credentials.
func (s *gitStore) String() string {
	return "branch " + s.o.Branch + " of " + withoutCredentials(s.o.Remote)
}

// Read asks the repository where the branch stands, and fetches what is new.
func (s *gitStore) Read(ctx context.Context) (State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.current(ctx)
	if err != nil {
		return State{}, s.unreadable(ctx, err)
	}
	return t.state(), nil
}

// ReadRange gives a part of what Read gives.
func (s *gitStore) ReadRange(ctx context.Context, from, to int64) (State, bool, error) {
	state, err := s.Read(ctx)
	if to < 0 {
		to = int64(len(state.Log))
	}
	if err != nil || from > to || to > int64(len(state.Log)) {
		return State{}, false, err
	}
	state.Log = state.Log[from:to:to]
	return state, true, nil
}

// Write makes a commit in the cache and pushes it, on the condition that the
// branch still is the commit that was read.
func (s *gitStore) Write(ctx context.Context, from Position, add, checkpoint []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unwritable(ctx, s.write(ctx, from, checkpoint, func([]byte) (int64, []byte) { return from.Keep, add }))
}

// Rewrite is a commit like every other one: what it takes out of the log stays
// in the commits below, which nobody needs to fetch.
func (s *gitStore) Rewrite(ctx context.Context, from Position, log []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unwritable(ctx, s.write(ctx, from, from.Checkpoint, func(base []byte) (int64, []byte) {
		same := 0
		for same < min(len(base), len(log)) && base[same] == log[same] {
			same++
		}
		return int64(same), log[same:]
	}))
}

// write makes the branch's next commit. change says how much of the log stays,
// and what comes behind that.
func (s *gitStore) write(ctx context.Context, from Position, checkpoint []byte, change func(log []byte) (keep int64, add []byte)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.tip == nil || !s.tip.is(from) {
		if _, err := s.current(ctx); err != nil {
			return err
		}
	}
	base := s.tip
	if !base.is(from) {
		return s.moved()
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	if s.asleep() {
		return release.Misuse("leave --offline away", "writing needs the repository")
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	keep, add := change(base.log)
	next, err := s.commit(ctx, base, keep, add, checkpoint)
	if err != nil {
		return err
	}
	s.tip = nil // until it is known which one is in force
	if err := s.publish(ctx, base, next); err != nil {
		return err
	}
	s.remember(context.WithoutCancel(ctx), next, keep)
	return nil
}

// tip is the branch at one commit.
type tip struct {
	commit     string // empty: there is no branch
	segments   []segment
	log        []byte
	checkpoint []byte
}

func (t *tip) is(from Position) bool {
	return int64(len(t.log)) == from.Found && bytes.Equal(t.checkpoint, from.Checkpoint)
}

// state gives the bytes to read; appending to them copies them.
func (t *tip) state() State {
	return State{Log: t.log[:len(t.log):len(t.log)], Checkpoint: bytes.Clone(t.checkpoint)}
}

// current gives the branch as it is now.
func (s *gitStore) current(ctx context.Context) (*tip, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	if s.asleep() {
		return s.remembered(ctx)
	}
	head, err := s.look(ctx, s.ref())
	if err != nil {
		return nil, err
	}
	s.askedNow()
	if s.tip != nil && s.tip.commit == head {
		return s.tip, nil
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	t, err := s.catchUp(ctx, head)
	var damaged *damagedError
	if errors.As(err, &damaged) && ctx.Err() == nil {
		event.Warnf(ctx, "the cache of the ledger in %s is damaged and fetched again: %v", s.dir(), err)
		if err := s.wipe(ctx); err != nil {
			return nil, err
		}
		t, err = s.catchUp(ctx, head)
	}
	if err != nil {
		return nil, err
	}
	s.tip = t
	return t, nil
}

// catchUp brings the cache to the repository's state. It needs the lock.
func (s *gitStore) catchUp(ctx context.Context, head string) (*tip, error) {
	seen, err := s.seen(ctx)
	if err != nil {
		return nil, err
	}
	t, err := s.follow(ctx, seen, head)
	// Head was asked for before the lock was held, and hosts that keep several
	// copies may answer from an older one: accuse nobody before a second look.
	if release.KindOf(err) == release.KindIntegrity {
		sleep(ctx, 2*firstPause)
		if head, err = s.look(ctx, s.ref()); err == nil {
			t, err = s.follow(ctx, seen, head)
		}
	}
	if err != nil {
		return nil, err
	}
	return t, s.see(ctx, t, seen)
}

// follow reads the branch at head, which must hold all that it held at seen.
func (s *gitStore) follow(ctx context.Context, seen, head string) (t *tip, err error) {
	switch {
	case head == "" && seen == "":
		return &tip{}, nil
	case head == "":
		return nil, s.rewritten("the branch is gone; when it was last read it was at commit %.12s", seen)
	case head != seen:
		if head, err = s.fetch(ctx, head); err != nil {
			return nil, err
		}
	}
	if t, err = s.load(ctx, head); err != nil || seen == "" || seen == head {
		return t, err
	}
	switch extends, err := s.extends(ctx, seen, t); {
	case err != nil:
		return nil, err
	case !extends:
		return nil, s.rewritten("commit %.12s does not hold what commit %.12s held when the branch was last read", head, seen)
	}
	return t, nil
}

// rewritten is the fault of a branch whose past was changed.
func (s *gitStore) rewritten(format string, args ...any) error {
	return release.Faultf(release.KindIntegrity,
		"promote nothing until it is known who changed it: the host's audit log says who pushed with force, a clone or a target's checkpoint what was there. "+
			"If it was replaced on purpose, remove "+s.dir()+" on each machine that has one",
		"the ledger in %s was rewritten: %w", s, fmt.Errorf(format, args...))
}

// remembered gives what the cache holds.
func (s *gitStore) remembered(ctx context.Context) (*tip, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	seen, err := s.seen(ctx)
	if err != nil {
		return nil, err
	}
	if seen == "" {
		return nil, release.Unavailable("run it once without --offline", "nothing of it was fetched to this machine yet")
	}
	if s.tip == nil || s.tip.commit != seen {
		if s.tip, err = s.load(ctx, seen); err != nil {
			return nil, err
		}
	}
	event.Warnf(ctx, "the ledger is shown as %s held it when it was last asked, %s", s, s.asked().Format(time.DateTime))
	return s.tip, nil
}

func (s *gitStore) moved() error {
	return release.Unavailable("somebody else appended at the same time; run the command again",
		"appending to the ledger in %s: %w", s, ErrMoved)
}
