package sign

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

const (
	// maxAnswer bounds what a signing service answers, in bytes: log entries
	// have about 10 KiB.
	maxAnswer = 1 << 20
	// serviceLimit bounds one try. Rekor v2 answers when its next checkpoint is
	// made.
	serviceLimit = 20 * time.Second
	// tries is how often a service is asked the same.
	tries = 4
	// maxPause bounds how long a service may ask to be left alone.
	maxPause = 10 * time.Second
)

// transport speaks to the services of keyless signing. It bounds what they
// answer and how long they take, follows no redirect, speaks HTTPS or to this
// machine only, and asks again what failed on the way, was too early or too
// much. To ask all of them again is safe: what was signed is not signed again, a
// log that has the entry says so, and of two certificates or timestamps one is
// thrown away.
type transport struct {
	ctx   context.Context // of the whole signature: the clients pass none on
	base  http.RoundTripper
	pause func(ctx context.Context, d time.Duration) error
}

var _ http.RoundTripper = transport{}

func newTransport(ctx context.Context, base http.RoundTripper) transport {
	if base == nil {
		base = http.DefaultTransport
	}
	return transport{ctx: ctx, base: base, pause: pause}
}

// RoundTrip gives an answer whose body is in memory. A failure is a
// KindUnavailable fault.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	where := r.URL.Scheme + "://" + r.URL.Host // never the query, which can hold a secret
	if r.URL.Scheme != "https" && !loopback(r.URL.Hostname()) {
		return nil, release.Faultf(release.KindConfig, "write its URL with https://", "asking %s: what is signed and with which identity would go over the network in clear", where)
	}
	body, err := bodyOf(r)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		a := t.once(r, body)
		switch {
		case t.ctx.Err() != nil:
			return nil, t.ctx.Err()
		case a.err == nil && !a.again || a.response != nil && try == tries:
			return a.response, nil
		case !a.again || try == tries:
			return nil, release.Unavailable("check that the service answers from here, then run the command again",
				"asking %s (%s): %w", where, times(try), a.err)
		}
		if err := t.pause(t.ctx, max(a.wait, 200*time.Millisecond<<try)); err != nil {
			return nil, err
		}
	}
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return strconv.Itoa(n) + " times"
}

// attempt is what came of asking once: an answer, or an error; and whether, and
// after which wait, to ask again.
type attempt struct {
	response *http.Response
	err      error
	again    bool
	wait     time.Duration
}

func (t transport) once(r *http.Request, body []byte) attempt {
	ctx, cancel := context.WithTimeoutCause(t.ctx, serviceLimit, fmt.Errorf("no answer in %s", serviceLimit))
	defer cancel()
	again := r.Clone(ctx)
	if body != nil {
		again.Body, again.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	response, err := t.base.RoundTrip(again)
	if err != nil {
		return attempt{err: cause(ctx, err), again: true}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch status := response.StatusCode; {
	case err != nil:
		return attempt{err: cause(ctx, err), again: true}
	case len(text) > maxAnswer:
		return attempt{err: fmt.Errorf("it answers with more than %d bytes", maxAnswer)}
	case status >= 300 && status < 400:
		return attempt{err: fmt.Errorf("it answers with a redirect (%d), which is not followed", status)}
	}
	response.Body = io.NopCloser(bytes.NewReader(text))
	if response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= 500 {
		return attempt{response: response, again: true, wait: after(response.Header.Get("Retry-After"))}
	}
	return attempt{response: response}
}

func bodyOf(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	defer r.Body.Close()
	return io.ReadAll(r.Body)
}

// cause gives why a context is done where that is what an error means. The
// error's own text may hold a URL with its query.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var network net.Error
	if errors.As(err, &network) && network.Timeout() {
		return errors.New("no answer in time")
	}
	return errors.New(envelope.Tidy(err.Error()))
}

// after reads Retry-After in seconds.
func after(header string) time.Duration {
	seconds, err := strconv.Atoi(header)
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxPause)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// service is one of those that a signature needs, by its base URL.
type service struct {
	name    string // for messages
	base    string
	client  http.RoundTripper
	secrets []string // that its answers must not bring into messages
}

// call sends a request and gives the body of an answer with one of the statuses
// that are wanted.
func (s service) call(ctx context.Context, method, path string, header http.Header, body []byte, want ...int) (int, http.Header, []byte, error) {
	fail := func(err error) (int, http.Header, []byte, error) {
		return 0, nil, nil, fmt.Errorf("%s: %w", s.name, err)
	}
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(s.base, "/")+path, bytes.NewReader(body))
	if err != nil {
		return fail(release.Faultf(release.KindConfig, "check its URL", "its address is not a URL"))
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("Accept", "application/json")
	response, err := s.client.RoundTrip(r)
	if err != nil {
		return fail(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fail(err)
	}
	if !slices.Contains(want, response.StatusCode) {
		return 0, nil, nil, s.refusal(response.StatusCode, text)
	}
	return response.StatusCode, response.Header, text, nil
}

// refusal says that the service does not do what it was asked. Its answer may
// quote what it was sent, so the secrets are taken out before it is shown.
func (s service) refusal(status int, text []byte) error {
	said := string(text)
	for _, secret := range s.secrets {
		for _, part := range append([]string{secret}, strings.Split(secret, ".")...) {
			if len(part) > 7 {
				said = strings.ReplaceAll(said, part, "(secret)")
			}
		}
	}
	kind := release.KindDenied
	if status == http.StatusTooManyRequests || status >= 500 {
		kind = release.KindUnavailable
	}
	return release.Faultf(kind, "check that it is the service that is meant, and that it takes this identity's issuer",
		"%s answers %d: %s", s.name, status, envelope.Tidy(said))
}
