package notify

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"
)

// What the file may hold.
const (
	mostLetters = 500
	mostBytes   = 2 << 20
	oldest      = 7 * 24 * time.Hour
)

// letter is a message that could not be delivered. It names the webhook by its
// variable and holds no secret.
type letter struct {
	message
	Webhook   string          `json:"webhook"` // the variable that holds its URL
	Format    string          `json:"format"`
	Failed    time.Time       `json:"failed"`
	Error     string          `json:"error"`
	NotBefore time.Time       `json:"notBefore,omitzero"` // the receiver asked for
	Body      json.RawMessage `json:"body"`               // as it was to be sent, byte for byte
}

func (l letter) same(other letter) bool {
	return l.ID == other.ID && l.Webhook == other.Webhook && l.Format == other.Format
}

// letters is a file of JSON lines, oldest first, for one user of one machine.
type letters struct{ path string }

// claim gets the right to send what is kept for a webhook; not if there is
// nothing, or if another process has it.
func (s letters) claim(variable string) (*flock.Flock, bool) {
	if s.path == "" {
		return nil, false
	}
	if _, err := os.Stat(s.path); err != nil {
		return nil, false
	}
	lock := flock.New(s.path+"."+variable+".lock", flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	return lock, ok && err == nil
}

// of gives what is kept for a webhook.
func (s letters) of(variable, format string) (list []letter, err error) {
	err = s.locked(func() error {
		all, err := s.read()
		list = slices.DeleteFunc(all, func(l letter) bool { return l.Webhook != variable || l.Format != format })
		return err
	})
	return list, err
}

// add keeps more, and reports how many had to make room.
func (s letters) add(more []letter) (dropped int, err error) {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return 0, err
	}
	err = s.locked(func() error {
		all, err := s.read()
		if err != nil {
			return err
		}
		all = append(all, more...)
		before := len(all)
		all = all[max(0, before-mostLetters):]
		for total := encodedSize(all); total > mostBytes && len(all) > 1; all = all[1:] {
			total -= encodedSize(all[:1])
		}
		dropped = before - len(all)
		return s.write(all)
	})
	return dropped, err
}

// remove forgets what was delivered.
func (s letters) remove(sent []letter) error {
	return s.locked(func() error {
		all, err := s.read()
		if err != nil {
			return err
		}
		return s.write(slices.DeleteFunc(all, func(l letter) bool { return slices.ContainsFunc(sent, l.same) }))
	})
}

func (s letters) locked(f func() error) error {
	lock := flock.New(s.path+".lock", flock.SetPermissions(0o600))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := lock.TryLockContext(ctx, 5*time.Millisecond); err != nil {
		return fmt.Errorf("waiting for the lock of %s: %w", s.path, err)
	}
	defer lock.Close()
	return f()
}

// read gives what is kept and not too old. Lines that make no sense are
// nobody's message.
func (s letters) read() ([]letter, error) {
	f, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []letter
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, mostBytes)
	for lines.Scan() && len(all) < mostLetters {
		var l letter
		if json.Unmarshal(lines.Bytes(), &l) == nil && l.ID != "" && time.Since(l.Failed) < oldest {
			all = append(all, l)
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return all, nil
	}
	return all, lines.Err()
}

// write replaces the file; without a letter there is none.
func (s letters) write(all []letter) error {
	if len(all) == 0 {
		err := os.Remove(s.path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // the body's bytes stay what they are
	for _, l := range all {
		if err := encoder.Encode(l); err != nil {
			return err
		}
	}
	next := s.path + ".next"
	if err := os.WriteFile(next, b.Bytes(), 0o600); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return os.Rename(next, s.path)
}

func encodedSize(list []letter) int {
	total := 0
	for _, l := range list {
		total += len(l.Body) + len(l.Error) + 512
	}
	return total
}
