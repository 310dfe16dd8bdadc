package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// blob brings one blob to the destination. absent says that it is not there.
func (t *transfer) blob(ctx context.Context, d descriptor, absent bool) error {
	if d.Size == 0 && d.Digest != release.DigestOf(nil) {
		return mismatch("empty blob", d.Digest, release.DigestOf(nil))
	}
	// Within one registry a mount tells as much as a question would, and does
	// the work too.
	if !absent && (!t.mountable() || t.options.DryRun) {
		there, err := t.dst.has(ctx, d)
		if err != nil {
			return err
		}
		if there {
			t.count(func(r *CopyResult) { r.Present++ })
			return nil
		}
	}
	if d.foreign() {
		if held, err := t.src.has(ctx, d); err != nil || !held {
			t.count(func(r *CopyResult) { r.Foreign++ })
			return err
		}
	}
	if t.options.DryRun {
		t.count(func(r *CopyResult) { t.streamed(r, d, t.mountable()) })
		return nil
	}
	write := func() (mounted bool, err error) {
		return t.dst.write(ctx, d, t.src, verifying(ctx, t.src, d, t.client.limits, progress(t.step, d)))
	}
	mounted, err := write()
	if errors.Is(err, errOtherBytes) {
		mounted, err = write()
	}
	if err != nil {
		return fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	if !t.validating.Load() { // one that validates says so when it gets the manifest
		err := t.check(func(ctx context.Context) error { return held(ctx, t.dst, d) })
		if err != nil {
			return err
		}
	}
	t.count(func(r *CopyResult) { t.streamed(r, d, mounted) })
	return nil
}

func (t *transfer) streamed(r *CopyResult, d descriptor, mounted bool) {
	if mounted {
		r.Mounted++
		return
	}
	r.Blobs++
	r.Bytes += d.Size
}

func (t *transfer) mountable() bool {
	src, ok := t.src.(*remote)
	dst, same := t.dst.(*remote)
	return ok && same && src.repo.host == dst.repo.host
}

// progress reports a blob's bytes, a few times a second at most.
func progress(step *event.Step, d descriptor) func(int64) {
	var last time.Time
	return func(done int64) {
		if now := time.Now(); done == d.Size || now.Sub(last) > 100*time.Millisecond {
			last = now
			step.Bytes(d.Digest.Short(), done, d.Size)
		}
	}
}
