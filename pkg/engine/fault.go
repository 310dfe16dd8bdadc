package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
)

// fault says what an engine's error means to us: which kind it is, and what to
// do about it. It returns nil for nil.
func (h *Host) fault(op, subject string, err error) error {
	if err == nil {
		return nil
	}
	var known *release.Fault
	if errors.As(err, &known) {
		return err
	}
	f := &release.Fault{Kind: release.KindUnavailable, Op: op, Subject: subject, Err: err}
	switch {
	case errors.Is(err, context.Canceled):
		f.Kind = "" // the cause speaks: interrupted
	case h.tunnel != nil && h.tunnel.broken() != nil:
		return h.tunnel.broken()
	case errors.Is(err, context.DeadlineExceeded):
		f.Hint = "the engine of " + h.Name() + " is reachable and does not answer in time; look at its load and its log (journalctl -u docker)"
	case client.IsErrConnectionFailed(err):
		f.Hint = h.connectHint(err)
	case errdefs.IsNotFound(err):
		f.Err = fmt.Errorf("%w: %w", release.ErrNotFound, trimPrefix(err))
	default:
		f.Err = trimPrefix(err)
	}
	return f
}

func (h *Host) connectHint(err error) string {
	switch {
	case strings.Contains(err.Error(), "permission denied"):
		return "this user may not use " + h.address + ": add it to the docker group and log in again, or run as root"
	case h.tunnel != nil:
		return "the ssh connection stands, but nothing answers behind it: is the engine running on the host, and may the ssh user use its socket? " + h.tunnel.said()
	}
	return "start the engine (systemctl start docker), or set DOCKER_HOST to one that runs; tried " + h.address
}

// trimPrefix takes the client's own words away, which name no side a person knows.
func trimPrefix(err error) error {
	if text, ok := strings.CutPrefix(err.Error(), "Error response from daemon: "); ok {
		return wrapped{text: "the engine says: " + text, error: err}
	}
	return err
}

// wrapped is an error in other words.
type wrapped struct {
	text string
	error
}

func (w wrapped) Error() string { return w.text }
func (w wrapped) Unwrap() error { return w.error }

// absent reports whether an engine's error means that the object is not there.
func absent(err error) bool {
	return errdefs.IsNotFound(err) || errors.Is(err, release.ErrNotFound)
}
