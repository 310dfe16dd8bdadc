package registry

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
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
	marks  *marks
	offset int64
	skip   int64 // read and hashed, but not given out, up to here
	opened int64 // where the source was opened last
	breaks int   // since the source last brought much

	mu     sync.Mutex // the receiver may close while another goroutine reads
	body   io.ReadCloser
	closed bool
	err    error
}

// much is how far a source must get for its earlier breaks to be forgotten.
const much = 4 * mib

// source gives a blob's content from an offset on, as often as an upload needs
// it. Wherever it begins, the whole blob is hashed.
type source func(at int64) *verified

// verifying makes the source of a blob in a store.
func verifying(ctx context.Context, s store, d descriptor, l Limits, progress func(int64)) source {
	seen := &marks{}
	return func(at int64) *verified {
		v := &verified{ctx: ctx, source: s, want: d, attempts: l.Attempts, progress: progress, marks: seen, skip: at}
		v.hash, v.offset = seen.before(at)
		return v
	}
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
	if v.want.Size == 0 || v.current() != nil {
		return nil
	}
	body, err := v.source.open(v.ctx, v.want, v.offset)
	if isNotFound(err) { // a manifest named it: this is no plain absence
		return release.Unavailable("the source is incomplete: push the image there again", "%s does not hold blob %s, which a manifest there names", v.source.name(), v.want.Digest)
	}
	if err != nil {
		return err
	}
	v.marks.came(body)
	if !v.take(body) {
		return fs.ErrClosed
	}
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
		if v.offset <= v.skip && v.want.Size > 0 || n == 0 && v.offset < v.want.Size {
			continue // not wanted, or it broke off and some opens it again
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
	body := v.current()
	if body == nil {
		return 0, fs.ErrClosed
	}
	room := min(int64(len(p)), v.want.Size-v.offset, markEvery-v.offset%markEvery)
	if v.offset < v.skip {
		room = min(room, v.skip-v.offset)
	}
	n, err := body.Read(p[:room])
	v.hash.Write(p[:n])
	v.offset += int64(n)
	v.marks.pass(v.hash, v.offset)
	if v.progress != nil {
		v.progress(v.offset)
	}
	if err != nil && v.offset < v.want.Size {
		return n, v.broke(err)
	}
	return n, nil
}

// current gives the source's body, nil if there is none.
func (v *verified) current() io.ReadCloser {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.body
}

// take changes the source's body; nil is none. It reports whether the receiver
// still wants it.
func (v *verified) take(body io.ReadCloser) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.body != nil {
		v.body.Close()
	}
	if v.body = body; v.closed && body != nil {
		body.Close()
		v.body = nil
	}
	return !v.closed
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
	if body := v.current(); body != nil {
		var extra [1]byte
		if n, _ := io.ReadFull(body, extra[:]); n > 0 {
			if m := v.marks.mirror(); m != nil {
				return m.wrong(v.ctx, v.want.Digest)
			}
			return release.Unavailable("look at the registry's storage", "%s: blob %s is longer than the %d bytes its manifest says", v.source.name(), v.want.Digest, v.want.Size)
		}
	}
	if got := release.DigestFromSum([sha256.Size]byte(v.hash.Sum(nil))); got != v.want.Digest {
		if m := v.marks.mirror(); m != nil {
			return m.wrong(v.ctx, v.want.Digest)
		}
		return mismatch("blob in "+v.source.name(), v.want.Digest, got)
	}
	return nil
}

// Close ends reading. What a verified has not given out by then it never gives.
func (v *verified) Close() error {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.take(nil)
	return nil
}
