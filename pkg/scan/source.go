//go:build goexperiment.jsonv2

package scan

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

const imageHint = "the registry or whoever pushed this is broken or hostile; do not use the image"

// source reads from the registry for libraries that lose what an error was: it
// remembers the first one.
type source struct {
	ctx      context.Context
	registry Registry
	step     *event.Step

	mu      sync.Mutex
	failure error
}

func newSource(ctx context.Context, o Options, step *event.Step) *source {
	return &source{ctx: ctx, registry: o.Registry, step: step}
}

// note remembers what went wrong first, and gives it back.
func (s *source) note(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil && err != nil {
		s.failure = err
	}
	return err
}

// deny remembers a contradiction, and gives it back.
func (s *source) deny(format string, args ...any) error {
	return s.note(release.Denied(imageHint, format, args...))
}

// blob opens a blob, which shows as a part of the step.
func (s *source) blob(repository string, d release.Digest, size int64) (io.ReadCloser, error) {
	const stride = 1 << 20
	last := int64(0)
	content, err := s.registry.OpenBlob(s.ctx, repository, d, size, func(done int64) {
		if done == size || done-last >= stride {
			last = done
			s.step.Bytes(d.Short(), done, size)
		}
	})
	if err != nil {
		return nil, s.note(err)
	}
	return &noted{content, s}, nil
}

// noted is content whose failure is remembered.
type noted struct {
	io.ReadCloser
	source *source
}

func (n *noted) Read(p []byte) (int, error) {
	k, err := n.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = n.source.note(err)
	}
	return k, err
}

// fault gives an error that came out of a library its kind: that of what went
// wrong first.
func (s *source) fault(op, hint string, err error) error {
	if ended := s.ctx.Err(); ended != nil {
		return ended
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		err = s.failure
	}
	f := &release.Fault{Kind: release.KindOf(err), Op: op, Hint: hint, Err: err}
	var inner *release.Fault
	if errors.As(err, &inner) {
		f.Hint = inner.Hint
	} else {
		f.Kind, f.Err = release.KindUnavailable, errors.New(clip(err.Error(), 500))
	}
	return f
}

func clip(s string, most int) string {
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}
