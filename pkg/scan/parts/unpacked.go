package parts

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/promote-dev/promote/pkg/release"
)

// Bounds of what a layer may unpack to: sources and binaries shrink to a
// third, text to a tenth; what shrinks to a fiftieth is made to fill disks.
const (
	MaxUnpacked = 64 << 30
	maxRatio    = 50
	smallLayer  = 64 << 20
)

// UnpackLimit gives how many bytes a layer of a compressed size may unpack to.
func UnpackLimit(compressed int64) int64 {
	return min(smallLayer+maxRatio*compressed, MaxUnpacked)
}

// Unpacked is a layer's content, unpacked: bounded, and hashed against the
// diff ID that the image's configuration promises. A reader that ignores
// errors, or stops early, is found out by Verified.
type Unpacked struct {
	inner io.ReadCloser
	diff  release.Digest
	limit int64
	hash  hash.Hash
	total int64

	mu       sync.Mutex
	verified bool
	bad      error
}

// NewUnpacked reads a layer's unpacked content.
func NewUnpacked(inner io.ReadCloser, diff release.Digest, limit int64) *Unpacked {
	return &Unpacked{inner: inner, diff: diff, limit: limit, hash: sha256.New()}
}

func (u *Unpacked) Read(p []byte) (int, error) {
	if bad := u.Contradiction(); bad != nil {
		return 0, bad
	}
	n, err := u.inner.Read(p)
	u.hash.Write(p[:n])
	u.total += int64(n)
	if u.total > u.limit {
		return 0, u.contradict(fmt.Errorf("layer %s unpacks to more than %d bytes", u.diff, u.limit))
	}
	if errors.Is(err, io.EOF) {
		return n, u.finish(err)
	}
	return n, err
}

func (u *Unpacked) finish(eof error) error {
	var sum [sha256.Size]byte
	copy(sum[:], u.hash.Sum(nil))
	if got := release.DigestFromSum(sum); got != u.diff {
		return u.contradict(fmt.Errorf("a layer unpacks to %s, the configuration says %s", got, u.diff))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.verified = true
	return eof
}

func (u *Unpacked) contradict(err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bad = err
	return err
}

// Verified reports whether the whole content was read and is what was promised.
func (u *Unpacked) Verified() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.verified
}

// Contradiction gives what the content broke: its limit or its diff ID.
func (u *Unpacked) Contradiction() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.bad
}

// DiffID is what the configuration promises the content to be.
func (u *Unpacked) DiffID() release.Digest { return u.diff }

// Close closes the content.
func (u *Unpacked) Close() error { return u.inner.Close() }
