package pull

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync/atomic"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// bounds is what a body must meet.
type bounds struct {
	name   string
	limit  int64
	size   int64          // exact; negative is unknown
	digest release.Digest // zero is unknown
	head   bool           // a HEAD's answer has no body to verify
}

// body is a response's body that is hashed, counted and watched. Only the time
// spent waiting for bytes counts against the registry: whoever reads may take
// long between two reads.
type body struct {
	guard  *Guard
	inner  io.ReadCloser
	bounds bounds
	hash   hash.Hash
	total  int64
	dog    *time.Timer
	bitten atomic.Bool
	waited time.Duration // since enough bytes came
	came   int64         // bytes in that time
	done   bool
}

func newBody(g *Guard, inner io.ReadCloser, b bounds) *body {
	r := &body{guard: g, inner: inner, bounds: b, hash: sha256.New()}
	r.dog = time.AfterFunc(time.Hour, r.bite)
	r.dog.Stop()
	return r
}

// bite ends a Read that blocks.
func (r *body) bite() {
	r.bitten.Store(true)
	r.inner.Close()
}

// wait reads and measures how long that took.
func (r *body) wait(p []byte) (int, error) {
	start := time.Now()
	r.dog.Reset(r.guard.window - r.waited)
	n, err := r.inner.Read(p)
	r.dog.Stop()
	r.waited += time.Since(start)
	if r.came += int64(n); r.came >= stallBytes {
		r.waited, r.came = 0, 0
	}
	if !errors.Is(err, io.EOF) && (r.bitten.Load() || r.waited >= r.guard.window) {
		return n, fmt.Errorf("reading %s: %w", r.bounds.name, errStalled)
	}
	return n, err
}

func (r *body) Read(p []byte) (int, error) {
	n, err := r.wait(p)
	r.hash.Write(p[:n])
	r.total += int64(n)
	if r.bounds.size > 0 && n > 0 {
		r.guard.progress(r.bounds.digest.Short(), r.total, r.bounds.size)
	}
	switch {
	case r.total <= r.bounds.limit:
	case r.bounds.size >= 0:
		return 0, fmt.Errorf("reading %s: more than the %d bytes expected", r.bounds.name, r.bounds.limit)
	default:
		return 0, r.guard.Deny("reading %s: more than the %d bytes that are read", r.bounds.name, r.bounds.limit)
	}
	if errors.Is(err, io.EOF) {
		if bad := r.finish(); bad != nil {
			return 0, bad
		}
	}
	return n, err
}

// finish compares what came with what was promised. A body of another length
// is a broken connection; one of other bytes is a lie.
func (r *body) finish() error {
	if r.done || r.bounds.head {
		return nil
	}
	r.done = true
	if r.bounds.size >= 0 && r.total < r.bounds.size {
		return fmt.Errorf("reading %s: %d of %d bytes: %w", r.bounds.name, r.total, r.bounds.size, io.ErrUnexpectedEOF)
	}
	var sum [sha256.Size]byte
	copy(sum[:], r.hash.Sum(nil))
	if got := release.DigestFromSum(sum); !r.bounds.digest.IsZero() && got != r.bounds.digest {
		return r.guard.Deny("reading %s: the registry sent %s", r.bounds.name, got)
	}
	return nil
}

func (r *body) Close() error {
	r.dog.Stop()
	return r.inner.Close()
}
