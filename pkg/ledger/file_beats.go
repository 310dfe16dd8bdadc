package ledger

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

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
