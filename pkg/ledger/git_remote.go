package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Limits of how long a passing fault of the network is waited out.
const (
	remoteTries = 4
	remoteTime  = 40 * time.Second // of all tries but a fetch's
	slowest     = 128 << 10        // bytes a second of a line that imports a log
	// pushGrace is how long a push goes on after a signal: killed in the middle
	// it would leave in doubt what it did.
	pushGrace = 5 * time.Second
	// settleTime bounds the question that follows when it is in doubt.
	settleTime = 3 * time.Second
)

// firstPause is the first wait between two tries; each next one is twice as
// long.
var firstPause = 250 * time.Millisecond

// at gives a run of git in the cache's repository.
func (s *gitStore) at(limit time.Duration, args ...string) call {
	return call{args: append([]string{"--git-dir=" + s.repository()}, args...), settings: s.place().settings, limit: limit}
}

// look asks the repository where a branch is; empty: there is none.
func (s *gitStore) look(ctx context.Context, ref string) (commit string, err error) {
	err = retry(ctx, remoteTime, func() error {
		c := call{args: []string{"ls-remote", remoteName, ref}, settings: s.place().settings, limit: lookTime, env: nowhere}
		out, err := c.run(ctx)
		if err != nil {
			return err
		}
		commit = ""
		for line := range strings.Lines(string(out)) {
			id, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			if name == ref && isID(id) {
				commit = id
			}
		}
		return nil
	})
	return commit, err
}

