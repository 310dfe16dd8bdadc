package registry

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/promote-dev/promote/pkg/release"
)

// verified reads one blob and hashes it on the way. When the source breaks off,
// it goes on where it was. The end of the content is given out only once size
// and digest have turned out right, so whoever receives it never holds a
// complete blob that is wrong.
type verified struct {
	ctx      context.Context
	source   store
	want     descriptor
	attempts int
	progress func(n int64) // called with the bytes done so far; may be nil

	hash   hash.Hash
	offset int64
	opened int64 // where the source was opened last
	breaks int   // since the source last brought much

	mu   sync.Mutex // the receiver may close while another goroutine reads
	body io.ReadCloser
	err  error
}

// much is how far a source must get for its earlier breaks to be forgotten.
const much = 4 * mib

func newVerified(ctx context.Context, s store, d descriptor, l Limits, progress func(int64)) *verified {
	return &verified{ctx: ctx, source: s, want: d, attempts: l.Attempts, progress: progress, hash: sha256.New()}
}

// failure gives why reading failed, nil if it hasn't.
func (v *verified) failure() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if errors.Is(v.err, io.EOF) {
		return nil
	}
	return v.err
}

func (v *verified) fail(err error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.err = err
	return err
}

// prepare opens the source.
func (v *verified) prepare() error {
	if v.want.Size == 0 || v.body != nil {
		return nil
	}
	body, err := v.source.open(v.ctx, v.want, v.offset)
	if isNotFound(err) { // a manifest named it: this is no plain absence
		return release.Unavailable("the source is incomplete: push the image there again", "%s does not hold blob %s, which a manifest there names", v.source.name(), v.want.Digest)
	}
	if err != nil {
		return err
	}
	v.take(body)
	v.opened = v.offset
	return nil
}

func (v *verified) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	for {
		n, err := v.some(p)
		if err != nil {
			return 0, v.fail(err)
		}
		if n == 0 && v.offset < v.want.Size {
			continue // it broke off; some has opened it again
		}
		if v.offset < v.want.Size {
			return n, nil
		}
		if err := v.complete(); err != nil {
			return 0, v.fail(err)
		}
		v.fail(io.EOF)
		return n, io.EOF
	}
}

// some reads what there is, opening the source where needed. n is 0 after a
// break.
func (v *verified) some(p []byte) (int, error) {
	if v.want.Size == 0 {
		return 0, nil
	}
	if err := v.prepare(); err != nil {
		return 0, err
	}
	// A byte more than is missing would show that there is too much.
	room := min(int64(len(p)), v.want.Size-v.offset)
	n, err := v.body.Read(p[:room])
	v.hash.Write(p[:n])
	v.offset += int64(n)
	if v.progress != nil {
		v.progress(v.offset)
	}
	if err != nil && v.offset < v.want.Size {
		return n, v.broke(err)
	}
	return n, nil
}

// take changes the source's body; nil is none.
func (v *verified) take(body io.ReadCloser) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.body != nil {
		v.body.Close()
	}
	v.body = body
}

// broke decides whether to go on after a source broke off.
func (v *verified) broke(err error) error {
	v.take(nil)
	if v.ctx.Err() != nil {
		return ended(v.ctx, v.source.name())
	}
	if slow(err) {
		return unavailable(v.source.name(), err, "gave up")
	}
	if v.offset-v.opened >= much {
		v.breaks = 0
	}
	v.breaks++
	if v.breaks >= v.attempts {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("blob %s ends after %d of %d bytes", v.want.Digest, v.offset, v.want.Size)
		}
		return unavailable(v.source.name(), err, fmt.Sprintf("tried %d times", v.breaks))
	}
	return nil
}

// complete judges a blob that has all its bytes.
func (v *verified) complete() error {
	if v.body != nil {
		var extra [1]byte
		if n, _ := io.ReadFull(v.body, extra[:]); n > 0 {
			return release.Unavailable("look at the registry's storage", "%s: blob %s is longer than the %d bytes its manifest says", v.source.name(), v.want.Digest, v.want.Size)
		}
	}
	if got := release.DigestFromSum([sha256.Size]byte(v.hash.Sum(nil))); got != v.want.Digest {
		return mismatch("blob in "+v.source.name(), v.want.Digest, got)
	}
	return nil
}

func (v *verified) Close() error {
	v.take(nil)
	return nil
}
