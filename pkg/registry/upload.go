package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// upload brings one blob into a repository: one POST and one PUT, or a mount
// where both ends are one registry. When it breaks off, the registry is asked
// how far it got, and only the rest is sent again. A registry that keeps
// nothing of a broken upload gets a large blob in chunks from then on, so that
// the next break costs a chunk.
type upload struct {
	to      *remote
	blob    descriptor
	from    store
	content source

	session *url.URL // nil before there is one
	offset  int64    // what the registry has
	broken  bool     // ask the registry how far it got
	resumed bool     // the session was broken before
	chunks  bool
	least   int64 // bytes of a chunk that the registry takes
}

// write uploads or mounts a blob. Whether the registry really has it is for the
// caller to find out.
func (s *remote) write(ctx context.Context, d descriptor, from store, content source) (mounted bool, err error) {
	u := &upload{to: s, blob: d, from: from, content: content}
	err = s.c.retry(ctx, s.repo.host, func() (err error) {
		mounted, err = u.attempt(ctx)
		return err
	})
	return mounted, final(s.repo.host, err)
}

func (s *remote) mountsFrom(from store) bool {
	src, ok := from.(*remote)
	return ok && src.repo.host == s.repo.host && src.repo != s.repo
}

// attempt does what is missing, once.
func (u *upload) attempt(ctx context.Context) (mounted bool, err error) {
	before := u.offset
	if u.broken {
		u.resume(ctx)
	}
	content := u.content(u.offset)
	defer content.Close()
	if u.session == nil {
		mounted, err = u.open(ctx, content)
	} else {
		err = content.prepare()
	}
	if err != nil || mounted {
		return mounted, err
	}
	if err = u.send(ctx, content); err == nil {
		return false, nil
	}
	u.broken = true
	var again *transient
	var status *statusError
	switch {
	case errors.As(err, &again):
		again.moved = u.offset-before >= much
	case errors.As(err, &status) && u.resumed:
		// The session may have been broken beyond repair.
		err = &transient{err: err}
	}
	return false, err
}

// resume asks the registry how much of a broken upload it kept. What it cannot
// say is begun anew.
func (u *upload) resume(ctx context.Context) {
	u.broken, u.resumed = false, true
	before := u.offset
	kept, next, err := u.status(ctx)
	if err != nil {
		kept, next = 0, nil
	}
	u.session, u.offset = next, kept
	if kept > before {
		event.Noticef(ctx, "%s: the upload of %s broke off and goes on at %d of %d bytes", u.to.name(), u.blob.Digest.Short(), kept, u.blob.Size)
		return
	}
	u.chunks = u.blob.Size > u.to.c.limits.Chunk
}

// status asks for the state of the session (distribution specification,
// "Pushing a blob in chunks").
func (u *upload) status(ctx context.Context) (kept int64, next *url.URL, err error) {
	r := u.to.request(http.MethodGet, http.StatusNoContent, http.StatusOK, http.StatusAccepted)
	r.url = u.session
	a, err := u.to.c.fetchOnce(ctx, r, u.to.c.limits.Manifest)
	if err != nil {
		return 0, nil, err
	}
	if kept, err = parseKept(a.header.Get("Range")); err != nil || kept >= u.blob.Size {
		return 0, nil, fmt.Errorf("the registry has %d of %d bytes: %w", kept, u.blob.Size, err)
	}
	next, err = u.location(u.session, a.header)
	return kept, next, err
}