// isID tells a full object id, of SHA-1 or SHA-256.
func isID(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

// fetch brings the branch's newest commit, and of what lies below it only what
// the cache lacks.
func (s *gitStore) fetch(ctx context.Context, head string) (string, error) {
	if err := s.prepare(ctx, head); err != nil {
		return "", err
	}
	c := s.at(fetchTime, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
		"--no-auto-gc", remoteName, "+"+s.ref()+":"+fetchedRef)
	c.settings = append(slices.Clone(c.settings), setting{"http.lowSpeedLimit", "1000"}, setting{"http.lowSpeedTime", "30"})
	err := retry(ctx, fetchTime, func() error {
		_, err := c.run(ctx)
		if err != nil {
			s.unlockStale()
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return s.commitOf(ctx, fetchedRef)
}

// outcome is what a push did.
type outcome int

const (
	pushed     outcome = iota
	declined           // the other side decided against it
	outrun             // the branch is not, or was not, where the push expected it
	unanswered         // and so it is not known
)

// publish pushes next as the successor of base. In doubt it looks at what is
// there: the commit, or one that holds its bytes, is success.
func (s *gitStore) publish(ctx context.Context, base, next *tip) error {
	doubt := false
	pause := firstPause
	for try := 1; ; try++ {
		if ctx.Err() != nil && !doubt {
			return ctx.Err()
		}
		what, err := s.push(ctx, base, next)
		switch what {
		case pushed:
			return nil
		case declined:
			if !doubt {
				return err
			}
		case unanswered:
			doubt = doubt || !beforeSending(err)
		}
		seen, there, settled := s.settle(ctx, base, next)
		switch {
		case there:
			return nil
		case settled != nil && doubt:
			return s.uncertain(ctx, err)
		case seen != base.commit && settled == nil:
			return s.moved()
		case ctx.Err() != nil && !doubt:
			return ctx.Err()
		case try == remoteTries || permanent(err) || ctx.Err() != nil:
			if doubt {
				return s.uncertain(ctx, err)
			}
			return err
		}
		sleep(ctx, jitter(pause))
		pause *= 2
	}
}

// push tries once.
func (s *gitStore) push(ctx context.Context, base, next *tip) (outcome, error) {
	args := []string{"push", "--porcelain", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no",
		"--force-with-lease=" + s.ref() + ":" + base.commit}
	other, err := s.receivePack(ctx)
	if err != nil {
		return declined, err
	}
	limit := pushTime + time.Duration(max(0, len(next.log)-len(base.log))/slowest)*time.Second
	c := s.at(limit, slices.Concat(args, other, []string{remoteName, next.commit + ":" + s.ref()})...)
	c.grace = s.grace
	out, err := c.run(ctx)
	if err == nil {
		return pushed, nil
	}
	for line := range strings.Lines(string(out)) {
		flag, rest, _ := strings.Cut(line, "\t")
		_, summary, _ := strings.Cut(rest, "\t")
		if flag == "!" {
			return s.rejection(strings.TrimSpace(summary), err)
		}
	}
	return unanswered, err
}

// receivePack gives push the option that says what the other end is. On this
// machine its disk is ours to sync; elsewhere the host decides.
func (s *gitStore) receivePack(ctx context.Context) ([]string, error) {
	if !s.place().local {
		return nil, nil
	}
	hooks, err := hooksOf(ctx, s.place().path)
	quoted := "'" + strings.ReplaceAll(hooks, "'", `'\''`) + "'" // it goes to a shell
	return []string{"--receive-pack=git -c core.fsync=all -c core.fsyncObjectFiles=true -c core.hooksPath=" + quoted + " receive-pack"}, err
}

// rejection reads the line of --porcelain about a branch that was not updated.
func (s *gitStore) rejection(summary string, err error) (outcome, error) {
	for _, race := range []string{"stale info", "fetch first", "non-fast-forward", "cannot lock ref", "failed to update ref",
		"incorrect old value", "failed to lock", "reference already exists"} {
		if strings.Contains(summary, race) {
			return outrun, err
		}
	}
	if !strings.HasPrefix(summary, "[rejected]") && !strings.HasPrefix(summary, "[remote rejected]") {
		return unanswered, err // "[remote failure]": it says nothing about the branch
	}
	return declined, &rejectedError{summary: clean(strings.TrimPrefix(summary, "[remote rejected] ")), cause: err}
}

// rejectedError is a push that the other side decided against.
type rejectedError struct {
	summary string
	cause   error
}

func (e *rejectedError) Error() string {
	return "the push was rejected " + e.summary + ": " + e.cause.Error()
}

func (e *rejectedError) Unwrap() error { return e.cause }

// settle finds out whether next came to be in force; seen is where the branch
// is. Somebody may have appended to it already. It outlives ctx by a little.
func (s *gitStore) settle(ctx context.Context, base, next *tip) (seen string, there bool, err error) {
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), remoteTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(settleTime, cancel) })
	defer stop()
	seen, err = s.look(settling, s.ref())
	if err != nil || seen == next.commit || seen == base.commit || seen == "" {
		return seen, err == nil && seen == next.commit, err
	}
	if seen, err = s.fetch(settling, seen); err != nil {
		return "", false, err
	}
	now, err := s.load(settling, seen)
	if err != nil {
		return "", false, err
	}
	// Nobody else signs the same bytes: a log that begins with ours holds ours.
	there = bytes.HasPrefix(now.log, next.log) && !bytes.HasPrefix(base.log, next.log) || bytes.Equal(now.checkpoint, next.checkpoint)
	return seen, there, nil
}

func (s *gitStore) uncertain(ctx context.Context, cause error) error {
	kind := release.KindUnavailable
	if ctx.Err() != nil {
		kind = release.KindInterrupted
	}
	return release.Faultf(kind, "run the command again once the repository answers: it reads what is there and goes on from it",
		"appending to the ledger in %s: it is not certain whether the record was written: %w", s, cause)
}

// retry repeats what fails in passing, within a time.
func retry(ctx context.Context, within time.Duration, what func() error) error {
	end := time.Now().Add(within)
	for try, pause := 1, firstPause; ; try, pause = try+1, pause*2 {
		err := what()
		var failed *gitError
		if err == nil || !errors.As(err, &failed) || failed.late || permanent(err) || try == remoteTries || time.Now().Add(pause).After(end) {
			return err
		}
		if sleep(ctx, jitter(pause)); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// commitOf gives the commit that a ref of the cache names; empty: none.
func (s *gitStore) commitOf(ctx context.Context, ref string) (string, error) {
	out, err := s.at(localTime, "for-each-ref", "--format=%(objectname)", ref).run(ctx)
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(out))
	if id != "" && !isID(id) {
		return "", &damagedError{fmt.Errorf("%s is %.80q", ref, id)}
	}
	return id, nil
}
