package ledger

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// gitBeats is what a store knows of counters. Each open intent has a branch of
// its own, <branch>-heartbeats/<sequence>, whose only commit has the counter as
// its message: moving it replaces the commit, so that no history grows, and
// the ledger's branch is never touched.
type gitBeats struct {
	sync.Mutex
	known map[int64]beat
}

type beat struct {
	commit string
	count  int64
}

func (s *gitStore) beatRef(intent int64) string {
	return s.ref() + "-heartbeats/" + strconv.FormatInt(intent, 10)
}

// beatAt gives a run of git in the repository that counters are moved from. It
// is another one than the log's: a long fetch must not end a lease.
func (s *gitStore) beatAt(ctx context.Context, args ...string) (call, error) {
	dir := filepath.Join(s.dir(), gitBeatsDir)
	if _, err := os.Stat(filepath.Join(dir, "HEAD")); err != nil {
		if err := os.MkdirAll(s.dir(), 0o700); err != nil {
			return call{}, s.uncached(err)
		}
		like, err := s.look(ctx, s.ref())
		if like == "" && err == nil {
			like, err = s.look(ctx, "HEAD")
		}
		if err != nil {
			return call{}, err
		}
		if err := initBare(ctx, dir, like); err != nil {
			return call{}, s.local(err)
		}
	}
	return call{args: append([]string{"--git-dir=" + dir}, args...), settings: s.place().settings, limit: lookTime}, nil
}

// Beat moves a counter. It tries once: the next beat is not far.
func (s *gitStore) Beat(ctx context.Context, intent, count int64) error {
	return s.fault(ctx, "moving a heartbeat of the ledger", s.beat(ctx, intent, count))
}

func (s *gitStore) beat(ctx context.Context, intent, count int64) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	ref, commit := s.beatRef(intent), ""
	if count == 0 {
		there, err := s.look(ctx, ref)
		if err != nil || there == "" {
			return err
		}
	} else {
		var err error
		if commit, err = s.beatCommit(ctx, count); err != nil {
			return err
		}
	}
	args := []string{"push", "--quiet", "--force", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no"}
	other, err := s.receivePack(ctx)
	if err != nil {
		return err
	}
	c, err := s.beatAt(ctx, slices.Concat(args, other, []string{remoteName, commit + ":" + ref})...)
	if err != nil {
		return err
	}
	if _, err := c.run(ctx); err != nil {
		return err
	}
	s.beats.know(intent, beat{commit, count})
	return nil
}

// beatCommit makes the commit that says a count.
func (s *gitStore) beatCommit(ctx context.Context, count int64) (string, error) {
	c, err := s.beatAt(ctx, "fast-import", "--quiet", "--force", "--date-format=now")
	if err != nil {
		return "", err
	}
	message := strconv.FormatInt(count, 10)
	p := s.place()
	c.stdin = strings.NewReader(fmt.Sprintf("feature done\ncommit refs/promote/beat-%d\nmark :1\ncommitter %s <%s> now\ndata %d\n%s\nget-mark :1\ndone\n",
		os.Getpid(), ident(p.name), ident(p.email), len(message), message))
	out, err := c.run(ctx)
	if err != nil {
		return "", s.local(err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Beats reads a counter. What cannot be understood counts as zero.
func (s *gitStore) Beats(ctx context.Context, intent int64) (int64, error) {
	count, err := s.count(ctx, intent)
	return count, s.fault(ctx, "reading a heartbeat of the ledger", err)
}

func (s *gitStore) count(ctx context.Context, intent int64) (int64, error) {
	if err := s.open(ctx); err != nil {
		return 0, err
	}
	if s.asleep() {
		return 0, nil
	}
	ref := s.beatRef(intent)
	there, err := s.look(ctx, ref)
	if err != nil || there == "" {
		return 0, err
	}
	if known, ok := s.beats.get(intent); ok && known.commit == there {
		return known.count, nil
	}
	into := fmt.Sprintf("refs/promote/read-%d", intent)
	fetch, err := s.beatAt(ctx, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-gc", remoteName, "+"+ref+":"+into)
	if err != nil {
		return 0, err
	}
	if err := retry(ctx, remoteTime, func() error { _, err := fetch.run(ctx); return err }); err != nil {
		return 0, err
	}
	show, err := s.beatAt(ctx, "for-each-ref", "--format=%(objectname) %(contents:subject)", into)
	if err != nil {
		return 0, err
	}
	out, err := show.run(ctx)
	if err != nil {
		return 0, s.local(err)
	}
	var b beat
	if n, _ := fmt.Sscan(string(out), &b.commit, &b.count); n != 2 {
		return 0, nil
	}
	s.beats.know(intent, b)
	return b.count, nil
}

func (b *gitBeats) know(intent int64, what beat) {
	b.Lock()
	defer b.Unlock()
	if b.known == nil {
		b.known = map[int64]beat{}
	}
	b.known[intent] = what
}

func (b *gitBeats) get(intent int64) (beat, bool) {
	b.Lock()
	defer b.Unlock()
	what, ok := b.known[intent]
	return what, ok
}
