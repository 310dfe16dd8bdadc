package sign

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// Proof is what a signature proves by itself, before any policy is asked.
type Proof = envelope.Proof

// Memo remembers which signatures were found valid, and nothing else: no role,
// no identity that was accepted, no time window, no revocation; those are
// judged each time. The key stands for the bytes that were verified and for
// what they were verified with. Its methods may be called from several
// goroutines. What is forgotten is verified again.
type Memo interface {
	Known(key release.Digest) (Proof, bool)
	Add(key release.Digest, p Proof)
}

const (
	maxMemo     = 4 << 20  // bytes of the file at which it is begun anew
	maxMemoLine = 16 << 10 // bytes
	memoSecret  = 32       // bytes

	memoPatience = 2 * time.Second
)

// FileMemo is a Memo in a file that several processes may share. Each line
// carries a code that only the holder of the secret can make, so that nobody
// who puts a file in its place, in a cache that CI restores for example, makes
// a signature valid by that.
type FileMemo struct {
	path, secretPath string

	once   sync.Once
	secret []byte // nil: nothing is kept

	mu    sync.Mutex
	known map[release.Digest]Proof
}

var _ Memo = (*FileMemo)(nil)

type memoLine struct {
	Key   release.Digest `json:"key"`
	Proof Proof          `json:"proof"`
}

// OpenMemo gives the memo in a file. The secret is in a file of its own, which
// is made when there is none; keep it where nothing else is cached. Nothing is
// read before it is asked, and no failure is one of the caller: then nothing is
// remembered.
func OpenMemo(file, secretFile string) *FileMemo {
	return &FileMemo{path: file, secretPath: secretFile, known: map[release.Digest]Proof{}}
}

// Known gives what was remembered.
func (m *FileMemo) Known(key release.Digest) (Proof, bool) {
	m.once.Do(m.load)
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.known[key]
	return p, ok
}

// Add remembers a proof, in the file too.
func (m *FileMemo) Add(key release.Digest, p Proof) {
	m.once.Do(m.load)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.known[key]; ok {
		return
	}
	m.known[key] = p
	if body, err := release.Canonical(memoLine{key, p}); err == nil && m.secret != nil {
		m.append(append(append([]byte(m.code(body)), ' '), append(body, '\n')...))
	}
}

func (m *FileMemo) code(body []byte) string {
	h := hmac.New(sha256.New, m.secret)
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// load reads the file. One line that is not sound, and all is forgotten.
func (m *FileMemo) load() {
	if m.secret = readSecret(m.secretPath); m.secret == nil {
		return
	}
	unlock, ok := m.lock()
	if !ok {
		m.secret = nil
		return
	}
	defer unlock()
	known, sound := m.read()
	if !sound {
		_ = os.Remove(m.path)
		return
	}
	m.known = known
}

func (m *FileMemo) read() (known map[release.Digest]Proof, sound bool) {
	known = map[release.Digest]Proof{}
	f, err := os.Open(m.path)
	if err != nil {
		return known, errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxMemo {
		return nil, false
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxMemoLine)
	for lines.Scan() {
		code, body, ok := bytes.Cut(lines.Bytes(), []byte{' '})
		if !ok || !hmac.Equal(code, []byte(m.code(body))) {
			return nil, false
		}
		var line memoLine
		if json.Unmarshal(body, &line) != nil || line.Key.IsZero() {
			return nil, false
		}
		known[line.Key] = line.Proof
	}
	return known, lines.Err() == nil
}

// append writes a whole line while nobody else reads or writes.
func (m *FileMemo) append(line []byte) {
	if len(line) > maxMemoLine {
		return
	}
	unlock, ok := m.lock()
	if !ok {
		return
	}
	defer unlock()
	f, err := os.OpenFile(m.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	_, _ = f.Write(line)
	_ = f.Close()
}

// lock keeps other processes out; who waits too long goes without.
func (m *FileMemo) lock() (unlock func(), ok bool) {
	if os.MkdirAll(filepath.Dir(m.path), 0o700) != nil {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), memoPatience)
	defer cancel()
	lock := flock.New(m.path+".lock", flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	if locked, err := lock.TryLockContext(ctx, memoPatience/200); err != nil || !locked {
		return nil, false
	}
	return func() { _ = lock.Close() }, true
}

// readSecret reads the secret or makes one. Who comes second takes the first's.
func readSecret(path string) []byte {
	for range 2 {
		secret, err := os.ReadFile(path)
		switch {
		case err == nil && len(secret) == memoSecret:
			return secret
		case err == nil || !errors.Is(err, fs.ErrNotExist):
			return nil
		}
		makeSecret(path)
	}
	return nil
}

func makeSecret(path string) {
	dir := filepath.Dir(path)
	if os.MkdirAll(dir, 0o700) != nil {
		return
	}
	f, err := os.CreateTemp(dir, ".secret-*") // 0600
	if err != nil {
		return
	}
	defer os.Remove(f.Name())
	secret := make([]byte, memoSecret)
	_, _ = rand.Read(secret) // never fails
	if _, err := f.Write(secret); f.Close() != nil || err != nil {
		return
	}
	_ = os.Link(f.Name(), path) // complete from the first moment, and never over another
}
