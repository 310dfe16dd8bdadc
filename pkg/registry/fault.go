package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"unicode"

	"github.com/promote-dev/promote/pkg/release"
)

// ErrNotFound is in the chain of every answer that something does not exist.
// It is never there when a registry did not answer, or not understandably.
var ErrNotFound = release.ErrNotFound

// ErrUnauthorized is in the chain when a registry wants other credentials.
var ErrUnauthorized = errors.New("not authorized")

// wrap says what was being done when err happened, keeping its kind and hint.
func wrap(ctx context.Context, op, subject string, err error) error {
	if err == nil {
		return nil
	}
	f := &release.Fault{Kind: release.KindOf(err), Op: op, Subject: subject, Err: err}
	var inner *release.Fault
	if errors.As(err, &inner) {
		f.Hint = inner.Hint
	}
	if f.Kind == release.KindInternal && local(err) {
		f.Kind, f.Hint = release.KindUnavailable, diskHint
	}
	switch cause := ctx.Err(); {
	case errors.Is(cause, context.Canceled):
		f.Kind, f.Hint = release.KindInterrupted, ""
	case errors.Is(cause, context.DeadlineExceeded):
		f.Kind = release.KindUnavailable
	}
	return f
}

const diskHint = "look at the disk: space, permissions"

// local reports whether this machine's file system failed.
func local(err error) bool {
	var path *fs.PathError
	var link *os.LinkError
	return errors.As(err, &path) || errors.As(err, &link)
}

// mismatch is the denial that everything here is about.
func mismatch(what string, want, got release.Digest) error {
	return release.Denied("the registry, or something between, serves other bytes than those that were asked for: find out why before going on",
		"%s: asked for %s, got %s", what, want, got)
}

// statusError is an answer of the registry that was not hoped for.
type statusError struct {
	method, url string // without query: it may hold a token
	status      int
	message     string // the registry's words, clipped and made printable
	errors      []apiError
}

func (e *statusError) Error() string {
	s := fmt.Sprintf("%s %s: %d %s", e.method, e.url, e.status, http.StatusText(e.status))
	if e.message != "" {
		s += ": " + e.message
	}
	return s
}

func (e *statusError) Unwrap() error {
	switch e.status {
	case http.StatusNotFound:
		return ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrUnauthorized
	}
	return nil
}

// fault gives the status its kind and a hint for the person.
func (e *statusError) fault(host string) error {
	hint := "look at the registry's logs, or try again"
	switch e.status {
	case http.StatusNotFound:
		hint = "check the name; nothing is there"
	case http.StatusUnauthorized, http.StatusForbidden:
		hint = "log in with `docker login " + host + "`, or ask for access"
	case http.StatusTooManyRequests:
		hint = "the registry limits requests: wait, or log in for a higher limit"
	}
	return release.Unavailable(hint, "%w", e)
}

// printable makes what a remote side sent fit for a terminal and a log.
func printable(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\r' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	s = strings.TrimSpace(s)
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}
