package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// transient marks an error that another attempt may cure.
type transient struct {
	err   error
	after time.Duration // what the registry asked for; 0 is our own pause
	moved bool          // the attempt got further than the ones before
}

func (t *transient) Error() string { return t.err.Error() }
func (t *transient) Unwrap() error { return t.err }

// mostAsked bounds the attempts of a registry that keeps asking for patience.
const mostAsked = 20

// retry runs f until it succeeds, fails for good, or attempts or waiting time
// are used up. What comes out has its kind: nothing transient leaves.
func (c *Client) retry(ctx context.Context, host string, f func() error) error {
	pause, waited := c.limits.Pause, time.Duration(0)
	for own, asked := 1, 0; ; {
		err := f()
		var t *transient
		if !errors.As(err, &t) {
			return err
		}
		if t.moved {
			own, pause = 1, c.limits.Pause
		}
		if impatient(t.err) {
			complain(ctx)
		}
		wait := pause + rand.N(pause/4+1)
		if t.after > 0 {
			wait = t.after
			asked++
		} else {
			own++
			pause *= 3
		}
		if own > c.limits.Attempts || asked > mostAsked {
			return unavailable(host, t.err, fmt.Sprintf("tried %d times", own+asked-1))
		}
		if waited+wait > c.limits.Wait {
			return unavailable(host, t.err, fmt.Sprintf("it asks to wait %s", wait.Round(time.Second)))
		}
		if t.after >= time.Second {
			event.Noticef(ctx, "registry %s asks to wait %s", host, wait)
		}
		if sleep(ctx, wait) != nil {
			return ended(ctx, host)
		}
		waited += wait
	}
}

// impatient reports whether a registry says that it is asked too much.
func impatient(err error) bool {
	var status *statusError
	return errors.As(err, &status) && (status.status == http.StatusTooManyRequests || status.status == http.StatusServiceUnavailable)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// ended says why a context is over: a deadline of ours, or the caller's wish.
func ended(ctx context.Context, host string) error {
	if cause := context.Cause(ctx); slow(cause) {
		return unavailable(host, cause, "gave up")
	}
	return ctx.Err()
}

// unavailable is what a registry's failure looks like once it is final.
func unavailable(host string, err error, note string) error {
	var status *statusError
	if errors.As(err, &status) {
		err = status.fault(host)
	}
	hint := "check that " + host + " is up and reachable, then try again"
	var inner *release.Fault
	if errors.As(err, &inner) && inner.Hint != "" {
		hint = inner.Hint
	}
	return release.Unavailable(hint, "registry %s (%s): %w", host, note, err)
}

// classify turns the error of an attempt into a final fault or a transient one.
// ctx is the caller's, attempt the attempt's own.
func (c *Client) classify(ctx, attempt context.Context, host string, err error) error {
	if ctx.Err() != nil {
		return ended(ctx, host)
	}
	if cause := context.Cause(attempt); cause != nil && slow(cause) {
		err = cause
	}
	var fault *release.Fault
	var already *transient
	var answered *statusError // of the token server: it won't change its mind
	var lookup *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &fault), errors.As(err, &already), errors.As(err, &answered):
		return err
	case slow(err):
		return unavailable(host, err, "gave up")
	case certificate(err):
		return release.Unavailable("the registry's certificate is not trusted: check the host's name and the clock, or give its CA under registries in promote.yaml or in certs.d", "registry %s: %w", host, err)
	case notTLS(err):
		return release.Unavailable("the registry speaks plain HTTP, which is for loopback only unless promote.yaml says registries: {"+host+": {plainHTTP: true}}", "registry %s: %w", host, err)
	case errors.As(err, &lookup) && lookup.IsNotFound:
		return release.Unavailable("check the registry's host name", "registry %s: %w", host, err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return unavailable(host, err, "no connection")
	}
	return &transient{err: err}
}

func certificate(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}

func notTLS(err error) bool {
	var record tls.RecordHeaderError
	return errors.As(err, &record)
}

// retryable makes the error of a status that another attempt may cure transient.
func retryable(e *statusError, header http.Header) error {
	switch e.status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &transient{err: e, after: retryAfter(header.Get("Retry-After"), time.Now())}
	}
	return e
}

// retryAfter reads RFC 9110 section 10.2.3: seconds or a date.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		return time.Duration(min(seconds, 24*60*60)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}
