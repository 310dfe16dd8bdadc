package ledger

import (
	"context"
	"errors"
	"os"

	"github.com/promote-dev/promote/pkg/release"
)

// rewrittenFile is a log that is being written to take the other one's place.
const rewrittenFile = "log.next"

// Rewrite writes the log beside the old one, under the exclusive lock. The
// rename is the moment at which it counts.
func (s *fileStore) Rewrite(ctx context.Context, from Position, log []byte) error {
	lock, err := s.hold(ctx, from)
	if err != nil {
		return err
	}
	defer lock.Close()
	err = s.replacement(log)
	if err == nil {
		err = s.step("rename log")
	}
	if err == nil {
		err = os.Rename(s.path(rewrittenFile), s.path(logFile))
	}
	if err != nil {
		_ = os.Remove(s.path(rewrittenFile))
		return s.unwritable(err)
	}
	if err := s.syncDir(s.dir); err != nil {
		return release.Unavailable("run the command again: it reads what is there and goes on from it",
			"rewriting the ledger %s: it is written, but may not survive a power cut: %w", s.dir, err)
	}
	return nil
}

// replacement makes the bytes durable under a name of their own. What a crash
// left there is overwritten.
func (s *fileStore) replacement(log []byte) error {
	f, err := os.OpenFile(s.path(rewrittenFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	err = s.write(f, log, 0)
	if err == nil {
		err = s.sync(f)
	}
	return errors.Join(err, f.Close())
}