// parseKept reads the Range header of an upload: "0-N", the last byte that is
// there. Registries say "0-0" when they have nothing, so one byte counts as none.
func parseKept(value string) (int64, error) {
	first, last, ok := strings.Cut(strings.TrimPrefix(value, "bytes="), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || first != "0" || n < 0 || n == math.MaxInt64 {
		return 0, fmt.Errorf("range %q", printable(value, 60))
	}
	if n == 0 {
		return 0, nil
	}
	return n + 1, nil
}

// location reads where an upload goes on. Without a header it stays where it is.
func (u *upload) location(current *url.URL, h http.Header) (*url.URL, error) {
	value := h.Get("Location")
	if value == "" {
		return current, nil
	}
	next, err := current.Parse(value)
	if err != nil {
		return nil, release.Unavailable("look at what the registry, or a proxy before it, answers", "registry %s names a malformed address for an upload", u.to.repo.host)
	}
	return next, nil
}

// open begins a session, unless a mount makes it superfluous. The source is
// opened at the same time, and before anything is sent: a source that does not
// answer must not leave an upload half done.
func (u *upload) open(ctx context.Context, content *verified) (mounted bool, err error) {
	if u.to.mountsFrom(u.from) {
		if mounted, err = u.begin(ctx); err != nil || mounted {
			return mounted, err
		}
		return false, content.prepare()
	}
	opened := make(chan error, 1)
	go func() { opened <- content.prepare() }()
	_, err = u.begin(ctx)
	if failed := <-opened; err == nil {
		err = failed
	}
	return false, err
}

func (u *upload) begin(ctx context.Context) (mounted bool, err error) {
	s := u.to
	r := s.request(http.MethodPost, http.StatusAccepted)
	r.url = s.c.api(s.repo, "blobs", "uploads", "")
	if s.mountsFrom(u.from) {
		r.url.RawQuery = url.Values{"mount": {u.blob.Digest.String()}, "from": {u.from.(*remote).repo.path}}.Encode()
		r.expect = append(r.expect, http.StatusCreated)
	}
	a, err := s.c.fetchOnce(ctx, r, s.c.limits.Manifest)
	if isNotFound(err) {
		return false, release.Unavailable("create the repository: not every registry does so on the first push", "repository %s does not exist", s.name())
	}
	if err != nil || a.status == http.StatusCreated {
		return err == nil, err
	}
	if a.header.Get("Location") == "" {
		return false, release.Unavailable("look at what the registry, or a proxy before it, answers", "registry %s opens an upload without saying where", s.repo.host)
	}
	u.session, err = u.location(r.url, a.header)
	u.offset, u.resumed = 0, false
	u.least, _ = strconv.ParseInt(a.header.Get("OCI-Chunk-Min-Length"), 10, 64)
	return false, err
}

// send brings what is missing to the session and commits it. content is ready
// and stands at the offset.
func (u *upload) send(ctx context.Context, content *verified) error {
	if u.chunks {
		size := max(u.to.c.limits.Chunk, u.least)
		for u.blob.Size-u.offset > size {
			if err := u.patch(ctx, content, size); err != nil {
				return err
			}
		}
	}
	r := u.to.request(http.MethodPut, http.StatusCreated, http.StatusNoContent, http.StatusOK)
	target := *u.session
	query := target.Query()
	query.Set("digest", u.blob.Digest.String())
	target.RawQuery = query.Encode()
	r.url, r.size = &target, u.blob.Size-u.offset
	r.header = u.headers(r.size)
	body := u.body(content)
	defer body.close()
	r.body = body.open
	_, err := u.exchange(ctx, r, body)
	return err
}

// patch sends one chunk.
func (u *upload) patch(ctx context.Context, content *verified, size int64) error {
	r := u.to.request(http.MethodPatch, http.StatusAccepted, http.StatusNoContent, http.StatusCreated)
	r.url, r.size = u.session, size
	r.header = u.headers(size)
	body := u.body(content)
	r.body = func() (io.ReadCloser, error) {
		opened, err := body.open()
		if err != nil {
			return nil, err
		}
		return chunk{io.LimitReader(opened, size)}, nil
	}
	header, err := u.exchange(ctx, r, body)
	if err != nil {
		return err
	}
	if body.opened > 1 { // the reader that was sent is not the caller's any more
		return &transient{err: errors.New("the registry asked for the same chunk twice"), moved: true}
	}
	u.offset += size
	u.session, err = u.location(u.session, header)
	return err
}

// chunk is a part of a body; the whole stays open.
type chunk struct{ io.Reader }

func (chunk) Close() error { return nil }

func (u *upload) headers(size int64) http.Header {
	h := http.Header{"Content-Type": {"application/octet-stream"}}
	if (u.offset > 0 || u.chunks) && size > 0 {
		h.Set("Content-Range", fmt.Sprintf("%d-%d", u.offset, u.offset+size-1))
	}
	return h
}

// payload gives a request its content, and anew if it has to be repeated at once.
type payload struct {
	u       *upload
	content *verified
	opened  int
}

func (u *upload) body(content *verified) *payload { return &payload{u: u, content: content} }

func (b *payload) open() (io.ReadCloser, error) {
	if b.opened++; b.opened > 1 {
		b.content.Close()
		b.content = b.u.content(b.u.offset)
	}
	return b.content, nil
}

func (b *payload) close() { b.content.Close() }

func (u *upload) exchange(ctx context.Context, r *request, sent *payload) (http.Header, error) {
	resp, err := u.to.c.open(ctx, ctx, r)
	// A source that failed explains the failure better than the upload.
	if failure := sent.content.failure(); failure != nil {
		if err == nil {
			resp.Body.Close()
		}
		return nil, failure
	}
	if err != nil {
		return nil, err
	}
	drain(resp)
	return resp.Header, nil
}
